"""What a version keeps of its holdout: the scores it gave there with their labels, and how large its errors are where.

No feature is kept, and nothing else that tells of an owner.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from driftloop.compiled import digest
from driftloop.facts import EvidenceFacts
from driftloop.metrics import Array, Predictions

if TYPE_CHECKING:
    from driftloop.error_model import ErrorModel

KEPT = FILE, ERRORS = "holdout.npz", "errors.skops"
MOST_ROWS = 20_000
MOST_SCORES = 1_000_000  # of several classes: what a row has many of, fewer rows have
SEED = 0


@dataclass(frozen=True)
class Evidence:
    """The labels ``y`` of holdout rows, shape (n,), as frame.Window has them, and the scores given before any of them
    was trained on, (n,) or (n, classes).

    ``rows``: of how many they were drawn. ``errors``: of a regression, see ErrorModel; None where it was not learnt.
    """

    y: Array
    scores: Array
    rows: int
    errors: ErrorModel | None = None

    def predictions(self, threshold: float | None) -> Predictions:
        """With the threshold from which on the version says yes."""
        return Predictions(self.scores) if threshold is None else Predictions(self.scores, threshold)

    @property
    def files(self) -> dict[str, bytes]:
        """Name to content of what is stored beside the model."""
        arrays = {"y": self.y, "scores": self.scores, "rows": np.array(self.rows)}
        if self.errors is None:
            return {FILE: _packed(arrays)}
        return {FILE: _packed(arrays | self.errors.arrays), ERRORS: self.errors.dumps()}

    def facts(self, files: Mapping[str, bytes]) -> EvidenceFacts:
        """What the version says of them."""
        loss = self.errors.loss if self.errors else None
        return EvidenceFacts(
            rows=len(self.y), of=self.rows, sha256={name: digest(content) for name, content in files.items()}, loss=loss
        )


def drawn(rows: int, classes: int = 1) -> np.ndarray:
    """Which of so many holdout rows are kept: all, or as many as there is room for, by a fixed seed; in their order."""
    most = min(MOST_ROWS, MOST_SCORES // classes)
    return np.arange(rows) if rows <= most else np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


def keep(y: Array, scores: Array) -> Evidence:
    """Of a version's scores on all its holdout rows, with their labels."""
    rows = drawn(len(y), 1 if scores.ndim == 1 else scores.shape[1])
    return Evidence(np.asarray(y, dtype=float)[rows], scores[rows], len(y))


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    np.savez_compressed(packed := io.BytesIO(), **arrays)  # type: ignore[arg-type]
    return packed.getvalue()
