"""A forest is stored packed, and comes back as it was."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from driftloop.artifact import REVIEWED_TYPES, load_skops
from driftloop.errors import ArtifactError
from driftloop.forest import PackedTrees, packed

RNG = np.random.default_rng(0)
X = np.where(RNG.random((400, 4)) < 0.05, np.nan, RNG.normal(size=(400, 4)))
Y = (np.nan_to_num(X[:, 0]) + RNG.normal(size=400) > 0).astype(int)
FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)


def fitted(kind: Any, y: np.ndarray = Y, **params: Any) -> Pipeline:
    return Pipeline([("encode", StandardScaler()), ("model", kind(n_estimators=7, random_state=0, **params))]).fit(X, y)


def stored(pipeline: Pipeline) -> Any:
    file = io.BytesIO(skops.io.dumps(packed(pipeline)))
    return load_skops(file)


@pytest.mark.parametrize("kind", FORESTS)
def test_it_comes_back_as_it_was(kind: Any) -> None:
    pipeline = fitted(kind)
    loaded = stored(pipeline)
    for tree, again in zip(pipeline["model"].estimators_, loaded["model"].estimators_, strict=True):
        assert vars(tree).keys() == vars(again).keys()
        assert tree.get_params() == again.get_params()
        np.testing.assert_array_equal(tree.tree_.__getstate__()["nodes"], again.tree_.__getstate__()["nodes"])
        np.testing.assert_array_equal(tree.tree_.value, again.tree_.value)
        assert tree.tree_.max_depth == again.tree_.max_depth
    asked = "predict_proba" if hasattr(pipeline, "predict_proba") else "predict"
    np.testing.assert_array_equal(getattr(loaded, asked)(X), getattr(pipeline, asked)(X))
    np.testing.assert_array_equal(loaded["model"].feature_importances_, pipeline["model"].feature_importances_)


def test_of_many_classes() -> None:
    pipeline = fitted(RandomForestClassifier, RNG.integers(0, 4, 400))
    np.testing.assert_array_equal(stored(pipeline).predict_proba(X), pipeline.predict_proba(X))


def test_what_is_packed_is_left_as_it_is() -> None:
    pipeline = fitted(RandomForestClassifier)
    assert isinstance(packed(pipeline)["model"].estimators_, PackedTrees)
    assert isinstance(pipeline["model"].estimators_, list)


def test_without_driftloops_reading_a_packed_forest_predicts_too() -> None:
    pipeline = fitted(RandomForestClassifier)
    loaded = skops.io.loads(skops.io.dumps(packed(pipeline)), trusted=list(REVIEWED_TYPES))
    assert isinstance(loaded["model"].estimators_, PackedTrees)
    np.testing.assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))
    assert len(loaded["model"]) == 7


def test_it_grows_on_after_loading() -> None:
    loaded = stored(fitted(RandomForestClassifier, warm_start=True))
    loaded["model"].set_params(n_estimators=9).fit(loaded[:-1].transform(X), Y)
    assert len(loaded["model"].estimators_) == 9
    assert len(stored(loaded)["model"].estimators_) == 9


@pytest.mark.parametrize("kind", [LogisticRegression, GradientBoostingRegressor])
def test_what_is_no_forest_is_stored_as_it_is(kind: Any) -> None:
    pipeline = Pipeline([("model", kind())])
    assert packed(pipeline) is pipeline


def test_trees_that_differ_in_more_are_stored_as_they_are() -> None:
    pipeline = fitted(RandomForestClassifier)
    pipeline["model"].estimators_[3].min_samples_leaf = 9
    assert packed(pipeline) is pipeline


@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 0), ("left_child", 10**6), ("left_child", 5), ("right_child", -1), ("feature", 4), ("feature", -2)],
)
def test_a_tree_that_leads_astray_is_refused(field: str, value: int) -> None:
    """scikit-learn would read elsewhere in memory, or go round for ever."""
    changed = packed(fitted(RandomForestClassifier))
    changed["model"].estimators_.nodes[field][0] = value
    with pytest.raises(ArtifactError, match="leads out of its tree, back or where another does"):
        load_skops(io.BytesIO(skops.io.dumps(changed)))


def test_trees_of_more_columns_than_the_forest_has_are_refused() -> None:
    changed = packed(fitted(RandomForestClassifier))
    changed["model"].estimators_.first.n_features_in_ = 9
    with pytest.raises(ArtifactError, match="other columns than the forest"):
        load_skops(io.BytesIO(skops.io.dumps(changed)))


def test_a_tree_without_a_node_is_refused() -> None:
    changed = packed(fitted(RandomForestClassifier))
    changed["model"].estimators_.counts = np.append(changed["model"].estimators_.counts, 0)
    changed["model"].estimators_.seeds = np.append(changed["model"].estimators_.seeds, 0)
    with pytest.raises(ArtifactError, match="other nodes than it says"):
        load_skops(io.BytesIO(skops.io.dumps(changed)))
