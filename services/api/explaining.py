"""The process behind POST /explain: which explainer fits a model, and its values by the user's own feature names."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from driftloop import worker

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from driftloop.artifact import Artifact
    from driftloop.facts import Version
    from driftloop.trees import Tree, Trees
    from services.api.scoring import Row

ADDITIVE = 1e-6  # how far base and values may be from the output, relative to the largest of them
SUBSETS = 1000  # of features, tried by the kernel explainer: exact up to nine features
LARGEST_TREE = 2**15 - 1  # nodes; SHAP numbers a tree's children in 16 bits

Explain = Callable[["Row"], dict[str, Any]]
Scale = Literal["probability", "log-odds", "value"]


@dataclass(frozen=True)
class Way:
    """One of SHAP's explainers on one model: an encoded row's ``output``, and its (base, a value for each column)."""

    method: Literal["linear", "tree", "kernel"]
    scale: Scale
    output: Callable[[np.ndarray], float]
    values: Callable[[np.ndarray], tuple[float, np.ndarray]]


class Encoded:
    """The estimator behind a version's preprocessing, with the stored sample rows and the feature of each column.

    Of several classes it is about the one at ``place`` among the labels.
    """

    place: int | None = None

    def __init__(self, artifact: Artifact, owners: list[str]) -> None:
        import numpy as np

        self._artifact, self.owners = artifact, owners
        self.model, self.task = artifact.estimator["model"], artifact.facts.task
        self.scale: Scale = "value" if self.task == "regression" else "probability"
        self.names = [*artifact.facts.numeric, *artifact.facts.categorical]
        self.background = np.asarray(self._encoded(artifact.sample), dtype=float)

    def row(self, row: Row) -> np.ndarray:
        """Shape (1, columns)."""
        import numpy as np
        import pandas as pd

        from driftloop.frame import features

        facts = self._artifact.facts
        return np.asarray(self._encoded(features(pd.DataFrame([row]), facts.numeric, facts.categorical)), dtype=float)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Shape (rows,): the probability of the positive label, or of the one it is about, or the value."""
        scores = self._scores(rows)
        return scores if self.place is None else scores[:, self.place]

    def about(self, place: int | None) -> Encoded:
        """The same, about the class at another place."""
        one = copy(self)
        one.place = place
        return one

    def said(self, x: np.ndarray) -> int | None:
        """The place of the label that /predict answers; None where there are not several."""
        return int(self._scores(x)[0].argmax()) if self.task == "multiclass" else None

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        from driftloop.artifact import score

        return score(self.model, rows, self.task, self._artifact.facts.labels)

    def output(self, x: np.ndarray) -> float:
        return float(self.predict(x)[0])

    def _encoded(self, rows: pd.DataFrame) -> Any:
        return self._artifact.estimator["encode"].transform(rows)


class Raw(Encoded):
    """Before a preprocessing whose columns are not known: a column for each feature, a category as a number of ours."""

    def __init__(self, artifact: Artifact) -> None:
        facts = artifact.facts
        self._words = {name: sorted({*artifact.sample[name], *facts.categories[name]}) for name in facts.categorical}
        self._strange: dict[str, str] = {}  # of the row in question, what is none of these
        super().__init__(artifact, [*facts.numeric, *facts.categorical])

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        import pandas as pd

        frame = pd.DataFrame(rows, columns=self.names)
        for name, words in self._words.items():
            named = [*words, self._strange.get(name, "")]
            frame[name] = pd.Series([named[int(place)] for place in frame[name]], dtype=object)
        return self._artifact.score(frame)

    def _encoded(self, rows: pd.DataFrame) -> Any:
        coded = rows.copy()
        for name, words in self._words.items():
            place = {word: float(i) for i, word in enumerate(words)}
            self._strange[name] = rows[name].iloc[0]
            coded[name] = [place.get(word, float(len(words))) for word in rows[name]]
        return coded.to_numpy(dtype=float)


def _encoded(artifact: Artifact) -> Encoded:
    from driftloop.encoding import blocks

    try:
        found = blocks(artifact.estimator["encode"], artifact.facts.numeric, artifact.facts.categorical)
    except NotImplementedError:
        return Raw(artifact)
    return Encoded(artifact, [owner for block in found for owner in block.owners])


def explainer(artifact: Artifact) -> Explain:
    """What explains a version's rows against its stored sample rows; see services.api.explain.Explanation.

    Values of a tree ensemble and of a linear model are exact. Where SHAP knows neither, or what it finds does not add
    up, subsets of the features are tried. Columns that one feature was encoded into are added up, which keeps the sum.
    It raises Unscorable for a row that has no finite explanation.
    """
    from services.api.scoring import Unscorable

    encoded, labels = _encoded(artifact), artifact.facts.labels

    @cache
    def about(place: int | None) -> tuple[Encoded, list[Way]]:
        one = encoded.about(place)
        return one, list(_ways(one))

    def explain(row: Row) -> dict[str, Any]:
        try:
            x = encoded.row(row)
            place = encoded.said(x)
            one, ways = about(place)
            probability = None if labels is None else one.output(x)
            for way in ways:
                output, (base, values) = way.output(x), way.values(x)
                if _add_up(base, values.tolist(), output):
                    break
            else:
                raise Unscorable("its values are too far out for their shares to add up")
        except ValueError as error:
            raise Unscorable(str(error)) from None
        by_feature = dict.fromkeys(encoded.names, 0.0)
        for name, value in zip(encoded.owners, values.tolist(), strict=True):
            by_feature[name] += value
        label = None if labels is None else labels[1 if place is None else place]
        return {
            "label": label, "scale": way.scale, "method": way.method, "base": base, "output": output,
            "probability": probability, "values": by_feature,
        }  # fmt: skip

    return explain


def _add_up(base: float, values: list[float], output: float) -> bool:
    largest = max(1.0, abs(output), abs(base), *map(abs, values))
    # not <=, and never >: what is no number does not add up
    return abs(base + math.fsum(values) - output) <= ADDITIVE * largest < math.inf


def _ways(encoded: Encoded) -> Iterator[Way]:
    """Those that fit the model, the exact ones first; the last one fits every model."""
    from driftloop.trees import trees_by_class, trees_of

    if not isinstance(encoded, Raw):
        if linear := _linear(encoded):
            yield linear
        if encoded.place is None:
            trees = trees_of(encoded.model, binary=encoded.task == "binary")
        else:
            by_class, known = trees_by_class(encoded.model), list(encoded.model.classes_)
            trees = by_class[known.index(encoded.place)] if by_class else None
        if trees and trees.link in ("Identity", "Sigmoid") and all(map(_known_to_shap, trees.trees)):
            yield _tree(encoded, trees)
    yield _kernel(encoded)


def _known_to_shap(tree: Tree) -> bool:
    """Against sample rows it explains splits of numbers only."""
    return len(tree.left) <= LARGEST_TREE and not tree.members


def _linear(encoded: Encoded) -> Way | None:
    """None unless the coefficients alone give the value, or the log-odds of the probability."""
    import numpy as np
    import shap
    from scipy.special import expit

    coefficients = np.ravel(getattr(encoded.model, "coef_", ()))
    if coefficients.shape != encoded.background.shape[1:]:
        return None
    intercept = float(np.ravel(encoded.model.intercept_)[0])
    raw = encoded.background @ coefficients + intercept
    if not np.allclose(
        expit(raw) if encoded.task == "binary" else raw, encoded.predict(encoded.background), rtol=ADDITIVE
    ):
        return None
    made = shap.LinearExplainer((coefficients, intercept), encoded.background)
    return Way(
        "linear",
        "log-odds" if encoded.task == "binary" else "value",
        lambda x: float((x @ coefficients)[0] + intercept),
        lambda x: (float(made.expected_value), np.asarray(made.shap_values(x))[0]),
    )


def _tree(encoded: Encoded, trees: Trees) -> Way:
    """SHAP's own reading of a model compares in 32 bits where scikit-learn does in 64, and a row takes another branch.

    So it is given the trees with thresholds numbered in their order, and rows with how many thresholds lie below each
    value: small integers, which compare the same in any precision.
    """
    import numpy as np
    import shap

    columns, sizes = range(encoded.background.shape[1]), [len(tree.left) for tree in trees.trees]
    left, feature, threshold = (
        np.concatenate([getattr(tree, name) for tree in trees.trees]) for name in ("left", "feature", "threshold")
    )
    splits = [(left >= 0) & (feature == column) for column in columns]
    edges = [np.unique(threshold[split]) for split in splits]

    def numbered(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float32) if trees.rounded else rows
        found = np.column_stack([np.searchsorted(edges[column], rows[:, column]) for column in columns])
        return np.where(np.isnan(rows), np.nan, found)

    number = np.zeros(len(threshold))
    for split, edge in zip(splits, edges, strict=True):
        number[split] = np.searchsorted(edge, threshold[split])
    grown = [
        {
            "children_left": tree.left, "children_right": tree.right,
            "children_default": np.where(tree.missing_left, tree.left, tree.right),
            "features": np.where(tree.left >= 0, tree.feature, -2), "thresholds": thresholds,
            "values": trees.factor * tree.value[:, None].astype(float), "node_sample_weight": np.ones(len(thresholds)),
        }
        for tree, thresholds in zip(trees.trees, np.split(number, np.cumsum(sizes)[:-1]), strict=True)
    ]  # fmt: skip
    logistic = trees.link == "Sigmoid"
    made = shap.TreeExplainer(
        {"trees": grown, "base_offset": trees.base, "tree_output": "log_odds" if logistic else "raw_value"},
        numbered(encoded.background), feature_perturbation="interventional",
        model_output="probability" if logistic else "raw",
    )  # fmt: skip
    base = float(np.ravel(made.expected_value)[0])
    return Way(
        "tree",
        encoded.scale,
        encoded.output,
        # what adds up is tested for every explainer alike
        lambda x: (base, np.asarray(made.shap_values(numbered(x), check_additivity=False)).reshape(-1)),
    )


def _kernel(encoded: Encoded) -> Way:
    """Asks the model about rows of which some features are the row's own and the others the background's."""
    import numpy as np
    import shap
    from shap.utils._legacy import DenseData

    groups = [np.flatnonzero([owner == name for owner in encoded.owners]) for name in encoded.names]
    made = shap.KernelExplainer(encoded.predict, DenseData(encoded.background, encoded.names, groups))

    def values(x: np.ndarray) -> tuple[float, np.ndarray]:
        np.random.seed(0)  # noqa: NPY002  # what SHAP draws from; the same row is explained in the same way
        found = np.asarray(made.shap_values(x, nsamples=SUBSETS, l1_reg=0, silent=True)).reshape(-1)
        by_column = np.zeros(x.shape[1])
        for group, value in zip(groups, found, strict=True):
            by_column[group[:1]] = value
        return float(made.expected_value), by_column

    return Way("kernel", encoded.scale, encoded.output, values)


class _Explaining:
    """Keeps the version that was asked about last: to prepare its explainer takes longer than an answer."""

    def __init__(self) -> None:
        self._version: Version | None = None
        self._explain: Explain | None = None

    def __call__(self, request: tuple[Path, Version, Row]) -> dict[str, Any]:
        from driftloop import artifact

        folder, version, row = request
        if self._explain is None or version != self._version:
            self._explain = None
            self._version, self._explain = version, explainer(artifact.load(folder))
        return self._explain(row)


def _prepare() -> Callable[[Any], Any]:
    # read when NumPy and scikit-learn are loaded: the cores are for what answers /predict, and one row needs no more
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import shap  # noqa: F401  # before the first question

    import driftloop.artifact  # noqa: F401

    return _Explaining()


if __name__ == "__main__":
    worker.answer(_prepare)
