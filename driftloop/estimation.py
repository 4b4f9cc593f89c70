"""What a model's metric would be on rows without labels, told from calibrated probabilities.

Confidence-based performance estimation: the labels are taken to be as likely as the scores, calibrated on the kept
holdout, say. It holds while only the rows change and not what they mean. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from driftloop.evidence import Evidence
from driftloop.metrics import METRICS, Array, Metric, Predictions
from driftloop.retrain import Estimate

INTERVAL = 0.95


@dataclass(frozen=True)
class Calibration:
    """How often a label is there, by the score: centred isotonic regression (Oron & Flournoy 2017).

    Each block of isotonic regression is one knot, at its mean score, and straight lines lie between. Rows of one score
    share a block. ``block`` is that of each row it was learnt from and ``rest`` the row's label less the block's rate.
    """

    at: Array
    rate: Array
    rows: Array
    block: NDArray[np.intp]
    rest: Array

    @classmethod
    def learn(cls, y: Array, score: Array) -> Calibration:
        """From labels 0 and 1 and scores of shape (n,)."""
        distinct, place = np.unique(score, return_inverse=True)
        rows = np.bincount(place)
        found = isotonic_regression(np.bincount(place, weights=y) / rows, weights=rows)
        starts = found.blocks[:-1]
        block = np.repeat(np.arange(len(starts)), np.diff(found.blocks))[place]
        counts = np.add.reduceat(rows, starts).astype(float)
        rate = np.asarray(found.x[starts])
        return cls(np.add.reduceat(rows * distinct, starts) / counts, rate, counts, block, y - rate[block])

    def __call__(self, score: Array) -> Array:
        """The rate at each score."""
        rates: Array = np.interp(score, self.at, self.rate)
        return rates

    def influence(self, score: Array, slope: Array) -> Array:
        """Of each row it was learnt from on a sum over ``score``'s rows whose slope by each one's rate is given."""
        right = np.clip(np.searchsorted(self.at, score), 0, len(self.at) - 1)
        left = np.maximum(right - 1, 0)
        gap = self.at[right] - self.at[left]
        share = np.clip(np.divide(score - self.at[left], gap, out=np.ones_like(gap), where=gap > 0), 0, 1)
        total = np.bincount(left, slope * (1 - share), len(self.at)) + np.bincount(right, slope * share, len(self.at))
        influence: Array = (total / self.rows)[self.block] * self.rest
        return influence


@dataclass(frozen=True)
class Expected:
    """A metric's expectation over labels that are as likely as told.

    ``slope`` by each row's probability of each class, shape (n, classes); ``influence`` of each row, (n,).
    """

    value: float
    slope: Array
    influence: Array


def expected(metric: str, likely: Array, predictions: Predictions) -> Expected:
    """Of a metric of classes; ``likely`` are the probabilities of the labels, shape (n, classes)."""
    n, classes = likely.shape
    if metric in ("auc", "auc_ovr"):
        columns = [1] if metric == "auc" else list(range(classes))
        scores = predictions.scores.reshape(n, -1)
        found = [_auc(likely[:, c], scores[:, place]) for place, c in enumerate(columns)]
        slope = np.zeros_like(likely)
        slope[:, columns] = np.column_stack([one.slope for one in found]) / len(columns)
        value, influence = np.mean([one.value for one in found]), np.mean([one.influence for one in found], axis=0)
        return Expected(float(value), slope, influence)
    judge = METRICS[metric]
    said = judge.input(predictions)
    means = sum(likely[:, c] @ judge.terms(np.full(n, float(c)), said) / n for c in range(classes))
    slopes = judge.slopes(np.asarray(means))
    slope = np.column_stack([judge.terms(np.full(n, float(c)), said) @ slopes for c in range(classes)])
    centred = (likely * slope).sum(axis=1) - means @ slopes
    return Expected(float(judge.combine(np.asarray(means))), slope / n, centred / n)


def _auc(likely: Array, score: Array) -> Expected:
    """Over all pairs of two rows, each weighted by how likely the first is positive and the second is not."""
    _, place = np.unique(score, return_inverse=True)
    unlikely = 1 - likely
    ones, zeros = np.bincount(place, likely), np.bincount(place, unlikely)
    below = (np.cumsum(zeros) - zeros / 2)[place] - unlikely / 2  # negatives that the row lies above, without itself
    above = (ones.sum() - np.cumsum(ones) + ones / 2)[place] - likely / 2
    others, rivals = zeros.sum() - unlikely, ones.sum() - likely
    pairs = float(likely @ others)
    if pairs <= 0:
        raise ValueError("the AUC is undefined: the labels are all but certain to be of one class")
    value = float(likely @ below) / pairs
    slope = (below - above - value * (others - rivals)) / pairs
    influence = (likely * (below - value * others) + unlikely * (above - value * rivals)) / pairs
    return Expected(value, slope, influence)


def estimate(
    metric: str, evidence: Evidence, predictions: Predictions, promoted: float | None, confidence: float
) -> Estimate:
    """The metric of classes on rows of which only ``predictions`` are known.

    The interval is that of the metric their labels will show: their own chance, and that of the holdout's labels that
    the scores were calibrated on. ``promoted`` is the score on the holdout, ``confidence`` that of the drop's bound.
    Raises ValueError where the metric is undefined.
    """
    binary = predictions.scores.ndim == 1
    scores, kept = (s.reshape(len(s), -1) for s in (predictions.scores, evidence.scores))
    curves = [
        Calibration.learn((evidence.y == (1 if binary else c)).astype(float), kept[:, c]) for c in range(kept.shape[1])
    ]
    rates = np.column_stack([curve(scores[:, c]) for c, curve in enumerate(curves)])
    likely, mass = _likely(rates, scores, binary=binary)
    found = expected(metric, likely, predictions)
    mean = (likely * found.slope).sum(axis=1, keepdims=True)
    slopes = (found.slope[:, 1:] - found.slope[:, :1]) if binary else (found.slope - mean) / mass
    holdout = np.sum([curve.influence(scores[:, c], slopes[:, c]) for c, curve in enumerate(curves)], axis=0)
    chance = float(((likely * found.slope**2).sum(axis=1, keepdims=True) - mean**2).sum())
    error = math.sqrt(max(0.0, chance) + float(holdout @ holdout))
    low, high = bounds(METRICS[metric], found.value, error)
    drop, drop_low = None, None
    if promoted is not None:
        drop = drop_of(METRICS[metric], promoted, found.value)
        before = Predictions(evidence.scores, predictions.threshold)
        own = expected(metric, _certain(evidence.y, likely.shape[1]), before)
        drop_low = _drop_low(drop, own.influence, holdout, found.influence, len(evidence.y) / evidence.rows, confidence)
    return Estimate(metric, found.value, low, high, len(likely), drop, drop_low, "calibrated probabilities")


def _likely(rates: Array, scores: Array, *, binary: bool) -> tuple[Array, Array]:
    """The labels' probabilities, shape (rows, classes), of calibrated rates that need not sum to 1, and their sum."""
    if binary:
        return np.column_stack([1 - rates[:, 0], rates[:, 0]]), np.ones((len(rates), 1))
    rates = np.where(rates.sum(axis=1, keepdims=True) > 0, rates, scores)  # no class is ever likely: as the model says
    mass = rates.sum(axis=1, keepdims=True)
    return rates / mass, mass


def _certain(y: Array, classes: int) -> Array:
    found: Array = (y[:, None] == np.arange(classes)).astype(float)
    return found


def _drop_low(drop: float, own: Array, holdout: Array, rows: Array, share: float, confidence: float) -> float | None:
    """The one-sided lower bound of how far the expected metric lies below the score at promotion.

    ``own``: the kept rows' influence on that score, a ``share`` of all that it was measured on; ``holdout``: theirs on
    the estimate. What chance did to the holdout's labels is in both, and falls out where the rows are alike.
    """
    if not confidence:
        return None
    apart = share * own - holdout
    variance = float(apart @ apart + share * (1 - share) * (own @ own) + rows @ rows)
    return drop - float(norm.ppf(confidence)) * math.sqrt(variance)


def drop_of(metric: Metric, promoted: float, value: float) -> float:
    """How much worse than at promotion, positive when worse whatever the metric's direction."""
    return promoted - value if metric.higher_is_better else value - promoted


def bounds(metric: Metric, value: float, error: float) -> tuple[float, float]:
    """The INTERVAL around a value, within what the metric can be."""
    half = float(norm.ppf((1 + INTERVAL) / 2)) * error
    return max(0.0, value - half), min(1.0, value + half) if metric.higher_is_better else value + half


def estimable(metric: str) -> str:
    """The metric where it can be estimated, else the nearest that can: R² would need the spread of labels nobody has.

    >>> estimable("f1"), estimable("r2")
    ('f1', 'rmse')
    """
    return "rmse" if metric == "r2" else metric
