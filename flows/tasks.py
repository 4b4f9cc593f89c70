"""The flows' tasks: one library call each. Those that reach a service are retried while it does not answer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.utilities.annotations import opaque

from driftloop import answers, approving, deciding, following, monitoring, progress, promoting, references
from driftloop.drift import DriftReport
from driftloop.entry import Entry
from driftloop.promotion import PromotionDecision
from driftloop.report import Json, validated
from driftloop.training import Candidate
from driftloop.workspace import Champion, Workspace
from flows.orchestration import open_here
from flows.retries import PATIENCE

TIMELINE = 24  # windows that a run shows side by side

P = ParamSpec("P")
R = TypeVar("R")


class Step(Task[P, R]):
    """A task whose arguments Prefect hands over unsearched.

    It would look in them for futures and for other tasks' results, value by value and more than once a call; a
    workspace and a candidate hold values by the thousand. Its graph has an arrow to a task whose result, or a part of
    it, is itself an argument.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        return super().__call__(*map(opaque, args), **_each(kwargs), return_state=False)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> PrefectFuture[R]:  # type: ignore[override]
        return super().submit(*map(opaque, args), **_each(kwargs), return_state=False)


def _each(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: opaque(value) for name, value in kwargs.items()}


def _plain(call: Callable[P, R], **more: Any) -> Step[P, R]:
    return Step(call, log_prints=None, cache_policy=NO_CACHE, persist_result=False, **more)


def _io(call: Callable[P, R]) -> Step[P, R]:
    return _plain(call, **PATIENCE)


open_loop = _io(open_here)
newest = _io(Workspace.newest)
expire = _io(following.expire)
serving = _io(Workspace.serving)
load_champion = _io(Workspace.champion)
run_key = _io(monitoring.run_key)
finished_run = _io(monitoring.finished_run)
read_current = _io(Workspace.read)
newest_labelled = _io(monitoring.newest_labelled)
reference_side = _io(references.side)
history = _io(monitoring.history)
measure_drift = _io(monitoring.measure_drift)
measure_answers = _plain(answers.findings)
record_verdict = _io(monitoring.record_verdict)
record_quarantine = _io(monitoring.record_quarantine)
asked_by = _io(promoting.asked_by)
read_training_data = _io(promoting.training_data)
register = _io(promoting.register)
try_and_weigh = _io(promoting.try_and_weigh)
decide_and_record = _io(deciding.decide_and_record)
follow = _io(following.follow)
approve = _io(approving.approve)
reject = _io(approving.reject)


@_plain
def train(work: Workspace, data: promoting.TrainingData, champion: Champion | None) -> Candidate:
    """The candidate; what a search is at goes to the run's log."""
    with progress.heard_by(get_run_logger().info):
        return promoting.train(work, data, champion)


@_io
def heal(work: Workspace) -> None:
    """Finish what a killed run left: the registry follows the ledger, and people are told."""
    following.heal(work)
    following.tell(work, os.environ)


@_io
def tell(work: Workspace) -> None:
    """Send the alerts that are due."""
    following.tell(work, os.environ)


@_io
def validate(work: Workspace, window: str) -> Json | None:
    """Judge the window by schema.yaml, and show what it breaks on this run."""
    found = monitoring.validation(work, window)
    if found:
        create_table_artifact(
            [{**broken, "examples": ", ".join(broken["examples"])} for broken in found["checks"]],
            key=f"validation-{_slug(work.loop.name)}",
            description=f"{window} by schema.yaml: {validated(found)}",
        )
    return found


@_io
def publish_drift(work: Workspace, window: str, measured: DriftReport, champion: str, verdict: str) -> None:
    """Keep Evidently's page, here and beside the champion's run; show the drift table and a link to it on this run.

    ``verdict`` is the line that says what came of it.
    """
    page = work.report_page(window)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(measured.html, encoding="utf-8")
    drift, key = measured.drift, _slug(work.loop.name)
    apart = (("target", drift.target), ("prediction", drift.prediction))
    own = "".join(f"; the {n} {'drifted' if c.drifted else 'did not'}, not counted" for n, c in apart if c)
    create_table_artifact(
        [asdict(column) for column in (*drift.columns, drift.target, drift.prediction) if column],
        key=f"drift-{key}",
        description=f"{window}: {drift.drifted} of {len(drift.columns)} features drifted, share {drift.share:.3f}, "
        f"threshold {work.loop.drift.threshold}{own}. Verdict: {verdict}",
    )
    if measured.quality:
        create_table_artifact(
            [asdict(column) for column in measured.quality],
            key=f"quality-{key}",
            description=f"{window}: nulls, unseen categories or numbers outside the range moved in "
            f"{sum(column.moved for column in measured.quality)} of {len(measured.quality)} columns",
        )
    address = work.registry.log_page(champion, f"drift/{window}.html", measured.html) or page.as_uri()
    create_link_artifact(address, f"Evidently report of {window}", key=f"report-{key}")


@_io
def publish_timeline(work: Workspace) -> None:
    """Show the drift of the newest windows, column by column, as a heat map and a table on this run."""
    from driftloop import plots  # draws with matplotlib, of which a first window has no need

    found = monitoring.monitored(work, TIMELINE)
    if sum(bool(arrival.reference) for arrival in found.windows) < 2:
        return
    create_markdown_artifact(
        plots.page(found),
        key=f"timeline-{_slug(work.loop.name)}",
        description=f"Drift of {work.loop.name} in its newest windows. What changed, and when: driftloop drift",
    )


@_plain
def publish_decision(work: Workspace, decision: PromotionDecision, entry: Entry) -> None:
    """Show the decision with its numbers, the version's card, and a link to the version on the run."""
    key, name, number = _slug(work.loop.name), work.loop.name, entry.version
    text = f"**Version {number}: {decision.sentence}**\n\n{entry.details['card']}"
    create_markdown_artifact(text, key=f"decision-{key}", description=str(decision.outcome))
    ui = work.settings.mlflow_ui
    link = f"{ui}/#/models/{name}/versions/{number}" if ui else f"models:/{name}/{number}"
    create_link_artifact(link, f"{name} version {number} in MLflow", key=f"version-{key}")


def _slug(name: str) -> str:
    """Prefect's artifact keys take lower-case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
