"""What a model is scored by: a metric, and its value on named rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEP = 1e-5  # of a mean, relative: the slopes are then good to some 1e-9


@dataclass(frozen=True)
class Predictions:
    """What a model gives for n rows: probabilities of the event or values, shape (n,), or of every class, (n, classes).

    A binary model says yes from ``threshold`` on.
    """

    scores: Array
    threshold: float = 0.5

    @property
    def labels(self) -> Array:
        """The class a model says, shape (n,): the likeliest, or 1 where it says yes, else 0."""
        return (self.scores.argmax(axis=1) if self.scores.ndim == 2 else self.scores >= self.threshold).astype(float)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Predictions:
        return Predictions(self.scores[rows], self.threshold)


@dataclass(frozen=True)
class Metric:
    """A metric of the pair (y, prediction), for each of ``tasks``.

    Binary: y is 0/1 and the prediction a probability; multiclass: y is the class and the prediction all probabilities.

    Every metric but the AUCs is a function of per-row terms' means: ``terms`` gives them, shape (rows, k),
    and ``combine`` turns means, shape (..., k), into values. That form lets the bootstrap draw all
    resamples in one matrix product. A metric ``of_labels`` sees the classes that the model says.
    """

    name: str
    tasks: tuple[str, ...]
    higher_is_better: bool
    terms: Callable[[Array, Array], Array]
    combine: Callable[[Array], Array]
    of_labels: bool = False

    def __call__(self, y: Array, prediction: Predictions) -> float:
        if self.name in AUCS:
            return AUCS[self.name](y, prediction.scores)
        return float(self.combine(self.terms(y, self.input(prediction)).mean(axis=0)))

    def input(self, prediction: Predictions) -> Array:
        """What ``terms`` takes of a prediction."""
        return prediction.labels if self.of_labels else prediction.scores

    def slopes(self, means: Array) -> Array:
        """Of ``combine`` by each of the means, shape (k,); 0 where it has none, as at a squared error of 0."""
        step = STEP * np.maximum(np.abs(means), 1e-6)
        places = np.diag(step)
        with np.errstate(invalid="ignore"):
            found = (self.combine(means + places) - self.combine(means - places)) / (2 * step)
        return np.where(np.isfinite(found), found, 0.0)


def auc(y: Array, score: Array) -> float:
    """Area under the ROC curve by midranks (Mann-Whitney U / n₊n₋); NaN where y has one class only or a score is NaN.

    >>> auc(np.array([0., 0., 1., 1.]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positive = y == 1
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if n1 == 0 or n0 == 0 or np.isnan(score).any():
        return math.nan
    _, place, ties = np.unique(score, return_inverse=True, return_counts=True)
    midranks = (ties.cumsum() - (ties - 1) / 2)[place]
    return float((midranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def auc_ovr(y: Array, scores: Array) -> float:
    """The mean over all classes, shape (n, classes), of the AUC of one against the rest; NaN where y lacks a class."""
    return float(np.mean([auc((y == c).astype(float), scores[:, c]) for c in range(scores.shape[1])]))


AUCS: dict[str, Callable[[Array, Array], float]] = {"auc": auc, "auc_ovr": auc_ovr}


def _accuracy(y: Array, label: Array) -> Array:
    right: Array = (label == y).astype(float)
    return right[:, None]


def _log_loss(y: Array, p: Array) -> Array:
    epsilon = np.finfo(float).eps  # as scikit-learn: a forest's 0 or 1 costs much, not infinitely much
    p = np.clip(p, epsilon, 1 - epsilon)
    if p.ndim == 2:
        return -np.log(np.take_along_axis(p, y.astype(int)[:, None], axis=1))
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))[:, None]


def _confusion(y: Array, label: Array) -> Array:
    return np.column_stack([label * y, label, y])


def _f1(means: Array) -> Array:
    hit, predicted, actual = means[..., 0], means[..., 1], means[..., 2]
    total = predicted + actual
    return np.divide(2 * hit, total, out=np.zeros_like(total), where=total > 0)


def _confusion_by_class(y: Array, p: Array) -> Array:
    classes = np.arange(p.shape[1])
    says, is_one = (which[:, None] == classes for which in (p.argmax(axis=1), y))
    return np.hstack([says & is_one, says, is_one]).astype(float)


def _f1_macro(means: Array) -> Array:
    by_class = np.stack(np.split(means, 3, axis=-1), axis=-1)
    mean: Array = _f1(by_class).mean(axis=-1)  # 0 for a class that is neither there nor said, as scikit-learn has it
    return mean


def _first(means: Array) -> Array:
    return means[..., 0]


def _r2(means: Array) -> Array:
    squared_error, y, y_squared = means[..., 0], means[..., 1], means[..., 2]
    variance = y_squared - y**2
    known = variance > 1e-12 * y_squared  # less is rounding: rows of one value
    return 1 - np.divide(squared_error, variance, out=np.full_like(variance, np.nan), where=known)


def _r2_terms(y: Array, p: Array) -> Array:
    centred = y - y.mean()  # a constant shift leaves R² as it is and keeps the variance numerically sound
    return np.column_stack([(y - p) ** 2, centred, centred**2])


BINARY, MULTICLASS, REGRESSION = "binary", "multiclass", "regression"
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", (BINARY,), True, _accuracy, _first),
        Metric("auc_ovr", (MULTICLASS,), True, _accuracy, _first),
        Metric("accuracy", (BINARY, MULTICLASS), True, _accuracy, _first, of_labels=True),
        Metric("f1", (BINARY,), True, _confusion, _f1, of_labels=True),
        Metric("f1_macro", (MULTICLASS,), True, _confusion_by_class, _f1_macro),
        Metric("log_loss", (BINARY, MULTICLASS), False, _log_loss, _first),
        Metric("brier", (BINARY,), False, lambda y, p: ((y - p) ** 2)[:, None], _first),
        Metric("rmse", (REGRESSION,), False, lambda y, p: ((y - p) ** 2)[:, None], lambda m: np.sqrt(m[..., 0])),
        Metric("mse", (REGRESSION,), False, lambda y, p: ((y - p) ** 2)[:, None], _first),
        Metric("mae", (REGRESSION,), False, lambda y, p: np.abs(y - p)[:, None], _first),
        Metric("r2", (REGRESSION,), True, _r2_terms, _r2),
    )
}


def written(value: float, sign: str = "") -> str:
    """A metric's value or gain for people: three decimals, but two digits of what is small, for units differ.

    >>> written(0.7653), written(0.0031, "+"), written(0.00002), written(65432.126), written(0.0)
    ('0.765', '+0.0031', '2e-05', '65,432.1', '0.000')
    """
    if value and abs(value) < 0.01:
        return f"{value:{sign}.2g}"
    return f"{value:{sign},.1f}" if abs(value) >= 1000 else f"{value:{sign}.3f}"


def metrics_of(task: str) -> dict[str, Metric]:
    """The metrics of a task by name."""
    return {name: metric for name, metric in METRICS.items() if task in metric.tasks}


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
