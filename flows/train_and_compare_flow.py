"""train_and_compare_flow: a candidate from the labelled windows, compared with the champion, promoted if earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from driftloop import promoting
from flows import tasks
from flows.orchestration import one_run_at_a_time, open_here, record


@flow(
    name="train_and_compare_flow",
    flow_run_name="train for {window} of {loop_dir}",
    description=__doc__,
    validate_parameters=True,
)
def train_and_compare_flow(loop_dir: Path, window: str | None = None, verdict: int | None = None) -> dict[str, Any]:
    """Train, compare, decide; returns the report's window, training, decision and champion parts.

    Args:
        loop_dir: Folder with the loop.toml.
        window: Train on labelled windows up to this one; default the newest.
        verdict: Ledger number of the verdict that asked for this training.

    """
    work = open_here(loop_dir)
    with one_run_at_a_time(work.loop.name):
        tasks.heal(work)
        window = window or work.newest()
        details = promoting.asked_by(work, window, verdict)
        data = tasks.read_training_data(work, window)
        for error in data.left_out:
            tasks.record_quarantine(work, error, work.ledger.champion())
        candidate = tasks.train(work, data)
        version = tasks.register(work, candidate, window)
        record("candidate.registered", version=version.number, rows=candidate.facts.rows)
        decision, entry = tasks.decide_and_record(work, candidate, data, version, window, details)
        record("promotion.decided", version=version.number, outcome=str(decision.outcome), reason=str(decision.reason))
        tasks.follow(work, entry)
        tasks.publish_decision(work, decision, version)
        return {part: entry.details["report"][part] for part in ("loop", "window", "training", "decision", "champion")}
