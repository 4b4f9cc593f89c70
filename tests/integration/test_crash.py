"""A process killed in the middle of a run leaves nothing that the next run does not put right."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from driftloop import deciding, following, promoting
from driftloop.entry import Kind, altered
from driftloop.errors import ChampionMoved, DriftloopError
from driftloop.promotion import Outcome, PromotionReason
from driftloop.reigns import TRAININGS
from driftloop.workspace import Workspace
from tests.integration import crashing
from tests.integration.conftest import month

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.crashing"])


def crash(loop, window, moment):
    """Run the window in a process that kills itself at the moment."""
    process = FORKS.Process(target=crashing.run, args=(loop.folder, window, moment, dict(os.environ)))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def kinds(loop):
    return [str(e.kind) for e in loop.open().ledger.entries()]


def decisions(loop):
    return [(str(e.kind), e.version) for e in loop.open().ledger.entries() if e.kind in TRAININGS]


MOMENTS = ("verdict", "register", "ledger", "alias", "card")  # each leaves something behind that the one before did not


@pytest.mark.parametrize("moment", MOMENTS)
def test_wherever_a_run_is_killed_the_next_one_leaves_one_champion_one_decision_and_one_alert(
    loop, monitor, inbox, moment
):
    loop.deliver("2024-01", month(1))
    monitor()
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    crash(loop, "2024-02", moment)
    decided = moment in ("ledger", "alias", "card")
    assert len(decisions(loop)) == 1 + decided

    report = monitor()
    work = loop.open()
    champion = work.ledger.champion()
    assert report["champion"] == {"version": champion}
    assert ("repeated" in report) is decided
    assert [kind for kind, _ in decisions(loop)] == ["promotion", "promotion"]
    assert champion == decisions(loop)[-1][1]
    assert work.registry.aliases() == {"champion": champion}
    assert work.registry.marked(champion) == "promote"
    version = work.registry.client.get_model_version("churn", champion)
    assert version.tags["reason"] == "beats the margin"
    assert version.description.startswith("# churn")
    assert "decision.json" in [f.path for f in work.registry.client.list_artifacts(version.run_id)]
    assert [title for title in inbox.titles() if "promoted" in title] == [
        "churn: version 1 promoted", f"churn: version {champion} promoted",
    ]  # fmt: skip
    assert altered(work.ledger.entries()) == []
    rows = work.ledger.entries()
    assert "repeated" in monitor()
    assert work.ledger.entries() == rows


@pytest.mark.parametrize("moment", ["ledger", "card"])
def test_a_killed_approval_is_finished_by_the_next_run(loop, monitor, inbox, moment):
    loop.set("promotion", approval="always")
    loop.deliver("2024-01", month(1))
    assert monitor()["decision"]["outcome"] == "ask"
    assert loop.open().registry.aliases() == {"challenger": "1"}
    crash(loop, "approve", moment)
    report = monitor()
    work = loop.open()
    assert report["champion"] == {"version": "1"}
    assert work.registry.aliases() == {"champion": "1"}
    assert decisions(loop) == [("ask", "1"), ("promotion", "1")]
    assert work.registry.marked("1") == "promote"
    assert inbox.titles() == ["churn: version 1 waits for you", "churn: version 1 promoted by ada"]


def test_a_candidate_that_waits_is_the_challenger_though_the_run_was_killed_before_the_alias(loop, monitor):
    loop.set("promotion", approval="always")
    loop.deliver("2024-01", month(1))
    crash(loop, "2024-01", "ledger")
    assert loop.open().registry.aliases() == {}
    assert "repeated" in monitor()
    assert loop.open().registry.aliases() == {"challenger": "1"}


def test_a_registry_with_a_champion_that_the_ledger_never_heard_of_is_not_overwritten(loop):
    loop.deliver("2024-01", month(1))
    work = loop.open()
    registered(work, "2024-01")
    work.registry.point("champion", "1")
    with pytest.raises(DriftloopError, match=r"points at version 1, but the ledger at .* records no champion"):
        following.heal(work)
    assert work.registry.champion() == "1"


def registered(work, window):
    """The data up to the window, and the candidate trained on it, tried as a version."""
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window).number
    return data, promoting.check_serving(work, candidate, version, data.holdout.X)


class Contested(Workspace):
    """A workspace in which rivals promote right after somebody looked at the champion: real rows in a real ledger."""

    rivals: list[str]

    def champion(self):
        seen = super().champion()
        if self.rivals:
            rival = self.rivals.pop(0)
            details = promoting.asked_by(self, "2024-02", None)
            details["report"]["training"] = {"windows": ["2024-02"], "metrics": {}}
            expected = seen.version if seen else None
            self.ledger.promote(
                rival, expected=expected, window="2024-02", reason="faster", actor="rival", details=details
            )
        return seen


def contested(work, rivals):
    made = Contested(**{name: getattr(work, name) for name in ("folder", "settings", "loop", "windows", "ledger")},
                     registry=work.registry)  # fmt: skip
    made.rivals = rivals
    return made


def decided(work, data, made):
    return deciding.decide_and_record(work, made, data, "2024-02", promoting.asked_by(work, "2024-02", None))


def test_a_run_that_was_overtaken_decides_again_against_the_new_champion(loop):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    old = registered(work, "2024-01")
    assert decided(work, *old)[0].reason is PromotionReason.NO_CHAMPION
    _, rival = registered(work, "2024-02")
    mine = registered(work, "2024-02")
    # against version 1 mine wins; version 2, which is as good, was faster
    decision, entry = decided(contested(work, [rival.version]), *mine)
    assert (decision.outcome, decision.reason) == (Outcome.KEEP, PromotionReason.WITHIN_MARGIN)
    assert decision.gain == 0
    assert entry.details["report"]["champion"] == {"version": "2"}
    assert work.ledger.champion() == "2"
    assert [(str(e.kind), e.version) for e in work.ledger.entries()][-2:] == [("promotion", "2"), ("keep", "3")]


def test_a_candidate_that_beats_the_faster_rival_too_replaces_it(loop):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    decided(work, *registered(work, "2024-01"))
    assert work.ledger.champion() == "1"
    _, rival = registered(work, "2024-01")
    mine = registered(work, "2024-02")
    decision, entry = decided(contested(work, [rival.version]), *mine)
    assert decision.outcome is Outcome.PROMOTE
    assert entry.details["report"]["champion"] == {"version": "3"}
    following.follow(work, entry)
    assert work.registry.aliases() == {"champion": "3"}
    promotions = [e.version for e in work.ledger.entries() if e.kind is Kind.PROMOTION]
    assert promotions == ["1", "2", "3"]


def test_a_champion_that_moves_at_every_look_ends_the_run_with_what_to_do(loop):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    decided(work, *registered(work, "2024-01"))
    _, rival = registered(work, "2024-01")
    mine = registered(work, "2024-02")
    flipping = [rival.version if n % 2 == 0 else "1" for n in range(deciding.ATTEMPTS)]
    with pytest.raises(ChampionMoved, match="changed 10 times while version 3 was compared; run again"):
        decided(contested(work, flipping), *mine)
    assert "3" not in {e.version for e in work.ledger.entries()}
