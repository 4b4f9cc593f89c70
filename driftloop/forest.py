"""A forest as it is stored: the arrays of its trees one after the other. An object a tree is slow to write and read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.tree._tree import TREE_LEAF, Tree

from driftloop.trees import FORESTS

OF_ONE = ("random_state", "tree_")  # what is a tree's own; all else a forest's trees have in common


class PackedTrees(Sequence[Any]):
    """What can stand in the place of a forest's ``estimators_``.

    ``first`` is the first tree but for its arrays. ``nodes`` and ``values`` are those of all trees, of which each has
    its ``counts``; ``seeds`` has one number a tree.
    """

    def __init__(self, trees: Sequence[Any]) -> None:
        self.first = copy.copy(trees[0])
        del self.first.tree_
        grown = [tree.tree_ for tree in trees]
        self.seeds = np.array([tree.random_state for tree in trees])
        self.counts = np.array([tree.node_count for tree in grown])
        self.nodes = np.concatenate([tree.__getstate__()["nodes"] for tree in grown])
        self.values = np.concatenate([tree.value for tree in grown])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "trees"}

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, place: Any) -> Any:
        return self.trees[place]

    @cached_property
    def trees(self) -> list[Any]:
        """As they were. Raises ValueError where a node leads elsewhere than in a tree: scikit-learn would follow."""
        in_common, features = vars(self.first), self.first.n_features_in_
        n_classes = np.atleast_1d(getattr(self.first, "n_classes_", 1)).astype(np.intp)
        depths = self._depths()
        trees = []
        for seed, depth, count, end in zip(self.seeds, depths, self.counts, self.counts.cumsum(), strict=True):
            arrays, own = Tree(features, n_classes, self.first.n_outputs_), slice(end - count, end)
            state = {"max_depth": depth, "node_count": count, "nodes": self.nodes[own], "values": self.values[own]}
            arrays.__setstate__(state)
            tree = object.__new__(type(self.first))
            vars(tree).update(in_common, random_state=int(seed), tree_=arrays)
            trees.append(tree)
        return trees

    def _depths(self) -> np.ndarray:
        """Of each tree, shape (trees,). Raises ValueError as ``trees``."""
        roots = self.counts.cumsum() - self.counts
        if not len(self.counts) or (self.counts < 1).any() or self.counts.sum() != len(self.nodes):
            raise ValueError("its trees have other nodes than it says")
        inner = np.flatnonzero(self.nodes["left_child"] != TREE_LEAF)
        tree = np.repeat(np.arange(len(self.counts)), self.counts)[inner]
        children = np.array([self.nodes[side][inner] + roots[tree] for side in ("left_child", "right_child")])
        inside = (children > inner) & (children < (roots + self.counts)[tree])  # a node comes before its children
        feature = self.nodes["feature"][inner]
        known = (feature >= 0) & (feature < self.first.n_features_in_)
        if not (inside.all() and known.all()) or (np.bincount(children.ravel()) > 1).any():
            raise ValueError("a node of its trees leads out of its tree, back or where another does")
        below, depth, level = np.full((2, len(self.nodes)), TREE_LEAF), np.zeros(len(self.nodes), dtype=np.intp), roots
        below[:, inner] = children
        while len(level := below[:, level][below[:, level] != TREE_LEAF]):
            depth[level] = depth.max() + 1
        return np.maximum.reduceat(depth, roots)


def packed(pipeline: Pipeline) -> Pipeline:
    """The same for storing, where it ends in a forest; else the pipeline itself."""
    *before, (name, model) = pipeline.steps
    if type(model) not in FORESTS or not _alike(model.estimators_):
        return pipeline
    stored = copy.copy(model)
    stored.estimators_ = PackedTrees(model.estimators_)
    return Pipeline([*before, (name, stored)])


def unpack(stored: Any) -> None:
    """Undo ``packed`` in what was loaded.

    Raises ValueError as PackedTrees.trees, and where the forest takes other columns than its trees.
    """
    model: Any = stored.steps[-1][1] if isinstance(stored, Pipeline) else None
    trees = getattr(model, "estimators_", None)
    if not isinstance(trees, PackedTrees):
        return
    if trees.first.n_features_in_ != model.n_features_in_:
        raise ValueError("its trees take other columns than the forest")
    model.estimators_ = trees.trees


def _alike(trees: Sequence[Any]) -> bool:
    first = {name: value for name, value in vars(trees[0]).items() if name not in OF_ONE}
    return all(
        vars(tree).keys() == vars(trees[0]).keys()
        and all(np.array_equal(vars(tree)[name], value) for name, value in first.items())
        for tree in trees
    )
