"""A run that dies at a chosen moment: ``python -m tests.integration.crashing FOLDER WINDOW MOMENT``.

It takes the flows' steps over one window in their order, without Prefect, on real MLflow and a real ledger, and kills
its own process with SIGKILL right after the step that the moment names: ``verdict``, ``train``, ``register``,
``check``, ``ledger``, ``alias``, ``card`` (what explains the decision). WINDOW ``approve`` is a human's yes instead.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop import approving, deciding, following, monitoring, promoting
from driftloop.registry import CHAMPION, Registry
from driftloop.report import window_report
from driftloop.settings import Settings, apply_defaults
from driftloop.workspace import Workspace, open_workspace


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiesBeforeAlias(Registry):
    def point(self, alias: str, version: str | None) -> None:
        die()


class DiesAfterAlias(Registry):
    def explain(self, version: str, decision: Mapping[str, Any], card: str) -> None:
        assert self.champion() is not None or self.aliases(), f"{CHAMPION} was set"
        die()


def run(folder: Path, window: str, moment: str) -> None:
    work = open_workspace(folder, Settings.from_env(os.environ, Path.cwd()))
    dies = {"ledger": DiesBeforeAlias, "alias": DiesAfterAlias}.get(moment, Registry)
    work = replace(work, registry=dies(work.settings, work.loop.name))

    def reached(step: str) -> None:
        if step == moment:
            die()

    following.begin_telling(work)
    if window == "approve":
        approving.approve(work, None, "ada", "")
    else:
        train(work, window, reached)
    reached("card")
    following.tell(work, os.environ)
    raise SystemExit(f"there is no moment {moment}")


def train(work: Workspace, window: str, reached: Any) -> None:
    champion = work.ledger.champion()
    report = window_report(
        work.loop.name, window, retrain=True, reason="first champion" if champion is None else "drift above threshold",
        champion=champion,
    )  # fmt: skip
    verdict = monitoring.record_verdict(work, monitoring.run_key(work, window), report)
    reached("verdict")
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    reached("train")
    version = promoting.register(work, candidate, window)
    reached("register")
    made = promoting.check_serving(work, candidate, version.number, data.holdout.X)
    reached("check")
    details = promoting.asked_by(work, window, verdict.seq)
    _, entry = deciding.decide_and_record(work, made, data, window, details)
    following.follow(work, entry)


if __name__ == "__main__":
    apply_defaults(os.environ)
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
