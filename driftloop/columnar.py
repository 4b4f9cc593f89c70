"""Drift of one column at a time, exactly as Evidently's tests have it, at any number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from driftloop.errors import DriftloopError
from driftloop.retrain import ColumnDrift
from driftloop.runs import Counted, Counts, Sorter, all_ones, counted, ranges, together, total
from driftloop.stattests import TESTS, Pair, chosen

Array = npt.NDArray[Any]
T = TypeVar("T")
ROWS = 1 << 21  # of a column, sorted at once in memory
NAMES = 1 << 20  # of categories, that pieces hold together before they are counted as one


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
    nulls: int = 0

    @cached_property
    def rows(self) -> int:
        """How many are not null."""
        return total(self.counts)

    @cached_property
    def mean(self) -> float:
        with np.errstate(all="ignore"):  # numbers too large to be added up have an infinite one, as numpy's
            rough = sum(_weighed(values, counts) for values, counts in self.blocks()) / self.rows
            rest = sum(_weighed(values - rough, counts) for values, counts in self.blocks()) / self.rows
        return rough + rest if math.isfinite(rest) else rough

    @cached_property
    def variance(self) -> float:
        """Of the rows themselves, not an estimate for others."""
        with np.errstate(all="ignore"):
            return sum(_weighed((values - self.mean) ** 2, counts) for values, counts in self.blocks()) / self.rows

    def blocks(self) -> Iterator[Counted]:
        """Values and counts, a piece at a time."""
        return (pieces[0] for pieces in ranges([(self.values, self.counts)]))

    def beside(self, other: Summary) -> Iterator[Sequence[Counted]]:
        """Both, a piece at a time; no value of a piece is above one of the next."""
        return ranges([(self.values, self.counts), (other.values, other.counts)])

    def histogram(self, edges: npt.NDArray[np.float64]) -> Counts:
        """How many lie between each two edges, the last one included, as numpy counts."""
        below = np.zeros(len(edges), dtype=np.int64)
        for values, counts in self.blocks():
            places = np.append(np.searchsorted(values, edges[:-1], "left"), np.searchsorted(values, edges[-1], "right"))
            below += np.concatenate(([0], np.cumsum(counts)))[places]
        return np.diff(below)

    def spelled_out(self) -> Array:
        """Every row's value, sorted."""
        return self.values if all_ones(self.counts) else np.repeat(self.values, self.counts)


def _weighed(values: Array, counts: Counts) -> float:
    # not np.dot: a linear algebra library's threads would take the cores that other columns are compared on
    return float(np.sum(values if all_ones(counts) else values * counts))


Judge = Callable[[Summary, Summary, Column], T]


class Side(Protocol):
    """The rows of one side of a comparison. It pickles, so that a worker elsewhere reads its columns itself."""

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """The column in pieces, each one float64 with NaN for a null, or category strings with None for a null.

        A piece may come summarised already.
        """
        ...


def summarise(side: Side, column: Column) -> Summary:
    """Read a column of one side. Of numbers at most ROWS are in memory, the others wait in a temporary file.

    Of categories each name is in memory once, or twice while pieces wait to be counted together.
    """
    sorter, nulls = Sorter(ROWS), 0
    names: list[Summary] = []
    waiting = 0
    for piece in side.batches(column):
        if column.numeric and not isinstance(piece, Summary):
            given = piece[~np.isnan(piece)]
            sorter.add(given)
            nulls += len(piece) - len(given)
            continue
        names.append(piece if isinstance(piece, Summary) else summary(piece, column))
        waiting += len(names[-1].values)
        if waiting > max(NAMES, 2 * len(names[0].values)):
            names = [_together(names)]
            waiting = len(names[0].values)
    return _together([*names, Summary(*sorter.result(), nulls)] if column.numeric or not names else names)


def summary(values: Array, column: Column) -> Summary:
    """Values in memory, as ``Side.batches`` has them."""
    if column.numeric:
        ordered = np.sort(values[~np.isnan(values)])
        return Summary(*counted(ordered), len(values) - len(ordered))
    import pandas as pd

    codes, names = pd.factorize(values)
    order = np.argsort(names)
    found = np.bincount(codes[codes >= 0], minlength=len(names)).astype(np.int64)
    return Summary(names[order], found[order], int((codes < 0).sum()))


def _together(pieces: Sequence[Summary]) -> Summary:
    some = [piece for piece in pieces if len(piece.values)] or pieces[:1]
    nulls = sum(piece.nulls for piece in pieces)
    if len(some) == 1:
        return replace(some[0], nulls=nulls)
    return Summary(*together([(piece.values, piece.counts) for piece in some]), nulls)  # noqa: PD011


def compare(reference: Summary, current: Summary, column: Column) -> ColumnDrift:
    """Evidently's verdict on two summaries of a column. Raises DriftloopError where there is none."""
    pair = Pair(reference, current)
    for side, rows in zip(("reference", "current"), pair.rows, strict=True):
        if not rows:
            raise DriftloopError(f"column {column.name} is null in all {side} rows: there is no drift to measure")
    name = column.test or chosen(pair, numeric=column.numeric)
    test = TESTS[name]
    try:
        with np.errstate(all="ignore"):
            score = test.score(pair, numeric=column.numeric)
    except (ArithmeticError, ValueError) as error:
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
    return judged(reference, current, columns, compare, threads)


def judged(
    reference: Side, current: Side, columns: Sequence[Column], judge: Judge[T], threads: int = 1
) -> tuple[T, ...]:
    """What ``judge`` makes of every column's summaries, ``threads`` at a time."""

    def one(column: Column) -> T:
        return judge(summarise(reference, column), summarise(current, column), column)

    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(one, columns))
