"""The compiled champion: a model's preprocessing and prediction as one ONNX graph, beside the native pipeline.

What answers requests imports this, so nothing here needs pandas, scikit-learn or MLflow.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from driftloop.errors import ArtifactError
from driftloop.facts import Facts

FILE = "model.onnx"
NUMERIC, CATEGORICAL, SCORE = "numeric", "categorical", "score"
# Doubles all the way agree to some 1e-12 and float32 at a tree's leaves to some 1e-7; a row that took another branch
# differs by 1e-3 and more. A score is told apart by much less than this nowhere else in the loop.
TOLERANCE = 1e-6


class Compiled:
    """A loaded graph, which any number of threads may ask at once.

    Raises ArtifactError when ``content`` is no graph that ONNX Runtime can load. ``threads`` is how many share one
    call: a request's few rows are done before a second thread is awake.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would keep a core busy, waiting
        options.log_severity_level = 4  # what is fatal; it raises errors too
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for each of its status codes
            raise ArtifactError(f"{FILE} cannot be loaded: {str(error).splitlines()[0]}") from error
        inputs = {value.name for value in self._session.get_inputs()}
        self._numeric, self._categorical = NUMERIC in inputs, CATEGORICAL in inputs

    def score(self, numbers: np.ndarray, words: np.ndarray) -> np.ndarray:
        """float64: the probability of the positive label or the value, shape (rows,); of each class, (rows, labels).

        ``numbers`` is float64 (rows, numeric features), a null NaN; ``words`` holds category strings, dtype object
        (rows, categorical features), a null category.MISSING; each in the order of the facts. A score is NaN where the
        native pipeline refuses the row because a value is too large for it.
        """
        given = {}
        if self._numeric:
            given[NUMERIC] = numbers
        if self._categorical:
            given[CATEGORICAL] = words
        try:
            (scores,) = self._session.run([SCORE], given)
        except UnicodeEncodeError:  # half a surrogate pair; no category that was stored has one
            given[CATEGORICAL] = np.vectorize(_encodable, otypes=[object])(words)
            (scores,) = self._session.run([SCORE], given)
        return np.asarray(scores, dtype=float)


def _encodable(word: str) -> str:
    return word.encode("utf-8", "backslashreplace").decode("utf-8")


def differences(native: np.ndarray, compiled: np.ndarray) -> np.ndarray:
    """In the scores' shape: how far a compiled score lies from the native one, relative to it where that is above 1.

    Two scores of which neither is a finite number are taken for one: the API answers with neither.
    """
    finite = np.isfinite(native)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(compiled - native) / np.maximum(1.0, np.abs(native))
    return np.where(finite & np.isfinite(compiled), apart, np.where(finite | np.isfinite(compiled), np.inf, 0.0))


def read_facts(folder: Path) -> Facts:
    """What the model in a downloaded folder says about itself. Raises ArtifactError when that cannot be read."""
    return read_model(folder)[0]


def read_model(folder: Path) -> tuple[Facts, dict[str, Any]]:
    """The same, and all that its MLmodel file holds."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: it takes 2 ms where Python takes 30
    try:
        stored = yaml.load((folder / "MLmodel").read_text(encoding="utf-8"), loader)  # noqa: S506  # both are safe
        return Facts.model_validate(stored["metadata"]["driftloop"]), stored
    except (OSError, KeyError, TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise ArtifactError(f"{folder} is not a model that driftloop stored: {error}") from None
    except yaml.YAMLError as error:
        raise ArtifactError(f"{folder}/MLmodel cannot be read: {error}") from error


def load_compiled(folder: Path, facts: Facts, threads: int = 1) -> Compiled | None:
    """The folder's graph; None where the version has none, ``facts.compiled`` says why.

    Raises ArtifactError when it is absent or not the one that the facts tell of.
    """
    if facts.compiled is None or facts.compiled.sha256 is None:
        return None
    try:
        content = (folder / FILE).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: {error.strerror}") from error
    if digest(content) != facts.compiled.sha256:
        raise ArtifactError(f"{folder / FILE} is not what was stored: its digest differs from the one in MLmodel")
    return Compiled(content, threads)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
