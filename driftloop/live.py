"""What production says of a version: its metric on the labels that came back, and how far its input has moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from driftloop import frame
from driftloop.category import category
from driftloop.contract import LIVE_METRIC, Loop
from driftloop.metrics import METRICS, Predictions

FALSE_ALARM = 0.001  # how often a look at unchanged data says otherwise: daily looks, once in some three years


@dataclass(frozen=True)
class LiveMetrics:
    """A version in production. ``metric`` is that of LIVE_METRIC, ``value`` None while labels do not tell.

    An auc needs both labels, the others one. ``on``: its rows. ``unread``: newest labels that are none of this task's,
    left out.
    """

    version: str
    rows: int
    labelled: int
    metric: str
    value: float | None
    on: int
    unread: int


def live_metrics(
    found: pd.DataFrame,
    loop: Loop,
    *,
    version: str,
    rows: int,
    labelled: int,
    labels: tuple[str, ...] | None = None,
) -> LiveMetrics:
    """The metric of one version on ``found``, its labelled rows, with columns prediction, label and feedback.

    ``rows`` and ``labelled`` are counts over the whole log. ``labels`` are the champion's, see Facts.
    """
    metric = LIVE_METRIC[loop.task]
    if loop.task == "multiclass":
        names = found["feedback"].map(category, na_action="ignore")
        known = names.isin(labels).to_numpy() if labels else names.notna().to_numpy()
        on = int(known.sum())
        value = float((names == found["label"])[known].mean()) if on else None
        return LiveMetrics(version, rows, labelled, metric, value, on, len(names) - on)
    y = _truth(found["feedback"], loop, labels)
    known = y.notna().to_numpy()
    on = int(known.sum())
    enough = on > 0 if loop.task == "regression" else y[known].nunique() == 2
    value = None
    if enough:
        scores = found["prediction"].to_numpy(dtype=float)[known]
        value = METRICS[metric](y[known].to_numpy(dtype=float), Predictions(scores))
    return LiveMetrics(version, rows, labelled, metric, value, on, len(y) - on)


def _truth(feedback: pd.Series, loop: Loop, labels: tuple[str, ...] | None) -> pd.Series:
    """Labels as float64: 0/1 or the value; NaN for what is neither of a binary loop's labels, or no number."""
    if loop.task == "regression":
        numbers = pd.to_numeric(feedback.map(lambda label: None if isinstance(label, bool) else label), errors="coerce")
        return numbers.astype("float64").replace([np.inf, -np.inf], np.nan)
    names = feedback.map(category, na_action="ignore")
    if labels is None and names.nunique() > 2:
        return pd.Series(np.nan, index=feedback.index)  # which of them is the event, and which is a typing error?
    if labels is None and names.notna().any():
        positive = category(frame.positive_label(feedback, loop.positive))
        return (names == positive).astype("float64")
    return names.map({labels[0]: 0.0, labels[1]: 1.0} if labels else {}).astype("float64")


@dataclass(frozen=True)
class MeanShift:
    """A numeric feature's mean now and in training. ``z`` is infinite where training knew one value only."""

    name: str
    mean: float
    trained_mean: float
    z: float


def mean_shifts(
    current: pd.DataFrame, statistics: Mapping[str, tuple[float, float]], trained_rows: int | None = None
) -> list[MeanShift]:
    """How far each mean lies from training's: z = (mean - trained mean) / (trained std · √(1/n + 1/N)).

    ``statistics`` holds (mean, std) by column. n is the number of values now, nulls left out, N = ``trained_rows``;
    without it training's mean counts as exact. With a trained std of 0 z is 0 where the mean is the same and infinite
    where it is not: any other value is news then. Raises ValueError for a column without a single value.
    """
    shifts = []
    for name, (trained_mean, std) in statistics.items():
        values = current[name].dropna().to_numpy(dtype=float)
        if not values.size:
            raise ValueError(f"column {name} holds no value, so it has no mean")
        mean = float(values.mean())
        error = std * math.sqrt(1 / values.size + (1 / trained_rows if trained_rows else 0.0))
        shifts.append(MeanShift(name, mean, trained_mean, _ratio(mean - trained_mean, error, trained_mean)))
    return shifts


def _ratio(difference: float, error: float, scale: float) -> float:
    if error > 0:
        return difference / error
    return 0.0 if abs(difference) <= 1e-12 * abs(scale) else math.copysign(math.inf, difference)


def means_json(shifts: Sequence[MeanShift], limit: float) -> list[dict[str, Any]]:
    """Each mean beside training's, ``moved`` where its z is beyond the limit; a ``z`` of None is an infinite one."""
    return [
        {**asdict(shift), "z": shift.z if math.isfinite(shift.z) else None, "moved": abs(shift.z) > limit}
        for shift in shifts
    ]


def z_limit(columns: int) -> float:
    """The |z| beyond which one of so many means has moved: Bonferroni's, so that a look errs at FALSE_ALARM at most.

    >>> round(z_limit(1), 2), round(z_limit(20), 2)
    (3.29, 4.06)
    """
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * max(columns, 1)))


@dataclass(frozen=True)
class LiveVerdict:
    """``reasons`` are sentences, none when the last requests look like what the champion was trained on."""

    reasons: tuple[str, ...]

    @property
    def quiet(self) -> bool:
        return not self.reasons


def live_verdict(share: float, threshold: float, shifts: Sequence[MeanShift], z_threshold: float) -> LiveVerdict:
    """Whether drift's share or one of the means lies beyond its limit."""
    reasons = []
    if share > threshold:
        reasons.append(f"drift share {share:.2f} is above {threshold:g}")
    if moved := [shift for shift in shifts if abs(shift.z) > z_threshold]:
        said = ", ".join(f"{s.name} {s.mean:.4g} against {s.trained_mean:.4g} (z {s.z:+.1f})" for s in moved)
        reasons.append(f"means moved: {said}")
    return LiveVerdict(tuple(reasons))
