"""Weights that make all training rows look like those of the current window."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Weights = NDArray[np.float64]

CLIP = 10.0  # times the mean, before the mean is made 1 again: a few rows would decide all
FOLDS = 5
DOMAIN_ROWS = 20_000  # what the domain classifier learns from at most, each time
BINS = 10
DRIFTED = 0.1  # Evidently's own limit for the Jensen-Shannon distance
SURE = 0.05
ROUNDS = 20


def density_weights(X: pd.DataFrame, current: NDArray[np.bool_], owner: pd.Series | None = None) -> Weights:
    """Shape (rows,), mean 1: how much denser the current window's rows lie where a row lies than all rows do.

    P(current | x) / P(current), by a classifier that tells current rows from earlier ones, cross-fitted so that no row
    is judged by a model that learnt from it (or from its ``owner``'s others), its probabilities calibrated (isotonic).
    Where windows do not differ all weights are 1; where they have nothing in common, only the current rows count.
    """
    from sklearn.isotonic import IsotonicRegression

    calibrated = IsotonicRegression(y_min=0, y_max=1).fit_transform(_domain_logits(_coded(X), current, owner), current)
    return _normal(np.asarray(calibrated))


def segment_weights(X: pd.DataFrame, current: NDArray[np.bool_]) -> tuple[Weights | None, tuple[str, ...]]:
    """Shape (rows,), mean 1, and the columns that drifted; None where none did.

    A column's segments are its categories, or tenths of its values. Rows are weighted until each drifted column's
    segments have the shares they have in the current window (raking, Deming and Stephan 1940).
    """
    segments = {str(name): _segments(column) for name, column in X.items()}
    drifted = {name: codes for name, codes in segments.items() if _drifted(codes, current, len(segments))}
    if not drifted:
        return None, ()
    weights = np.ones(len(X))
    for _ in range(ROUNDS):
        for codes in drifted.values():
            wanted = np.bincount(codes[current], minlength=codes.max() + 1) / current.sum()
            there = np.bincount(codes, weights=weights) / weights.sum()
            weights *= np.divide(wanted, there, out=np.zeros_like(wanted), where=there > 0)[codes]
    return _normal(weights), tuple(drifted)


def _normal(weights: Weights) -> Weights:
    clipped = np.minimum(weights / weights.mean(), CLIP)
    normal: Weights = clipped / clipped.mean()
    return normal


def _coded(X: pd.DataFrame) -> NDArray[np.float64]:
    """Numbers as they are, categories as codes; nulls as NaN, which the classifier takes."""
    columns = [
        column if pd.api.types.is_numeric_dtype(column) else pd.factorize(column, sort=True)[0].astype(float)
        for _, column in X.items()
    ]
    return np.column_stack(columns)


def _domain_logits(X: NDArray[np.float64], current: NDArray[np.bool_], owner: pd.Series | None) -> Weights:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    codes = np.arange(len(X)) if owner is None else pd.factorize(owner)[0]
    fold = (rng.permutation(int(codes.max()) + 1) % FOLDS)[codes]
    logits = np.full(len(X), np.log(current.sum() / (~current).sum()))
    for held in range(FOLDS):
        rows = np.flatnonzero(fold != held)
        if len(rows) > DOMAIN_ROWS:
            rows = rng.choice(rows, DOMAIN_ROWS, replace=False)
        if current[rows].all() or not current[rows].any() or not (fold == held).any():
            continue  # too few rows to tell apart: the prior says what is known
        model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0)
        with threadpool_limits(1):  # so few rows are done before a second thread has woken
            logits[fold == held] = model.fit(X[rows], current[rows]).decision_function(X[fold == held])
    return logits


def _segments(column: pd.Series) -> NDArray[np.intp]:
    """The segment of each row, from 0; nulls are one of their own."""
    if not pd.api.types.is_numeric_dtype(column):
        return pd.factorize(column)[0]
    edges = np.unique(column.quantile(np.linspace(0, 1, BINS + 1)[1:-1]).dropna())
    bins: NDArray[np.intp] = np.searchsorted(edges, column.to_numpy(), side="right")
    return np.where(column.isna(), len(edges) + 1, bins)


def _drifted(codes: NDArray[np.intp], current: NDArray[np.bool_], columns: int) -> bool:
    """By the distance of the shares, where it is no accident of few rows: chi-squared, corrected for the columns."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2_contingency

    counts = np.array([np.bincount(codes[side], minlength=codes.max() + 1) for side in (current, ~current)])
    counts = counts[:, counts.any(axis=0)]
    if counts.shape[1] < 2 or jensenshannon(counts[0], counts[1], base=2) < DRIFTED:
        return False
    return bool(chi2_contingency(counts).pvalue < SURE / columns)
