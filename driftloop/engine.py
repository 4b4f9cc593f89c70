"""Who measures drift, and what: Evidently in its worker up to a size, above it the columnar engine, both the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from driftloop import columnar, drift_worker, page
from driftloop.columnar import Column, Judge, Side, Summary, summarise
from driftloop.contract import Loop
from driftloop.drift import DriftReport
from driftloop.quality import column_quality
from driftloop.retrain import ColumnDrift, ColumnQuality, Drift
from driftloop.sides import Rows, Stored, columns_of
from driftloop.stattests import OF_ROWS
from driftloop.summaries import Kept

if TYPE_CHECKING:
    import pandas as pd

EVIDENTLY_VALUES = 2_000_000  # rows of both sides times columns, up to which drift.engine = "auto" is Evidently
Compare = Callable[[Side, Side, Sequence[Column], Judge[Any]], tuple[Any, ...]]


def engine_for(loop: Loop, rows: int) -> str:
    """Who measures drift of so many rows of both sides: drift.engine, and where that is auto by size.

    A test that only Evidently has is measured by Evidently.
    """
    if loop.drift.engine != "auto":
        return loop.drift.engine
    few = rows * len(loop.columns.names) <= EVIDENTLY_VALUES
    return "evidently" if few or any(asked.test in OF_ROWS for asked in loop.drift.columns.values()) else "columnar"


def in_threads(reference: Side, current: Side, columns: Sequence[Column], judge: Judge[Any]) -> tuple[Any, ...]:
    """Judge columns in as many threads as there are cores for this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return columnar.judged(reference, current, columns, judge, cores)


def by_evidently(loop: Loop, reference: Rows, current: Rows) -> DriftReport:
    """Evidently's drift of all rows, and of the target where both sides have labels; its page on an excerpt of many."""
    target = loop.target if reference.labelled and current.labelled else None
    columns = columns_of(loop, target=target is not None)
    before, now = (side.frame(columns) for side in (reference, current))
    excerpt = None
    if reference.rows + current.rows > page.ROWS:
        drawn = [rows.iloc[_drawn(loop, side)] for rows, side in ((before, reference), (now, current))]
        excerpt = page.Excerpt(drawn[0], drawn[1], reference.rows, current.rows)
    found = drift_worker.measure(before, now, *_by_kind(columns), target, excerpt, loop.drift.columns)
    features = columns_of(loop, target=False)
    quality = (
        column_quality(summarise(reference, column), summarise(current, column), column, len(features))
        for column in features
    )
    return replace(found, quality=tuple(quality))


def by_columns(
    loop: Loop,
    sides: tuple[Side, Side],
    rows: tuple[Rows | Stored, Rows],
    compare: Compare = in_threads,
) -> DriftReport:
    """The same by the columnar engine. ``sides`` are compared; they are those of ``rows``, which the page shows."""
    target = loop.target if all(side.labelled for side in rows) else None
    columns = columns_of(loop, target=target is not None)
    found = compare(*sides, columns, partial(_judged, len(loop.columns.names)))
    drifts, quality = (tuple(part) for part in zip(*found, strict=True))
    features, own = (drifts[:-1], drifts[-1]) if target else (drifts, None)
    drift = Drift(sum(column.drifted for column in features) / len(features), features, own, engine="columnar")
    drawn = [_excerpt(loop, side, columns, row) for side, row in zip(sides, rows, strict=True)]
    excerpt = page.Excerpt(drawn[0], drawn[1], rows[0].rows, rows[1].rows)
    return DriftReport(drift, drift_worker.draw(excerpt, drift, _by_kind(columns)[0]), quality[: len(features)])


def _judged(columns: int, reference: Summary, current: Summary, column: Column) -> tuple[ColumnDrift, ColumnQuality]:
    """A column's drift, and its quality as one of so many."""
    return columnar.compare(reference, current, column), column_quality(reference, current, column, columns)


def _excerpt(loop: Loop, side: Side, columns: Sequence[Column], rows: Rows | Stored) -> pd.DataFrame:
    def read() -> pd.DataFrame:
        return rows.excerpt(columns, _drawn(loop, rows))

    return side.frame(columns, read) if isinstance(side, Kept) else read()


def _drawn(loop: Loop, side: Rows | Stored) -> Any:
    """Which rows of a side its page is drawn on."""
    return page.chosen(loop.name, side.sizes, page.ROWS // 2, None if loop.task == "regression" else side.labels)


def _by_kind(columns: Sequence[Column]) -> tuple[list[str], list[str]]:
    """Names of the numeric ones, and of the categorical ones."""
    numeric = [column.name for column in columns if column.numeric]
    return numeric, [column.name for column in columns if not column.numeric]
