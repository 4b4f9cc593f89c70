"""Drift of one column at a time, exactly as Evidently's tests have it, at any number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from driftloop import grid, runs
from driftloop.errors import DriftloopError
from driftloop.grid import Cells, Grid
from driftloop.once import once
from driftloop.retrain import ColumnDrift
from driftloop.runs import ROWS, Counted, Counts, Numbers, all_ones, counted, forget, ones, ranges, together, total
from driftloop.stattests import TESTS, Pair, chosen

Array = npt.NDArray[Any]
T = TypeVar("T")
NEARLY = 1e-9  # of a threshold: what counting in cells may round away
SOME = 100  # numbers, looked at to see that there are more than a few
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

    @once
    def rows(self) -> int:
        """How many are not null."""
        return total(self.counts)

    @once
    def mean(self) -> float:
        return self._moments[0]

    @once
    def variance(self) -> float:
        """Of the rows themselves, not an estimate for others."""
        return self._moments[1]

    @once
    def _moments(self) -> tuple[float, float]:
        with np.errstate(all="ignore"):  # numbers too large to be added up have an infinite mean, as numpy's
            rough = sum(_weighed(values, counts) for values, counts in self.parts()) / self.rows
            mean, variance = self._about(rough)
        return (mean if math.isfinite(mean) else rough), variance

    def _about(self, near: float) -> tuple[float, float]:
        """Mean and variance told from how far the values lie from a number ``near`` the mean."""
        first = second = 0.0
        for values, counts in self.parts():
            away = values - near
            first += _weighed(away, counts) / self.rows
            second += _weighed(np.square(away, out=away), counts) / self.rows
        return near + first, max(second - first * first, 0.0) if math.isfinite(second) else math.inf

    @once
    def ends(self) -> tuple[Any, Any]:
        """The least and the greatest value."""
        return self.values[0], self.values[-1]

    def more_than(self, values: int) -> bool:
        """Whether there are more distinct values than that."""
        return len(self.values) > values

    def occurs(self, value: Any) -> int:
        """How many rows have this value."""
        at = np.searchsorted(self.values, value)
        return int(self.counts[at]) if at < len(self.values) and self.values[at] == value else 0

    def beyond(self, least: Any, greatest: Any) -> int:
        """How many rows lie below the one or above the other."""
        below, above = np.searchsorted(self.values, least, "left"), np.searchsorted(self.values, greatest, "right")
        return total(self.counts[:below]) + total(self.counts[above:])

    def some(self, count: int) -> Array:
        """About so many of the values, from all over."""
        found = np.array(self.values[:: max(1, len(self.values) // count)])
        forget(self.values)
        return found

    def parts(self) -> Iterator[Counted]:
        """Values and counts, a piece at a time, in any order."""
        return self.blocks()

    def near(self, spans: npt.NDArray[np.float64]) -> Iterator[Counted]:
        """At least the numbers within spans, each a low and a high one, ascending; a piece at a time."""
        starts = np.searchsorted(self.values, spans[:, 0], "left")
        lengths = np.searchsorted(self.values, spans[:, 1], "right") - starts
        ends = np.cumsum(lengths)
        for first in range(0, int(lengths.sum()), runs.BLOCK):
            place = np.arange(first, min(first + runs.BLOCK, ends[-1]))
            own = np.searchsorted(ends, place, "right")
            at = starts[own] + place - (ends - lengths)[own]
            yield np.array(self.values[at]), ones(len(at)) if all_ones(self.counts) else np.array(self.counts[at])
            forget(self.values, self.counts)

    @once
    def grid(self) -> Grid | None:
        """A grid over these numbers; None where they lie at one point."""
        return grid.over([self.some(grid.SAMPLE)], 2 * self.rows)

    @once
    def cells(self) -> Cells | None:
        """The numbers counted on their own grid."""
        return None if self.grid is None else grid.count(self.grid, self)

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


class Unsorted(Summary):
    """Numbers that are put in order when somebody asks for their order. The usual test does not."""

    _numbers: Numbers

    def __init__(self, numbers: Numbers, nulls: int) -> None:
        vars(self).update(_numbers=numbers, nulls=nulls)

    @once
    def _ordered(self) -> Counted:
        return self._numbers.sorted()

    @property
    def _as_they_came(self) -> Numbers | None:
        return None if "_ordered" in vars(self) else self._numbers

    @property
    def values(self) -> Array:
        return self._ordered[0]

    @property
    def counts(self) -> Counts:
        return self._ordered[1]

    @property
    def rows(self) -> int:
        return self._numbers.rows

    @once
    def _moments(self) -> tuple[float, float]:
        some = np.sort(self.some(SOME))
        near = float(some[len(some) // 2])  # one of them, so that a constant has no spread
        if not self._as_they_came or not math.isfinite(near * self.rows):
            return super()._moments
        with np.errstate(all="ignore"):
            mean, variance = self._about(near)
            if abs(mean - near) > math.sqrt(variance):  # it was not near: the difference of two squares has lost digits
                mean, variance = self._about(mean)
        return (mean, variance) if math.isfinite(variance) else super()._moments

    @once
    def ends(self) -> tuple[Any, Any]:
        each = [(values.min(), values.max()) for values, _ in self.parts()]
        return min(least for least, _ in each), max(greatest for _, greatest in each)

    def more_than(self, values: int) -> bool:
        return len(np.unique(self.some(SOME))) > values or super().more_than(values)

    def occurs(self, value: Any) -> int:
        return sum(int(counts[values == value].sum()) for values, counts in self.parts())

    def beyond(self, least: Any, greatest: Any) -> int:
        return sum(int(counts[(values < least) | (values > greatest)].sum()) for values, counts in self.parts())

    def some(self, count: int) -> Array:
        numbers = self._as_they_came
        return numbers.some(count) if numbers else super().some(count)

    def parts(self) -> Iterator[Counted]:
        numbers = self._as_they_came
        return ((block, ones(len(block))) for block in numbers.blocks()) if numbers else self.blocks()

    def near(self, spans: npt.NDArray[np.float64]) -> Iterator[Counted]:
        return self.parts() if self._as_they_came else super().near(spans)


Judge = Callable[[Summary, Summary, Column], T]


class Side(Protocol):
    """The rows of one side of a comparison. It pickles, so that a worker elsewhere reads its columns itself."""

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """The column in pieces, each one float64 with NaN for a null, or category strings with None for a null.

        A piece may come summarised already.
        """
        ...


def summarise(side: Side, column: Column, most: int = ROWS) -> Summary:
    """Read a column of one side. More numbers than ``most`` wait in a temporary file.

    Of categories each name is in memory once, or twice while pieces wait to be counted together.
    """
    numbers, nulls = Numbers(most), 0
    names: list[Summary] = []
    waiting = 0
    for piece in side.batches(column):
        if column.numeric and not isinstance(piece, Summary):
            null = np.isnan(piece)
            numbers.add(piece[~null] if null.any() else piece)
            nulls += int(null.sum())
            continue
        names.append(piece if isinstance(piece, Summary) else summary(piece, column))
        waiting += len(names[-1].values)
        if waiting > max(NAMES, 2 * len(names[0].values)):
            names = [_together(names)]
            waiting = len(names[0].values)
    if not names:
        return Unsorted(numbers, nulls)
    return _together([*names, Summary(*numbers.sorted(), nulls)] if numbers.rows or nulls else names)


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
        return some[0] if some[0].nulls == nulls else Summary(some[0].values, some[0].counts, nulls)
    return Summary(*together([(piece.values, piece.counts) for piece in some]), nulls)  # noqa: PD011


def compare(reference: Summary, current: Summary, column: Column) -> ColumnDrift:
    """Evidently's verdict on two summaries of a column. Raises DriftloopError where there is none."""
    pair = Pair(reference, current)
    for side, rows in zip(("reference", "current"), pair.rows, strict=True):
        if not rows:
            raise DriftloopError(f"column {column.name} is null in all {side} rows: there is no drift to measure")
    name = column.test or chosen(pair, numeric=column.numeric)
    test = TESTS[name]
    threshold = test.threshold if column.threshold is None else column.threshold
    try:
        with np.errstate(all="ignore"):
            score = test.score(pair, numeric=column.numeric)
            if abs(score - threshold) <= NEARLY * threshold:  # on which side is for all rows to say
                score = test.score(replace(pair, exactly=True), numeric=column.numeric)
    except (ArithmeticError, ValueError) as error:
        raise DriftloopError(
            f"test {name} gives no drift score for column {column.name}: {error}. Take another for it under "
            f"[drift.columns] in loop.toml."
        ) from None
    if np.isnan(score):
        raise DriftloopError(f"test {name} gives no drift score for column {column.name}")
    return ColumnDrift(column.name, column.test or test.title, score, threshold, test.beyond(score, threshold))


def judged(
    reference: Side, current: Side, columns: Sequence[Column], judge: Judge[T], threads: int = 1
) -> tuple[T, ...]:
    """What ``judge`` makes of every column's summaries, ``threads`` at a time."""

    def one(column: Column) -> T:
        return judge(summarise(reference, column), summarise(current, column), column)

    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(one, columns))
