"""Drift of one column at a time, exactly as Evidently's tests have it, at any number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from driftloop.errors import DriftloopError
from driftloop.retrain import ColumnDrift
from driftloop.stattests import TESTS, Pair, chosen

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """What is asked of a column: its kind, and what [drift.columns] sets in place of Evidently's test and threshold."""

    name: str
    numeric: bool
    test: str | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Summary:
    """A column as all tests need it: its distinct values sorted, how often each occurs, and how many are null."""

    values: Array
    counts: Counts
    nulls: int

    @cached_property
    def rows(self) -> int:
        """How many are not null."""
        return int(self.counts.sum())

    @cached_property
    def mean(self) -> float:
        rough = sum(float(np.dot(values, counts)) for values, counts in self.blocks()) / self.rows
        return rough + sum(float(np.dot(values - rough, counts)) for values, counts in self.blocks()) / self.rows

    @cached_property
    def variance(self) -> float:
        """Of the rows themselves, not an estimate for others."""
        return sum(float(np.dot((values - self.mean) ** 2, counts)) for values, counts in self.blocks()) / self.rows

    def blocks(self) -> Iterator[tuple[Array, Counts]]:
        """Values and counts, a piece at a time."""
        yield self.values, self.counts

    def beside(self, other: Summary) -> Iterator[tuple[tuple[Array, Counts], tuple[Array, Counts]]]:
        """Both, a piece at a time; no value of a piece is above one of the next."""
        yield (self.values, self.counts), (other.values, other.counts)

    def histogram(self, edges: npt.NDArray[np.float64]) -> Counts:
        """How many lie between each two edges, the last one included, as numpy counts."""
        below = np.zeros(len(edges), dtype=np.int64)
        for values, counts in self.blocks():
            places = np.append(np.searchsorted(values, edges[:-1], "left"), np.searchsorted(values, edges[-1], "right"))
            below += np.concatenate(([0], np.cumsum(counts)))[places]
        return np.diff(below)

    def spelled_out(self) -> Array:
        """Every row's value, sorted."""
        return np.repeat(self.values, self.counts)


class Side(Protocol):
    """The rows of one side of a comparison. It pickles, so that a worker elsewhere reads its columns itself."""

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """The column in pieces, each one float64 with NaN for a null, or category strings with None for a null.

        A piece may come summarised already.
        """
        ...


def summarise(side: Side, column: Column) -> Summary:
    """Read a column of one side."""
    pieces = [piece if isinstance(piece, Summary) else summary(piece, column) for piece in side.batches(column)]
    return together(pieces, column)


def summary(values: Array, column: Column) -> Summary:
    """One piece of a column."""
    if not column.numeric:
        import pandas as pd

        codes, names = pd.factorize(values)
        order = np.argsort(names)
        found = np.bincount(codes[codes >= 0], minlength=len(names)).astype(np.int64)
        return Summary(names[order], found[order], int((codes < 0).sum()))
    ordered = np.sort(values)  # nulls last
    rows = int(np.searchsorted(ordered, np.nan))
    ordered = ordered[:rows]
    return Summary(*_counted(ordered, None), len(values) - rows)


def _counted(ordered: Array, counts: Counts | None) -> tuple[Array, Counts]:
    """Sorted values without repetition, and how often each occurs."""
    first = np.append([True], ordered[1:] != ordered[:-1])[: len(ordered)]
    starts = np.flatnonzero(first)
    if counts is None:
        return ordered[first], np.diff(starts, append=len(ordered))
    return ordered[first], np.add.reduceat(counts, starts) if len(starts) else counts


def together(pieces: Sequence[Summary], column: Column) -> Summary:
    """The pieces of a column as one."""
    if len(pieces) == 1:
        return pieces[0]
    kind = np.float64 if column.numeric else object
    values = np.concatenate([np.empty(0, kind), *(piece.values for piece in pieces)])  # noqa: PD011  # of a summary
    counts = np.concatenate([np.empty(0, np.int64), *(piece.counts for piece in pieces)])
    order = np.argsort(values, kind="stable")
    return Summary(*_counted(values[order], counts[order]), sum(piece.nulls for piece in pieces))


def compare(reference: Summary, current: Summary, column: Column) -> ColumnDrift:
    """Evidently's verdict on two summaries of a column. Raises DriftloopError where there is none."""
    pair = Pair(reference, current)
    for side, rows in zip(("reference", "current rows"), pair.rows, strict=True):
        if not rows:
            raise DriftloopError(f"column {column.name} is null in all of the {side}: there is no drift to measure")
    name = column.test or chosen(pair, numeric=column.numeric)
    test = TESTS[name]
    try:
        with np.errstate(all="ignore"):
            score = test.score(pair, numeric=column.numeric)
    except ValueError as error:
        raise DriftloopError(
            f"test {name} gives no drift score for column {column.name}: {error}. Take another for it under "
            f"[drift.columns] in loop.toml."
        ) from None
    if np.isnan(score):
        raise DriftloopError(f"test {name} gives no drift score for column {column.name}")
    threshold = test.threshold if column.threshold is None else column.threshold
    return ColumnDrift(column.name, column.test or test.title, score, threshold, test.beyond(score, threshold))


def measure(reference: Side, current: Side, columns: Sequence[Column], threads: int = 1) -> tuple[ColumnDrift, ...]:
    """Compare every column, ``threads`` at a time."""

    def one(column: Column) -> ColumnDrift:
        return compare(summarise(reference, column), summarise(current, column), column)

    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(one, columns))
