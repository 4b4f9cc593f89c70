"""train_and_compare_flow: a candidate from the labelled windows, compared with the champion, promoted if earned."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow

from flows import tasks
from flows.orchestration import one_run_at_a_time, record, run_name, tell_failure


@flow(
    name="train_and_compare_flow",
    flow_run_name=run_name("train for"),
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def train_and_compare_flow(loop_dir: Path, window: str | None = None, verdict: int | None = None) -> dict[str, Any]:
    """Train, compare, decide; returns the report's window, training, decision and champion parts.

    Args:
        loop_dir: Folder with the loop.toml.
        window: Train on labelled windows up to this one; default the newest.
        verdict: Ledger number of the verdict that asked for this training; monitor_flow fills it in.

    """
    work = tasks.open_loop(loop_dir)
    with nullcontext() if verdict is not None else one_run_at_a_time(work.loop.name):  # monitor_flow holds the slot
        tasks.heal(work)
        window = window or tasks.newest(work)
        details = tasks.asked_by(work, window, verdict)
        champion = tasks.load_champion(work)
        data = tasks.read_training_data(work, window, champion)
        for error in data.left_out:
            tasks.record_quarantine(work, error, champion.version if champion else None)
        candidate = tasks.train(work, data, champion)
        version = tasks.register(work, candidate, window)
        record("candidate.registered", version=version.number, rows=candidate.facts.rows)
        made = tasks.try_and_weigh(work, candidate, version.number, data.holdout)
        record("candidate.tried", version=version.number, problem=made.serving.problem, ms=made.serving.latency_ms)
        decision, entry = tasks.decide_and_record(work, made, data, window, details)
        record("promotion.decided", version=entry.version, outcome=str(decision.outcome), reason=str(decision.reason))
        tasks.follow(work, entry)
        tasks.publish_decision(work, decision, entry)
        tasks.tell(work)
        return {part: entry.details["report"][part] for part in ("loop", "window", "training", "decision", "champion")}
