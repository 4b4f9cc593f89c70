"""What a model's metric would be on rows without labels, told from calibrated probabilities.

Confidence-based performance estimation: the labels are taken to be as likely as the scores, calibrated on the kept
holdout, say. It holds while only the rows change and not what they mean. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from driftloop.evidence import Evidence
from driftloop.metrics import METRICS, Array, Metric, Predictions
from driftloop.retrain import Estimate

INTERVAL = 0.95
MOST_KNOTS, ROWS_A_KNOT = 4, 50
RIDGE, STEPS, TINY = 0.1, 50, 1e-12


@dataclass(frozen=True)
class Calibration:
    """How often a label is there, by the score: logistic regression on the score's logit, bent at quantiles.

    ``knots`` are where it bends, as many as the labels can carry; ``low`` and ``high`` what a score of 0 or 1 counts
    as. ``weights`` are those of its columns, ``pull`` what each row it was learnt from adds to them.
    """

    low: float
    high: float
    knots: Array
    weights: Array
    pull: Array

    @classmethod
    def learn(cls, y: Array, score: Array) -> Calibration:
        """From labels 0 and 1 and scores within 0 and 1, of shape (n,)."""
        inside = score[(score > 0) & (score < 1)]
        low, high = (float(inside.min()) / 2, (1 + float(inside.max())) / 2) if len(inside) else (1 / 3, 2 / 3)
        logits = _logit(np.clip(score, low, high))
        carried = min(MOST_KNOTS, int(min(y.sum(), (1 - y).sum())) // ROWS_A_KNOT, len(np.unique(logits)) - 2)
        shares = np.linspace(0, 1, max(carried, 0) + 2)[1:-1]
        knots = np.unique(np.quantile(logits, shares, method="nearest")) if carried > 0 else np.empty(0)
        X = _bent(logits, knots)
        penalty = np.full(X.shape[1], RIDGE)
        penalty[0] = 0.0
        weights = np.zeros(X.shape[1])
        weights[0] = _logit((y.sum() + 0.5) / (len(y) + 1))
        for _ in range(STEPS):
            rate = expit(X @ weights)
            curvature = (X * (rate * (1 - rate))[:, None]).T @ X + np.diag(penalty + TINY)
            step = np.linalg.solve(curvature, X.T @ (y - rate) - penalty * weights)
            weights = weights + step * min(1.0, 3.0 / max(float(np.abs(step).max()), TINY))
            if np.abs(step).max() < 1e-9:
                break
        rate = expit(X @ weights)
        curvature = (X * (rate * (1 - rate))[:, None]).T @ X + np.diag(penalty + TINY)
        return cls(low, high, knots, weights, np.linalg.solve(curvature, X.T * (y - rate)))

    def __call__(self, score: Array) -> Array:
        """The rate at each score."""
        rates: Array = expit(self._columns(score) @ self.weights)
        return rates

    def influence(self, score: Array, slope: Array) -> Array:
        """Of each row it was learnt from on a sum over ``score``'s rows whose slope by each one's rate is given."""
        X = self._columns(score)
        rate = expit(X @ self.weights)
        influence: Array = (X.T @ (slope * rate * (1 - rate))) @ self.pull
        return influence

    def _columns(self, score: Array) -> Array:
        return _bent(_logit(np.clip(score, self.low, self.high)), self.knots)


def _logit(share: Array) -> Array:
    logit: Array = np.log(share) - np.log1p(-share)
    return logit


def _bent(logits: Array, knots: Array) -> Array:
    """Columns whose weighted sums are lines that bend at the knots."""
    return np.column_stack([np.ones_like(logits), logits, np.maximum(logits[:, None] - knots, 0.0)])


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
