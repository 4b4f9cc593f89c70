"""What turns a request's rows into scores: the compiled champion, or scikit-learn where a version has none."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from driftloop.category import MISSING
from driftloop.compiled import Compiled, differences, load_compiled
from driftloop.errors import ArtifactError
from driftloop.facts import Facts

if TYPE_CHECKING:
    from driftloop.artifact import Artifact

Row = dict[str, Any]
# what the event loop may spend on one answer while every other request waits; more goes to a thread
INLINE_SECONDS = 1e-3
# from here on a second session with a thread a core is worth its memory
WIDE_SECONDS = 5e-3
MEASURED_ROWS = 1000


class Unscorable(Exception):
    """Rows whose values are right one by one and that the model still cannot score. Becomes a 422."""


class Scorer(Protocol):
    """``engine`` is what /model calls it. ``inline``: whether so many rows may be scored on the event loop."""

    engine: str

    def score(self, rows: Sequence[Row]) -> np.ndarray: ...
    def inline(self, rows: int) -> bool: ...


class CompiledScorer:
    """ONNX Runtime on arrays, without a DataFrame. How long rows take was measured when it was loaded."""

    engine = "onnx"

    def __init__(self, model: Compiled, facts: Facts, wide: Callable[[int], Compiled]) -> None:
        """``wide`` makes the same model with so many threads."""
        self._numbers, self._words = _taker(facts.numeric), _taker(facts.categorical)
        self._model = self._wide = model
        self._wide_from = sys.maxsize
        sample = list(facts.sample)
        many = (sample * (MEASURED_ROWS // len(sample) + 1))[:MEASURED_ROWS]
        self._one_seconds = min(self._seconds(sample[:1]) for _ in range(20))
        self._row_seconds = min(self._seconds(many) for _ in range(2)) / MEASURED_ROWS
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if cores > 1 and self._row_seconds * MEASURED_ROWS > WIDE_SECONDS:
            self._wide, self._wide_from = wide(cores), int(WIDE_SECONDS / self._row_seconds)

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Shape (rows,): the probability of the positive label, or the value; (rows, labels) for several classes."""
        numbers = np.array([self._numbers(row) for row in rows], dtype=np.float64)  # None becomes NaN
        words = np.array([_spelled(self._words(row)) for row in rows], dtype=object)
        return _numbers((self._wide if len(rows) >= self._wide_from else self._model).score(numbers, words))

    def inline(self, rows: int) -> bool:
        return max(self._one_seconds, rows * self._row_seconds) < INLINE_SECONDS

    def _seconds(self, rows: Sequence[Row]) -> float:
        began = time.perf_counter()
        self.score(rows)
        return time.perf_counter() - began


class NativeScorer:
    """The stored pipeline itself, one request at a time.

    scikit-learn sets and restores the process's warning filters around each transformer, and two threads at that at
    once leave them cleared for good (seen: a warning at every request since).
    """

    engine = "native"

    def __init__(self, artifact: Artifact, lock: Lock) -> None:
        self._artifact, self._lock = artifact, lock

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        import pandas as pd

        facts = self._artifact.facts
        frame = pd.DataFrame(list(rows), columns=[*facts.numeric, *facts.categorical])
        with self._lock:
            try:
                return _numbers(self._artifact.score(frame))
            except ValueError as error:
                raise Unscorable(str(error)) from None

    def inline(self, rows: int) -> bool:  # noqa: ARG002  # milliseconds at the least, whatever their number
        return False


def _taker(names: Sequence[str]) -> Callable[[Row], Sequence[Any]]:
    """The values of some columns in their order; a getter in C where that gives a tuple, from two columns on."""
    return itemgetter(*names) if len(names) > 1 else lambda row: [row[name] for name in names]


def _spelled(words: Sequence[Any]) -> Sequence[str]:
    return words if None not in words else [MISSING if word is None else word for word in words]


def _numbers(scores: np.ndarray) -> np.ndarray:
    """The scores, where each is one. Raises Unscorable: JSON has no word for what is no number."""
    if scores.shape == (1,) and math.isfinite(scores[0]):  # a fraction of what it takes to look at an array
        return scores
    if not (found := np.isfinite(scores)).all():
        row = int(found.reshape(len(scores), -1).all(axis=1).argmin())
        raise Unscorable(f"a value of row {row} is too large for it")
    return scores


def scorer(folder: Path, facts: Facts, lock: Lock) -> Scorer:
    """The fastest way to score that the version in ``folder`` has. Raises ArtifactError when it must not serve."""
    compiled = load_compiled(folder, facts)
    if compiled is None or facts.compiled is None:
        return native(folder, lock)
    made = CompiledScorer(compiled, facts, lambda threads: _reloaded(folder, facts, threads))
    apart = float(differences(np.asarray(facts.sample_scores), made.score(facts.sample)).max())
    if not apart <= facts.compiled.tolerance:
        raise ArtifactError(f"the stored sample rows score up to {apart:.3g} away from what they did when stored")
    return made


def _reloaded(folder: Path, facts: Facts, threads: int) -> Compiled:
    made = load_compiled(folder, facts, threads)
    assert made is not None, "it was there a moment ago"
    return made


def native(folder: Path, lock: Lock) -> NativeScorer:
    """The pipeline out of skops, its types reviewed and its sample rows scored. Imports scikit-learn."""
    from driftloop import artifact

    loaded = artifact.load(folder)
    with lock:
        loaded.verify()
    return NativeScorer(loaded, lock)
