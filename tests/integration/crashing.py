"""A run that dies at a chosen moment: ``python -m tests.integration.crashing FOLDER WINDOW MOMENT``.

It takes the flows' steps over one window in their order, without Prefect, on real MLflow and a real ledger, and kills
its own process with SIGKILL at ``verdict`` (after the verdict is written), ``alias`` (after the ledger says promoted,
before MLflow's alias is set) or ``card`` (after the alias, before what explains the decision).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop import monitoring, promoting
from driftloop.registry import Registry
from driftloop.report import window_report
from driftloop.settings import Settings, apply_defaults
from driftloop.workspace import open_workspace


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAtAlias(Registry):
    def point_champion_at(self, version: str) -> None:
        die()


class DiesAtCard(Registry):
    def explain(self, version: str, decision: Mapping[str, Any], card: str) -> None:
        die()


def run(folder: Path, window: str, moment: str) -> None:
    work = open_workspace(folder, Settings.from_env(os.environ, Path.cwd()))
    champion = work.ledger.champion()
    report = window_report(
        work.loop.name, window, retrain=True, reason="first champion" if champion is None else "drift above threshold",
        champion=champion,
    )  # fmt: skip
    verdict = monitoring.record_verdict(work, monitoring.run_key(work, window), report)
    if moment == "verdict":
        die()
    dies = {"alias": DiesAtAlias, "card": DiesAtCard}[moment]
    work = replace(work, registry=dies(work.settings, work.loop.name))
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window)
    details = promoting.asked_by(work, window, verdict.seq)
    _, entry = promoting.decide_and_record(work, candidate, data, version, window, details)
    promoting.follow(work, entry)


if __name__ == "__main__":
    apply_defaults(os.environ)
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
