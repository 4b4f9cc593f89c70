"""From labelled windows to a fitted candidate, and from two models to a comparison on the holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from driftloop.artifact import score
from driftloop.calibration import best_f1_threshold, calibration_error
from driftloop.category import MISSING
from driftloop.contract import Loop
from driftloop.errors import DriftloopError
from driftloop.facts import Facts
from driftloop.frame import T, Window
from driftloop.holdout import HoldoutRule
from driftloop.importance import Importance
from driftloop.metrics import Predictions, Score, metrics_of
from driftloop.paired import detectable_gain, paired_gain
from driftloop.promotion import Comparison
from driftloop.recipe import build
from driftloop.slices import NO_SLICES, SlicePolicy, compare_slices, quartiles

SAMPLE_ROWS = 20
FOLDS = 3
FOLD_ROWS = 6_000  # the folds' fits together then cost less than the model's own; one number needs no more rows


@dataclass(frozen=True)
class Candidate:
    """A fitted pipeline with the facts that go into its version, its graph where it was compiled, and what counts."""

    estimator: Pipeline
    facts: Facts
    compiled: bytes | None = None
    importance: Importance | None = None


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
        entity=_joined([w.entity for w in training]),
        slicing=_joined([w.slicing for w in training]),
        timestamp=None,
    )
    return rows, newest.where(masks[-1])


def _joined(parts: Sequence[T | None]) -> T | None:
    present = [part for part in parts if part is not None]
    return pd.concat(present, ignore_index=True) if present else None


def fit(loop: Loop, windows: Sequence[str], training: Window, rule: HoldoutRule) -> Candidate:
    """Fit the loop's estimator on the training rows; a binary one's threshold is chosen on folds of the same rows.

    Raises DriftloopError when the estimator refuses them.
    """
    return _candidate(loop, windows, training, str(rule), _threshold(loop, windows, training))


def _candidate(loop: Loop, windows: Sequence[str], training: Window, rule: str, threshold: float | None) -> Candidate:
    pipeline = _fitted(loop, windows, training)
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
        holdout=rule,
        metrics={},
        sample=tuple(_json_row(row) for row in sample.to_dict("records")),
        sample_scores=score(pipeline, sample, loop.task, training.labels).tolist(),
        threshold=threshold,
        quartiles=quartiles(training.X) | ({} if training.slicing is None else quartiles(training.slicing)),
        statistics=statistics(training.X[list(loop.columns.numeric)]),
    )
    return Candidate(pipeline, facts)


def statistics(numbers: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (of the rows, not of a population they stand for) of each column with a value."""
    present = {name: column.dropna().to_numpy() for name, column in numbers.items()}
    return {str(name): (float(x.mean()), float(x.std())) for name, x in present.items() if len(x)}


def refit(loop: Loop, judged: Candidate, version: str, training: Window, holdout: Window) -> Candidate:
    """The recipe of a judged candidate fitted again with the holdout's rows, which it was judged on, among them.

    Metrics, importance and threshold stay those of the judged one: nothing is left to measure this one's on.
    """
    rows = replace(
        training,
        X=pd.concat([training.X, holdout.X], ignore_index=True),
        y=pd.concat([_labels(training), _labels(holdout)], ignore_index=True),
        entity=_joined([training.entity, holdout.entity]),
        slicing=_joined([training.slicing, holdout.slicing]),
    )
    again = _candidate(loop, judged.facts.windows, rows, judged.facts.holdout, judged.facts.threshold)
    kept = {"metrics": judged.facts.metrics, "importance": judged.facts.importance, "refit_of": version}
    return replace(again, facts=again.facts.model_copy(update=kept), importance=judged.importance)


def _fitted(loop: Loop, windows: Sequence[str], training: Window) -> Pipeline:
    y, pipeline = _labels(training), build(loop)
    try:
        pipeline.fit(training.X, y if loop.task == "regression" else y.astype(int))
    except ValueError as error:
        raise DriftloopError(f"{loop.model.estimator} could not be trained on {', '.join(windows)}: {error}") from error
    return pipeline


def _threshold(loop: Loop, windows: Sequence[str], training: Window) -> float | None:
    """The F1-optimal threshold of out-of-fold probabilities; None for other tasks, and where a fold lacks a class."""
    if loop.task != "binary":
        return None
    fold = folds(training, in_order=loop.holdout.by == "time")
    rows = training.where(fold >= 0)
    fold, y = fold[fold >= 0], _labels(rows).to_numpy()
    if any(len(np.unique(y[fold != held])) < 2 or not (fold == held).any() for held in range(FOLDS)):
        return None
    scores = np.empty(len(y))
    for held in range(FOLDS):
        fitted = _fitted(loop, windows, rows.where(fold != held))
        scores[fold == held] = score(fitted, rows.X[fold == held], loop.task)
    return best_f1_threshold(y, scores)


def folds(training: Window, *, in_order: bool) -> np.ndarray:
    """The fold of each row, shape (rows,), from 0; -1 for rows left out so that at most FOLD_ROWS or so are in one.

    An entity's rows share a fold, else its neighbours would tell its label. Without entities, ``in_order`` makes
    folds blocks in the rows' order, of the newest rows; else they are drawn with a fixed seed.
    """
    n = len(training.X)
    if in_order and training.entity is None:
        place = np.arange(n) - max(0, n - FOLD_ROWS)
        return np.where(place < 0, -1, place * FOLDS // (place[-1] + 1))
    owner = np.arange(n) if training.entity is None else pd.factorize(training.entity)[0]
    owners = int(owner.max()) + 1
    place = np.random.default_rng(0).permutation(owners)[owner]
    return np.where(place < owners * min(1.0, FOLD_ROWS / n), place % FOLDS, -1)


def evaluate(loop: Loop, window: Window, predictions: Predictions) -> dict[str, float]:
    """Every metric of the task on labelled rows. Raises DriftloopError where the loop's own metric is undefined."""
    y = _labels(window).to_numpy()
    values = {name: metric(y, predictions) for name, metric in metrics_of(loop.task).items()}
    if loop.task == "binary":
        values["calibration_error"] = calibration_error(y, predictions.scores)
    if loop.task == "multiclass":  # of the label that it says
        right = (y == predictions.labels).astype(float)
        values["calibration_error"] = calibration_error(right, predictions.scores.max(axis=1))
    if not np.isfinite(values[loop.promotion.metric]):
        raise DriftloopError(
            f"{loop.promotion.metric} is undefined on the {len(y)} labelled rows of window {window.id}: "
            f"they lack a class, or hold one value only"
        )
    return {name: value for name, value in values.items() if np.isfinite(value)}


def compare(
    loop: Loop,
    holdout: Window,
    candidate: Predictions,
    champion: Predictions,
    cuts: Mapping[str, Sequence[float]],
) -> Comparison:
    """Score both models on the same holdout rows, paired, on all of them and by slice.

    ``cuts`` are the reference's quartiles. Raises DriftloopError where the rows are too few for the metric.
    """
    metric, y, policy = loop.promotion.metric, _labels(holdout).to_numpy(), loop.promotion
    scores = [
        Score(metric, evaluate(loop, holdout, predicted)[metric], len(y), holdout.fingerprint)
        for predicted in (candidate, champion)
    ]
    try:
        gain = paired_gain(metric, y, candidate, champion, policy.confidence)
    except ValueError as error:
        raise DriftloopError(
            f"the {len(y)} holdout rows of window {holdout.id} cannot carry a comparison: {error}."
        ) from error
    by_slice = SlicePolicy(policy.slices, policy.max_slice_drop, policy.min_slice_rows)
    return Comparison(
        candidate=scores[0],
        champion=scores[1],
        gain_low=gain.lower,
        detectable=detectable_gain(gain.standard_error, policy.delta, policy.confidence),
        slices=NO_SLICES
        if holdout.slicing is None
        else compare_slices(metric, holdout.slicing, y, candidate, champion, cuts, by_slice, policy.confidence),
    )


def comparable(loop: Loop, holdout: Window) -> bool:
    """Whether the holdout can carry a comparison: rows enough for the metric and its bound to be defined."""
    counts = _labels(holdout).value_counts()
    if loop.task == "multiclass":
        every = len(counts) == len(holdout.labels or ()) and counts.min() >= 2
        return every if loop.promotion.metric == "auc_ovr" else bool(counts.sum() >= 2)
    return len(counts) == 2 and counts.min() >= 2 if loop.task == "binary" else counts.sum() >= 2 and len(counts) > 1


def _labels(window: Window) -> pd.Series:
    if window.y is None:
        raise ValueError(f"window {window.id} has no labels here; take its labelled rows first")
    return window.y


def _json_row(row: dict[Any, Any]) -> dict[str, float | str | None]:
    """A row as a client would send it: a missing value is null."""
    return {name: None if value != value or value == MISSING else value for name, value in row.items()}
