"""approval_flow: a human's word on the candidate that waits, given with a form in the Prefect UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import flow

from driftloop.approving import report_of
from flows import tasks
from flows.orchestration import one_run_at_a_time, record, tell_failure


@flow(
    name="approval_flow",
    flow_run_name="{answer} by {by}",
    description=__doc__,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def approval_flow(
    loop_dir: Path, answer: Literal["approve", "reject"], by: str, why: str = "", version: str | None = None
) -> dict[str, Any]:
    """Approve or reject; returns the ledger row.

    Args:
        loop_dir: Folder with the loop.toml.
        answer: Promote the candidate that waits, or end its wait.
        by: Who answers; it goes into the ledger.
        why: The reason, for those who read the ledger later.
        version: Which candidate is meant; whichever waits when left out.

    """
    work = tasks.open_loop(loop_dir)
    with one_run_at_a_time(work.loop.name):
        tasks.heal(work)
        entry = (tasks.approve if answer == "approve" else tasks.reject)(work, version, by, why)
        record("approval.answered", answer=answer, version=entry.version, by=by)
        tasks.tell(work)
    return report_of(entry)
