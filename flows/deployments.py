"""The flows as Prefect deployments: named, tagged, with the loop's schedule. ``python -m flows.deployments DIR…``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Schedule

from driftloop import contract
from driftloop.errors import ContractError
from flows.approval_flow import approval_flow
from flows.monitor_flow import monitor_flow
from flows.train_and_compare_flow import train_and_compare_flow


def deployments(folder: Path) -> list[RunnerDeployment]:
    """``monitor_flow/<loop>`` on the loop's schedule; ``train_and_compare_flow/`` and ``approval_flow/`` by hand."""
    loop = contract.load(folder)
    tags, parameters = ["driftloop", loop.name], {"loop_dir": str(folder.absolute())}
    made = [
        monitor_flow.to_deployment(
            loop.name,
            tags=tags,
            parameters=parameters,
            schedule=schedule(loop),
            description=f"Monitor the newest window of {loop.name}; retrain when it drifted.",
        ),
        train_and_compare_flow.to_deployment(
            loop.name,
            tags=tags,
            parameters=parameters,
            description=f"Train a candidate for {loop.name} now; promote it if it earned it.",
        ),
        approval_flow.to_deployment(
            loop.name,
            tags=tags,
            parameters=parameters,
            description=f"Approve or reject the candidate of {loop.name} that waits.",
        ),
    ]
    # to_deployment is a coroutine inside an event loop and a plain call here
    return [deployment for deployment in made if isinstance(deployment, RunnerDeployment)]


def schedule(loop: contract.Loop) -> Schedule | None:
    """The loop's schedule, None when it has none. Raises ContractError when its cron line is none."""
    if loop.schedule is None:
        return None
    try:
        return Cron(loop.schedule.cron, timezone=loop.schedule.timezone)
    except ValueError as error:
        raise ContractError(f"loop.toml: schedule.cron = {loop.schedule.cron!r}: {error}") from None


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(folders: Sequence[Path]) -> None:
    """Serve the deployments of the loops in the folders until stopped; runs are started in processes of their own."""
    serve(*(deployment for folder in folders for deployment in deployments(folder)))


if __name__ == "__main__":
    main()
