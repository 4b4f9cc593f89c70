"""The trees of scikit-learn's ensembles, as one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

SINGLE_TREES = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
KINDS = (*SINGLE_TREES, *FORESTS, *BOOSTED, *HISTOGRAM)


@dataclass(frozen=True)
class Tree:
    """Five arrays over a tree's nodes: children to the left and right (-1 at a leaf), feature, threshold, value."""

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Trees:
    """An additive ensemble: ``base`` plus ``factor`` times each tree's leaf, then ``link`` (an operator of ONNX).

    With the link Softmax it is one of several, a class each, that the operator takes together.

    A row goes left where its value is at most the threshold; ``rounded``: where its value rounded to float32 is.
    """

    trees: tuple[Tree, ...]
    base: float = 0.0
    factor: float = 1.0
    link: str = "Identity"
    rounded: bool = True


def trees_of(model: Any, *, binary: bool) -> Trees | None:
    """The trees of a fitted estimator; None for one that is none, or one whose form is not known here.

    ``binary``: what they give is the probability of class 1, else the prediction.
    """
    if isinstance(model, SINGLE_TREES):
        return Trees((_tree(model, binary=binary),))
    if isinstance(model, FORESTS):
        grown = tuple(_tree(tree, binary=binary) for tree in model.estimators_)
        return Trees(grown, factor=1 / len(grown))
    if isinstance(model, BOOSTED) and model.init in (None, "zero"):
        base = float(model._raw_predict_init(np.zeros((1, model.n_features_in_)))[0, 0])  # noqa: SLF001  # not public
        twice = 2.0 if model.loss == "exponential" else 1.0
        return Trees(
            tuple(_tree(tree, binary=False) for tree in model.estimators_[:, 0]),
            base=twice * base,
            factor=twice * model.learning_rate,
            link="Sigmoid" if binary else "Identity",
        )
    if isinstance(model, HISTOGRAM):
        tables = [predictor[0].nodes for predictor in model._predictors]  # noqa: SLF001  # not public
        if any(nodes["is_categorical"].any() for nodes in tables):
            return None
        link = "Sigmoid" if binary else {"poisson": "Exp", "gamma": "Exp"}.get(model.loss, "Identity")
        base = float(model._baseline_prediction[0, 0])  # noqa: SLF001  # not public
        return Trees(tuple(map(_histogram_tree, tables)), base, link=link, rounded=False)
    return None


def trees_by_class(model: Any) -> tuple[Trees, ...] | None:
    """What gives the probability of each of a fitted classifier's classes; None as of ``trees_of``."""
    places = range(len(model.classes_))
    if isinstance(model, (*SINGLE_TREES, *FORESTS)):
        grown = model.estimators_ if isinstance(model, FORESTS) else [model]
        return tuple(Trees(tuple(_tree_of(tree, place) for tree in grown), factor=1 / len(grown)) for place in places)
    if len(places) == 2:
        return None  # boosting then has trees of one class only
    if isinstance(model, BOOSTED) and model.init in (None, "zero"):
        base = model._raw_predict_init(np.zeros((1, model.n_features_in_)))[0]  # noqa: SLF001  # not public
        return tuple(
            Trees(
                tuple(_tree_of(tree, 0) for tree in model.estimators_[:, place]),
                base=float(base[place]),
                factor=model.learning_rate,
                link="Softmax",
            )
            for place in places
        )
    if isinstance(model, HISTOGRAM):
        tables = [[one.nodes for one in grown] for grown in model._predictors]  # noqa: SLF001  # not public
        if any(nodes["is_categorical"].any() for grown in tables for nodes in grown):
            return None
        base = model._baseline_prediction[0]  # noqa: SLF001  # not public
        return tuple(
            Trees(
                tuple(_histogram_tree(grown[place]) for grown in tables),
                base=float(base[place]),
                link="Softmax",
                rounded=False,
            )
            for place in places
        )
    return None


def _tree(model: Any, *, binary: bool) -> Tree:
    return _tree_of(model, list(model.classes_).index(1) if binary else 0)


def _tree_of(model: Any, place: int) -> Tree:
    """The tree that gives what stands at one place of a leaf's values."""
    grown = model.tree_
    value = grown.value[:, 0, place]
    return Tree(grown.children_left, grown.children_right, grown.feature, grown.threshold, value)


def _histogram_tree(nodes: np.ndarray) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    return Tree(left, right, nodes["feature_idx"].astype(np.int64), nodes["num_threshold"], nodes["value"])


@dataclass(frozen=True)
class Table:
    """Many trees in arrays as ONNX has them: inner nodes and leaves are numbered apart, across all trees.

    ``left`` and ``right`` are numbers of leaves where ``left_leaf`` and ``right_leaf`` say so, else of nodes.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    left_leaf: np.ndarray
    right: np.ndarray
    right_leaf: np.ndarray
    leaf: np.ndarray


def table(trees: tuple[Tree, ...]) -> Table:
    """The trees one after the other; of each the first inner node is the root."""
    trees = tuple(map(_split_at_least_once, trees))
    sizes = [len(tree.left) for tree in trees]
    starts = np.cumsum([0, *sizes[:-1]])
    left, right, feature, threshold, value = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("left", "right", "feature", "threshold", "value")
    )
    is_leaf = left < 0
    inner, offset = ~is_leaf, np.repeat(starts, sizes)
    number = np.where(is_leaf, np.cumsum(is_leaf), np.cumsum(inner)) - 1
    to_left, to_right = (left + offset)[inner], (right + offset)[inner]
    return Table(
        number[starts],
        feature[inner],
        threshold[inner].astype(float),
        number[to_left],
        is_leaf[to_left],
        number[to_right],
        is_leaf[to_right],
        value[is_leaf].astype(float),
    )


def _split_at_least_once(tree: Tree) -> Tree:
    """A tree that is one leaf has no place in a Table: it gets a root with that leaf on both sides."""
    if len(tree.left) > 1:
        return tree
    nothing = np.zeros(3)
    return Tree(np.array([1, -1, -1]), np.array([2, -1, -1]), nothing.astype(int), nothing, np.repeat(tree.value, 3))
