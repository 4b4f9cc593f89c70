"""From labelled windows to a recorded decision, with windows and registry in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from driftloop import deciding, following, golden, promoting
from driftloop.contract import Training
from driftloop.entry import Kind
from driftloop.errors import ContractError, HoldoutMismatch, LabelsNotReady
from driftloop.promotion import Outcome, PromotionReason
from driftloop.scores import baseline
from driftloop.workspace import Champion, Workspace
from tests.fakes import FakeChecks, FakeRegistry, FakeWindows, ServingFrom, a_loop, a_workspace, some_rows

MONTHS = ("2024-01", "2024-02", "2024-03")


@pytest.fixture
def work(tmp_path: Path) -> Any:
    work = a_workspace(
        tmp_path, a_loop(), FakeWindows({month: some_rows(200, seed=n) for n, month in enumerate(MONTHS)})
    )
    yield work
    work.ledger._engine.dispose()


def training_data(work: Workspace, window: str) -> promoting.TrainingData:
    return promoting.training_data(work, window, work.champion())


def made(work: Workspace, data: promoting.TrainingData, window: str) -> promoting.Registered:
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window).number
    return promoting.try_and_weigh(work, candidate, version, data.holdout)


def tables(work: Workspace) -> Any:
    return cast("FakeWindows", work.windows).tables


def run(work: Workspace, window: str) -> Any:
    """One training and comparison, as the flow puts its steps together."""
    data = training_data(work, window)
    details = promoting.asked_by(work, window, None)
    decision, entry = deciding.decide_and_record(work, made(work, data, window), data, window, details)
    following.follow(work, entry)
    return decision, entry.details["report"]


def test_training_data_comes_from_the_labelled_windows_that_can_be_read(work: Workspace) -> None:
    tables(work)["2024-02"]["fee"] = "broken"
    data = training_data(work, "2024-03")
    assert data.windows == ("2024-01", "2024-03")
    assert data.holdout.id == "2024-03"
    assert [error.window for error in data.left_out] == ["2024-02"]


def test_a_window_whose_target_column_is_still_empty_is_not_trained_on(work: Workspace) -> None:
    tables(work)["2024-03"]["left"] = None
    work.loop = work.loop.model_copy(update={"positive": True})
    assert training_data(work, "2024-03").windows == ("2024-01", "2024-02")


def test_without_labels_there_is_nothing_to_train_on(work: Workspace) -> None:
    for rows in tables(work).values():
        del rows["left"]
    with pytest.raises(LabelsNotReady, match="no window up to 2024-02 has usable labels"):
        training_data(work, "2024-02")


def test_a_candidate_is_scored_on_the_holdout(work: Workspace) -> None:
    data = training_data(work, "2024-01")
    metrics = promoting.train(work, data).facts.metrics
    assert set(metrics) == {"auc", "accuracy", "f1", "log_loss", "brier", "calibration_error"}
    assert metrics["auc"] > 0.6


def test_a_candidate_stands_beside_the_baseline_of_its_training_rows_and_has_its_plots(work: Workspace) -> None:
    data = training_data(work, "2024-02")
    candidate = promoting.train(work, data)
    assert candidate.facts.baseline == baseline(work.loop, data.training, data.holdout)
    assert set(candidate.facts.baseline) == set(candidate.facts.metrics)
    assert candidate.facts.baseline["auc"] == 0.5
    assert candidate.evaluation is not None
    assert "ROC" in candidate.evaluation


def test_a_version_says_which_features_its_score_rests_on(work: Workspace) -> None:
    candidate = made(work, training_data(work, "2024-01"), "2024-01").candidate
    assert candidate.importance is not None
    assert candidate.facts.importance == candidate.importance.means
    assert set(candidate.facts.importance) == {"fee", "plan"}
    assert next(iter(candidate.facts.importance.values())) > 0.05


def test_the_first_candidate_becomes_champion_and_the_alias_follows(work: Workspace) -> None:
    decision, report = run(work, "2024-01")
    assert (decision.outcome, decision.reason) == (Outcome.PROMOTE, PromotionReason.NO_CHAMPION)
    assert report["champion"] == {"version": "1"}
    assert (work.ledger.champion(), work.registry.champion()) == ("1", "1")
    fake = cast("FakeRegistry", work.registry)
    assert fake.cards["1"].startswith("# churn")
    assert fake.decisions["1"] == report["decision"]


def test_a_decision_that_a_crash_left_unexplained_is_explained_by_the_next_run(work: Workspace) -> None:
    run(work, "2024-01")
    fake = cast("FakeRegistry", work.registry)
    assert following.heal(work) is None
    told = fake.cards.pop("1"), fake.decisions.pop("1")
    del fake.marks["1"]
    assert following.heal(work) == "version 1 had no decision beside it"
    assert (fake.cards["1"], fake.decisions["1"]) == told
    fake.pointers.clear()
    assert "the alias champion pointed at nothing" in str(following.heal(work))


def test_a_candidate_no_better_than_the_champion_is_kept_out(work: Workspace) -> None:
    run(work, "2024-01")
    decision, report = run(work, "2024-01")  # the same rows make the same model
    assert (decision.outcome, decision.reason, decision.gain) == (Outcome.KEEP, PromotionReason.WITHIN_MARGIN, 0)
    assert report["champion"] == {"version": "1"}
    assert report["training"]["version"] == "2"
    assert [e.kind for e in work.ledger.entries()] == [Kind.PROMOTION, Kind.KEEP]
    assert (work.ledger.champion(), work.registry.champion()) == ("1", "1")


def test_a_candidate_that_learned_a_turned_world_replaces_the_champion(work: Workspace) -> None:
    run(work, "2024-01")
    tables(work)["2024-02"]["left"] = ~tables(work)["2024-02"]["left"]
    work.loop = a_loop(training={"strategy": "latest"})
    decision, _ = run(work, "2024-02")
    assert decision.reason is PromotionReason.BEATS_MARGIN
    assert (work.ledger.champion(), work.registry.champion()) == ("2", "2")


def test_a_champion_of_another_holdout_rule_is_not_compared_and_nothing_is_written(work: Workspace) -> None:
    run(work, "2024-01")
    before = work.ledger.entries()
    work.loop = a_loop(holdout={"share": 0.3})
    with pytest.raises(HoldoutMismatch, match=r"version 1 was trained under the holdout rule 'entity\(user_id\) share"):
        run(work, "2024-02")
    assert work.ledger.entries() == before


def test_nothing_is_trained_on_windows_older_than_the_champions(work: Workspace) -> None:
    run(work, "2024-02")
    with pytest.raises(ContractError, match="labels are those of 2024-01, older than 2024-02, which champion 1"):
        run(work, "2024-01")
    assert len(cast("FakeRegistry", work.registry).candidates) == 1


def test_nothing_is_trained_for_a_window_there_is_not(work: Workspace) -> None:
    with pytest.raises(ContractError, match="there is no window 2025-01; there are 2024-01, 2024-02, 2024-03"):
        training_data(work, "2025-01")


def test_a_verdict_that_the_ledger_does_not_hold_asks_for_nothing(work: Workspace) -> None:
    with pytest.raises(ContractError, match="verdict = 7: the ledger has no such verdict on window 2024-01"):
        promoting.asked_by(work, "2024-01", 7)


class Overtaken(ServingFrom):
    """Another run promotes version 1 after this one has looked up its champion, once."""

    times = 1

    def champion(self) -> Champion | None:
        found = super().champion()
        if self.times:
            self.times -= 1
            expected = found.version if found else None
            details = {"key": None, "report": {"training": {"windows": ["2024-01"]}}}
            self.ledger.promote("1", expected=expected, window="2024-01", reason="r", actor="other", details=details)
        return found


def test_a_run_that_was_overtaken_decides_again_against_the_new_champion(work: ServingFrom) -> None:
    slow = Overtaken(
        work.folder, work.settings, work.loop, work.windows, work.ledger, work.registry, checks=work.checks
    )
    data = promoting.training_data(slow, "2024-01", None)
    made(slow, data, "2024-01")  # version 1, which the other run promotes
    mine = made(slow, data, "2024-01")
    details = promoting.asked_by(slow, "2024-01", None)
    decision, _ = deciding.decide_and_record(slow, mine, data, "2024-01", details)
    assert decision.reason is PromotionReason.WITHIN_MARGIN
    assert work.ledger.champion() == "1"


def test_a_candidate_that_cannot_be_served_is_kept_out_even_where_there_is_no_champion(work: Workspace) -> None:
    cast("FakeChecks", work.checks).problems["1"] = "it does not load"
    decision, report = run(work, "2024-01")
    assert (decision.outcome, decision.reason) == (Outcome.KEEP, PromotionReason.NOT_SERVABLE)
    assert report["champion"] is None
    assert (work.ledger.champion(), work.registry.aliases()) == (None, {})


def by_time(share: float = 0.25, **promotion: Any) -> Any:
    return a_loop(timestamp="at", entity=None, holdout={"by": "time", "share": share}, promotion=promotion)


@pytest.fixture
def timed(work: ServingFrom) -> ServingFrom:
    work.loop = by_time()
    for month, rows in tables(work).items():
        rows["at"] = pd.date_range(f"{month}-01", periods=len(rows), freq="h").astype(str)
        del rows["user_id"]
    return work


def test_what_passed_is_fitted_again_with_the_tail_and_that_version_serves(timed: ServingFrom) -> None:
    decision, report = run(timed, "2024-01")
    fake = cast("FakeRegistry", timed.registry)
    judged, refitted = (candidate.facts for candidate in fake.candidates)
    assert (judged.rows, refitted.rows, refitted.refit_of) == (150, 200, "1")
    assert (refitted.metrics, refitted.importance) == (judged.metrics, judged.importance)
    assert judged.importance
    assert fake.candidates[1].importance == fake.candidates[0].importance
    assert decision.outcome is Outcome.PROMOTE
    assert report["training"]["version"] == "2"
    assert (timed.ledger.champion(), timed.registry.champion()) == ("2", "2")
    assert cast("FakeChecks", timed.checks).asked == ["1", "2"]
    assert fake.marks == {"1": "promote", "2": "promote"}
    assert "Fitted again with the holdout's rows after version 1" in fake.cards["2"]


def test_a_refit_that_cannot_be_served_is_not_promoted(timed: ServingFrom) -> None:
    cast("FakeChecks", timed.checks).problems["2"] = "it does not load"
    decision, _ = run(timed, "2024-01")
    assert (decision.outcome, decision.reason) == (Outcome.KEEP, PromotionReason.NOT_SERVABLE)
    assert timed.ledger.champion() is None


def test_a_refitted_champion_is_not_compared_on_rows_it_has_learnt(timed: ServingFrom) -> None:
    run(timed, "2024-01")
    with pytest.raises(
        ContractError, match="champion 2 was refitted with all rows of 2024-01, the newest usable labels"
    ):
        run(timed, "2024-01")
    decision, _ = run(timed, "2024-02")
    assert decision.champion is not None
    assert decision.holdout_rows == 50


def test_a_candidate_that_is_kept_out_is_not_fitted_again(timed: ServingFrom) -> None:
    run(timed, "2024-01")
    timed.loop = by_time(delta=0.9)
    decision, _ = run(timed, "2024-02")
    assert decision.outcome is Outcome.KEEP
    assert len(cast("FakeRegistry", timed.registry).candidates) == 3


def test_without_refit_the_judged_version_itself_serves(timed: ServingFrom) -> None:
    timed.loop = by_time(refit=False)
    run(timed, "2024-01")
    assert timed.ledger.champion() == "1"


def test_the_decision_names_slices_and_known_cases(work: ServingFrom) -> None:
    work.loop = a_loop(promotion={"slices": ["plan", "fee"], "min_slice_rows": 10, "delta": 0})
    cases = pd.DataFrame([{"fee": "0", "plan": "basic", "expect": "rises", "change": "fee", "to": "3"}])
    work.golden = golden.parse(cases, work.loop, "golden.csv")
    run(work, "2024-01")
    rows = tables(work)["2024-02"] = some_rows(1500, seed=5)  # enough of each class in a slice
    rows["left"] = ~rows["left"]  # what rose with the fee falls with it now
    work.loop = work.loop.model_copy(update={"training": Training(strategy="latest")})
    decision, report = run(work, "2024-02")
    assert (decision.outcome, decision.reason) == (Outcome.KEEP, PromotionReason.KNOWN_CASE_BROKE)
    assert "expected that it rises" in decision.broken[0]
    assert {s["name"] for s in report["decision"]["slices"]["judged"]} >= {"plan = basic", "plan = family"}
    assert decision.detectable is not None
