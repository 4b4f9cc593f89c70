"""The steps of monitoring a window, with windows and registry in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from driftloop import answers, drift_worker, monitoring, page, references
from driftloop.contract import Trigger
from driftloop.drift import DriftReport
from driftloop.entry import Kind
from driftloop.errors import ContractError, DriftloopError, WindowError
from driftloop.frame import Window
from driftloop.ledger import Ledger
from driftloop.registry import Registry
from driftloop.report import trigger_json, window_report
from driftloop.retrain import ColumnQuality, Drift, Performance, TriggerPolicy
from driftloop.scores import evaluate
from driftloop.settings import Settings
from driftloop.sides import Rows, columns_of
from driftloop.training import split
from driftloop.windows import open_windows
from driftloop.workspace import Champion, Serving, Workspace
from tests.fakes import FakeRegistry, FakeWindows, a_candidate, a_loop, a_window, some_rows, stored

MONTHS = ("2024-01", "2024-02", "2024-03")


@pytest.fixture
def work(tmp_path: Path) -> Any:
    settings = Settings.from_env({}, tmp_path)
    ledger = Ledger(settings.ledger_url, "churn")
    windows = FakeWindows({month: some_rows(200, seed=n) for n, month in enumerate(MONTHS)})
    yield Workspace(tmp_path, settings, a_loop(), windows, ledger, cast("Registry", FakeRegistry()))
    ledger._engine.dispose()


def tables(work: Workspace) -> dict[str, pd.DataFrame]:
    return cast("FakeWindows", work.windows).tables


def champion(work: Workspace, *windows: str) -> Champion:
    """A champion trained on the windows, with its metrics on the newest one's holdout."""
    checked = [work.read(window) for window in windows]
    candidate = a_candidate(work.loop, checked)
    _, holdout = split(checked, work.rule)
    artifact = stored(candidate)
    return Champion("1", stored(candidate, metrics=evaluate(work.loop, holdout, artifact.predict(holdout.X))))


def remember(work: Workspace, window: str, *, key: str = "k", retrain: bool = False) -> None:
    report = window_report("churn", window, retrain=retrain, reason="quiet", champion="1")
    monitoring.record_verdict(work, key, report)


def promoted(work: Workspace, window: str, *trained_on: str, expected: str | None = None) -> None:
    report = {"champion": {"version": window}, "training": {"windows": list(trained_on)}, "retrain": {"retrain": True}}
    work.ledger.promote(
        window, expected=expected, window=window, reason="r", actor="a", details={"key": "k", "report": report}
    )


def performance_of(work: Workspace, serving: Champion, window: Window) -> Performance | None:
    return answers.findings(work, serving, window).performance


# labels


def test_only_windows_up_to_the_current_one_whose_labels_are_in_count(work: Workspace) -> None:
    del tables(work)["2024-02"]["left"]
    assert monitoring.labelled_ids(work, "2024-03") == ["2024-01", "2024-03"]
    assert monitoring.labelled_ids(work, "2024-02") == ["2024-01"]


def test_the_newest_labelled_window_is_the_last_that_can_be_read(work: Workspace) -> None:
    tables(work)["2024-03"]["fee"] = "broken"
    newest = monitoring.newest_labelled(work, "2024-03", None)
    assert newest is not None
    assert newest.id == "2024-02"


def test_a_target_column_without_a_single_label_yet_is_passed_over(work: Workspace) -> None:
    tables(work)["2024-03"]["left"] = None
    newest = monitoring.newest_labelled(work, "2024-03", None)
    assert newest is not None
    assert newest.id == "2024-02"


def test_a_target_column_without_a_label_is_passed_over_also_where_the_event_is_named(work: Workspace) -> None:
    work.loop = work.loop.model_copy(update={"positive": True})
    tables(work)["2024-03"]["left"] = None
    newest = monitoring.newest_labelled(work, "2024-03", None)
    assert newest is not None
    assert newest.id == "2024-02"


def test_without_any_label_there_is_no_newest_labelled_window(work: Workspace) -> None:
    for rows in tables(work).values():
        del rows["left"]
    assert monitoring.newest_labelled(work, "2024-03", None) is None


def test_windows_that_cannot_be_read_are_told_apart(work: Workspace) -> None:
    tables(work)["2024-02"]["fee"] = "broken"
    good, bad = monitoring.read_labelled(work, "2024-03", limit=None, labels=None)
    assert [w.id for w in good] == ["2024-01", "2024-03"]
    assert [error.window for error in bad] == ["2024-02"]


def test_only_as_many_windows_are_read_as_are_asked_for(work: Workspace) -> None:
    tables(work)["2024-03"]["fee"] = tables(work)["2024-01"]["fee"] = "broken"
    good, bad = monitoring.read_labelled(work, "2024-03", limit=1, labels=None)
    assert [w.id for w in good] == ["2024-02"]
    assert [error.window for error in bad] == ["2024-03"]


def spell(work: Workspace, window: str, true: str, false: str) -> None:
    tables(work)[window]["left"] = tables(work)[window]["left"].map({True: true, False: false})


def test_a_window_whose_labels_are_spelled_unlike_the_champions_is_passed_by(work: Workspace) -> None:
    spell(work, "2024-03", "yes", "no")
    good, (error,) = monitoring.read_labelled(work, "2024-03", limit=1, labels=("False", "True"))
    assert [w.id for w in good] == ["2024-02"]
    assert "its labels are no and yes, those of the other windows False and True" in str(error)
    with pytest.raises(WindowError, match="its labels are no and yes"):
        monitoring.beside_champion(work.read("2024-03"), champion(work, "2024-01"))


def test_without_a_champion_the_newest_windows_spelling_counts(work: Workspace) -> None:
    spell(work, "2024-03", "yes", "no")
    good, bad = monitoring.read_labelled(work, "2024-03", limit=None, labels=None)
    assert ([w.id for w in good], len(bad)) == (["2024-03"], 2)


def test_a_window_without_a_tail_is_no_holdout_by_time(work: Workspace) -> None:
    for month, rows in tables(work).items():
        rows["at"] = pd.date_range(f"{month}-01", periods=len(rows), freq="h")
    tables(work)["2024-03"]["at"] = pd.Timestamp("2024-03-01")
    work.loop = a_loop(timestamp="at", holdout={"by": "time"})
    newest = monitoring.newest_labelled(work, "2024-03", None)
    assert newest is not None
    assert newest.id == "2024-02"


# the same question


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": "paid"}, r"predicts left \(binary\), loop.toml asks for paid \(binary\)"),
        ({"positive": False}, "takes True for the event, loop.toml says positive = False"),
        ({"features": {"numeric": ["age"], "categorical": ["plan"]}}, "needs column fee, which"),
        ({"features": {"categorical": ["plan", "fee"]}}, "needs column fee, which"),
    ],
)
def test_a_champion_that_learnt_something_else_is_not_asked(
    work: Workspace, changes: dict[str, object], told: str
) -> None:
    serving = champion(work, "2024-01")
    with pytest.raises(ContractError, match=f"champion 1 {told}"):
        monitoring.require_same_task(a_loop(**changes), serving)


@pytest.mark.parametrize(
    "changes", [{}, {"positive": True}, {"features": {"numeric": ["fee", "age"], "categorical": ["plan"]}}]
)
def test_a_champion_of_the_same_task_is_asked(work: Workspace, changes: dict[str, object]) -> None:
    monitoring.require_same_task(a_loop(**changes), champion(work, "2024-01"))


# what was run before


def test_the_key_of_a_run_changes_with_data_labels_and_contract(work: Workspace) -> None:
    before = monitoring.run_key(work, "2024-02")
    assert monitoring.run_key(work, "2024-02") == before
    tables(work)["2024-03"] = some_rows(seed=9)  # a later window is none of its business
    assert monitoring.run_key(work, "2024-02") == before
    keys = {before}
    del tables(work)["2024-01"]["left"]
    keys.add(monitoring.run_key(work, "2024-02"))
    tables(work)["2024-02"] = some_rows(seed=9)
    keys.add(monitoring.run_key(work, "2024-02"))
    work.loop = work.loop.model_copy(update={"target": "churned"})
    keys.add(monitoring.run_key(work, "2024-02"))
    work.sources = "edited"
    keys.add(monitoring.run_key(work, "2024-02"))
    assert len(keys) == 5


@pytest.mark.parametrize("section", ["drift", "trigger"])
@pytest.mark.parametrize(
    ("reference", "replaced", "other"),
    [
        ("training", "2024-02", False),
        ("previous", "2024-02", True),
        ("previous", "2024-01", False),
        ("2024-01", "2024-01", True),
        ("2024-01", "2024-02", False),
        ("year_ago", "2023-03", True),
        ("gone", "2024-01", False),
    ],
)
def test_the_key_of_a_run_changes_with_the_windows_it_is_compared_with(
    work: Workspace, section: str, reference: str, replaced: str, other: bool
) -> None:
    tables(work)["2023-03"] = some_rows()
    own = getattr(work.loop, section).model_copy(update={"reference": reference})
    work.loop = work.loop.model_copy(update={section: own})
    before = monitoring.run_key(work, "2024-03")
    tables(work)[replaced] = some_rows(seed=9)
    assert (monitoring.run_key(work, "2024-03") != before) == other


def test_the_previous_window_of_a_key_is_also_the_one_before_a_quarantine(work: Workspace) -> None:
    with_reference(work, "previous")
    monitoring.record_quarantine(work, WindowError("2024-02", ["broken"]), None)
    keys = {monitoring.run_key(work, "2024-03")}
    for window in ("2024-01", "2024-02"):
        tables(work)[window] = some_rows(seed=9)
        keys.add(monitoring.run_key(work, "2024-03"))
    assert len(keys) == 3


def test_a_run_that_was_never_made_is_not_finished(work: Workspace) -> None:
    assert monitoring.finished_run(work, "2024-01", "k") is None


def test_a_run_over_the_same_is_finished(work: Workspace) -> None:
    remember(work, "2024-02")
    found = monitoring.finished_run(work, "2024-02", "k")
    assert found is not None
    assert found[1]["window"] == "2024-02"


def test_a_run_over_something_else_is_not_finished(work: Workspace) -> None:
    remember(work, "2024-02", key="other")
    assert monitoring.finished_run(work, "2024-02", "k") is None


def test_a_run_cut_short_before_its_training_is_not_finished(work: Workspace) -> None:
    remember(work, "2024-02", retrain=True)
    assert monitoring.finished_run(work, "2024-02", "k") is None


def test_a_run_under_an_older_champion_is_not_finished(work: Workspace) -> None:
    remember(work, "2024-02")
    promoted(work, "2024-01", "2024-01")
    assert monitoring.finished_run(work, "2024-02", "k") is None


def test_a_window_older_than_the_champions_data_stays_finished(work: Workspace) -> None:
    remember(work, "2024-02")
    promoted(work, "2024-03", "2024-03")
    assert monitoring.finished_run(work, "2024-02", "k") is not None


def test_labels_that_come_in_late_do_not_reopen_a_window_older_than_the_champions_data(work: Workspace) -> None:
    remember(work, "2024-02", key="before its labels")
    promoted(work, "2024-03", "2024-03")
    found = monitoring.finished_run(work, "2024-02", "k")
    assert found is not None
    assert found[1]["retrain"]["reason"] == "quiet"


# reading


def test_a_window_older_than_the_champions_newest_is_refused(work: Workspace) -> None:
    with pytest.raises(WindowError, match="older than 2024-02, the newest window that champion 1 knows"):
        monitoring.require_newer("2024-01", Serving("1", ("2024-01", "2024-02")))


def test_categories_the_champion_has_not_seen_are_noted(work: Workspace) -> None:
    tables(work)["2024-02"].loc[0, "plan"] = "gold"
    current = monitoring.beside_champion(work.read("2024-02"), champion(work, "2024-01"))
    assert current.notes == ("column plan has unseen categories: gold",)


def with_reference(work: Workspace, reference: str) -> Workspace:
    drift = work.loop.drift.model_copy(update={"reference": reference})
    work.loop = work.loop.model_copy(update={"drift": drift})
    return work


@pytest.mark.parametrize(
    ("reference", "window", "expected"),
    [
        ("training", "2024-03", ("2024-01", "2024-02")),
        ("previous", "2024-03", ("2024-02",)),
        ("previous", "2024-01", ("2024-01", "2024-02")),
        ("2024-01", "2024-03", ("2024-01",)),
    ],
)
def test_the_reference_is_what_the_contract_says(
    work: Workspace, reference: str, window: str, expected: tuple[str, ...]
) -> None:
    serving = Serving("1", ("2024-01", "2024-02"))
    assert references.chosen(with_reference(work, reference), window, serving) == expected


def test_the_previous_window_is_the_last_that_can_be_read(work: Workspace) -> None:
    serving = Serving("1", ("2024-01",))
    tables(work)["2024-02"]["fee"] = "broken"
    assert references.chosen(with_reference(work, "previous"), "2024-03", serving) == ("2024-01",)


def test_a_previous_window_with_a_verdict_is_not_read_whole_where_columns_are(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.folder / "windows").mkdir()
    for window, rows in tables(work).items():
        rows.to_parquet(work.folder / "windows" / f"{window}.parquet")
    drift = work.loop.drift.model_copy(update={"reference": "previous", "engine": "columnar"})
    work.loop = work.loop.model_copy(update={"drift": drift})
    work.windows = open_windows(work.loop, work.folder)
    asked: list[str] = []

    def read(_: Workspace, window: str) -> Window:
        asked.append(window)
        raise WindowError(window, ["an owner twice"])

    monkeypatch.setattr(Workspace, "read", read)
    serving = Serving("1", ("2024-01",))
    remember(work, "2024-02")
    assert references.chosen(work, "2024-03", serving) == ("2024-02",)
    assert asked == []
    monitoring.record_quarantine(work, WindowError("2024-02", ["an owner twice"]), "1")
    remember(work, "2024-01")
    assert references.chosen(work, "2024-03", serving) == ("2024-01",)
    assert asked == ["2024-02"], "it may have been mended since"


@pytest.mark.parametrize("section", ["drift", "trigger"])
def test_a_reference_that_is_no_window_is_a_contract_error(section: str) -> None:
    loop = a_loop(**{section: {"reference": "2023-01"}})
    with pytest.raises(ContractError, match=rf'{section}\.reference = "2023-01" is neither "training", "previous", "y'):
        references.require(loop, MONTHS)
    references.require(loop, ["2023-01", *MONTHS])


@pytest.mark.parametrize("section", ["drift", "trigger"])
def test_a_year_ago_needs_ids_that_name_a_year(section: str) -> None:
    loop = a_loop(**{section: {"reference": "year_ago"}})
    with pytest.raises(ContractError, match=rf'{section}\.reference = "year_ago" needs ids .*; month_002 names none'):
        references.require(loop, ["month_001", "month_002"])
    for ids in (["2024-02"], ["2024-W09"], ["2024-02-29"]):
        references.require(loop, ids)


def test_a_year_ago_is_the_window_of_the_same_month_a_year_before(work: Workspace) -> None:
    serving = Serving("1", ("2024-01", "2024-02"))
    tables(work).update({month: some_rows(200) for month in ("2022-03", "2023-02", "2023-03", "2023-04")})
    with_reference(work, "year_ago")
    assert references.chosen(work, "2024-03", serving) == ("2023-03",)
    assert references.without_year_ago(work, "2024-03", ("2023-03",), ("2023-03",)) == []


def test_without_a_usable_window_a_year_ago_training_stands_in_and_a_note_says_so(work: Workspace) -> None:
    serving = Serving("1", ("2024-01", "2024-02"))
    tables(work)["2023-03"] = some_rows(200).assign(fee="broken")
    with_reference(work, "year_ago")
    used = references.chosen(work, "2024-03", serving)
    assert used == serving.windows
    assert references.without_year_ago(work, "2024-03", used, used) == [
        "no usable window 2023-03: compared with what the champion was trained on"
    ]


@pytest.mark.parametrize(
    ("trigger", "expected"), [(None, ("2024-01", "2024-02")), ("previous", ("2024-02",)), ("2024-01", ("2024-01",))]
)
def test_the_trigger_may_have_a_reference_of_its_own(
    work: Workspace, trigger: str | None, expected: tuple[str, ...]
) -> None:
    serving = Serving("1", ("2024-01", "2024-02"))
    work.loop = work.loop.model_copy(update={"trigger": work.loop.trigger.model_copy(update={"reference": trigger})})
    assert references.chosen(work, "2024-03", serving) == serving.windows
    assert references.chosen_for_trigger(work, "2024-03", serving) == expected
    assert references.without_year_ago(work, "2024-03", serving.windows, expected) == []


def test_a_reference_that_cannot_be_read_stops_the_run(work: Workspace) -> None:
    tables(work)["2024-01"]["fee"] = "broken"
    with pytest.raises(
        DriftloopError, match=r"what drift is compared with cannot be read: window 2024-01: .*drift\.reference"
    ):
        references.read(work, ["2024-01"])


def test_a_reference_that_was_archived_stops_the_run_with_what_to_do(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    work.windows = open_windows(work.loop, tmp_path)
    with pytest.raises(
        DriftloopError, match=r"compared with cannot be read: there is no window 2024-01 .*Put the window"
    ):
        references.read(work, ["2024-01"])


# performance and history


def test_without_labels_there_is_no_performance(work: Workspace) -> None:
    serving = champion(work, "2024-01")
    unlabelled = a_window(some_rows().drop(columns="left"), work.loop, "2024-02")
    assert performance_of(work, serving, unlabelled) is None


def test_performance_is_the_champions_metric_on_the_labelled_rows(work: Workspace) -> None:
    serving = champion(work, "2024-01")
    tables(work)["2024-02"]["left"] = tables(work)["2024-02"]["left"].astype(object).where(lambda s: s.index < 150)
    current = work.read("2024-02")
    found = performance_of(work, serving, current)
    assert found is not None
    value = evaluate(work.loop, current.labelled, serving.artifact.predict(current.labelled.X))["auc"]
    assert (found.metric, found.rows, found.value) == ("auc", 150, value)
    assert found.drop == pytest.approx(serving.artifact.facts.metrics["auc"] - value)


def test_on_a_window_it_was_trained_on_a_champion_is_measured_on_its_holdout_only(work: Workspace) -> None:
    serving = champion(work, "2024-01")
    found = performance_of(work, serving, work.read("2024-01"))
    assert found is not None
    assert found.rows == work.rule.mask(work.read("2024-01"), newest=True).sum()
    assert found.drop == pytest.approx(0)


def test_the_history_of_a_new_loop(work: Workspace) -> None:
    current = work.read("2024-01")
    found = monitoring.history(work, current, None, current.labelled)
    assert (found.champion, found.new_labels, found.comparable, found.rows) == (False, True, True, 200)
    assert found.windows_since_training is None


def test_labels_the_champion_was_trained_on_are_not_new(work: Workspace) -> None:
    promoted(work, "2024-02", "2024-01")
    serving, current = champion(work, "2024-01"), work.read("2024-03")
    old, new = (work.read(month).labelled for month in ("2024-01", "2024-02"))
    assert not monitoring.history(work, current, serving, old).new_labels
    assert monitoring.history(work, current, serving, new).new_labels
    assert not monitoring.history(work, current, serving, None).new_labels


def test_windows_are_counted_since_the_last_training(work: Workspace) -> None:
    promoted(work, "2024-01", "2024-01")
    serving = champion(work, "2024-01")
    since = [monitoring.history(work, work.read(m), serving, None).windows_since_training for m in MONTHS]
    assert since == [None, 1, 2]


def look(work: Workspace, serving: Champion, month: str, share: float) -> str:
    """Judge a month by its drift and write the verdict down; returns the reason."""
    past = monitoring.history(work, work.read(month), serving, work.read(month).labelled)
    verdict = monitoring.judge(work, monitoring.Drift(share, ()), None, past)
    trigger = trigger_json(verdict, work.loop.trigger.consecutive, (), None, 0.3)
    report = window_report(
        "churn", month, current_rows=len(work.read(month).X), reason=verdict.reason, trigger=trigger, champion="1"
    )
    monitoring.record_verdict(work, "k", report)
    return str(verdict.reason)


def test_drift_has_to_show_in_a_row_and_a_training_begins_anew(work: Workspace) -> None:
    work.loop = work.loop.model_copy(update={"trigger": Trigger(consecutive=2)})
    months = [f"2024-{n:02}" for n in range(1, 10)]
    tables(work).update({month: some_rows(200) for month in months})
    serving = champion(work, "2024-01")
    promoted(work, "2024-01", "2024-01")
    assert look(work, serving, "2024-02", 0.5) == "not yet in a row"
    monitoring.record_quarantine(work, WindowError("2024-03", ["broken"]), "1")
    assert look(work, serving, "2024-04", 0.5) == "drift above threshold"
    assert look(work, serving, "2024-04", 0.5) == "drift above threshold", "looked at again"
    promoted(work, "2024-04", "2024-01", "2024-04", expected="2024-01")
    assert look(work, serving, "2024-05", 0.5) == "not yet in a row"
    assert look(work, serving, "2024-06", 0.1) == "quiet"
    assert look(work, serving, "2024-07", 0.5) == "not yet in a row"
    tables(work)["2024-08"] = some_rows(20)
    assert look(work, serving, "2024-08", 0.1) == "quiet", "with too few rows to end the row"
    assert look(work, serving, "2024-09", 0.5) == "drift above threshold"


def test_loop_toml_says_what_the_verdict_asks_for() -> None:
    trigger = {"on": ["quality"], "max_drop": 0.1, "confidence": 0.9, "consecutive": 3, "cooldown": 2, "min_rows": 50}
    loop = a_loop(drift={"threshold": 0.4}, trigger={**trigger, "min_importance": 0.01})
    assert monitoring.policy_of(loop) == TriggerPolicy(
        0.4, ("quality",), 0.1, cooldown=2, min_rows=50, confidence=0.9, consecutive=3, min_importance=0.01
    )
    assert monitoring.policy_of(a_loop(trigger={"min_importance": "off"})).min_importance is None


# quarantine


def test_a_window_is_quarantined_once_per_content(work: Workspace) -> None:
    error = WindowError("2024-02", ["column fee is missing"])
    reports = [monitoring.record_quarantine(work, error, "1") for _ in range(2)]
    assert reports[0] == reports[1]
    assert reports[0]["quarantine"] == {"problems": ["column fee is missing"]}
    tables(work)["2024-02"] = some_rows(seed=8)
    monitoring.record_quarantine(work, error, "1")
    assert [e.kind for e in work.ledger.entries()] == [Kind.QUARANTINE] * 2
    assert work.ledger.champion() is None


# the target's own drift


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the worker is asked for, instead of a worker."""
    asked: list[tuple[Any, ...]] = []

    def measure(*request: Any) -> DriftReport:
        asked.append(request)
        return DriftReport(Drift(0.0, ()), "")

    monkeypatch.setattr(drift_worker, "measure", measure)
    return asked


def in_memory(work: Workspace, *windows: Window) -> Rows:
    return Rows(windows, work.loop.task, work.loop.target)


def test_the_labels_are_measured_as_the_windows_spell_them_where_they_are_in(work: Workspace, measured: Any) -> None:
    left = tables(work)["2024-02"]["left"]
    tables(work)["2024-02"]["left"] = left.astype(object).where(left.index >= 50)
    reference, current = [work.read("2024-01")], work.read("2024-02")
    monitoring.measure_drift(work, in_memory(work, *reference), current)
    ((before, now, numeric, categorical, target, *_),) = measured
    assert (numeric, categorical, target) == (["fee"], ["plan", "left"], "left")
    assert set(before["left"]) == {"True", "False"}
    assert now["left"].isna().sum() == 50
    assert now["left"].dropna().tolist() == [str(value) for value in some_rows(200, seed=1)["left"][50:]]
    assert list(current.X) == ["fee", "plan"], "the window's own rows stay as they are"


@pytest.mark.parametrize("without", ["2024-01", "2024-02"])
def test_without_labels_on_both_sides_the_target_is_not_measured(work: Workspace, measured: Any, without: str) -> None:
    tables(work)[without]["left"] = None
    monitoring.measure_drift(work, in_memory(work, work.read("2024-01")), work.read("2024-02"))
    ((before, now, numeric, categorical, target, *_),) = measured
    assert (numeric, categorical, target) == (["fee"], ["plan"], None)
    assert "left" not in before
    assert "left" not in now


def test_a_reference_window_whose_labels_are_late_counts_with_its_features(work: Workspace, measured: Any) -> None:
    del tables(work)["2024-02"]["left"]
    monitoring.measure_drift(work, in_memory(work, *map(work.read, MONTHS[:2])), work.read("2024-03"))
    ((before, _, _, _, target, *_),) = measured
    assert target == "left"
    assert before["left"].isna().tolist() == [False] * 200 + [True] * 200


def test_a_regressions_target_is_measured_as_numbers(work: Workspace, measured: Any) -> None:
    loop = a_loop(task="regression", target="fee", features={"categorical": ["plan"]})
    windows = [a_window(some_rows(40, seed=seed), loop) for seed in (0, 1)]
    monitoring.drift_between(loop, windows[:1], windows[1:])
    ((_, now, numeric, categorical, target, *_),) = measured
    assert (numeric, categorical, target) == (["fee"], ["plan"], "fee")
    assert now["fee"].tolist() == some_rows(40, seed=1)["fee"].tolist()


def test_a_large_windows_page_is_drawn_on_rows_of_each_window_and_label(
    work: Workspace, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ROWS", 300)
    months = [work.read(month) for month in MONTHS]
    monitoring.measure_drift(work, in_memory(work, *months[:2]), months[2])
    ((before, now, *_, excerpt, _),) = measured
    assert (len(before), len(now), excerpt.reference_rows, excerpt.current_rows) == (400, 200, 400, 200)
    assert (len(excerpt.reference), len(excerpt.current)) == (150, 150)
    assert (excerpt.reference.index < 200).sum() == 75
    pd.testing.assert_frame_equal(excerpt.current, now.loc[excerpt.current.index])
    yes = (now["left"] == "True").mean()
    assert (excerpt.current["left"] == "True").sum() == pytest.approx(150 * yes, abs=1)
    monkeypatch.setattr(page, "ROWS", 600)
    monitoring.measure_drift(work, in_memory(work, *months[:2]), months[2])
    assert measured[1][-2] is None, "the page is Evidently's own"


def test_every_features_quality_is_told_with_its_drift(work: Workspace, measured: Any) -> None:
    tables(work)["2024-02"].loc[:59, "plan"] = None
    tables(work)["2024-02"].loc[100:139, "fee"] = -1e6
    found = monitoring.measure_drift(work, in_memory(work, work.read("2024-01")), work.read("2024-02")).quality
    assert found == (
        ColumnQuality("fee", 0.0, 0.0, unseen=None, outside=found[0].outside, moved=True),
        ColumnQuality("plan", 0.3, 0.0, unseen=0.0, outside=None, moved=True),
    )
    assert found[0].outside == pytest.approx(0.2, abs=0.05)
    same = monitoring.measure_drift(work, in_memory(work, work.read("2024-01")), work.read("2024-01")).quality
    assert not any(column.moved for column in same)


@pytest.mark.parametrize(
    ("task", "target", "kind", "changed"),
    [
        ("binary", "left", {"categorical": ["plan"]}, lambda rows: rows.assign(left=rows["left"] & (rows["fee"] > 1))),
        ("multiclass", "plan", {"numeric": ["fee"]}, lambda rows: rows.assign(plan=["basic", *["family"] * 199])),
        ("regression", "fee", {"categorical": ["plan"]}, lambda rows: rows.assign(fee=rows["fee"] + 2)),
    ],
)
def test_the_columnar_engine_tells_the_targets_drift_and_draws_it_too(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, task: str, target: str, kind: Any, changed: Any
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(drift_worker, "draw", lambda *request: str(asked.append(request)))
    loop = a_loop(task=task, target=target, features=kind, drift={"engine": "columnar"})
    before, same = (a_window(some_rows(200, seed=seed), loop) for seed in (0, 1))
    now = a_window(changed(some_rows(200, seed=1)), loop)
    found = [monitoring.drift_between(loop, [before], [other]).drift for other in (now, same)]
    assert [(drift.target.name, drift.target.drifted) for drift in found if drift.target] == [
        (target, True),
        (target, False),
    ]
    assert [(drift.share, len(drift.columns)) for drift in found] == [(0.0, 1)] * 2, "it is no feature"
    excerpt, told, numeric = asked[0]
    assert (excerpt.drawn, excerpt.total, told) == (400, 400, found[0])
    assert (target in excerpt.reference, target in numeric) == (True, task == "regression")
    unlabelled = a_window(some_rows(200, seed=1).assign(**{target: None}), loop)
    assert monitoring.drift_between(loop, [before], [unlabelled]).drift.target is None


def test_an_excerpt_is_of_the_rows_at_its_places(work: Workspace) -> None:
    side = in_memory(work, *map(work.read, MONTHS))
    columns = columns_of(work.loop, target=True)
    for places in ([0, 199, 200, 399, 400, 599], [], [3, 4, 450], list(range(600))):
        found = side.excerpt(columns, np.array(places, dtype=np.int64))
        pd.testing.assert_frame_equal(found, side.frame(columns).iloc[places].reset_index(drop=True))


def test_quality_is_the_same_whoever_measures_drift(
    work: Workspace, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_worker, "draw", lambda *_: "")
    tables(work)["2024-02"].loc[:59, "plan"] = "gold"
    tables(work)["2024-02"].loc[100:139, "fee"] = None
    windows = [work.read(month) for month in MONTHS[:2]]
    told = []
    for engine in ("evidently", "columnar"):
        loop = work.loop.model_copy(update={"drift": work.loop.drift.model_copy(update={"engine": engine})})
        told.append(monitoring.drift_between(loop, windows[:1], windows[1:]).quality)
    assert told[0] == told[1]
    assert [column.moved for column in told[0]] == [True, True]


def test_a_windows_means_stand_beside_those_of_training(work: Workspace) -> None:
    tables(work)["2024-02"]["fee"] += 1
    serving, current = champion(work, "2024-01"), work.read("2024-02")
    facts = serving.artifact.facts
    (found,) = monitoring.means(serving, current)
    trained, std = facts.statistics["fee"]
    assert (found["name"], found["mean"], found["trained_mean"]) == ("fee", current.X["fee"].mean(), trained)
    assert found["z"] == pytest.approx((found["mean"] - trained) / (std * (1 / 200 + 1 / facts.rows) ** 0.5))
    assert found["moved"]


def test_a_version_without_statistics_has_no_means_to_compare_with(work: Workspace) -> None:
    serving = champion(work, "2024-01")
    bare = Champion("1", stored(a_candidate(work.loop, [work.read("2024-01")]), statistics={}))
    assert monitoring.means(serving, work.read("2024-02"))
    assert monitoring.means(bare, work.read("2024-02")) == []
