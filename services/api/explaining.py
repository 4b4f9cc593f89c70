"""The process behind POST /explain: which explainer fits a model, and its values by the user's own feature names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftloop import worker

if TYPE_CHECKING:
    import numpy as np

    from driftloop.artifact import Artifact
    from driftloop.facts import Version
    from services.api.scoring import Row

ADDITIVE = 1e-6  # how far base and values may be from the output, relative to it
PERMUTATIONS = 10


def explain(artifact: Artifact, row: Row) -> dict[str, Any]:
    """SHAP values of one row against the version's stored sample rows. Raises DriftloopError where they do not add up.

    A tree's and a linear model's are exact; any other's come from walks through permutations of its columns. Columns
    that one feature was encoded into are added up, which keeps the sum.
    """
    import numpy as np
    import pandas as pd

    from driftloop.errors import DriftloopError
    from driftloop.frame import features

    facts, pipeline = artifact.facts, artifact.estimator
    frame = features(pd.DataFrame([row]), facts.numeric, facts.categorical)
    encode, model = pipeline["encode"], pipeline["model"]
    background, x = np.asarray(encode.transform(artifact.sample)), np.asarray(encode.transform(frame))
    scale, base, values, output = _values(model, background, x, binary=facts.task == "binary")
    if abs(base + values.sum() - output) > ADDITIVE * max(1.0, abs(output)):
        raise DriftloopError(f"its SHAP values add up to {base + values.sum():.6g} and not to {output:.6g}")
    by_feature = dict.fromkeys([*facts.numeric, *facts.categorical], 0.0)
    for name, value in zip(_owners(encode, facts.numeric, facts.categorical), values.tolist(), strict=True):
        by_feature[name] += value
    return {"scale": scale, "base": base, "output": output, "values": by_feature}


def _values(model: Any, background: np.ndarray, x: np.ndarray, *, binary: bool) -> tuple[str, float, np.ndarray, float]:
    """(scale, base, a value for each encoded column, output)."""
    import numpy as np
    import shap
    from sklearn.linear_model._base import LinearClassifierMixin, LinearModel

    one = list(model.classes_).index(1) if binary else None

    def predict(rows: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(rows) if one is None else model.predict_proba(rows)[:, one], dtype=float)

    if isinstance(model, (LinearModel, LinearClassifierMixin)) and hasattr(model, "coef_"):
        linear = shap.LinearExplainer(model, background)
        output = model.decision_function(x) if binary else model.predict(x)
        values = np.asarray(linear.shap_values(x)).reshape(-1)
        return (
            "log-odds" if binary else "value",
            float(np.ravel(linear.expected_value)[0]),
            values,
            float(np.ravel(output)[0]),
        )
    scale = "probability" if binary else "value"
    try:
        tree = shap.TreeExplainer(
            model, background, feature_perturbation="interventional", model_output="probability" if binary else "raw"
        )
        found = tree(x, check_additivity=False)  # ours is checked for every explainer alike
    except Exception:  # noqa: BLE001  # what no tree is, or none that SHAP knows, it says in many ways
        masker = shap.maskers.Independent(background, max_samples=len(background))
        columns = x.shape[1]
        found = shap.PermutationExplainer(predict, masker, seed=0)(x, max_evals=PERMUTATIONS * (2 * columns + 1))
    values, base = np.asarray(found.values)[0], np.ravel(np.asarray(found.base_values))
    if values.ndim == 2:
        values, base = values[:, one or 0], base[[one or 0]]
    return scale, float(base[0]), values, float(predict(x)[0])


def _owners(encode: Any, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> list[str]:
    """For each encoded column the feature it comes from."""
    owners = list(numeric)
    if categorical:
        for name, known in zip(categorical, encode.named_transformers_["categorical"].categories_, strict=True):
            owners += [name] * len(known)
    return owners


class _Explaining:
    """Keeps the version that was asked about last."""

    def __init__(self) -> None:
        self._version: Version | None = None
        self._artifact: Artifact | None = None

    def __call__(self, request: tuple[Path, Version, Row]) -> dict[str, Any]:
        from driftloop import artifact

        folder, version, row = request
        if self._artifact is None or version != self._version:
            self._version, self._artifact = version, artifact.load(folder)
        return explain(self._artifact, row)


def _prepare() -> Callable[[Any], Any]:
    import shap  # noqa: F401  # before the first question

    import driftloop.artifact  # noqa: F401

    return _Explaining()


if __name__ == "__main__":
    worker.answer(_prepare)
