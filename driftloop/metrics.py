"""What a model is scored by: a metric, its value on named rows, and a bound on a paired gain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric of the pair (y, prediction); for binary tasks y is 0/1 and the prediction a probability.

    Every metric but the AUC is a function of per-row terms' means: ``terms`` gives them, shape (rows, k),
    and ``combine`` turns means, shape (..., k), into values. That form lets the bootstrap draw all
    resamples in one matrix product.
    """

    name: str
    task: str
    higher_is_better: bool
    terms: Callable[[Array, Array], Array]
    combine: Callable[[Array], Array]

    def __call__(self, y: Array, prediction: Array) -> float:
        if self.name == "auc":
            return auc(y, prediction)
        return float(self.combine(self.terms(y, prediction).mean(axis=0)))


def auc(y: Array, score: Array) -> float:
    """Area under the ROC curve by midranks (Mann-Whitney U / n₊n₋); NaN where y has one class only.

    >>> auc(np.array([0., 0., 1., 1.]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positive = y == 1
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if n1 == 0 or n0 == 0:
        return math.nan
    return float((rankdata(score)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def _accuracy(y: Array, p: Array) -> Array:
    right: Array = ((p >= 0.5) == (y == 1)).astype(float)
    return right[:, None]


def _log_loss(y: Array, p: Array) -> Array:
    epsilon = np.finfo(float).eps  # as scikit-learn: a forest's 0 or 1 costs much, not infinitely much
    p = np.clip(p, epsilon, 1 - epsilon)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))[:, None]


def _confusion(y: Array, p: Array) -> Array:
    predicted = p >= 0.5
    hit = predicted & (y == 1)
    return np.column_stack([hit, predicted, y == 1]).astype(float)


def _f1(means: Array) -> Array:
    hit, predicted, actual = means[..., 0], means[..., 1], means[..., 2]
    total = predicted + actual
    return np.divide(2 * hit, total, out=np.zeros_like(total), where=total > 0)


def _first(means: Array) -> Array:
    return means[..., 0]


def _r2(means: Array) -> Array:
    squared_error, y, y_squared = means[..., 0], means[..., 1], means[..., 2]
    variance = y_squared - y**2
    return 1 - np.divide(squared_error, variance, out=np.full_like(variance, np.nan), where=variance > 0)


def _r2_terms(y: Array, p: Array) -> Array:
    centred = y - y.mean()  # a constant shift leaves R² as it is and keeps the variance numerically sound
    return np.column_stack([(y - p) ** 2, centred, centred**2])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", "binary", True, _accuracy, _first),
        Metric("accuracy", "binary", True, _accuracy, _first),
        Metric("f1", "binary", True, _confusion, _f1),
        Metric("log_loss", "binary", False, _log_loss, _first),
        Metric("brier", "binary", False, lambda y, p: ((y - p) ** 2)[:, None], _first),
        Metric("rmse", "regression", False, lambda y, p: ((y - p) ** 2)[:, None], lambda m: np.sqrt(m[..., 0])),
        Metric("mse", "regression", False, lambda y, p: ((y - p) ** 2)[:, None], _first),
        Metric("mae", "regression", False, lambda y, p: np.abs(y - p)[:, None], _first),
        Metric("r2", "regression", True, _r2_terms, _r2),
    )
}


@dataclass(frozen=True)
class Score:
    """A metric's value on a known set of rows. NaN and infinity are refused: they are no score.

    ``rows_id`` is the fingerprint of the rows, so that scores of different rows never compare.
    """

    metric: str
    value: float
    rows: int
    rows_id: str

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}; expected one of {', '.join(METRICS)}")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.metric} is {self.value} on {self.rows} rows: that is no score")

    def gain_over(self, other: Score) -> float:
        """How much better this score is, positive when better whatever the metric's direction.

        Raises ValueError when the two are not the same metric on the same rows.
        """
        if (self.metric, self.rows_id) != (other.metric, other.rows_id):
            raise ValueError(
                f"{self.metric} on rows {self.rows_id} does not compare with {other.metric} on rows {other.rows_id}"
            )
        difference = self.value - other.value
        return difference if METRICS[self.metric].higher_is_better else -difference


def gain_lower_bound(metric: str, y: Array, candidate: Array, champion: Array, confidence: float) -> float:
    """One-sided lower bound of the paired gain of candidate over champion on the same rows.

    DeLong's variance for the AUC (DeLong et al. 1988, in the O(n log n) form of Sun & Xu 2014); for
    every other metric the percentile of a paired bootstrap with 2,000 resamples and a fixed seed.
    """
    if metric == "auc":
        return _delong_lower_bound(y, candidate, champion, confidence)
    return _bootstrap_lower_bound(METRICS[metric], y, candidate, champion, confidence)


def _placements(y: Array, score: Array) -> tuple[Array, Array]:
    """DeLong's structural components: each positive's placement among the negatives, and the reverse."""
    positive = y == 1
    ones, zeros = score[positive], score[~positive]
    ranks = rankdata(np.concatenate([ones, zeros]))
    v10 = (ranks[: len(ones)] - rankdata(ones)) / len(zeros)
    v01 = 1 - (ranks[len(ones) :] - rankdata(zeros)) / len(ones)
    return v10, v01


def _delong_lower_bound(y: Array, candidate: Array, champion: Array, confidence: float) -> float:
    (v10, v01), (w10, w01) = _placements(y, candidate), _placements(y, champion)
    d10, d01 = v10 - w10, v01 - w01
    if len(d10) < 2 or len(d01) < 2:
        raise ValueError("the bound on an AUC gain needs at least two rows of each class")
    variance = d10.var(ddof=1) / len(d10) + d01.var(ddof=1) / len(d01)
    return float(d10.mean() - norm.ppf(confidence) * math.sqrt(variance))


def _bootstrap_lower_bound(metric: Metric, y: Array, candidate: Array, champion: Array, confidence: float) -> float:
    rng = np.random.default_rng(0)
    terms = np.hstack([metric.terms(y, candidate), metric.terms(y, champion)])
    n, k = len(y), terms.shape[1] // 2
    uniform = np.full(n, 1 / n)
    gains = []
    resamples, block = 2000, max(1, min(2000, 4_000_000 // n))  # a block of weights stays near 32 MB
    for start in range(0, resamples, block):
        weights = rng.multinomial(n, uniform, size=min(block, resamples - start))
        means = weights @ terms / n
        gains.append(metric.combine(means[:, :k]) - metric.combine(means[:, k:]))
    gain = np.concatenate(gains) * (1 if metric.higher_is_better else -1)
    return float(np.quantile(gain, 1 - confidence))
