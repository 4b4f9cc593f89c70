"""Sixteen candidates that are decided about at once, each by a process of its own, over one real ledger."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import cast

import pytest

from driftloop import promoting
from driftloop.contract import Loop
from driftloop.deciding import ATTEMPTS, decide_and_record
from driftloop.entry import Entry, Kind, altered
from driftloop.errors import ChampionMoved
from driftloop.holdout import HoldoutRule
from driftloop.promotion import PromotionReason
from driftloop.registry import Registry
from driftloop.scores import evaluate
from driftloop.settings import Settings
from driftloop.training import Candidate, fit, split
from driftloop.workspace import Champion
from tests.fakes import FakeChecks, FakeRegistry, FakeWindows, ServingFrom, a_loop, a_window, some_rows
from tests.integration import racers

pytest_plugins = ["tests.integration.postgres"]
RIVALS = 16
MONTH = "2024-01"
_candidates: list[Candidate] = []


def the_loop() -> Loop:
    """Any gain is enough and needs no bound, so of two models one beats the other, whatever the order."""
    return a_loop(promotion={"delta": 0, "confidence": 0})


def candidates() -> list[Candidate]:
    """Trained on parts of the month with ever more labels turned round."""
    loop, rows, made = the_loop(), some_rows(1500), []
    rule = HoldoutRule.of(loop)
    training, holdout = split([a_window(rows, loop, MONTH)], rule)
    for number in range(RIVALS):
        part = training.where(training.X.index % RIVALS != number)
        assert part.y is not None
        y = part.y.where(part.y.index >= 30 * number, 1 - part.y)
        candidate = fit(loop, [MONTH], replace(part, y=y), rule)
        predicted = promoting.Registered(candidate, "", None).predict(holdout.X)
        metrics = evaluate(loop, holdout, predicted)
        made.append(replace(candidate, facts=candidate.facts.model_copy(update={"metrics": metrics})))
    return made


class Rival(ServingFrom):
    """A workspace that waits after its first look for the champion until all others have looked too."""

    looks = 0

    def champion(self) -> Champion | None:
        found = super().champion()
        self.looks += 1
        if self.looks == 1:
            racers.at_once()
        return found


@dataclass(frozen=True)
class Ran:
    """How it ended for a version: the row that was written or why it stopped, after how many looks at the champion."""

    version: str
    looks: int
    row: Entry | None
    stopped: str = ""


def arm(barrier: Barrier, made: list[Candidate]) -> None:
    racers.arm(barrier)
    _candidates.extend(made)


def compete(url: str, version: str, home: Path) -> Ran:
    """Decide about one of the candidates, which every process knows as versions 1 to 16."""
    settings = Settings.from_env({"DRIFTLOOP_LEDGER_URL": url}, home)
    windows, registry = FakeWindows({MONTH: some_rows(1500)}), cast("Registry", FakeRegistry(_candidates))
    with racers.opened(url) as ledger:
        work = Rival(home, settings, the_loop(), windows, ledger, registry, checks=FakeChecks())
        data = promoting.training_data(work, MONTH, None)
        made = promoting.check_serving(work, _candidates[int(version) - 1], version, data.holdout.X)
        details = promoting.asked_by(work, MONTH, None)
        try:
            _, row = decide_and_record(work, made, data, MONTH, details)
        except ChampionMoved as moved:
            return Ran(version, work.looks, None, str(moved))
        return Ran(version, work.looks, row)


@pytest.fixture(scope="module")
def pool():
    """Sixteen processes that know the candidates; imports are paid for once, by the server they are forked off."""
    clean = multiprocessing.get_context("forkserver")
    clean.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(RIVALS, clean, arm, (clean.Barrier(RIVALS), candidates())) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def judged(entry: Entry) -> float:
    return entry.details["report"]["decision"]["candidate"]


def test_sixteen_candidates_decided_about_at_once_leave_one_line_of_champions(url, pool, tmp_path):
    runs = [pool.submit(compete, url, str(1 + n), tmp_path) for n in range(RIVALS)]
    ran = [run.result(timeout=200) for run in runs]
    with racers.opened(url) as ledger:
        entries, champion = ledger.entries(), ledger.champion()
    promotions = [entry for entry in entries if entry.kind is Kind.PROMOTION]

    # each wrote one row or stopped with the reason; nobody wrote another
    assert {run.version: run.row for run in ran if run.row} == {entry.version: entry for entry in entries}
    assert len({entry.version for entry in entries}) == len(entries)
    for run in ran:
        assert run.row or f"changed {ATTEMPTS} times while version {run.version} was compared" in run.stopped
    assert {entry.kind for entry in entries} <= {Kind.PROMOTION, Kind.KEEP}
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert altered(entries) == []

    # every promotion was decided against the champion that it replaced, and beat it
    assert [e.details["compared_with"] for e in promotions] == [None, *(e.version for e in promotions[:-1])]
    qualities = [judged(entry) for entry in promotions]
    assert qualities == sorted(set(qualities))
    assert champion == promotions[-1].version
    assert judged(promotions[-1]) == max(map(judged, entries))

    # whoever was kept out had lost to a version that was champion before
    for kept in (entry for entry in entries if entry.kind is Kind.KEEP):
        (rival,) = [entry for entry in promotions if entry.version == kept.details["compared_with"]]
        assert rival.seq < kept.seq
        assert judged(kept) <= judged(rival) == kept.details["report"]["decision"]["champion"]

    # all had looked before there was a champion: one of them was first, the others decided again
    assert [run.version for run in ran if run.looks == 1] == [promotions[0].version]
    assert [e.version for e in entries if e.reason == PromotionReason.NO_CHAMPION] == [promotions[0].version]
    assert all(run.looks <= ATTEMPTS for run in ran)
