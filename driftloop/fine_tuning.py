"""A fitted pipeline that learns on from new rows, what it does to them before the estimator frozen."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

Way = Literal["partial_fit", "members", "iterations"]
SAME_ROWS_ONLY = "HistGradientBoosting"  # its warm_start bins anew, and the old trees' bins mean something else then
ANEW = ("liblinear",)  # solvers that begin anew whatever warm_start says
OF_ALL_STAGES = "GradientBoosting"


def way(estimator: Any) -> Way | None:
    """How the estimator can learn on: by passes, by more trees or stages, by more iterations; None where it cannot."""
    inner = core(estimator)
    params = inner.get_params()
    if hasattr(inner, "partial_fit") and params.get("solver") != "lbfgs":  # which has no passes, whatever it offers
        return "partial_fit"
    if "warm_start" not in params or params.get("solver") in ANEW or type(inner).__name__.startswith(SAME_ROWS_ONLY):
        return None
    return "members" if "n_estimators" in params else "iterations" if "max_iter" in params else None


def rate_of(estimator: Any) -> str | None:
    """The parameter that is the learning rate of what the estimator learns anew, if it has one."""
    params = {} if scales_all(estimator) else core(estimator).get_params()
    names = ("learning_rate_init", "eta0", "learning_rate")
    return next((name for name in names if isinstance(params.get(name), (int, float))), None)


def scales_all(estimator: Any) -> bool:
    """Whether its learning rate is applied when it predicts, to what it had learnt before as well."""
    return type(core(estimator)).__name__.startswith(OF_ALL_STAGES)


def tuned(base: Pipeline, X: pd.DataFrame, y: pd.Series, epochs: int, learning_rate: float | None) -> Pipeline:
    """A copy of the fitted pipeline that has learnt on from these rows.

    ``epochs``: passes over them, or trees, stages, iterations more. A scaler of the target stays as it was fitted too.
    """
    pipeline = copy.deepcopy(base)
    Z: Any = X
    target, model = y.to_numpy(), pipeline
    while (inside := _inside(model)) is not None:
        if isinstance(model, Pipeline):
            Z = model[:-1].transform(Z) if len(model) > 1 else Z
        else:
            target = model.transformer_.transform(target.reshape(-1, 1)).ravel()
        model = inside
    if learning_rate is not None:
        _set_rate(model, learning_rate)
    _learn_on(model, Z, target, epochs)
    return pipeline


def core(estimator: Any) -> Any:
    """What learns, without the pipelines and the target's scaler around it."""
    while (inside := _inside(estimator)) is not None:
        estimator = inside
    return estimator


def _inside(estimator: Any) -> Any:
    """What a pipeline or a target's scaler holds, fitted where it is; None where the estimator is neither."""
    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    if isinstance(estimator, TransformedTargetRegressor):
        return getattr(estimator, "regressor_", estimator.regressor)
    return None


def _learn_on(model: Any, Z: Any, y: np.ndarray, epochs: int) -> None:
    how, params = way(model), model.get_params()
    passing: dict[str, Any] = {}
    if how == "partial_fit":
        passing = {"early_stopping": False} if "early_stopping" in params else {}
    elif how == "members":
        model.set_params(n_estimators=len(model.estimators_) + epochs)
        passing = {"warm_start": True, **({"n_jobs": -1} if "n_jobs" in params else {})}
    else:
        passing = {"warm_start": True, "max_iter": epochs}
    model.set_params(**passing)
    stopped_early = getattr(model, "best_loss_", 0.0) is None  # a network then knows a best score instead
    if stopped_early:
        model.best_loss_ = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few iterations are what was asked for
        if how == "partial_fit":
            for _ in range(epochs if "max_iter" in params else 1):  # what only counts would count rows several times
                model.partial_fit(Z, y)
        else:
            model.fit(Z, y)
    if stopped_early and how == "partial_fit":
        model.best_loss_ = None
    model.set_params(**{name: params[name] for name in passing})


def _set_rate(model: Any, rate: float) -> None:
    name = rate_of(model)
    if name is None:
        return
    model.set_params(**{name: rate})
    if name == "eta0" and "learning_rate" in model.get_params():
        model.set_params(learning_rate="constant")
    if hasattr(model, "_optimizer"):
        del model._optimizer  # noqa: SLF001  # it holds the old rate; the next pass makes a new one
