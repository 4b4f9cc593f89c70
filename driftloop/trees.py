"""The trees of an ensemble, as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
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
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

SINGLE_TREES = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
KINDS = (*SINGLE_TREES, *FORESTS, *BOOSTED, *HISTOGRAM)


@dataclass(frozen=True)
class Tree:
    """Arrays over a tree's nodes: children to the left and right (-1 at a leaf), feature, threshold, value, and whether
    a null goes left.

    ``members``: of a node that splits on categories, the codes that go left; its threshold means nothing.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    missing_left: np.ndarray
    members: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Trees:
    """An additive ensemble: ``base`` plus ``factor`` times each tree's leaf, then ``link`` (an operator of ONNX).

    With the link Softmax it is one of several, a class each, that the operator takes together.

    A row goes left where its value is at most the threshold, or its code is a member; ``rounded``: where its value
    rounded to float32 is.
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
    from driftloop.boosters import boosted  # it makes Trees

    if isinstance(model, TransformedTargetRegressor):
        return _scaled_back(model)
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
        link = "Sigmoid" if binary else {"poisson": "Exp", "gamma": "Exp"}.get(model.loss, "Identity")
        base = float(model._baseline_prediction[0, 0])  # noqa: SLF001  # not public
        return Trees(tuple(_histogram_trees(model)), base, link=link, rounded=False)
    return boosted(model)


def _scaled_back(model: TransformedTargetRegressor) -> Trees | None:
    trees, scaler = trees_of(model.regressor_, binary=False), model.transformer_
    if trees is None or trees.link != "Identity" or not isinstance(scaler, StandardScaler):
        return None
    scale, mean = float(scaler.scale_[0]), float(scaler.mean_[0])
    return replace(trees, base=trees.base * scale + mean, factor=trees.factor * scale)


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
        base = model._baseline_prediction[0]  # noqa: SLF001  # not public
        return tuple(
            Trees(tuple(_histogram_trees(model, place)), float(base[place]), link="Softmax", rounded=False)
            for place in places
        )
    return None


def _tree(model: Any, *, binary: bool) -> Tree:
    return _tree_of(model, list(model.classes_).index(1) if binary else 0)


def _tree_of(model: Any, place: int) -> Tree:
    """The tree that gives what stands at one place of a leaf's values."""
    grown = model.tree_
    value = grown.value[:, 0, place]
    missing_left = grown.missing_go_to_left.astype(bool)
    return Tree(grown.children_left, grown.children_right, grown.feature, grown.threshold, value, missing_left)


def _histogram_trees(model: Any, place: int = 0) -> Iterator[Tree]:
    """Those of one class. Inside, a model has the categorical columns first and numbers their values anew."""
    of, known = np.arange(model.n_features_in_), []
    if model.is_categorical_ is not None:
        of = np.concatenate([np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)])
        known = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001  # not public
    for predictor in (grown[place] for grown in model._predictors):  # noqa: SLF001  # not public
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
        members = {
            int(node): known[nodes["feature_idx"][node]][
                in_bits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
            ].astype(float)
            for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
        }
        missing_left = nodes["missing_go_to_left"].astype(bool)
        yield Tree(left, right, of[nodes["feature_idx"]], nodes["num_threshold"], nodes["value"], missing_left, members)


@dataclass(frozen=True)
class Table:
    """Many trees in arrays as ONNX has them: inner nodes and leaves are numbered apart, across all trees.

    ``left`` and ``right`` are numbers of leaves where ``left_leaf`` and ``right_leaf`` say so, else of nodes.
    ``members`` are by inner node.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    left_leaf: np.ndarray
    right: np.ndarray
    right_leaf: np.ndarray
    leaf: np.ndarray
    missing_left: np.ndarray
    members: Mapping[int, np.ndarray]


def table(trees: tuple[Tree, ...]) -> Table:
    """The trees one after the other; of each the first inner node is the root."""
    trees = tuple(map(_split_at_least_once, trees))
    sizes = [len(tree.left) for tree in trees]
    starts = np.cumsum([0, *sizes[:-1]])
    left, right, feature, threshold, value, missing_left = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("left", "right", "feature", "threshold", "value", "missing_left")
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
        missing_left[inner],
        {
            int(number[start + node]): codes
            for start, tree in zip(starts, trees, strict=True)
            for node, codes in tree.members.items()
        },
    )


def _split_at_least_once(tree: Tree) -> Tree:
    """A tree that is one leaf has no place in a Table: it gets a root with that leaf on both sides."""
    if len(tree.left) > 1:
        return tree
    nothing, no = np.zeros(3), np.zeros(3, dtype=bool)
    left, right = np.array([1, -1, -1]), np.array([2, -1, -1])
    return Tree(left, right, nothing.astype(int), nothing, np.repeat(tree.value, 3), no)


def in_bits(words: np.ndarray) -> np.ndarray:
    """The numbers of the bits set in words of 32.

    >>> in_bits(np.array([5, 1], dtype=np.uint32))
    array([ 0,  2, 32])
    """
    return np.flatnonzero(np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little"))
