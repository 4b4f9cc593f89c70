"""A process killed in the middle of a run leaves nothing that the next run does not put right."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from driftloop import promoting
from driftloop.errors import ChampionMoved, DriftloopError
from driftloop.entry import Kind
from driftloop.promotion import Outcome, PromotionReason
from driftloop.workspace import Workspace
from tests.integration.conftest import month


def crash(loop, window, moment):
    """Run the window in a process that kills itself at the moment."""
    command = [sys.executable, "-m", "tests.integration.crashing", str(loop.folder), window, moment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def kinds(loop):
    return [str(e.kind) for e in loop.open().ledger.entries()]


def test_a_crash_between_ledger_and_alias_is_healed_by_the_next_run(loop, monitor):
    loop.deliver("2024-01", month(1))
    monitor()
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    crash(loop, "2024-02", "alias")
    work = loop.open()
    assert (work.ledger.champion(), work.registry.champion()) == ("2", "1")

    report = monitor()
    assert report["repeated"] == 4
    assert report["champion"] == {"version": "2"}
    assert work.registry.aliases() == {"champion": "2"}
    assert kinds(loop) == ["verdict", "promotion", "verdict", "promotion"]


@pytest.mark.parametrize("moment", ["alias", "card"])
def test_what_explains_a_decision_is_caught_up_on_after_a_crash(loop, monitor, moment):
    loop.deliver("2024-01", month(1))
    crash(loop, "2024-01", moment)
    registry = loop.open().registry
    assert not registry.explained("1")

    monitor()
    version = registry.client.get_model_version("churn", "1")
    assert (version.tags["decision"], version.tags["reason"]) == ("promote", "no champion")
    assert version.description.startswith("# churn")
    assert "decision.json" in [f.path for f in registry.client.list_artifacts(version.run_id)]


def test_a_crash_before_the_very_first_alias_is_healed_by_the_next_window_s_run(loop, monitor):
    loop.deliver("2024-01", month(1))
    crash(loop, "2024-01", "alias")
    assert loop.open().registry.champion() is None

    loop.deliver("2024-02", month(2))
    report = monitor()
    assert report["retrain"]["reason"] == "quiet"
    assert report["champion"] == {"version": "1"}
    assert loop.open().registry.aliases() == {"champion": "1"}
    assert kinds(loop) == ["verdict", "promotion", "verdict"]


def test_a_crash_after_the_verdict_is_no_finished_run_and_the_next_one_trains(loop, monitor):
    loop.deliver("2024-01", month(1))
    crash(loop, "2024-01", "verdict")
    assert kinds(loop) == ["verdict"]

    report = monitor()
    assert "repeated" not in report
    assert report["decision"]["outcome"] == "promote"
    assert kinds(loop) == ["verdict", "verdict", "promotion"]
    assert loop.open().registry.champion() == "1"
    assert "repeated" in monitor()


def test_a_registry_with_a_champion_that_the_ledger_never_heard_of_is_not_overwritten(loop):
    loop.deliver("2024-01", month(1))
    work = loop.open()
    registered(work, "2024-01")
    work.registry.point_champion_at("1")
    with pytest.raises(DriftloopError, match=r"points at version 1, but the ledger at .* records no champion"):
        promoting.heal(work)
    assert work.registry.champion() == "1"


def registered(work, window):
    """A candidate trained up to the window, and the version it became."""
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    return data, candidate, promoting.register(work, candidate, window)


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


def decided(work, data, candidate, version):
    return promoting.decide_and_record(
        work, candidate, data, version, "2024-02", promoting.asked_by(work, "2024-02", None)
    )


def test_a_run_that_was_overtaken_decides_again_against_the_new_champion(loop):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    old = registered(work, "2024-01")
    assert decided(work, *old)[0].reason is PromotionReason.NO_CHAMPION
    _, _, rival = registered(work, "2024-02")
    mine = registered(work, "2024-02")
    # against version 1 mine wins; version 2, which is as good, was faster
    decision, entry = decided(contested(work, [rival.number]), *mine)
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
    _, _, rival = registered(work, "2024-01")
    mine = registered(work, "2024-02")
    decision, entry = decided(contested(work, [rival.number]), *mine)
    assert decision.outcome is Outcome.PROMOTE
    assert entry.details["report"]["champion"] == {"version": "3"}
    promoting.follow(work, entry)
    assert work.registry.aliases() == {"champion": "3"}
    promotions = [e.version for e in work.ledger.entries() if e.kind is Kind.PROMOTION]
    assert promotions == ["1", "2", "3"]


def test_a_champion_that_moves_at_every_look_ends_the_run_with_what_to_do(loop):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    decided(work, *registered(work, "2024-01"))
    _, _, rival = registered(work, "2024-01")
    mine = registered(work, "2024-02")
    flipping = [rival.number if n % 2 == 0 else "1" for n in range(promoting.ATTEMPTS)]
    with pytest.raises(ChampionMoved, match="changed 10 times while version 3 was compared; run again"):
        decided(contested(work, flipping), *mine)
    assert "3" not in {e.version for e in work.ledger.entries()}
