"""A model from elsewhere in place of a trained one, with windows and registry in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from driftloop import (
    adopting,
    alerts,
    answers,
    deciding,
    difference,
    following,
    frame,
    monitoring,
    promoting,
    references,
)
from driftloop.entry import Kind
from driftloop.errors import ContractError, DriftloopError, HoldoutMismatch
from driftloop.facts import Adopted
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule, require_same_rule, unseen
from driftloop.standing import standing
from driftloop.workspace import Champion
from tests.fakes import FakeChecks, FakeRegistry, FakeWindows, a_loop, a_window, a_workspace, some_rows

MONTHS = ("2024-01", "2024-02", "2024-03")
NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    work = a_workspace(
        tmp_path, a_loop(), FakeWindows({month: some_rows(200, seed=n) for n, month in enumerate(MONTHS)})
    )
    monkeypatch.setattr(adopting, "compiled", lambda candidate, rows: candidate)  # exporting has tests of its own
    monkeypatch.setattr(promoting, "compiled", lambda candidate, rows: candidate)
    yield work
    work.ledger._engine.dispose()


def pipeline(rows: pd.DataFrame, y: Any = None, model: Any = None, words: tuple[str, ...] = ("plan",)) -> Pipeline:
    """As somebody would make one in a notebook: other names and steps than ours."""
    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["fee"]), (OneHotEncoder(handle_unknown="ignore"), [*words])
    )
    X = rows[["plan", "fee"]]
    return make_pipeline(encode, model or LogisticRegression()).fit(X, rows["left"] if y is None else y)


def adopt(work: Any, estimator: Any, until: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    fetched = adopting.Fetched(estimator, adopting.version("scikit-learn"))
    monkeypatch.setattr(adopting, "fetch", lambda work, uri, *, trust_pickle: fetched)
    return adopting.adopt(work, "models:/notebook/3", until, "ada", options.pop("why", ""), **options)


def train(work: Any, window: str) -> Any:
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window).number
    made = promoting.check_serving(work, candidate, version, data.holdout.X)
    decision, entry = deciding.decide_and_record(work, made, data, window, promoting.asked_by(work, window, None))
    following.follow(work, entry)
    return decision


def until(text: str, *, timed: bool = True) -> tuple[str, str]:
    return adopting.trained_until(text, MONTHS, timed=timed, now=NOW)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-02", ("window", "2024-02")),
        ("2023-12", ("time", "2023-12-31T23:59:59.999999999")),
        ("2024-02-10", ("time", "2024-02-10T23:59:59.999999999")),
        ("2024-02-10T10:00+02:00", ("time", "2024-02-10T10:00:59.999999999+02:00")),
        ("2024-06-15", ("time", "2024-06-15T23:59:59.999999999")),
    ],
)
def test_a_window_is_meant_with_all_its_rows_and_so_is_a_month_or_a_day(text: str, found: tuple[str, str]) -> None:
    assert until(text) == found


@pytest.mark.parametrize("text", ["2024-13", "yesterday", "2024-02-30", "1Q2024", ""])
def test_what_is_neither_a_window_nor_a_time_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"expected a window \(2024-01 … 2024-03\) or a time such as"):
        until(text)


def test_what_lies_ahead_is_refused_for_no_row_could_be_later() -> None:
    with pytest.raises(ContractError, match="--trained-until 2024-06-15T15:00Z lies ahead"):
        until("2024-06-15T15:00Z")
    with pytest.raises(ContractError, match="sorts after 2024-03, the newest window"):
        until("2024-04", timed=False)


def test_without_a_timestamp_an_id_between_or_before_the_windows_counts_by_its_place() -> None:
    assert until("2023-12", timed=False) == ("window", "2023-12")


def timed_window(zone: str | None = None) -> Window:
    times = pd.Series(pd.date_range("2024-02-01", periods=60, freq="D", tz=zone))
    loop = a_loop(timestamp="seen", holdout={"by": "row"})
    return frame.check(some_rows().assign(seen=times), loop, "2024-02")


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
@pytest.mark.parametrize("end", ["2024-02-10T23:59:59", "2024-02-10T23:59:59+01:00"])
def test_only_rows_after_the_time_are_unseen(zone: str | None, end: str) -> None:
    rows = unseen(Adopted(source="x", unit="time", until=end), timed_window(zone))
    assert rows.timestamp is not None
    begins = "2024-02-12" if zone == "Europe/Paris" and "+" not in end else "2024-02-11"  # its midnight is 23:00 UTC
    assert rows.timestamp.min().date().isoformat() == begins


def test_by_window_all_rows_of_a_later_one_are_unseen_and_none_of_others() -> None:
    adopted = Adopted(source="x", unit="window", until="2024-02")
    assert [len(unseen(adopted, a_window(window=name)).X) for name in MONTHS] == [0, 0, 60]
    assert unseen(None, a_window()).X.shape == (60, 2)


def test_a_time_without_the_column_that_tells_rows_apart_is_an_error() -> None:
    with pytest.raises(ContractError, match="names no timestamp that tells which rows are later"):
        unseen(Adopted(source="x", unit="time", until="2024-02-10"), a_window())


@pytest.mark.parametrize(
    ("classes", "labels", "positive", "found"),
    [
        ([0, 1], ("stayed", "gone"), None, (("stayed", "gone"), 1)),
        ([False, True], ("stayed", "gone"), None, (("stayed", "gone"), 1)),
        (["gone", "stayed"], ("stayed", "gone"), "gone", (("stayed", "gone"), 0)),
        ([0, 1], ("False", "True"), None, (("False", "True"), 1)),
        ([0, 1], ("1", "0"), 0, (("1", "0"), 0)),
        ([False, True], ("1", "0"), 0, (("1", "0"), 0)),
        (["gone", "stayed"], None, "gone", (("stayed", "gone"), 0)),
        ([0.0, 1.0], None, None, (("0", "1"), 1)),
    ],
)
def test_the_event_is_found_among_the_models_classes(classes: Any, labels: Any, positive: Any, found: Any) -> None:
    assert adopting.event_of(np.array(classes), labels, a_loop(positive=positive)) == found


@pytest.mark.parametrize("classes", [["a", "b"], [1, 2], [0, 1, 2], [1]])
def test_classes_that_are_not_the_labels_are_refused(classes: Any) -> None:
    with pytest.raises(ContractError, match=r"classes are .*, and those of left are False and True"):
        adopting.event_of(np.array(classes), ("False", "True"), a_loop())
    with pytest.raises(ContractError, match="no window has labels yet"):
        adopting.event_of(np.array(classes), None, a_loop(positive="gone"))


def test_an_adopted_model_is_champion_and_says_where_it_comes_from(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = adopt(work, pipeline(some_rows(500, seed=9)), "2024-02", monkeypatch, why="in use since spring")
    assert (entry.kind, entry.version, entry.actor, entry.window) == (Kind.ADOPTION, "1", "ada", "2024-02")
    assert entry.reason == "adopted from models:/notebook/3, trained until 2024-02: in use since spring"
    registry = cast("FakeRegistry", work.registry)
    assert registry.pointers == {"champion": "1"}
    assert registry.tags["1"]["adopted"] == "models:/notebook/3"
    assert registry.tags["1"]["trained_until"] == "2024-02"
    facts = registry.candidates[0].facts
    assert facts.adopted == Adopted(source="models:/notebook/3", unit="window", until="2024-02")
    assert (facts.windows, facts.rows, facts.labels) == (("2024-01", "2024-02"), 400, ("False", "True"))
    assert facts.metrics["auc"] > 0.6
    assert set(facts.importance) == {"fee", "plan"}
    assert "Adopted by ada from `models:/notebook/3`: in use since spring" in registry.cards["1"]
    assert "| val_auc |" in registry.cards["1"]
    assert registry.decisions["1"]["until"] == "2024-02"
    assert work.serving().windows == ("2024-01", "2024-02")
    assert alerts.alert_of(entry).title == "churn: version 1 is champion"
    assert references.chosen(work, "2024-03", work.serving()) == ("2024-01", "2024-02")
    assert following.heal(work) is None


def test_a_model_trained_before_the_first_window_is_held_against_that_window(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = adopt(work, pipeline(some_rows(500, seed=9)), "2023-07", monkeypatch)
    assert (entry.window, entry.trained_on) == ("2024-01", ("2024-01",))
    del work.windows.tables["2024-03"], work.windows.tables["2024-02"]
    champion = work.champion()
    window = work.read("2024-01")
    assert answers.findings(work, champion, window).performance.rows == 200, "it has seen none of them"
    assert promoting.training_data(work, "2024-01", champion).holdout.id == "2024-01"


def test_it_is_compared_on_rows_after_its_training_only_and_can_be_beaten(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = ~some_rows(300, seed=9)["left"]
    adopt(work, pipeline(some_rows(300, seed=9), turned), "2024-02", monkeypatch)
    with pytest.raises(ContractError, match=r"older than 2024-02"):
        promoting.training_data(work, "2024-01", work.champion())
    with pytest.raises(
        ContractError, match=r"adopted as trained until 2024-02, and no labelled row is held out in 2024"
    ):
        promoting.training_data(work, "2024-02", work.champion())
    decision = train(work, "2024-03")
    assert (str(decision.outcome), decision.champion < 0.5) == ("promote", True)
    assert work.ledger.champion() == "2"
    adopted, trained = (Champion(number, work.model(number)) for number in ("1", "2"))
    assert difference._compared(work, adopted, trained)[0]["window"] == "2024-03"
    del work.windows.tables["2024-03"]
    compared, why_not = difference._compared(work, adopted, trained)
    assert compared is None
    assert why_not.startswith("the 0 holdout rows of 2024-02 that neither has seen")


def test_until_a_later_row_has_a_label_it_has_no_score_and_nothing_falls(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = adopt(work, pipeline(some_rows(300, seed=9)), "2024-03", monkeypatch)
    assert entry.training["metrics"] == {}
    assert "it was not scored" in entry.details["card"]
    champion, newest = work.champion(), work.read("2024-03")
    assert answers.findings(work, champion, newest).performance is None
    past = monitoring.history(work, newest, champion, newest)
    assert not past.comparable
    work.windows.tables["2024-04"] = some_rows(200, seed=4)
    later = work.read("2024-04")
    found = answers.findings(work, champion, later).performance
    assert (found.rows, found.drop) == (200, None)
    past = monitoring.history(work, later, champion, later)
    assert (past.new_labels, past.comparable, past.windows_since_training) == (True, True, 1)
    verdict = monitoring.judge(work, monitoring.Drift(0.0, ()), found, past)
    assert str(verdict.reason) == "quiet"


def test_windows_it_was_not_monitored_on_stay_new_in_status(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(work, pipeline(some_rows(300, seed=9)), "2024-02", monkeypatch)
    monkeypatch.setattr("driftloop.contract.load", lambda folder: work.loop)
    monkeypatch.setattr("driftloop.standing.open_windows", lambda *given: work.windows)
    found = standing(work.folder, work.settings)
    assert [row["state"] for row in found["windows"]] == ["passed by", "new", "new"]
    assert found["champion"]["reason"].startswith("adopted from")


def test_a_champion_is_replaced_only_when_told_so(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(work, "2024-01")
    with pytest.raises(DriftloopError, match=r"version 1 is the champion of churn: .* with --replace"):
        adopt(work, pipeline(some_rows(300, seed=9)), "2024-02", monkeypatch)
    assert len(work.registry.candidates) == 1, "nothing was stored in vain"
    assert adopt(work, pipeline(some_rows(300, seed=9)), "2024-02", monkeypatch, instead=True).version == "2"
    assert adopt(work, pipeline(some_rows(300, seed=9)), "2024-02", monkeypatch, instead=True).version == "3"
    assert work.ledger.champion() == "3"


def test_what_cannot_be_served_is_not_champion(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work.checks = FakeChecks({"1": "it does not load"})
    with pytest.raises(DriftloopError, match=r"is version 1 and not champion: cannot be served \(it does not load\)"):
        adopt(work, pipeline(some_rows(300, seed=9)), "2024-02", monkeypatch)
    assert (work.ledger.champion(), work.ledger.entries()) == (None, [])
    assert work.registry.marks == {"1": "keep"}


def test_words_for_classes_become_numbers_also_where_the_event_sorts_first(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(300, seed=9)
    estimator = pipeline(rows, np.where(rows["left"], "A gone", "stayed"))
    for table in work.windows.tables.values():
        table["left"] = np.where(table["left"], "A gone", "stayed")
    work.loop = a_loop(positive="A gone")
    expected = estimator.predict_proba(rows[["plan", "fee"]])[:, 0]
    adopt(work, estimator, "2024-02", monkeypatch)
    assert work.champion().artifact.facts.metrics["auc"] > 0.6
    np.testing.assert_allclose(work.champion().artifact.score(rows), expected)


def test_boosted_trees_whose_first_class_is_the_event_are_refused(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(300, seed=9)
    for table in [*work.windows.tables.values(), rows]:
        table["left"] = np.where(table["left"], "A gone", "stayed")
    work.loop = a_loop(positive="A gone")
    model = HistGradientBoostingClassifier(max_iter=2).fit(rows[["fee"]], rows["left"])
    with pytest.raises(ContractError, match=r"HistGradientBoostingClassifier whose first class is the event, A gone"):
        adopt(work, model, "2024-02", monkeypatch)


def test_a_bare_estimator_takes_the_features_it_was_fitted_with_in_its_order(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.loop = a_loop(features={"numeric": ["fee", "usage"], "categorical": ["plan"]})
    for table in work.windows.tables.values():
        table["usage"] = range(len(table))
    rows = some_rows(300, seed=9).assign(usage=1.0)
    model = RandomForestClassifier(3, random_state=0).fit(rows[["usage", "fee"]], rows["left"])
    entry = adopt(work, model, "2024-02", monkeypatch)
    assert work.champion().artifact.facts.numeric == ("usage", "fee")
    assert "it does not take plan" in entry.details["notes"]


def test_categories_known_as_numbers_are_refused(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(300, seed=9)
    estimator = pipeline(rows.assign(plan=rows["plan"] == "family"))
    with pytest.raises(ContractError, match=r"knows the categories of plan as .*False.* \(bool\)"):
        adopt(work, estimator, "2024-02", monkeypatch)


def test_rows_it_answers_otherwise_for_than_in_the_file_are_noted(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work.windows.tables["2024-03"].loc[:9, "plan"] = None
    rows = some_rows(300, seed=9)
    rows.loc[:9, "plan"] = None
    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["plan"]),
        remainder="passthrough",
    )
    estimator = make_pipeline(encode, LogisticRegression()).fit(rows[["fee", "plan"]], rows["left"])
    entry = adopt(work, estimator, "2024-02", monkeypatch)
    assert entry.details["notes"][0].startswith("for 10 of 200 rows of 2024-03 it answers otherwise")


class Silent(LinearRegression):
    def predict(self, X: Any) -> Any:
        return np.full(len(X), np.nan)


@pytest.mark.parametrize(
    ("changes", "estimator", "said"),
    [
        ({}, LinearRegression(), "task binary needs a fitted scikit-learn classifier with predict_proba"),
        ({"task": "regression"}, LogisticRegression(), "needs a fitted scikit-learn regressor with predict"),
        ({"task": "regression"}, "no model", "the model is a str"),
        ({}, LogisticRegression(), "cannot answer yet: This LogisticRegression instance is not fitted"),
    ],
)
def test_another_kind_of_model_is_refused(
    work: Any, monkeypatch: pytest.MonkeyPatch, changes: Any, estimator: Any, said: str
) -> None:
    work.loop = a_loop(**changes)
    with pytest.raises(ContractError, match=said):
        adopt(work, estimator, "2024-02", monkeypatch)


def test_a_model_that_cannot_answer_is_refused(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work.loop = a_loop(task="regression", target="bill", features={"numeric": ["fee"], "categorical": []})
    for table in work.windows.tables.values():
        table["bill"] = table.pop("left").astype(float)
    rows = some_rows(300, seed=9).rename(columns={"left": "bill"})
    other = LinearRegression().fit(rows[["fee"]].rename(columns={"fee": "price"}), rows["bill"])
    with pytest.raises(ContractError, match=r"fitted with the columns price, and loop.toml lists none of them"):
        adopt(work, other, "2024-02", monkeypatch)
    more = rows[["fee"]].assign(price=1.0)
    with pytest.raises(ContractError, match=r"cannot answer for the 200 rows of 2024-03, .*price"):
        adopt(work, LinearRegression().fit(more, rows["bill"]), "2024-02", monkeypatch)
    unnamed = make_pipeline(ColumnTransformer([("fee", StandardScaler(), [0])]), LinearRegression()).fit(
        rows[["fee"]].to_numpy(), rows["bill"]
    )
    with pytest.raises(ContractError, match="it was fitted without names"):
        adopt(work, unnamed, "2024-02", monkeypatch)
    with pytest.raises(ContractError, match=r"expected a finite number a row, got shape \(200,\)"):
        adopt(work, Silent().fit(rows[["fee"]], rows["bill"]), "2024-02", monkeypatch)


def test_a_target_scaler_goes_around_the_model_and_not_its_preprocessing() -> None:
    rows = some_rows(100)
    inner = make_pipeline(StandardScaler(), LinearRegression())
    made = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(rows[["fee"]], 3 * rows["fee"] + 1)
    found = adopting.as_pipeline(made)
    assert isinstance(found["encode"], StandardScaler)
    assert isinstance(found["model"].regressor_, LinearRegression)
    np.testing.assert_allclose(found.predict(rows[["fee"]]), 3 * rows["fee"] + 1)


def test_who_adopts_has_to_say_so(work: Any) -> None:
    with pytest.raises(ContractError, match="say who answers"):
        adopting.adopt(work, "models:/notebook/3", "2024-02", " ", "")


def test_a_version_under_another_rule_is_pointed_to_adoption() -> None:
    with pytest.raises(HoldoutMismatch, match=r"driftloop adopt DIR models:/churn/4 --trained-until"):
        require_same_rule(None, HoldoutRule.of(a_loop()), "4")


def several(seed: int) -> pd.DataFrame:
    """Rows whose plan, which the file has a null in, decides among three labels."""
    rows = some_rows(200, seed=seed)
    rows.loc[::20, "plan"] = None
    kinds = np.where(rows["fee"] > 0.5, "stays", np.where(rows["plan"] == "family", "moves", "leaves"))
    return rows.assign(left=kinds)


def test_a_model_of_several_labels_is_adopted_with_its_own_and_counted_by_rows(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.loop = a_loop(task="multiclass", promotion={})
    work.windows.tables = {month: several(n) for n, month in enumerate(MONTHS)}
    rows = several(9)
    entry = adopt(work, pipeline(rows.assign(plan=rows["plan"].fillna("none"))), "2024-01", monkeypatch)
    champion = work.champion()
    assert (entry.version, champion.artifact.facts.labels) == ("1", ("leaves", "moves", "stays"))
    held = work.read("2024-03")
    said = champion.artifact.predict(held.X)
    assert said.scores.shape == (200, 3)
    assert (said.labels == held.among(champion.artifact.facts.labels).y).mean() > 0.9
    assert champion.artifact.facts.metrics["accuracy"] > 0.9


def test_rows_of_several_scores_are_counted_once(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work.loop = a_loop(task="multiclass", promotion={})
    work.windows.tables = {month: several(n) for n, month in enumerate(MONTHS)}
    rows = several(9)
    with_none = pipeline(rows.astype({"plan": object}).where(rows.notna(), None))  # it knows None, and no "(missing)"
    entry = adopt(work, with_none, "2024-01", monkeypatch)
    assert [note for note in entry.details["notes"] if note.startswith("for 10 of 200 rows of 2024-03 it answers")]


def test_a_model_that_fails_because_nobody_named_its_columns_is_told_so(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(100)
    numbers = np.column_stack([rows["fee"], rows["fee"]])
    bare = make_pipeline(SimpleImputer(), LogisticRegression()).fit(numbers, rows["left"])
    with pytest.raises(ContractError, match=r"cannot answer for the 200 rows of .*: it was fitted without names"):
        adopt(work, bare, "2024-01", monkeypatch)
