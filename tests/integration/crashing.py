"""A run that dies at a chosen moment, in a process forked from one that did the imports for all of them.

It takes the flows' steps over one window in their order, without Prefect, on real MLflow and a real ledger, and kills
its own process with SIGKILL right after the step that the moment names: ``verdict``, ``register``, ``ledger``,
``alias``, ``card`` (what explains the decision). WINDOW ``approve`` is a human's yes instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.sklearn  # noqa: F401  # before the fork
import onnxruntime  # noqa: F401
import skops.io  # noqa: F401

from driftloop import approving, deciding, following, monitoring, promoting, serving_check
from driftloop.promotion import ServingCheck
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


class ChecksHere:
    """The real check, without another process: this one is about to die anyway."""

    def start(self) -> None:
        pass

    def check(self, request: serving_check.Request) -> ServingCheck:
        with serving_check.downloaded(request) as place:
            return serving_check.try_version(place, request)


def run(folder: Path, window: str, moment: str, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    apply_defaults(os.environ)
    work = open_workspace(folder, Settings.from_env(os.environ, Path.cwd()))
    dies = {"ledger": DiesBeforeAlias, "alias": DiesAfterAlias}.get(moment, Registry)
    work = replace(work, registry=dies(work.settings, work.loop.name), checks=ChecksHere())

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
    version = promoting.register(work, candidate, window)
    reached("register")
    made = promoting.try_and_weigh(work, candidate, version.number, data.holdout)
    details = promoting.asked_by(work, window, verdict.seq)
    _, entry = deciding.decide_and_record(work, made, data, window, details)
    following.follow(work, entry)
