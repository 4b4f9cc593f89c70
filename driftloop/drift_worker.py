"""Drift measured in a process beside this one: the seconds Evidently takes to import overlap with other work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from driftloop import worker
from driftloop.errors import DriftloopError
from driftloop.importing import uncollected

if TYPE_CHECKING:  # this module is imported before everything heavy, to start the worker first
    import pandas as pd

    from driftloop.contract import ColumnTest
    from driftloop.drift import DriftReport
    from driftloop.page import Excerpt
    from driftloop.retrain import Drift


@cache
def start() -> worker.Worker:
    """The process's one worker, started at the first call."""
    return worker.Worker("driftloop.drift_worker", "measures drift")


def stop() -> None:
    """End the worker, if there is one; the next call of ``start`` makes another."""
    if start.cache_info().currsize:
        start().end()
        start.cache_clear()


def measure(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    target: str | None = None,
    excerpt: Excerpt | None = None,
    tests: Mapping[str, ColumnTest] | None = None,
) -> DriftReport:
    """As ``driftloop.drift.measure``, its errors included. Raises DriftloopError when the worker is gone."""
    asked = (reference, current, list(numeric), list(categorical), target, excerpt, dict(tests or {}))
    return cast("DriftReport", _ask("measure", *asked))


def draw(excerpt: Excerpt, drift: Drift, numeric: Sequence[str]) -> str:
    """As ``driftloop.page.draw``. Raises DriftloopError when the worker is gone."""
    return cast("str", _ask("draw", excerpt, drift, list(numeric), drift.engine))


def _ask(*request: Any) -> Any:
    try:
        return start().ask(request)
    except DriftloopError:
        stop()  # whatever it was, the next window finds a new worker
        raise


def _prepare() -> Callable[[Any], Any]:
    os.nice(19)  # the server and the run are waited for first; Evidently takes what they leave
    with uncollected():
        import evidently  # noqa: F401  # before the first request: this is what the worker is for

        from driftloop import drift, page
    does: dict[str, Callable[..., Any]] = {"measure": drift.measure, "draw": page.draw}
    return lambda request: does[request[0]](*request[1:])


if __name__ == "__main__":
    worker.answer(_prepare)
