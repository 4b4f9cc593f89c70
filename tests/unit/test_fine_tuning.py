"""A fitted pipeline learns on from new rows, each kind of estimator in its way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from driftloop.fine_tuning import rate_of, tuned, way

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
OLD, NEW = (pd.DataFrame(RNG.normal(centre, 1, size=(120, 3))) for centre in (0, 3))


def y_of(X: pd.DataFrame, slope: float = 1.0) -> pd.Series:
    return 100 + 10 * slope * X[0]


def pipeline(model: Any) -> Pipeline:
    return Pipeline([("encode", StandardScaler()), ("model", model)])


def mlp(**params: Any) -> MLPRegressor:
    params = {"hidden_layer_sizes": (8,), "max_iter": 300, "learning_rate_init": 0.02} | params
    return MLPRegressor(random_state=0, **params)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (SGDRegressor(), "partial_fit"),
        (mlp(), "partial_fit"),
        (mlp(solver="lbfgs"), "iterations"),
        (TransformedTargetRegressor(mlp(), transformer=StandardScaler()), "partial_fit"),
        (make_pipeline(StandardScaler(), SGDRegressor()), "partial_fit"),
        (RandomForestRegressor(), "members"),
        (GradientBoostingRegressor(), "members"),
        (LogisticRegression(), "iterations"),
        (LogisticRegression(solver="newton-cholesky"), "iterations"),
        (LogisticRegression(solver="liblinear"), None),
        (HistGradientBoostingRegressor(), None),
        (LinearRegression(), None),
    ],
)
def test_how_an_estimator_can_learn_on(model: Any, found: str | None) -> None:
    assert way(model) == found


@pytest.mark.parametrize(
    ("model", "name"),
    [(mlp(), "learning_rate_init"), (SGDRegressor(), "eta0"), (GradientBoostingRegressor(), None),
     (GaussianNB(), None), (TransformedTargetRegressor(mlp()), "learning_rate_init")],
)  # fmt: skip
def test_which_parameter_is_the_learning_rate(model: Any, name: str | None) -> None:
    assert rate_of(model) == name


@pytest.mark.parametrize(
    "model",
    [
        mlp(),
        mlp(early_stopping=True),
        SGDRegressor(random_state=0, early_stopping=True),
        RandomForestRegressor(20, random_state=0),
        GradientBoostingRegressor(n_estimators=20, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_has_learnt_on_is_better_on_the_new_rows_and_the_base_stays(model: Any) -> None:
    base = pipeline(model).fit(OLD, y_of(OLD))
    before, params = base.predict(NEW), model.get_params()
    again = tuned(base, NEW, y_of(NEW, 2), 20, None)
    errors = [np.abs(y_of(NEW, 2) - predicted).mean() for predicted in (before, again.predict(NEW))]
    assert errors[1] < 0.9 * errors[0]
    assert base.predict(NEW).tolist() == before.tolist()
    assert again["encode"].mean_.tolist() == base["encode"].mean_.tolist()  # frozen
    assert {n: v for n, v in again["model"].get_params().items() if n != "n_estimators"} == {
        n: v for n, v in params.items() if n != "n_estimators"
    }


def test_the_targets_scaler_stays_as_it_was() -> None:
    scaled = TransformedTargetRegressor(mlp(), transformer=StandardScaler())
    base = pipeline(scaled).fit(OLD, y_of(OLD))
    again = tuned(base, NEW, y_of(NEW, 2), 30, None)
    assert again["model"].transformer_.mean_ == base["model"].transformer_.mean_
    error = np.abs(again.predict(NEW) - y_of(NEW, 2)).mean()
    assert error < 0.3 * np.abs(base.predict(NEW) - y_of(NEW, 2)).mean()


def test_epochs_are_passes_or_trees_more() -> None:
    forest = pipeline(RandomForestRegressor(5, random_state=0)).fit(OLD, y_of(OLD))
    assert len(tuned(forest, NEW, y_of(NEW), 3, None)["model"].estimators_) == 8
    one, many = (tuned(pipeline(mlp()).fit(OLD, y_of(OLD)), NEW, y_of(NEW, 2), n, None) for n in (1, 30))
    assert np.abs(many.predict(NEW) - y_of(NEW, 2)).mean() < np.abs(one.predict(NEW) - y_of(NEW, 2)).mean()


def test_what_only_counts_takes_the_rows_once() -> None:
    base = pipeline(GaussianNB()).fit(OLD, OLD[0] > 0)
    assert tuned(base, NEW, NEW[0] > 3, 10, None)["model"].class_count_.sum() == 240


@pytest.mark.parametrize("model", [mlp(), SGDRegressor(random_state=0)], ids=["net", "sgd"])
def test_the_learning_rate_is_that_of_the_new_rows(model: Any) -> None:
    base = pipeline(model).fit(OLD, y_of(OLD))
    slow, fast = (tuned(base, NEW, y_of(NEW, 2), 2, rate).predict(NEW) for rate in (1e-6, 1e-2))
    before = base.predict(NEW)
    assert np.abs(slow - before).mean() < 0.1 * np.abs(fast - before).mean()


def test_classifiers_learn_on_too() -> None:
    for model in (SGDClassifier(loss="log_loss", random_state=0), RandomForestClassifier(10, random_state=0)):
        base = pipeline(model).fit(OLD, (OLD[0] > 0).astype(int))
        y = (NEW[0] < 3).astype(int)  # the other way round
        again = tuned(base, NEW, y, 30, None)
        assert again.score(NEW, y) > base.score(NEW, y)
        assert again.classes_.tolist() == [0, 1]
