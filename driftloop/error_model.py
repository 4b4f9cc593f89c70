"""How large a regression's errors are where, learnt on its holdout: direct loss estimation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from driftloop.contract import Features, Loop, Recipe
from driftloop.estimation import bounds, drop_of
from driftloop.evidence import Evidence
from driftloop.facts import Loss
from driftloop.metrics import METRICS, Array, Metric
from driftloop.recipe import build
from driftloop.retrain import Estimate

FOLDS, SEED = 3, 0
MOST_ROWS = 100_000  # that are asked about: more take longer and tell no more
LEAST_ROWS = 50  # of a holdout that errors are learnt on: a leaf takes 20
RECIPE = Recipe(
    estimator="sklearn.ensemble.HistGradientBoostingRegressor",
    params={
        "max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 31, "early_stopping": False, "random_state": SEED,
    },
)  # fmt: skip
PREDICTION = "(prediction)"
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class ErrorModel:
    """Regressions of the ``loss`` of a prediction on the row's features and the prediction, one a fold left out.

    ``estimator`` holds them under "models", after the preprocessing under "encode". ``fold`` is that of each kept row,
    ``told`` what the model that left its fold out says of it, shape (n,).
    """

    loss: Loss
    estimator: dict[str, Any]
    fold: np.ndarray
    told: Array

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored with the kept scores."""
        return {"fold": self.fold, "told": self.told}

    def dumps(self) -> bytes:
        """What is stored in a file of its own."""
        import skops.io

        return cast("bytes", skops.io.dumps(self.estimator))

    def __call__(self, X: pd.DataFrame, predicted: Array) -> Array:
        """The loss that each fold's model expects of each row, shape (folds, rows)."""
        with threadpool_limits(1):
            encoded = self.estimator["encode"].transform(_with(X, predicted))
            found = np.array([model.predict(encoded) for model in self.estimator["models"]])
        losses: Array = np.maximum(found, 0.0)
        return losses


def loss_of(metric: str) -> Loss:
    """Whose mean the metric is a function of."""
    return "absolute" if metric == "mae" else "squared"


def losses(loss: Loss, y: Array, predicted: Array) -> Array:
    """Of each prediction."""
    return np.abs(y - predicted) if loss == "absolute" else (y - predicted) ** 2


def learn(loop: Loop, X: pd.DataFrame, kept: Evidence) -> ErrorModel | None:
    """From the kept holdout rows, whose features ``X`` are; None where they are too few."""
    if len(kept.y) < LEAST_ROWS:
        return None
    loss = loss_of(loop.promotion.metric)
    target = losses(loss, kept.y, kept.scores)
    numeric = tuple(name for name in X if name in loop.columns.numeric)
    rest = tuple(str(name) for name in X if name not in numeric)
    columns = Features(numeric=(*numeric, PREDICTION), categorical=rest)
    pipeline = build(loop.model_copy(update={"features": columns, "task": "regression"}), RECIPE)
    fold = np.random.default_rng(SEED).permutation(len(target)) % FOLDS
    models, told = [], np.empty(len(target))
    with threadpool_limits(1):  # some two hundred small trees: threads would wait for each other longer than they work
        encoded = pipeline["encode"].fit_transform(_with(X, kept.scores))
        for held in range(FOLDS):
            model = clone(pipeline["model"]).fit(encoded[fold != held], target[fold != held])
            told[fold == held] = np.maximum(model.predict(encoded[fold == held]), 0.0)
            models.append(model)
    return ErrorModel(loss, {"encode": pipeline["encode"], "models": models}, fold.astype(np.int8), told)


def estimate(
    metric: str, evidence: Evidence, X: pd.DataFrame, predicted: Array, promoted: float | None, confidence: float
) -> Estimate:
    """A regression's mae, mse or rmse on rows without labels, of the features ``X`` and what was predicted.

    The interval is that of the metric their labels will show. A loss is taken to vary as its own size does, by the
    factor seen on the holdout; what the holdout's rows did to the models is told by their folds. Of more than MOST_ROWS
    so many are drawn, by a fixed seed.
    """
    errors, judge = evidence.errors, METRICS[metric]
    assert errors is not None, "asked for where errors were learnt"
    rows = len(predicted)
    if rows > MOST_ROWS:
        drawn = np.random.default_rng(SEED).choice(rows, MOST_ROWS, replace=False)
        X, predicted = X.iloc[drawn], predicted[drawn]
    by_fold = errors(X, predicted)
    likely, seen = by_fold.mean(axis=0), losses(errors.loss, evidence.y, evidence.scores)
    factor = float(((seen - errors.told) ** 2).sum() / max(float((errors.told**2).sum()), TINY))
    square = float((likely**2).mean())
    value, slope = _of(judge, likely)
    models = max(_jackknife(by_fold.mean(axis=1)), factor * square / len(seen))
    others = (1 / len(likely) - 1 / rows) * float(likely.var())  # the rows that were not drawn
    low, high = bounds(judge, value, abs(slope) * math.sqrt(factor * square / rows + others + models))
    drop, drop_low = None, None
    if promoted is not None:
        drop = drop_of(judge, promoted, value)
        drop_low = _drop_low(judge, drop, evidence, by_fold, confidence)
    return Estimate(metric, value, low, high, rows, drop, drop_low, "error model")


def _drop_low(judge: Metric, drop: float, evidence: Evidence, by_fold: Array, confidence: float) -> float | None:
    """The one-sided lower bound of how far the expected metric lies below the score at promotion.

    What chance did to the kept losses is in the score and in the models that learnt them, so the two are left out
    together, fold by fold.
    """
    errors = evidence.errors
    if not confidence or errors is None:
        return None
    seen, likely = losses(errors.loss, evidence.y, evidence.scores), by_fold.mean(axis=0)
    share = len(seen) / evidence.rows
    (_, before), (_, now) = _of(judge, seen), _of(judge, likely)
    without = np.array([seen[errors.fold != fold].mean() for fold in range(FOLDS)])
    holdout = max(
        _jackknife(share * before * without - now * by_fold.mean(axis=1)), now**2 * float(errors.told.var()) / len(seen)
    )
    others = share * (1 - share) * before**2 * float(seen.var()) / len(seen)  # of the holdout, and not kept
    error = math.sqrt(holdout + others + now**2 * float(likely.var()) / len(likely))
    return drop - float(norm.ppf(confidence)) * error


def _of(judge: Metric, losses: Array) -> tuple[float, float]:
    """The metric of such losses, and its slope by their mean."""
    mean = np.array([losses.mean()])
    return float(judge.combine(mean)), float(judge.slopes(mean)[0])


def _jackknife(left_out: Array) -> float:
    """The variance of what was found without each fold in turn."""
    return (FOLDS - 1) * float(left_out.var())


def _with(X: pd.DataFrame, predicted: Array) -> pd.DataFrame:
    return X.assign(**{PREDICTION: predicted})
