"""From labelled windows to a recorded decision, with windows and registry in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from driftloop import promoting
from driftloop.artifact import Artifact
from driftloop.errors import ContractError, HoldoutMismatch, LabelsNotReady
from driftloop.entry import Kind
from driftloop.ledger import Ledger
from driftloop.promotion import Outcome, PromotionReason
from driftloop.registry import Registry
from driftloop.settings import Settings
from driftloop.workspace import Champion, Workspace
from tests.fakes import FakeRegistry, FakeWindows, a_loop, some_rows, stored

MONTHS = ("2024-01", "2024-02", "2024-03")


class ServingFrom(Workspace):
    """A workspace whose models come from the fake registry's candidates."""

    def model(self, version: str) -> Artifact:
        return stored(cast("FakeRegistry", self.registry).candidates[int(version) - 1])


@pytest.fixture
def work(tmp_path: Path) -> Any:
    settings = Settings.from_env({}, tmp_path)
    ledger = Ledger(settings.ledger_url, "churn")
    windows = FakeWindows({month: some_rows(200, seed=n) for n, month in enumerate(MONTHS)})
    yield ServingFrom(tmp_path, settings, a_loop(), windows, ledger, cast("Registry", FakeRegistry()))
    ledger._engine.dispose()


def training_data(work: Workspace, window: str) -> promoting.TrainingData:
    return promoting.training_data(work, window, work.champion())


def tables(work: Workspace) -> Any:
    return cast("FakeWindows", work.windows).tables


def run(work: Workspace, window: str) -> Any:
    """One training and comparison, as the flow puts its steps together."""
    data = training_data(work, window)
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window)
    details = promoting.asked_by(work, window, None)
    decision, entry = promoting.decide_and_record(work, candidate, data, version, window, details)
    promoting.follow(work, entry)
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
    assert set(metrics) == {"auc", "accuracy", "f1", "log_loss", "brier"}
    assert metrics["auc"] > 0.6


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
    assert promoting.heal(work) is None
    told = fake.cards.pop("1"), fake.decisions.pop("1")
    assert promoting.heal(work) == "version 1 had no decision beside it"
    assert (fake.cards["1"], fake.decisions["1"]) == told
    fake.aliases.clear()
    assert "the alias champion pointed at nothing" in str(promoting.heal(work))


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
    slow = Overtaken(work.folder, work.settings, work.loop, work.windows, work.ledger, work.registry)
    data = promoting.training_data(slow, "2024-01", None)
    candidate = promoting.train(slow, data)
    promoting.register(slow, candidate, "2024-01")  # version 1, which the other run promotes
    version = promoting.register(slow, candidate, "2024-01")
    details = promoting.asked_by(slow, "2024-01", None)
    decision, _ = promoting.decide_and_record(slow, candidate, data, version, "2024-01", details)
    assert decision.reason is PromotionReason.WITHIN_MARGIN
    assert work.ledger.champion() == "1"
