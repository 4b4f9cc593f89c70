"""What changed in a column between a reference and a window, told from summaries of it. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from driftloop.category import MISSING, category
from driftloop.columnar import Column, Summary
from driftloop.stattests import FEW

Json = dict[str, Any]
Floats = npt.NDArray[np.float64]
What = Literal["mean", "spread", "shape", "category shares", "nothing"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST = 10  # categories that are kept, those that moved most
BINS = 40
POINTS = 100_000  # of a distribution; more tell nothing more of what changed
TAIL = 0.002  # of either side's rows, drawn in the outermost bin
NAMED = 3  # categories that a sentence names
DIGITS = 3  # of a number in a sentence, at least
NULLS = 0.01  # a share of nulls that moved by less is not spoken of


@dataclass(frozen=True)
class Numbers:
    """A numeric column on one side; ``nulls`` is their share of the rows."""

    mean: float
    std: float
    quantiles: tuple[float, ...]
    nulls: float


@dataclass(frozen=True)
class Histogram:
    """The share of either side's values between neighbouring ``edges``; the outermost hold what lies beyond."""

    edges: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Share:
    """How many of the rows are of a category, before and after."""

    name: str
    before: float
    after: float

    @property
    def moved(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class NumericChange:
    """``parts``: of the squared Wasserstein-2 distance what the mean, the spread and the shape account for."""

    window: str
    what: What
    parts: dict[What, float]
    before: Numbers
    after: Numbers
    histogram: Histogram


@dataclass(frozen=True)
class ShareChange:
    """``shares``: of those that moved most, first, ``categories`` how many there are in all, ``rest`` the other ones.

    ``nulls`` are those of numbers; to a category a null is one more.
    """

    window: str
    what: What
    shares: tuple[Share, ...]
    rest: Share
    categories: int
    nulls: Share


Change = NumericChange | ShareChange


def change_of(column: Column, before: Summary, after: Summary, window: str) -> Change:
    """What is different in ``window``: shares of categories, or of few values, else how numbers are distributed."""
    if not column.numeric or max(len(before.values), len(after.values)) <= FEW:
        return _share_change(before, after, window)
    before, after = _thinned(before), _thinned(after)
    parts = parts_of(before, after)
    total = sum(parts.values())
    what = max(parts, key=lambda part: parts[part]) if total else "nothing"
    shares = {part: size / total for part, size in parts.items()} if total else parts
    return NumericChange(window, what, shares, _numbers(before), _numbers(after), _histogram(before, after))


def parts_of(before: Summary, after: Summary) -> dict[What, float]:
    """The squared Wasserstein-2 distance of two columns of numbers, as the sum of what makes it up.

    It is the mean squared difference of the quantile functions Q and R, and with their means m, standard deviations s
    and correlation r it is, without a rest, (m - m')² + (s - s')² + 2ss'(1 - r): what goes once the means are made
    equal, what then goes with the standard deviations, and what is left, which is 0 only where one column is the other
    moved and stretched (Irpino and Verde, "Basic statistics for distributional symbolic variables: a new
    metric-based approach", Advances in Data Analysis and Classification 9, 2015).

    A whole number stands for all that rounds to it: counts that grow by a half on average would else differ by 0 and
    1, and half of that would look like another shape.
    """
    upto = np.union1d(_upto(before), _upto(after))
    half = 0.5 if _whole(before, after) else 0.0
    middle = before.values[len(before.values) // 2]  # what lies far from 0 would else lose its digits
    width = np.diff(upto, prepend=0.0)
    q, r = (_quantiles(side, upto, half) - middle for side in (before, after))
    m, n = (float(np.dot(width, side.mean(axis=0))) for side in (q, r))
    q, r = q - m, r - n
    s, t, product = (float(np.dot(width, _products(*pair))) for pair in ((q, q), (r, r), (q, r)))
    rest = max(np.sqrt(s) * np.sqrt(t) - product, 0.0)
    return {"mean": (m - n) ** 2, "spread": float(np.sqrt(s) - np.sqrt(t)) ** 2, "shape": 2 * float(rest)}


def _upto(side: Summary) -> Floats:
    """The share of rows up to each value."""
    return np.asarray(np.cumsum(side.counts) / side.counts.sum(), dtype=np.float64)


def _whole(*sides: Summary) -> bool:
    return all(np.array_equal(side.values, np.rint(side.values)) for side in sides)


def _quantiles(side: Summary, upto: Floats, half: float) -> Floats:
    """The quantile function where each step up to ``upto`` begins and ends, each value spread ``half`` to either side.

    ``upto`` holds every share up to which the side has one value, so that within a step it has one.
    """
    own = _upto(side)
    at = np.searchsorted(own, upto)
    share = side.counts[at] / side.counts.sum()
    ends = 1 - 2 * (own[at] - np.stack([np.append(0.0, upto[:-1]), upto])) / share
    return np.asarray(side.values[at] + half * ends, dtype=np.float64)


def _products(f: Floats, g: Floats) -> Floats:
    """The mean of f times g over each step, within which both run straight from the first row to the second."""
    (a, b), (c, d) = f, g
    return np.asarray((2 * (a * c + b * d) + a * d + b * c) / 6, dtype=np.float64)


def _thinned(side: Summary) -> Summary:
    """At most ``POINTS`` values, each the mean of as many neighbours; the mean stays what it is."""
    each = -(-len(side.values) // POINTS)
    if each <= 1:
        return side
    starts = np.arange(0, len(side.values), each)
    counts = np.add.reduceat(side.counts, starts)
    sums = [np.dot(side.values[start : start + each], side.counts[start : start + each]) for start in starts]
    return Summary(np.array(sums) / counts, counts, side.nulls)


def _numbers(side: Summary) -> Numbers:
    mean = float(np.average(side.values, weights=side.counts))
    std = float(np.sqrt(np.average((side.values - mean) ** 2, weights=side.counts)))
    at = tuple(float(side.values[np.searchsorted(_upto(side), q)]) for q in QUANTILES)
    return Numbers(mean, std, at, side.nulls / (side.nulls + int(side.counts.sum())))


def _histogram(before: Summary, after: Summary) -> Histogram:
    """Both sides in the same bins, over all but the tails; whole numbers are never cut apart."""
    sides = before, after
    reach = [np.searchsorted(_upto(s), (TAIL, 1 - TAIL)) for s in sides]
    low = min(float(s.values[ends[0]]) for s, ends in zip(sides, reach, strict=True))
    high = max(float(s.values[ends[1]]) for s, ends in zip(sides, reach, strict=True))
    if _whole(*sides):
        width = max(1.0, np.ceil((high - low + 1) / BINS))
        edges = np.arange(low - 0.5, high + 0.5 + width, width)
    else:
        edges = np.linspace(low, high, BINS + 1)
    binned = [
        np.histogram(np.clip(s.values, edges[0], edges[-1]), edges, weights=s.counts / s.counts.sum())[0] for s in sides
    ]
    first, second = (tuple(float(share) for share in shares) for shares in binned)
    return Histogram(tuple(float(edge) for edge in edges), first, second)


def _share_change(before: Summary, after: Summary, window: str) -> ShareChange:
    names = np.union1d(before.values, after.values)
    one, other = (_shares(side, names) for side in (before, after))
    order = np.argsort(-np.abs(other - one).round(12), kind="stable")
    kept, left = order[:MOST], order[MOST:]
    shares = tuple(Share(category(names[i]), float(one[i]), float(other[i])) for i in kept)
    nulls = Share(MISSING, *(side.nulls / (side.nulls + int(side.counts.sum())) for side in (before, after)))
    what: What = "category shares" if shares[0].moved else "nothing"
    rest = Share("all others", float(one[left].sum()), float(other[left].sum()))
    return ShareChange(window, what, shares, rest, len(names), nulls)


def _shares(side: Summary, names: npt.NDArray[Any]) -> Floats:
    """The share of each of ``names``, which hold all of the side's values."""
    shares = np.zeros(len(names))
    shares[np.searchsorted(names, side.values)] = side.counts / side.counts.sum()
    return shares


def change_json(change: Change) -> Json:
    head: Json = {"window": change.window, "what": change.what}
    if isinstance(change, ShareChange):
        return head | {
            "categories": change.categories,
            "shares": [asdict(share) for share in change.shares],
            "new": [share.name for share in change.shares if not share.before],
            "gone": [share.name for share in change.shares if not share.after],
            "nulls": {"before": change.nulls.before, "after": change.nulls.after},
        }
    return head | {"parts": change.parts, "before": _numbers_json(change.before), "after": _numbers_json(change.after)}


def _numbers_json(side: Numbers) -> Json:
    named = {f"{q:g}": value for q, value in zip(QUANTILES, side.quantiles, strict=True)}
    return {"mean": side.mean, "std": side.std, "quantiles": named, "nulls": side.nulls}


def said(change: Change) -> str:
    """What changed, in the column's own units."""
    if change.what == "nothing":
        return "its values are spread as in the reference"
    text = _shares_said(change) if isinstance(change, ShareChange) else _numbers_said(change)
    nulls = change.nulls if isinstance(change, ShareChange) else Share("", change.before.nulls, change.after.nulls)
    return text + (f", nulls went from {nulls.before:.1%} to {nulls.after:.1%}" if abs(nulls.moved) >= NULLS else "")


def _numbers_said(change: NumericChange) -> str:
    before, after = change.before, change.after
    if change.what == "mean":
        verb = "rose" if after.mean > before.mean else "fell"
        return f"its mean {verb} {_pair(before.mean, after.mean)}"
    if change.what == "spread":
        verb = "widened" if after.std > before.std else "narrowed"
        return f"its spread {verb}, the standard deviation going {_pair(before.std, after.std)}"
    moved = [abs(b - a) for b, a in zip(before.quantiles, after.quantiles, strict=True)]
    place = int(np.argmax(moved))
    if not moved[place]:
        return f"its shape changed in the tails, the mean going {_pair(before.mean, after.mean)}"
    named = "median" if QUANTILES[place] == 0.5 else f"{QUANTILES[place]:.0%} quantile"
    return f"its shape changed, most the {named}, {_pair(before.quantiles[place], after.quantiles[place])}"


def _shares_said(change: ShareChange) -> str:
    moved = [share for share in change.shares if share.moved][:NAMED]
    names = [f"{_named(s.name)} {_verb(s)} {s.before:.1%} to {s.after:.1%}" for s in moved]
    more = f"; {change.categories} categories in all" if change.categories > len(moved) else ""
    return f"the share of {', of '.join(names)}{more}"


def _named(name: str) -> str:
    return "nulls" if name == MISSING else name


def _verb(share: Share) -> str:
    if not share.before:
        return "(new) rose from"
    return "rose from" if share.moved > 0 else "fell from"


def _pair(before: float, after: float) -> str:
    """Two numbers with as few digits as tell them apart."""
    for digits in range(DIGITS, 18):
        told = [rounded(value, digits) for value in (before, after)]
        if told[0] != told[1]:
            break
    return f"from {told[0]} to {told[1]}"


def rounded(value: float, digits: int) -> str:
    """A number for people; ``digits`` that count, whole numbers in full."""
    if 10 ** (digits - 1) <= abs(value) < 1e12:
        return f"{value:,.{digits - DIGITS}f}"
    return f"{value:.{digits}g}"
