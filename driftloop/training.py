"""From labelled windows to a fitted candidate, and from two models to a comparison on the holdout."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from driftloop.artifact import score
from driftloop.contract import Loop
from driftloop.errors import ContractError, DriftloopError
from driftloop.facts import Facts
from driftloop.frame import MISSING, Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import METRICS, Score, gain_lower_bound
from driftloop.promotion import Comparison

SAMPLE_ROWS = 20


@dataclass(frozen=True)
class Candidate:
    """A fitted pipeline with the facts that go into its version."""

    estimator: Pipeline
    facts: Facts


def build(loop: Loop) -> Pipeline:
    """The unfitted pipeline: median imputation and scaling, one-hot categories, then the loop's estimator.

    Raises ContractError when the estimator cannot be imported or refuses its parameters.
    """
    module, _, name = loop.model.estimator.rpartition(".")
    try:
        estimator = getattr(importlib.import_module(module), name)(**loop.model.params)
    except (ImportError, AttributeError) as error:
        raise ContractError(
            f"loop.toml: model.estimator = {loop.model.estimator!r} cannot be imported: {error}"
        ) from None
    except TypeError as error:
        raise ContractError(f"loop.toml: model.params does not fit {loop.model.estimator}: {error}") from None
    asked = "predict_proba" if loop.task == "binary" else "predict"
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params") and hasattr(estimator, asked)):
        raise ContractError(
            f"loop.toml: model.estimator = {loop.model.estimator!r}: task {loop.task} needs a scikit-learn estimator "
            f"with {asked}"
        )
    if {"n_jobs", "n_estimators"} <= set(estimator.get_params()) and "n_jobs" not in loop.model.params:
        estimator.set_params(n_jobs=-1)  # an ensemble's members are the same on any number of cores
    encode = ColumnTransformer(
        [
            (
                "numeric",
                make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
                list(loop.columns.numeric),
            ),
            (
                "categorical",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                list(loop.columns.categorical),
            ),
        ]
    )
    return Pipeline([("encode", encode), ("model", estimator)])


def window_limit(strategy: str) -> int | None:
    """How many of the newest labelled windows a candidate trains on; None for all of them.

    >>> window_limit("rolling:3")
    3
    """
    if strategy == "latest":
        return 1
    return int(strategy.removeprefix("rolling:")) if strategy.startswith("rolling:") else None


def split(windows: Sequence[Window], rule: HoldoutRule) -> tuple[Window, Window]:
    """(training rows of all windows, holdout rows of the newest), both labelled.

    ``windows`` are labelled, oldest first. The training part is named after the newest window.
    """
    newest = windows[-1]
    masks = [rule.mask(window, newest=window is newest) for window in windows]
    training = [window.where(~mask) for window, mask in zip(windows, masks, strict=True)]
    rows = replace(
        newest,
        X=pd.concat([w.X for w in training], ignore_index=True),
        y=pd.concat([_labels(w) for w in training], ignore_index=True),
        entity=None,
        timestamp=None,
    )
    return rows, newest.where(masks[-1])


def fit(loop: Loop, windows: Sequence[str], training: Window, rule: HoldoutRule) -> Candidate:
    """Fit the loop's estimator on the training rows.

    Raises DriftloopError when the estimator refuses them.
    """
    y = _labels(training)
    pipeline = build(loop)
    try:
        pipeline.fit(training.X, y.astype(int) if loop.task == "binary" else y)
    except ValueError as error:
        raise DriftloopError(f"{loop.model.estimator} could not be trained on {', '.join(windows)}: {error}") from error
    if {"n_jobs", "n_estimators"} <= set(pipeline["model"].get_params()):
        pipeline["model"].set_params(n_jobs=1)  # starting threads costs more than a request's few rows
    sample = training.X.iloc[np.unique(np.linspace(0, len(training.X) - 1, SAMPLE_ROWS, dtype=int))]
    facts = Facts(
        loop=loop.name,
        task=loop.task,
        target=loop.target,
        labels=training.labels,
        numeric=loop.columns.numeric,
        categorical=loop.columns.categorical,
        categories={name: tuple(sorted(training.X[name].unique())) for name in loop.columns.categorical},
        windows=tuple(windows),
        rows=len(training.X),
        fingerprint=training.fingerprint,
        holdout=str(rule),
        metrics={},
        sample=tuple(_json_row(row) for row in sample.to_dict("records")),
        sample_scores=tuple(score(pipeline, sample, loop.task).tolist()),
    )
    return Candidate(pipeline, facts)


def evaluate(loop: Loop, window: Window, scores: np.ndarray) -> dict[str, float]:
    """Every metric of the task on labelled rows. Raises DriftloopError where the loop's own metric is undefined."""
    y = _labels(window).to_numpy()
    values = {m.name: m(y, scores) for m in METRICS.values() if m.task == loop.task}
    if not np.isfinite(values[loop.promotion.metric]):
        raise DriftloopError(
            f"{loop.promotion.metric} is undefined on the {len(y)} labelled rows of window {window.id}: "
            f"they hold one class or one value only"
        )
    return {name: value for name, value in values.items() if np.isfinite(value)}


def compare(loop: Loop, holdout: Window, candidate: np.ndarray, champion: np.ndarray) -> Comparison:
    """Score both models on the same holdout rows, paired."""
    metric, y = loop.promotion.metric, _labels(holdout).to_numpy()
    scores = [
        Score(metric, evaluate(loop, holdout, scored)[metric], len(y), holdout.fingerprint)
        for scored in (candidate, champion)
    ]
    confidence = loop.promotion.confidence
    low = gain_lower_bound(metric, y, candidate, champion, confidence) if confidence else None
    return Comparison(scores[0], scores[1], low)


def comparable(loop: Loop, holdout: Window) -> bool:
    """Whether the holdout can carry a comparison: rows enough for the metric and its bound to be defined."""
    counts = _labels(holdout).value_counts()
    return len(counts) == 2 and counts.min() >= 2 if loop.task == "binary" else counts.sum() >= 2 and len(counts) > 1


def _labels(window: Window) -> pd.Series:
    if window.y is None:
        raise ValueError(f"window {window.id} has no labels here; take its labelled rows first")
    return window.y


def _json_row(row: dict[Any, Any]) -> dict[str, float | str | None]:
    """A row as a client would send it: a missing value is null."""
    return {name: None if value != value or value == MISSING else value for name, value in row.items()}
