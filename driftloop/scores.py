"""Models scored on labelled rows: one by its task's metrics, two paired on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from driftloop.calibration import calibration_error
from driftloop.contract import Loop
from driftloop.errors import DriftloopError
from driftloop.frame import Window
from driftloop.metrics import Predictions, Score, metrics_of
from driftloop.paired import detectable_gain, paired_gain
from driftloop.promotion import Comparison
from driftloop.slices import NO_SLICES, SlicePolicy, compare_slices


def evaluate(loop: Loop, window: Window, predictions: Predictions) -> dict[str, float]:
    """Every metric of the task on labelled rows. Raises DriftloopError where the loop's own metric is undefined."""
    values = _metrics(loop, window, predictions)
    if loop.promotion.metric not in values:
        raise DriftloopError(
            f"{loop.promotion.metric} is undefined on the {len(window.truth)} labelled rows of window {window.id}: "
            f"they lack a class, or hold one value only"
        )
    return values


def baseline(loop: Loop, training: Window, window: Window) -> dict[str, float]:
    """The metrics on labelled rows of the one answer that the training labels alone give.

    Classes: their shares as the probabilities, and the majority's label. Regression: the mean, for mae too.
    """
    y = training.truth
    if loop.task == "multiclass":
        assert training.labels is not None, "a multiclass target's places are places among its labels"
        answer = np.bincount(y.astype(int), minlength=len(training.labels)) / len(y)
    else:
        answer = np.array(y.mean())
    return _metrics(loop, window, Predictions(np.broadcast_to(answer, (len(window.X), *answer.shape))))


def _metrics(loop: Loop, window: Window, predictions: Predictions) -> dict[str, float]:
    """Those that are defined on the window's labelled rows."""
    y = window.truth.to_numpy()
    values = {name: metric(y, predictions) for name, metric in metrics_of(loop.task).items()}
    if loop.task == "binary":
        values["calibration_error"] = calibration_error(y, predictions.scores)
    if loop.task == "multiclass":  # of the label that it says
        right = (y == predictions.labels).astype(float)
        values["calibration_error"] = calibration_error(right, predictions.scores.max(axis=1))
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
    metric, y, policy = loop.promotion.metric, holdout.truth.to_numpy(), loop.promotion
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
    counts = holdout.truth.value_counts()
    if loop.task == "multiclass":
        every = len(counts) == len(holdout.labels or ()) and counts.min() >= 2
        return every if loop.promotion.metric == "auc_ovr" else bool(counts.sum() >= 2)
    return len(counts) == 2 and counts.min() >= 2 if loop.task == "binary" else counts.sum() >= 2 and len(counts) > 1
