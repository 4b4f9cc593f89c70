"""Parts of the holdout that a candidate must not get worse on: cut by a column, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from driftloop.metrics import AUCS, METRICS, Array, Predictions
from driftloop.paired import Gain, paired_gain

QUANTILES = (0.25, 0.5, 0.75)
LEVEL_WITHOUT_BOUND = 0.05
MIN_CLASS_ROWS = 10  # of each class: with fewer, DeLong's variance is too sure of itself
ROUNDING = 1e-12  # 0.80 - 0.75 is a little more than 0.05 in binary fractions, and still exactly the limit


@dataclass(frozen=True)
class SlicePolicy:
    """``columns``: each cut into its values, or at the reference's quartiles.

    ``max_drop``: the loss that is put up with, in the metric's units. ``min_rows``: smaller slices are not judged.
    """

    columns: tuple[str, ...]
    max_drop: float
    min_rows: int


@dataclass(frozen=True)
class Slice:
    """Both scores on one slice. ``p`` is the one-sided p-value of "no worse", ``adjusted`` the same after Holm.

    ``worse``: the loss exceeds what is put up with, and is significant among all slices judged; ``close``: it would
    be if this slice were the only one.
    """

    name: str
    rows: int
    candidate: float
    champion: float
    p: float
    adjusted: float
    worse: bool
    close: bool


@dataclass(frozen=True)
class Slices:
    """The slices judged, and the names of those that could not be: too few rows, or the metric has no value there."""

    judged: tuple[Slice, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def worse(self) -> tuple[Slice, ...]:
        return tuple(s for s in self.judged if s.worse)

    @property
    def close(self) -> tuple[Slice, ...]:
        return tuple(s for s in self.judged if s.close)


NO_SLICES = Slices()


def compare_slices(
    metric: str,
    X: pd.DataFrame,
    y: Array,
    candidate: Predictions,
    champion: Predictions,
    cuts: Mapping[str, Sequence[float]],
    policy: SlicePolicy,
    confidence: float,
) -> Slices:
    """Compare both models on every slice of the rows ``X``.

    ``cuts`` are the reference's quartiles of the numeric columns. ``confidence`` is the policy's; where it is 0, which
    turns the bound on the whole gain off, slices are still judged at five percent.
    """
    level = 1 - confidence if confidence else LEVEL_WITHOUT_BOUND
    found: list[tuple[Slice, Gain]] = []
    unjudged: list[str] = []
    for name, mask in _masks(X, policy.columns, cuts):
        rows, both = int(mask.sum()), (candidate[mask], champion[mask])
        if rows < policy.min_rows:
            unjudged.append(f"{name} ({rows} rows)")
            continue
        if metric in AUCS and (fewer := _fewest(y[mask], candidate)) < MIN_CLASS_ROWS:
            unjudged.append(f"{name} ({fewer} rows of one class)")
            continue
        try:
            gain = paired_gain(metric, y[mask], *both, confidence)
        except ValueError as error:
            unjudged.append(f"{name} ({error})")
            continue
        ours, theirs = (METRICS[metric](y[mask], p) for p in both)
        found.append((Slice(name, rows, ours, theirs, gain.p_worse, 1.0, worse=False, close=False), gain))
    adjusted = holm([s.p for s, _ in found])
    judged = tuple(
        replace(
            s,
            adjusted=p,
            worse=-gain.value > policy.max_drop + ROUNDING and p <= level,
            close=-gain.value > policy.max_drop + ROUNDING and s.p <= level < p,
        )
        for (s, gain), p in zip(found, adjusted, strict=True)
    )
    return Slices(judged, tuple(unjudged))


def _fewest(y: Array, predicted: Predictions) -> int:
    """The rows of the rarest class."""
    classes = 2 if predicted.scores.ndim == 1 else predicted.scores.shape[1]
    return int(np.bincount(y.astype(int), minlength=classes).min())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979): the k-th smallest of m times m - k + 1, never below the one before.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = highest
    return adjusted


def quartiles(rows: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Where each numeric column is cut: its distinct quartiles, nulls aside."""
    numeric = [name for name in rows if pd.api.types.is_numeric_dtype(rows[name])]
    known = ((str(name), rows[name].dropna()) for name in numeric)  # one column at a time
    return {name: tuple(np.unique(np.quantile(v, QUANTILES)).tolist()) for name, v in known if len(v)}


def _masks(
    X: pd.DataFrame, columns: Sequence[str], cuts: Mapping[str, Sequence[float]]
) -> list[tuple[str, np.ndarray]]:
    return [
        slice_
        for column in columns
        for slice_ in (_bins(X[column], cuts[column]) if _is_cut(X[column], cuts) else _values(X[column]))
    ]


def _is_cut(column: pd.Series, cuts: Mapping[str, Sequence[float]]) -> bool:
    return column.name in cuts and pd.api.types.is_numeric_dtype(column)


def _values(column: pd.Series) -> list[tuple[str, np.ndarray]]:
    codes, names = pd.factorize(column, sort=True)
    return [(f"{column.name} = {name}", codes == code) for code, name in enumerate(names)]


def _bins(column: pd.Series, edges: Sequence[float]) -> list[tuple[str, np.ndarray]]:
    """Half-open bins as in ``edge <= value < next edge``; nulls are a slice of their own."""
    values = column.to_numpy()
    missing = np.isnan(values)
    bins = np.searchsorted(np.asarray(edges), values, side="right")
    names = [f"{column.name} < {edges[0]:g}"]
    names += [f"{low:g} <= {column.name} < {high:g}" for low, high in pairwise(edges)]
    names += [f"{column.name} >= {edges[-1]:g}"]
    found = [*((name, (bins == n) & ~missing) for n, name in enumerate(names)), (f"{column.name} is missing", missing)]
    return [(name, mask) for name, mask in found if mask.any()]
