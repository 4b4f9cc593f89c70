"""Columns compared past this machine: a task each, handed to the workers of a Dask or Ray cluster by Prefect.

A worker imports this module and reads what it compares by itself, so it stays light.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from driftloop import columnar
from driftloop.columnar import Column, Side
from driftloop.contract import Compute
from driftloop.errors import ContractError
from driftloop.retrain import ColumnDrift
from flows.retries import PATIENCE

Measure = Callable[[Side, Side, Sequence[Column]], tuple[ColumnDrift, ...]]


def require(compute: Compute) -> None:
    """Raise ContractError where the runner is not installed."""
    if compute.runner != "threads" and find_spec(f"prefect_{compute.runner}") is None:
        raise ContractError(
            f'loop.toml: compute.runner = "{compute.runner}" needs a package that is not installed here: '
            f"pip install 'driftloop[{compute.runner}]', the same versions on every worker."
        )


def measure_by(compute: Compute) -> Measure:
    """How ``compute`` wants columns compared."""
    if compute.runner == "threads":
        return partial(columnar.measure, threads=os.cpu_count() or 1)
    return partial(_on_cluster, compute)


@task(task_run_name="compare {column.name}", cache_policy=NO_CACHE, persist_result=False, **PATIENCE)
def compare_column(reference: Side, current: Side, column: Column) -> ColumnDrift:
    """Read a column of both sides and compare them; only the verdict travels back."""
    return columnar.compare(columnar.summarise(reference, column), columnar.summarise(current, column), column)


@flow(name="compare_columns_flow", description=__doc__, validate_parameters=False, persist_result=False)
def compare_columns_flow(reference: Any, current: Any, columns: Sequence[Column]) -> tuple[ColumnDrift, ...]:
    """Compare two sides, each a Side, column by column on the flow's task runner."""  # Prefect cannot check a Protocol
    compared = [compare_column.submit(reference, current, column) for column in columns]
    return tuple(one.result() for one in compared)


def _on_cluster(compute: Compute, reference: Side, current: Side, columns: Sequence[Column]) -> tuple[ColumnDrift, ...]:
    runner = _dask(compute.address) if compute.runner == "dask" else _ray(compute.address)
    return compare_columns_flow.with_options(task_runner=runner)(reference, current, columns)


def _dask(address: str | None) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(
        cluster_kwargs={"n_workers": os.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    )


def _ray(address: str | None) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=address, init_kwargs={})
