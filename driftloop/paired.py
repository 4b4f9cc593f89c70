"""The gain of one model over another on the same rows, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, t

from driftloop.metrics import AUCS, METRICS, Array, Metric, Predictions

RESAMPLES = 2000
POWER = 0.8


@dataclass(frozen=True)
class Gain:
    """A paired gain in the metric's units, positive when the candidate is better whatever the metric's direction.

    ``lower`` is its one-sided lower bound, None where none was asked for. ``standard_error`` is that of the gain.
    ``p_worse`` is the one-sided p-value of the hypothesis that the candidate is no worse: small where it is worse.
    """

    value: float
    standard_error: float
    lower: float | None
    p_worse: float


def paired_gain(metric: str, y: Array, candidate: Predictions, champion: Predictions, confidence: float) -> Gain:
    """The gain of candidate over champion in ``metric`` on rows of shape (n,), with its bound at ``confidence``.

    DeLong's variance for the AUC (DeLong et al. 1988, in the O(n log n) form of Sun & Xu 2014) with the degrees of
    freedom of a sum of variances (Welch 1947), and for the mean AUC over classes that of each row's parts in all of
    them; for every other metric a paired bootstrap of 2,000 resamples with a fixed seed. Confidence 0 asks for no
    bound.
    Raises ValueError where the metric has no variance on these rows, as the AUC with one row of a class.
    """
    if metric in AUCS:
        return _delong(y, candidate.scores, champion.scores, confidence)
    return _bootstrap(METRICS[metric], y, candidate, champion, confidence)


@dataclass(frozen=True)
class Spread:
    """The variance of a metric over rows drawn like these, with its degrees of freedom."""

    variance: float
    freedom: float


EXACT = Spread(0.0, math.inf)


def spread(metric: str, y: Array, prediction: Predictions) -> Spread:
    """Of one model's metric: DeLong's for the AUCs, of any other the delta method's on its terms' means.

    Raises ValueError as paired_gain.
    """
    if metric in AUCS:
        return _pooled(_delong_terms(y, prediction.scores, np.zeros_like(prediction.scores))[1])  # which ranks nothing
    judge = METRICS[metric]
    terms = judge.terms(y, judge.input(prediction))
    along = terms @ judge.slopes(terms.mean(axis=0))
    return Spread(float(along.var(ddof=1)) / len(y), len(y) - 1)


def _pooled(parts: Sequence[tuple[float, float]]) -> Spread:
    """The sum of variances with Welch's degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if not variance:
        return EXACT
    return Spread(variance, variance**2 / sum(part**2 / freedom for part, freedom in parts))


def lower_bound(difference: float, one: Spread, other: Spread, confidence: float) -> float | None:
    """The one-sided lower bound of a difference of two metrics on different rows; confidence 0 asks for none."""
    if not confidence:
        return None
    both = _pooled([(part.variance, part.freedom) for part in (one, other) if part.variance])
    return difference - float(t.ppf(confidence, both.freedom)) * math.sqrt(both.variance)


def detectable_gain(standard_error: float, delta: float, confidence: float) -> float:
    """The smallest true gain that is promoted four times in five, for a normal gain of this standard error.

    The gain seen has to exceed both delta and z(confidence) standard errors, and falls short of the true one by more
    than z(0.8) standard errors one time in five.

    >>> round(detectable_gain(0.01, 0.01, 0.95), 4)
    0.0249
    """
    bar = max(delta, float(norm.ppf(confidence)) * standard_error) if confidence else delta
    return bar + float(norm.ppf(POWER)) * standard_error


def _placements(positive: NDArray[np.bool_], score: Array) -> tuple[Array, Array]:
    """DeLong's structural components: each positive's placement among the negatives, and the reverse."""
    ones, zeros = score[positive], score[~positive]
    ranks = rankdata(np.concatenate([ones, zeros]))
    v10 = (ranks[: len(ones)] - rankdata(ones)) / len(zeros)
    v01 = 1 - (ranks[len(ones) :] - rankdata(zeros)) / len(ones)
    return v10, v01


def _delong_terms(y: Array, candidate: Array, champion: Array) -> tuple[float, list[tuple[float, float]]]:
    """The gain, and the variances that its own is the sum of, each with its degrees of freedom.

    Scores of shape (n,) of class 1, or (n, classes), of which each is held against the rest.
    """
    columns = [1] if candidate.ndim == 1 else list(range(candidate.shape[1]))
    strata = [y == c for c in (columns if len(columns) > 1 else (0, 1))]
    if min(int(rows.sum()) for rows in strata) < 2:
        raise ValueError("the bound on an AUC gain needs at least two rows of each class")
    ours, theirs = (scores.reshape(len(y), -1) for scores in (candidate, champion))
    gains, influence = [], np.zeros(len(y))  # of each row on the gain
    for place, column in enumerate(columns):
        positive = y == column
        parts = zip(_placements(positive, ours[:, place]), _placements(positive, theirs[:, place]), strict=True)
        d10, d01 = (v - w for v, w in parts)
        gains.append(float(d10.mean()))
        for rows, d in ((positive, d10), (~positive, d01)):
            influence[rows] += (d - gains[-1]) / len(d) / len(columns)
    gain, shares = float(np.mean(gains)), [influence[rows] for rows in strata]
    terms = [(len(share) * float(share.var(ddof=1)), len(share) - 1.0) for share in shares]
    if len(columns) > 1:  # the rest that a class is held against is a mixture, drawn with the rows
        terms.append((sum(len(share) * float(share.mean()) ** 2 for share in shares), len(y) - 1.0))
    return gain, terms


def _delong(y: Array, candidate: Array, champion: Array, confidence: float) -> Gain:
    gain, terms = _delong_terms(y, candidate, champion)
    pooled = _pooled(terms)
    if not pooled.variance:
        return Gain(gain, 0.0, gain if confidence else None, float(gain >= 0))
    # with few rows of a class the normal bound is far too sure; Welch's t is not, and is the normal for many
    drawn, error = t(pooled.freedom), math.sqrt(pooled.variance)
    lower = gain - float(drawn.ppf(confidence)) * error if confidence else None
    return Gain(gain, error, lower, float(drawn.cdf(gain / error)))


def _bootstrap(metric: Metric, y: Array, candidate: Predictions, champion: Predictions, confidence: float) -> Gain:
    rng = np.random.default_rng(0)
    terms = np.hstack([metric.terms(y, metric.input(p)) for p in (candidate, champion)])
    n, k = len(y), terms.shape[1] // 2
    sign = 1 if metric.higher_is_better else -1

    def gain_of(means: Array) -> Array:
        return sign * (metric.combine(means[..., :k]) - metric.combine(means[..., k:]))

    uniform = np.full(n, 1 / n)
    gains, block = [], max(1, min(RESAMPLES, 4_000_000 // n))  # a block of weights stays near 32 MB
    for start in range(0, RESAMPLES, block):
        weights = rng.multinomial(n, uniform, size=min(block, RESAMPLES - start))
        gains.append(gain_of(weights @ terms / n))
    drawn = np.concatenate(gains)
    if not np.isfinite(drawn).all():
        raise ValueError(f"{metric.name} has no value on some resamples of these {n} rows")
    value, error = float(gain_of(terms.mean(axis=0))), float(drawn.std(ddof=1))
    p_worse = (1 + int((drawn >= 0).sum())) / (1 + RESAMPLES)
    if error and drawn.max() < 0:  # beyond what resamples can tell, so that a correction for many slices can be met
        p_worse = min(p_worse, float(norm.cdf(value / error)))
    lower = float(np.quantile(drawn, 1 - confidence)) if confidence else None
    return Gain(value, error, lower, p_worse)
