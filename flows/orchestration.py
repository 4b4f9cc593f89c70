"""What flows need of Prefect besides its decorators: the workspace, the per-loop limit, log events."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from driftloop import alerts, contract
from driftloop.errors import DriftloopError
from driftloop.settings import Settings, apply_defaults
from driftloop.workspace import Workspace, open_workspace

LEASE_SECONDS = 60  # how long a killed run keeps the others waiting


def open_here(folder: Path) -> Workspace:
    """The workspace of the loop in ``folder`` under this process's environment."""
    apply_defaults(os.environ)
    return open_workspace(folder, Settings.from_env(os.environ, Path.cwd()))


def run_name(doing: str) -> Callable[[], str]:
    """What names a run in Prefect: ``monitor 2024-03 of streamflow``."""

    def name() -> str:
        given = runtime.flow_run.parameters
        return f"{doing} {given.get('window') or 'the newest window'} of {Path(given['loop_dir']).name}"

    return name


@contextmanager
def one_run_at_a_time(loop: str) -> Iterator[None]:
    """Hold the loop's only slot; further runs wait here."""
    name = f"driftloop-{loop}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            sys.stderr.write(f"Waiting: another run of {loop} holds its slot (a killed one's for a minute).\n")
    with concurrency(name, lease_duration=LEASE_SECONDS, strict=True):
        yield


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001  # Prefect names them
    """A hook: tell people of a run that failed, unless the run that it is part of does."""
    if flow_run.parent_task_run_id is not None:
        return
    folder = Path(flow_run.parameters["loop_dir"])
    try:
        loop = contract.load(folder)
    except DriftloopError:  # then this is why it failed
        name, urls = folder.name, alerts.filled(os.environ.get("DRIFTLOOP_ALERT_URLS", "").split(), os.environ)
    else:
        name, urls = loop.name, alerts.addresses(loop, os.environ)
    error = state.result(raise_on_failure=False)
    alerts.send(alerts.failure(name, flow_run.name, error if isinstance(error, BaseException) else Crashed()), urls)


class Crashed(Exception):
    """Prefect says that a run ended without an exception of its own."""


def record(event: str, **fields: Any) -> None:
    """A structured line in the run's log: a dotted name and its fields as JSON."""
    get_run_logger().info("%s %s", event, json.dumps(fields, default=str))
