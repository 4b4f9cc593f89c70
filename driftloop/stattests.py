"""Evidently's drift tests as functions of two distributions: sorted distinct values and how often each occurs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from driftloop import grid, runs
from driftloop.once import once

if TYPE_CHECKING:
    from driftloop.columnar import Summary

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.integer[Any]]

SMALL = 1000  # reference rows up to which Evidently takes a test with a p-value, above it a distance
FEW = 5  # distinct values up to which it takes numbers for categories
BINNED = 20  # distinct values of the reference above which it cuts numbers into bins
KS_EXACT = 10_000  # rows up to which scipy counts the paths of Kolmogorov and Smirnov
CVM_EXACT = 20
MANN_WHITNEY_EXACT = 8
ALMOST_NOTHING = 0.0001  # what stands for an empty bin where a logarithm is taken


@dataclass(frozen=True)
class Pair:
    """Both sides' values of one column, nulls left out. ``exactly``: nothing is counted in cells."""

    reference: Summary
    current: Summary
    exactly: bool = False

    @once
    def rows(self) -> tuple[int, int]:
        return self.reference.rows, self.current.rows

    @once
    def distinct(self) -> int:
        """How many different values both sides hold together."""
        return sum(len(values) for values, _, _ in self.joint())

    def more_than(self, values: int) -> bool:
        """Whether they hold more different values than that."""
        return self.reference.more_than(values) or self.current.more_than(values) or self.distinct > values

    def joint(self) -> Iterator[tuple[Array, Counts, Counts]]:
        """Distinct values of both, ascending, with each side's rows up to and including each; a block at a time."""
        before = np.zeros(2, dtype=np.int64)
        for ours, theirs in self.reference.beside(self.current):
            values = np.concatenate((ours[0], theirs[0]))
            order = np.argsort(values, kind="stable")  # of two sorted pieces: merged in linear time
            values = values[order]
            own = order < len(ours[0])
            one, other = _upto(ours[1], own) + before[0], _upto(theirs[1], ~own) + before[1]
            before = np.array([one[-1], other[-1]])
            last = np.append(values[1:] != values[:-1], [True]).astype(bool)  # of several that are equal
            yield (values, one, other) if last.all() else (values[last], one[last], other[last])

    @once
    def counts(self) -> tuple[Counts, Counts]:
        """How often each of the distinct values occurs on each side."""
        blocks = [(one, other) for _, one, other in self.joint()]
        one, other = (np.diff(np.concatenate(side), prepend=0) for side in zip(*blocks, strict=True))
        return one, other

    @once
    def shares(self) -> tuple[Floats, Floats]:
        return self.counts[0] / self.rows[0], self.counts[1] / self.rows[1]

    @property
    def ends(self) -> tuple[Any, Any]:
        """The least and the greatest value of both."""
        least, greatest = zip(self.reference.ends, self.current.ends, strict=True)
        return min(least), max(greatest)


def _upto(counts: Counts, own: npt.NDArray[np.bool_]) -> Counts:
    """The rows of a side up to each place, where ``own`` tells the places of its values."""
    if runs.all_ones(counts) or counts.max(initial=1) == 1:
        return np.cumsum(own, dtype=np.int32)  # of a block: half the time of longer ones
    rows = np.zeros(len(own), dtype=np.int64)
    rows[own] = counts
    return np.cumsum(rows)


def chosen(pair: Pair, *, numeric: bool) -> str:
    """The test that Evidently takes where none is asked for."""
    if pair.rows[0] > SMALL:
        return "wasserstein" if numeric and pair.more_than(FEW) else "jensenshannon"
    if numeric and pair.more_than(FEW):
        return "ks"
    return "chisquare" if pair.more_than(2) else "z"


def _ks(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001  # all tests are called alike
    from scipy import stats

    n, m = pair.rows
    if max(n, m) <= KS_EXACT:
        return float(stats.ks_2samp(pair.reference.spelled_out(), pair.current.spelled_out())[1])
    distance = max(float(np.abs(one / n - other / m).max()) for _, one, other in pair.joint())
    longer, shorter = float(max(n, m)), float(min(n, m))
    return float(np.clip(stats.kstwo.sf(distance, np.round(longer * shorter / (longer + shorter))), 0, 1))


def _chisquare(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    one, other = pair.counts
    return float(stats.chisquare(other, one * (pair.rows[1] / pair.rows[0]))[1])


def _g(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    _require_as_many(pair)
    one, other = pair.counts
    return float(stats.power_divergence(other, one, lambda_="log-likelihood")[1])


def _z(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    (n, m), (one, other) = pair.rows, pair.counts
    if len(one) == 1:
        return 1.0
    p, q = float(n - one[0]) / n, float(m - other[0]) / m
    both = float(p * n + q * m) / (n + m)
    return float(2 * (1 - stats.norm.cdf(abs((p - q) / np.sqrt(both * (1 - both) * (1.0 / n + 1.0 / m))))))


def _fisher(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    _require_as_many(pair)
    one, other = pair.counts
    if len(one) > 2:
        raise ValueError("it is for two categories, and there are more")
    table = np.zeros((2, 2), dtype=np.int64)
    table[0, : len(one)], table[1, : len(one)] = other, one
    return float(stats.fisher_exact(table)[1])


def _require_as_many(pair: Pair) -> None:
    if pair.rows[0] != pair.rows[1]:
        raise ValueError(f"it is for as many rows in both, and there are {pair.rows[0]:,} and {pair.rows[1]:,}")


def _wasserstein(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    many = sum(pair.rows) > runs.BLOCK and not pair.exactly
    area = grid.area(pair.reference, pair.current) if many else None
    if area is None:
        area = _between(pair, np.abs)
    return area / max(math.sqrt(pair.reference.variance), 0.001)


def _energy(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    return math.sqrt(2) * math.sqrt(_between(pair, np.square))


def _between(pair: Pair, of: Callable[[Floats], Floats]) -> float:
    """The integral over the values of what ``of`` makes of the distance of the two distribution functions."""
    (n, m), area, value, height = pair.rows, 0.0, None, 0.0
    for values, one, other in pair.joint():
        heights = of(one / n - other / m)
        if value is not None:
            area += height * float(values[0] - value)
        area += float(np.sum(heights[:-1] * np.diff(values)))
        value, height = values[-1], float(heights[-1])
    return area


def _jensenshannon(pair: Pair, *, numeric: bool) -> float:
    from scipy.spatial import distance

    return float(distance.jensenshannon(*_binned(pair, numeric=numeric)))


def _kl(pair: Pair, *, numeric: bool) -> float:
    from scipy import stats

    return float(stats.entropy(*map(_filled, _binned(pair, numeric=numeric))))


def _psi(pair: Pair, *, numeric: bool) -> float:
    one, other = map(_filled, _binned(pair, numeric=numeric))
    return float(np.sum((one - other) * np.log(one / other)))


def _binned(pair: Pair, *, numeric: bool) -> tuple[Floats, Floats]:
    """Each side's share of rows in bins of equal width, or by value where there are few or no numbers."""
    if not numeric or len(pair.reference.values) <= BINNED:
        return pair.shares
    edges = _edges(pair, sum(pair.rows))
    one, other = pair.reference.histogram(edges), pair.current.histogram(edges)
    return one / pair.rows[0], other / pair.rows[1]


def _edges(pair: Pair, values: int) -> Floats:
    """Sturges' bins for so many values, exactly as numpy cuts them."""
    first, last = map(float, pair.ends)
    if first == last:
        return np.array([first - 0.5, last + 0.5])
    width = (last - first) / (np.log2(values) + 1.0)
    return np.histogram_bin_edges([first, last], bins=int(np.ceil((last - first) / width)))


def _filled(shares: Floats) -> Floats:
    """No bin empty, as Evidently has it."""
    least = shares[shares != 0].min()
    return np.where(shares == 0, least / 10**6 if least <= ALMOST_NOTHING else ALMOST_NOTHING, shares)


def _hellinger(pair: Pair, *, numeric: bool) -> float:
    if numeric:
        edges = _edges(pair, pair.distinct)
        one, other = (side.histogram(edges) for side in (pair.reference, pair.current))
        densities = [counts / np.diff(edges) / counts.sum() for counts in (one, other)]
        width = (edges[-1] - edges[0]) / (len(edges) - 1)
    else:
        densities, width = list(pair.shares), 1.0
    alike = math.fsum(np.sqrt(densities[0] * densities[1]) * width)
    return math.sqrt(1 - min(max(alike, 0.0), 1.0))


def _t(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    def of(side: Summary) -> tuple[float, float, int]:
        spread = math.sqrt(side.variance * side.rows / (side.rows - 1)) if side.rows > 1 else math.nan
        return side.mean, spread, side.rows

    return float(stats.ttest_ind_from_stats(*of(pair.reference), *of(pair.current))[1])


def _mann_whitney(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import special, stats

    n, m = pair.rows
    if min(n, m) <= MANN_WHITNEY_EXACT and pair.distinct == n + m:
        sides = (pair.reference.spelled_out(), pair.current.spelled_out())
        return float(stats.mannwhitneyu(*sides, alternative="less")[1])
    ranks = ties = 0.0
    for here, there, upto in _groups(pair):
        tied = here + there
        ranks += float(np.sum(here * (upto - (tied - 1) / 2)))
        ties += float(np.sum(tied**3 - tied))
    u = n * m - (ranks - n * (n + 1) / 2)
    spread = np.sqrt(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))))
    return float(np.clip(special.ndtr(-np.divide(u - n * m / 2 - 0.5, spread)), 0, 1))


def _groups(pair: Pair) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each distinct value its rows on each side, and the rows of both up to it."""
    before = (0, 0)
    for _, one, other in pair.joint():
        here, there = np.diff(one, prepend=before[0]), np.diff(other, prepend=before[1])
        yield here.astype(float), there.astype(float), (one + other).astype(float)
        before = (one[-1], other[-1])


def _cramer_von_mises(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    n, m = pair.rows
    if min(n, m) < 2:
        raise ValueError("it needs two rows on each side")
    if max(n, m) <= CVM_EXACT:
        sides = (pair.reference.spelled_out(), pair.current.spelled_out())
        return float(stats.cramervonmises_2samp(*sides, method="exact").pvalue)
    squares, before = [0.0, 0.0], [0.0, 0.0]
    for here, there, upto in _groups(pair):
        rank = upto - (here + there - 1) / 2
        for side, counts in enumerate((here, there)):
            own = np.cumsum(counts) + before[side]
            middle = own - (counts - 1) / 2  # of the places that a tie takes among its side's rows
            squares[side] += float(np.sum(counts * (rank - middle) ** 2 + counts * (counts**2 - 1) / 12))
            before[side] = float(own[-1])
    k, both = n * m, n + m
    t = (n * squares[0] + m * squares[1]) / (k * both) - (4 * k - 1) / (6 * both)
    variance = (both + 1.0) * (4 * k * both - 3 * (n**2 + m**2) - 2 * k) / (45 * both**2 * 4 * k)
    normed = 1 / 6 + (t - (1 + 1 / both) / 6) / math.sqrt(45 * variance)
    return 1.0 if normed < 0.003 else max(0.0, 1.0 - _cramer_von_mises_limit(normed))


def _cramer_von_mises_limit(x: float) -> float:
    """The distribution function of the statistic for endless samples, after Csörgő and Faraway (1996)."""
    from scipy import special

    total, k, term = 0.0, 0, math.inf
    while abs(term) >= 1e-7:
        y = 4 * k + 1
        q = y**2 / (16 * x)
        scale = math.exp(special.gammaln(k + 0.5) - special.gammaln(k + 1)) / (math.pi**1.5 * math.sqrt(x))
        term = scale * math.sqrt(y) * math.exp(-q) * float(special.kv(0.25, q))
        total, k = total + term, k + 1
    return total


def _anderson(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    """The p-value of Scholz and Stephens (1987), by their table between 0.001 and 0.25."""
    n, m = pair.rows
    both = n + m
    if not pair.more_than(1):
        raise ValueError("it needs more than one distinct value")
    squares = [0.0, 0.0]
    before = (0.0, 0.0)
    for here, there, upto in _groups(pair):
        tied = here + there
        middle = upto - tied / 2
        for side, (counts, rows) in enumerate(((here, n), (there, m))):
            own = np.cumsum(counts) + before[side] - counts / 2
            weight = tied / both * (both * own - middle * rows) ** 2
            squares[side] += float(np.sum(weight / (middle * (both - middle) - both * tied / 4)))
        before = (before[0] + float(here.sum()), before[1] + float(there.sum()))
    statistic = (squares[0] / n + squares[1] / m) * (both - 1.0) / both
    h, g = _harmonic(both)
    inverse = 1 / n + 1 / m
    a = 4 * g - 6 + (10 - 6 * g) * inverse
    b = (2 * g - 4) * 4 + 16 * h + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * 4 - 8 * h
    size = float(both)
    variance = (a * size**3 + b * size**2 + c * size + d) / ((size - 1) * (size - 2) * (size - 3))
    normed = (statistic - 1) / math.sqrt(variance)
    critical = np.array([0.675, 1.281, 1.645, 1.96, 2.326, 2.573, 3.085])
    critical += np.array([-0.245, 0.25, 0.678, 1.149, 1.822, 2.364, 3.615])
    critical += np.array([-0.105, -0.305, -0.362, -0.391, -0.396, -0.345, -0.154])
    levels = np.array([0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001])
    if normed < critical.min():
        return 0.25
    if normed > critical.max():
        return 0.001
    return math.exp(np.polyval(np.polyfit(critical, np.log(levels), 2), normed))


def _harmonic(both: int, block: int = 1 << 20) -> tuple[float, float]:
    """The two sums of the statistic's variance, a block at a time."""
    upto = inner = 0.0
    for start in range(2, both, block):
        places = np.arange(start, min(start + block, both), dtype=float)
        sums = upto + (1.0 / (both + 1 - places)).cumsum()
        upto, inner = float(sums[-1]), inner + float((sums / places).sum())
    return upto + 1, inner


def _epps_singleton(pair: Pair, *, numeric: bool) -> float:  # noqa: ARG001
    from scipy import stats

    n, m = pair.rows
    if min(n, m) < 5:
        raise ValueError("it needs five rows on each side")
    half = (_quantile(pair, 0.75) - _quantile(pair, 0.25)) / 2
    if half == 0:
        raise ValueError("the middle half of the values is one value")
    times = np.array([0.4, 0.8]) / half
    (mean, spread), (other_mean, other_spread) = (_waves(side, times) for side in (pair.reference, pair.current))
    inverse = np.linalg.pinv((n + m) / n * spread + (n + m) / m * other_spread)
    difference = mean - other_mean
    statistic = (n + m) * float(difference @ inverse @ difference)
    if max(n, m) < 25:
        statistic *= 1.0 / (1.0 + (n + m) ** -0.45 + 10.1 * (n**-1.7 + m**-1.7))
    return float(stats.chi2.sf(statistic, np.linalg.matrix_rank(inverse)))


def _waves(side: Summary, times: Floats) -> tuple[Floats, Floats]:
    """Means and covariance of the cosines and sines of a side's values."""

    def of(values: Array) -> Floats:
        angles = np.outer(times, values)
        return np.concatenate((np.cos(angles), np.sin(angles)))

    mean = sum((of(values) @ counts for values, counts in side.blocks()), np.zeros(4)) / side.rows
    spread = np.zeros((4, 4))
    for values, counts in side.blocks():
        away = of(values) - mean[:, None]
        spread += (away * counts) @ away.T
    return mean, spread / side.rows


def _quantile(pair: Pair, share: float) -> float:
    """Of the values of both, between two of them as numpy has it."""
    place = share * (sum(pair.rows) - 1)
    low, high = math.floor(place), math.ceil(place)
    found: list[float] = []
    for values, one, other in pair.joint():
        upto = one + other
        found += [float(values[np.searchsorted(upto, p, "right")]) for p in (low, high)[len(found) :] if p < upto[-1]]
        if len(found) == 2:
            break
    return float(np.interp(place, [low, high], found)) if high > low else found[0]


@dataclass(frozen=True)
class StatTest:
    """``title`` is Evidently's name for it in a report; drifted where ``beyond(score, threshold)``."""

    title: str
    score: Callable[..., float]
    threshold: float
    beyond: Callable[[float, float], bool]
    numeric: bool = True
    categorical: bool = False


TESTS = {
    "ks": StatTest("K-S p_value", _ks, 0.05, operator.le),
    "wasserstein": StatTest("Wasserstein distance (normed)", _wasserstein, 0.1, operator.ge),
    "ed": StatTest("Energy-distance", _energy, 0.1, operator.gt),
    "anderson": StatTest("Anderson-Darling", _anderson, 0.1, operator.lt),
    "cramer_von_mises": StatTest("Cramer-von Mises", _cramer_von_mises, 0.1, operator.le),
    "mannw": StatTest("Mann-Whitney U-rank test", _mann_whitney, 0.05, operator.lt),
    "t_test": StatTest("t_test", _t, 0.05, operator.lt),
    "es": StatTest("Epps-Singleton", _epps_singleton, 0.05, operator.lt),
    "jensenshannon": StatTest("Jensen-Shannon distance", _jensenshannon, 0.1, operator.ge, categorical=True),
    "kl_div": StatTest("Kullback-Leibler divergence", _kl, 0.1, operator.ge, categorical=True),
    "psi": StatTest("PSI", _psi, 0.1, operator.ge, categorical=True),
    "hellinger": StatTest("Hellinger distance", _hellinger, 0.1, operator.ge, categorical=True),
    "chisquare": StatTest("chi-square p_value", _chisquare, 0.05, operator.lt, numeric=False, categorical=True),
    "z": StatTest("Z-test p_value", _z, 0.05, operator.lt, numeric=False, categorical=True),
    "g_test": StatTest("g_test", _g, 0.1, operator.lt, numeric=False, categorical=True),
    "fisher_exact": StatTest("Fisher's Exact test", _fisher, 0.1, operator.lt, numeric=False, categorical=True),
}
OF_ROWS = {"empirical_mmd": True, "TVD": False}  # they shuffle the rows themselves; whether for numbers


def names_for(*, numeric: bool) -> tuple[str, ...]:
    """Evidently's names of its tests for a numeric or a categorical column."""
    ours = tuple(name for name, test in TESTS.items() if (test.numeric if numeric else test.categorical))
    return ours + tuple(name for name, numbers in OF_ROWS.items() if numbers is numeric)
