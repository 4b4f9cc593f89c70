"""How far a binary model's probabilities can be taken at their word, and from which one on it should say yes."""

from __future__ import annotations

import numpy as np

from driftloop.metrics import Array

BINS = 10


def calibration_error(y: Array, probability: Array) -> float:
    """Expected calibration error over ten bins of equally many rows, ties together (Naeini et al. 2015).

    The mean over bins of |event rate - mean probability|, each bin weighted by its rows.

    >>> calibration_error(np.array([0., 0., 1., 1.]), np.array([0.2, 0.2, 0.7, 0.7]))
    0.25
    """
    gap = np.bincount(_bins(probability), weights=y - probability)
    return float(np.abs(gap).sum() / len(y))


def reliability(y: Array, probability: Array) -> tuple[Array, Array]:
    """(mean probability, event rate) of the bins of calibration_error that hold rows, shape (bins,) each.

    >>> reliability(np.array([0., 0., 1., 1.]), np.array([0.2, 0.2, 0.7, 0.7]))
    (array([0.2, 0.7]), array([0., 1.]))
    """
    bins = _bins(probability)
    rows = np.bincount(bins)
    means, rates = (np.bincount(bins, weights=v)[rows > 0] / rows[rows > 0] for v in (probability, y))
    return means, rates


def _bins(probability: Array) -> np.ndarray:
    """The bin of each row: ten of equally many, fewer where rows share a probability."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, probability, side="right")


def best_f1_threshold(y: Array, probability: Array, weights: Array | None = None) -> float:
    """The probability from which on saying yes gives the highest F1; the lowest such one where several do.

    F1 = 2 hits / (said yes + events), taken at every distinct probability in O(n log n); rows count by their weights.
    Raises ValueError where no row is an event.

    >>> best_f1_threshold(np.array([0., 1., 0., 1.]), np.array([0.1, 0.3, 0.2, 0.8]))
    0.3
    """
    counts = np.ones(len(y)) if weights is None else weights
    events = (counts * y).sum()
    if not events:
        raise ValueError("no row is an event, so F1 has no best threshold")
    order = np.argsort(-probability, kind="stable")
    ranked, counts = probability[order], counts[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # a threshold takes all rows of one probability or none
    f1 = (2 * np.cumsum(counts * y[order]) / (np.cumsum(counts) + events))[last]
    thresholds = ranked[last]
    return float(thresholds[len(f1) - 1 - np.argmax(f1[::-1])])
