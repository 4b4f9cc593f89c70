"""Columns compared past this machine: a task each, handed to the workers of a Dask or Ray cluster by Prefect.

A worker imports this module and reads what it compares by itself, so it stays light.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from driftloop import columnar
from driftloop.columnar import Column, Judge, Side
from driftloop.contract import Compute
from driftloop.engine import Compare, in_threads
from driftloop.errors import ContractError, DriftloopError, Unreachable
from driftloop.sides import Rows
from driftloop.summaries import Kept
from flows.retries import PATIENCE

CONNECT_SECONDS = 10
PAUSES = (1, 3, 9)  # seconds, before another look for a cluster that does not answer
TOKEN = {"ray": ", or give this run the cluster's token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN)"}
LOOPBACK = r"(\w+://)?(127\.|localhost|\[::1\]|auto$)"


def require(compute: Compute, env: Mapping[str, str]) -> None:
    """Raise ContractError where the runner is not installed, or its workers cannot reach Prefect."""
    if compute.runner == "threads":
        return
    if find_spec(f"prefect_{compute.runner}") is None:
        raise ContractError(
            f'loop.toml: compute.runner = "{compute.runner}" needs what is not installed here: '
            f"pip install 'driftloop[{compute.runner}]', the same versions here and on every worker."
        )
    api = env.get("PREFECT_API_URL", "")
    if compute.address and not re.match(LOOPBACK, compute.address) and re.match(LOOPBACK, api):
        raise ContractError(
            f"loop.toml: the workers of compute.address = {compute.address!r} report to Prefect, which is at {api} for "
            f"this machine only. Run a Prefect server that they reach, and name it in PREFECT_API_URL."
        )


def measure_by(compute: Compute) -> Compare:
    """How ``compute`` wants columns compared. Rows in memory are compared where they are.

    With a cluster it is a flow, and no task may call it: all that the task was given would travel with each column.
    """
    if compute.runner == "threads":
        return in_threads
    return partial(_on_cluster, compute)


@task(task_run_name="compare {column.name}", cache_policy=NO_CACHE, persist_result=False, **PATIENCE)
def compare_column(reference: Side, current: Side, column: Column, judge: Judge[Any]) -> Any:
    """Read a column of both sides and judge them; only the verdict travels back."""
    try:
        return judge(columnar.summarise(reference, column), columnar.summarise(current, column), column)
    except OSError as error:
        raise DriftloopError(
            f"the worker on {socket.gethostname()} failed at column {column.name}: {error}. What does not fit into its "
            f"memory is sorted in its folder of temporary files, which needs room."
        ) from None


def _on_cluster(
    compute: Compute, reference: Side, current: Side, columns: Sequence[Column], judge: Judge[Any]
) -> tuple[Any, ...]:
    if _in_memory(reference) or _in_memory(current):
        return in_threads(reference, current, columns, judge)
    lost, died, runner = (_dask if compute.runner == "dask" else _ray)(compute.address)

    @flow(name="compare_columns_flow", description=__doc__, task_runner=runner, persist_result=False)
    def compare_columns_flow() -> tuple[Any, ...]:  # what it compares is no parameter: Prefect would store it
        compared = [compare_column.submit(reference, current, column, judge) for column in columns]
        return tuple(one.result() for one in compared)

    where = f"the {compute.runner} cluster {f'at {compute.address}' if compute.address else 'of this machine'}"
    for pause in (*PAUSES, None):
        try:
            return compare_columns_flow()
        except lost as error:
            if pause is None:
                raise Unreachable(
                    f"{where} does not answer: {_short(error)}. Start it, or correct compute.address in loop.toml"
                    f"{TOKEN.get(compute.runner, '')}."
                ) from error
            time.sleep(pause)
        except died as error:
            raise DriftloopError(
                f"{where} gave up: {_short(error)}. A worker that dies again and again mostly lacks memory: give each "
                f"more of it, or fewer columns at a time."
            ) from error
        except RuntimeError as error:
            if "Failed to reach API" not in str(error):
                raise
            raise Unreachable(
                f"a worker of {where} cannot reach Prefect: {_short(error)}. Name a server that it reaches in "
                f"PREFECT_API_URL."
            ) from error
    raise AssertionError("the last try has no pause")


def _in_memory(side: Side) -> bool:
    return isinstance(side.side if isinstance(side, Kept) else side, Rows)


Failures = tuple[type[Exception], ...]


def _dask(address: str | None) -> tuple[Failures, Failures, TaskRunner[Any]]:
    """What is raised where the cluster is lost, where its workers die over and over, and the task runner."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from prefect_dask.task_runners import DaskTaskRunner

    patience = {"timeout": CONNECT_SECONDS}
    own = {"n_workers": os.cpu_count(), "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    where = {"address": address} if address else {"cluster_kwargs": own}
    return (OSError, CancelledError), (KilledWorker,), DaskTaskRunner(client_kwargs=patience, **where)


def _ray(address: str | None) -> tuple[Failures, Failures, TaskRunner[Any]]:
    from prefect_ray.task_runners import RayTaskRunner
    from ray.exceptions import RayError

    own: dict[str, Any] = {} if address else {"include_dashboard": False}
    return (OSError,), (RayError,), RayTaskRunner(address=address, init_kwargs={"log_to_driver": False, **own})


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
