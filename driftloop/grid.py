"""The area between two distribution functions of many numbers, of which only those are sorted that it takes.

The numbers are counted in cells of equal width, which costs a fraction of sorting them. A cell's numbers add to the
integral of their distribution function what lies between each and the cell's end, so that counts and sums tell the area
wherever one function stays above the other. Only where they may cross are the numbers put in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from driftloop.once import once
from driftloop.runs import Counted, Counts, Numbers, all_ones, ranges

if TYPE_CHECKING:
    from driftloop.columnar import Summary

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Signs = npt.NDArray[np.int8]
Places = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

# Functions of two samples of one distribution are some root of their rows apart: they cross where a cell holds more.
CELLS = 32  # for the root of the rows, rounded up to a power of 2
MOST_CELLS = 1 << 20
TAIL = 0.001  # the share beyond the grid at each end, so that a few numbers far away do not make all cells wide
MANY = 0.25  # the share of rows in cells where the functions may cross, above which all may as well be sorted
OUTSIDE = 0.05  # the share of the current side beyond the reference's grid, above which they take one for both
ROUNDING = 1e-6  # cells; a place may be wrong by some 1e-10 of one
SAMPLE = 2000  # numbers of a side by which the ends are chosen


@dataclass(frozen=True)
class Grid:
    """``count`` cells, the first of which ends a ``scale``-th after ``low``; one more at each end has what lies beyond.

    A number's place is its distance from ``low`` in cells.
    """

    low: float
    scale: float
    count: int

    def blocks(self, parts: Iterable[Counted]) -> Iterator[tuple[Floats, Floats, Places, Counts]]:
        """Numbers' places, the same clipped to the grid, their cells, and the numbers' counts, a part at a time.

        The arrays are the same ones each time: new memory for each part would take as long as the rest.
        """
        room, cells = np.empty((2, 0)), np.empty(0, np.intp)
        for values, counts in parts:
            if len(values) > len(cells):
                room, cells = np.empty((2, len(values))), np.empty(len(values), np.intp)
            places, within = room[:, : len(values)]
            np.subtract(values, self.low, out=places)
            np.multiply(places, self.scale, out=places)
            np.clip(places, 0, self.count + 1, out=within)
            np.copyto(cells[: len(values)], within, casting="unsafe")
            yield places, within, cells[: len(values)], counts

    def cells(self, places: Floats) -> Places:
        """Cell k holds the places from k to k + 1, but for the first and the last one, which have no end."""
        return np.clip(places, 0, self.count + 1).astype(np.intp)

    def outside(self, values: Array) -> float:
        """The share of numbers in the first and the last cell."""
        cells = self.cells((values - self.low) * self.scale)
        return float(np.mean((cells == 0) | (cells == self.count + 1)))

    def spans(self, asked: Bools) -> Floats:
        """From which number to which the cells asked for go, a little more for rounding's sake, shape (spans, 2)."""
        turns = np.diff(np.concatenate(([False], asked, [False])).astype(np.int8))
        starts, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
        found = self.low + np.stack([starts - ROUNDING, ends + ROUNDING], axis=1) / self.scale
        found[starts == 0, 0], found[ends == len(asked), 1] = -np.inf, np.inf
        found[1:, 0] = np.maximum(found[1:, 0], np.nextafter(found[:-1, 1], np.inf))  # none overlaps the one before
        return found


@dataclass(frozen=True)
class Cells:
    """How many of a side's numbers each cell of a grid holds; where known, how far from its end they lie, added up."""

    grid: Grid
    counts: Counts
    rests: Floats | None = None

    @once
    def before(self) -> Rows:
        """How many lie in earlier cells."""
        before: Rows = np.cumsum(self.counts) - self.counts
        return before


def area(reference: Summary, current: Summary) -> float | None:
    """The integral of the distance between the distribution functions; None where it is told sooner by sorting all.

    It is what a sum over all distinct numbers gives, but for rounding, some 1e-16 of the grid's length.
    """
    with np.errstate(all="ignore"):  # numbers too far apart to be told so are the caller's
        sides = _counted(reference, current)
        if sides is None:
            return None
        (one, other), (n, m) = sides, (reference.rows, current.rows)
        # within a cell the first function less the second is never below, or never above 0
        above = one.before / n >= (other.before + other.counts) / m
        below = (one.before + one.counts) / n <= other.before / m
        signs = np.where(above, 1, np.where(below, -1, 0)).astype(np.int8)
        signs[[0, -1]] = 0  # they have no end
        if sum(int(side.counts[signs == 0].sum()) for side in sides) > MANY * (n + m):
            return None
        (rests, places), (others, others_places) = (
            _gone_through(cells, side, signs) for cells, side in zip(sides, (reference, current), strict=True)
        )
        sure = float(np.sum(signs * (one.before / n - other.before / m))) + rests / n - others / m
        found = (sure + _crossed(sides, signs == 0, (places, others_places), (n, m))) / one.grid.scale
    return found if math.isfinite(found) else None


def over(samples: Sequence[Array], rows: int) -> Grid | None:
    """The grid for so many rows over what nearly all of each sample spans; None where that is a point, or too far."""
    with np.errstate(all="ignore"):
        ends = np.concatenate([np.quantile(sample, (TAIL, 1 - TAIL)) for sample in samples])
        cells = min(MOST_CELLS, CELLS << math.isqrt(rows).bit_length())
        low, length = float(ends.min()), float(ends.max() - ends.min())
    scale = cells / length if length else math.inf
    return Grid(low - 1 / scale, scale, cells) if math.isfinite(scale) and scale else None


def count(grid: Grid, side: Summary) -> Cells:
    """The side's numbers counted."""
    kind = np.int32 if side.rows < 2**31 else np.int64  # half the memory, of which it takes all at once
    found: Counts = np.zeros(grid.count + 2, kind)
    for _, _, cells, counts in grid.blocks(side.parts()):
        np.add.at(found, cells, kind(1) if all_ones(counts) else counts.astype(kind, copy=False))
    return Cells(grid, found)


def rests_of(side: Summary, counted: Cells) -> Floats:
    """How far the side's numbers lie from the ends of their cells, added up: what spares going through them again."""
    rests = np.zeros(len(counted.counts))
    for _, within, cells, counts in counted.grid.blocks(side.parts()):
        np.add.at(rests, cells, _rests(within, cells, counts))
    return rests


def _rests(within: Floats, cells: Places, counts: Counts) -> Floats:
    """How far numbers lie from the ends of their cells, times their counts, in the memory of ``within``."""
    np.subtract(cells, within, out=within)
    within += 1  # a cell ends one after it begins
    return within if all_ones(counts) else np.multiply(within, counts, out=within)


def _counted(reference: Summary, current: Summary) -> tuple[Cells, Cells] | None:
    """Both sides on one grid: the reference's, of which it may know its cells, where that spans the current one too."""
    some = current.some(SAMPLE)
    if reference.grid and reference.grid.outside(some) <= OUTSIDE and (own := reference.cells):
        return own, count(own.grid, current)
    grid = over([reference.some(SAMPLE), some], reference.rows + current.rows)
    return None if grid is None else (count(grid, reference), count(grid, current))


def _gone_through(counted: Cells, side: Summary, signs: Signs) -> tuple[float, Counted]:
    """A side's rests times its cells' signs, added up, and the places of its numbers in cells without one, sorted."""
    known = counted.rests
    rests, unsure = 0.0 if known is None else float(np.sum(signs * known)), Numbers()
    parts = side.parts() if known is None else side.near(counted.grid.spans(signs == 0))
    for places, within, cells, counts in counted.grid.blocks(parts):
        own = signs[cells]
        if known is None:
            rests += float(np.sum(np.multiply(_rests(within, cells, counts), own, out=within)))
        wanted = own == 0
        unsure.add(places[wanted] if all_ones(counts) else np.repeat(places[wanted], counts[wanted]))
    return rests, unsure.sorted()


def _crossed(sides: tuple[Cells, Cells], asked: Bools, places: tuple[Counted, Counted], rows: tuple[int, int]) -> float:
    """The area in the cells ``asked`` for, in which the sides' numbers have these ``places``."""
    grid, before = sides[0].grid, [side.before for side in sides]
    apart = np.abs(before[0] / rows[0] - before[1] / rows[1])  # how far the functions are where a cell begins
    elsewhere = [np.cumsum(np.where(asked, 0, side.counts)) for side in sides]  # up to a cell that is asked for
    area, upto = 0.0, [0, 0]
    at, cells, height = np.zeros(1), np.full(1, -1), np.zeros(1)  # the last place of a block goes before the next one's
    for pieces in ranges(places):
        new = np.concatenate([piece for piece, _ in pieces])
        if not len(new):  # no number is in such a cell
            continue
        order = np.argsort(new, kind="stable")  # of two sorted pieces: merged in linear time
        counts = np.concatenate([counts for _, counts in pieces])[order]
        first = order < len(pieces[0][0])
        at = np.append(at[-1:], new[order])
        cells = np.append(cells[-1:], grid.cells(at[1:]))
        shares = []
        for side, theirs in enumerate((first, ~first)):
            through = upto[side] + np.cumsum(np.where(theirs, counts, 0))
            upto[side] = int(through[-1])
            shares.append((elsewhere[side][cells[1:]] + through) / rows[side])
        height = np.append(height[-1:], np.abs(shares[0] - shares[1]))
        entered = cells[1:] != cells[:-1]
        ends = np.where(entered, cells[:-1] + 1, at[1:])
        leads = np.where(entered & (cells[1:] > 0), at[1:] - cells[1:], 0.0)  # from a cell's beginning on
        area += float(np.sum(height[:-1] * (ends - at[:-1])) + np.sum(apart[cells[1:]] * leads))
    left = cells[-1] + 1 - at[-1] if cells[-1] <= grid.count else 0.0
    return area + float(height[-1] * left)
