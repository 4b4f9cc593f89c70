"""monitor_flow: one window from its arrival to its verdict, and on to a training when the verdict says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow

from driftloop import drift_worker, monitoring, references
from driftloop.answers import Findings
from driftloop.drift import DriftReport
from driftloop.errors import WindowError
from driftloop.frame import Window
from driftloop.reading import notes
from driftloop.report import Json, said, trigger_json, window_report
from driftloop.sides import Rows, Stored
from driftloop.workspace import Serving, Workspace
from flows import comparing_columns, tasks
from flows.orchestration import one_run_at_a_time, record, run_name, tell_failure
from flows.train_and_compare_flow import train_and_compare_flow


@flow(
    name="monitor_flow",
    flow_run_name=run_name("monitor"),
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def monitor_flow(loop_dir: Path, window: str | None = None, force: bool = False) -> dict[str, Any]:
    """Monitor one window; returns the report that ``driftloop monitor --json`` prints.

    A window that cannot be used is recorded as quarantined and its report says so under ``quarantine``.

    Args:
        loop_dir: Folder with the loop.toml.
        window: Window id; the newest when left out.
        force: Run although the same window was monitored with the same data.

    """  # Prefect takes what it shows of a parameter from here, not from its annotation
    drift_worker.start()
    work = tasks.open_loop(loop_dir)
    comparing_columns.require(work.loop.compute, os.environ)
    with one_run_at_a_time(work.loop.name):
        tasks.heal(work)
        window = window or tasks.newest(work)
        key = tasks.run_key(work, window)
        if not force and (earlier := tasks.finished_run(work, window, key)):
            entry, report = earlier
            record("window.repeated", window=window, ledger=entry.seq)
            serving = tasks.serving(work)  # a human may have put another champion in place since
            return {**report, "repeated": entry.seq, "champion": {"version": serving.version} if serving else None}
        if late := tasks.expire(work, window):
            record("approval.expired", version=late.version)
        serving = tasks.serving(work)
        try:
            report, asked = _monitor(work, window, key, serving)
            if asked is not None:  # by now the rows that were monitored have given their memory back
                report |= train_and_compare_flow(work.folder, window, verdict=asked)
        except WindowError as error:
            if error.window != window:
                raise
            record("window.quarantined", window=window, problems=error.problems)
            report = tasks.record_quarantine(work, error, serving.version if serving else None)
        if (report["retrain"]["trigger"] or {}).get("on"):
            tasks.publish_timeline(work)  # drawing takes longer than most steps: where somebody will look
        tasks.tell(work)
        return report


def _drift_of(work: Workspace, reference: Rows | Stored, current: Window) -> Callable[[], DriftReport]:
    """Drift, under way or measured: in a task while the champion is loaded and scored, on a cluster as a flow."""
    compute = work.loop.compute
    if compute.runner == "threads":
        return tasks.measure_drift.submit(work, reference, current).result
    measured = monitoring.measure_drift(work, reference, current, comparing_columns.measure_by(compute))
    return lambda: measured


def _monitor(work: Workspace, window: str, key: str, serving: Serving | None) -> tuple[Json, int | None]:
    """The window's report, and the ledger's number of a verdict that asks for a training."""
    references.require(work.loop, work.windows.ids())
    monitoring.require_newer(window, serving)
    validation = tasks.validate(work, window) if work.schema else None
    if validation:
        record("window.validated", window=window, **{k: v for k, v in validation.items() if k != "checks"})
        for broken in validation["checks"]:
            record("check.broken", window=window, **broken)
    current = tasks.read_current(work, window)
    record("window.read", window=window, rows=len(current.X), notes=current.notes)
    ids = references.chosen(work, window, serving) if serving else ()
    other = references.chosen_for_trigger(work, window, serving) if serving else ()
    reference = tasks.reference_side(work, ids, current) if serving else None
    measuring = _drift_of(work, reference, current) if reference else None
    again = _drift_of(work, tasks.reference_side(work, other, current), current) if other != ids else None
    champion = tasks.load_champion(work)
    found = Findings()
    if champion:
        monitoring.require_same_task(work.loop, champion)
        current = monitoring.beside_champion(current, champion)
        found = tasks.measure_answers(work, champion, current)
    newest = tasks.newest_labelled(work, window, champion)
    past = tasks.history(work, current, champion, newest)
    measured, judged = (done() if done else None for done in (measuring, again))
    if measured:
        measured = replace(measured, drift=replace(measured.drift, prediction=found.prediction))
    drift, triggering = (one.drift if one else None for one in (measured, judged))
    judging = replace(triggering, prediction=found.prediction) if triggering else drift
    importance = champion.artifact.facts.importance if champion else None
    quality, changed = (one.quality if one else () for one in (measured, judged or measured))
    verdict = monitoring.judge(
        work, judging, found.performance, past, estimate=found.estimated, quality=changed, importance=importance
    )
    trigger = trigger_json(verdict, work.loop.trigger.consecutive, other, triggering, work.loop.drift.threshold)
    report = window_report(
        work.loop.name,
        window,
        reference=[window for window, _ in reference.sizes] if reference else [],
        reference_rows=reference.rows if reference else 0,
        current_rows=len(current.X),
        drift=drift,
        threshold=work.loop.drift.threshold,
        means=monitoring.means(champion, current) if champion else [],
        quality=quality,
        performance=found.performance,
        estimated=found.estimated,
        retrain=verdict.retrain,
        reason=str(verdict.reason),
        columns=verdict.columns,
        trigger=trigger if champion else None,
        champion=champion.version if champion else None,
        validation=validation,
    )
    if measured and champion:
        tasks.publish_drift(work, window, measured, champion.version, said(report["retrain"]))
    record("drift.assessed", window=window, **report["retrain"], share=drift.share if drift else None)
    told = references.without_year_ago(work, window, ids, other) if serving else []
    entry = tasks.record_verdict(work, key, report, [*current.notes, *told, *found.notes, *notes(validation)])
    return report, entry.seq if verdict.retrain else None
