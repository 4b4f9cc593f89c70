"""Which of SHAP's explainers a model gets, and that its values add up to the score."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from driftloop import frame, training
from driftloop.artifact import Artifact
from driftloop.contract import Loop
from driftloop.holdout import HoldoutRule
from services.api import explaining
from services.api.scoring import Unscorable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what SHAP imports deprecates parts of itself
    import shap

PACKAGES = ("sklearn.", "xgboost.", "lightgbm.", "catboost.")
TEN = {"n_estimators": 10, "random_state": 0}
HISTOGRAM = {"max_iter": 10, "random_state": 0}
TREES = [
    ("binary", "ensemble.RandomForestClassifier", TEN | {"class_weight": "balanced"}),
    ("regression", "ensemble.RandomForestRegressor", TEN),
    ("binary", "ensemble.ExtraTreesClassifier", TEN),
    ("binary", "tree.DecisionTreeClassifier", {"random_state": 0}),
    ("binary", "tree.DecisionTreeClassifier", {"min_samples_leaf": 200}),  # one leaf
    ("binary", "ensemble.GradientBoostingClassifier", {"random_state": 0}),
    ("regression", "ensemble.GradientBoostingRegressor", {"random_state": 0}),
    ("binary", "ensemble.HistGradientBoostingClassifier", HISTOGRAM | {"categorical_features": []}),
    ("regression", "ensemble.HistGradientBoostingRegressor", HISTOGRAM | {"categorical_features": []}),
]
LINEAR = [
    ("binary", "linear_model.LogisticRegression", {}),
    ("binary", "linear_model.SGDClassifier", {"loss": "log_loss", "random_state": 0}),
    ("binary", "discriminant_analysis.LinearDiscriminantAnalysis", {}),
    ("regression", "linear_model.Ridge", {}),
]
OTHER = [
    ("binary", "neural_network.MLPClassifier", {"random_state": 0}),
    ("binary", "naive_bayes.GaussianNB", {}),
    ("binary", "calibration.CalibratedClassifierCV", {}),
    ("binary", "linear_model.SGDClassifier", {"loss": "modified_huber", "random_state": 0}),  # no log-odds are linear
    ("regression", "linear_model.PoissonRegressor", {}),
    ("regression", "ensemble.HistGradientBoostingRegressor", HISTOGRAM | {"loss": "poisson"}),
    ("binary", "ensemble.HistGradientBoostingClassifier", HISTOGRAM),  # it splits on categories
]
ALL = [*(("tree", *one) for one in TREES), *(("linear", *one) for one in LINEAR), *(("kernel", *one) for one in OTHER)]
ROWS: list[dict[str, Any]] = [
    {"fee": 70.5, "usage": 3.0, "plan": "basic", "paperless": "True"},
    {"fee": None, "usage": None, "plan": None, "paperless": None},  # the medians, at which a tree may split
    {"fee": 30.0, "usage": -20.0, "plan": "of tomorrow", "paperless": "never"},
    {"fee": 200.0, "usage": -50.0, "plan": "full", "paperless": None},
]


def rows(seed: int = 0, n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    fee, usage = rng.normal(50, 10, n), rng.normal(20, 5, n)
    plan, paperless = rng.choice(["basic", "full"], n), rng.choice([True, False], n)
    signal = fee + 5 * (plan == "full") + rng.normal(0, 5, n)
    made = pd.DataFrame({"fee": fee, "usage": usage, "plan": plan, "paperless": paperless}).astype(
        {"plan": object, "paperless": object}
    )
    made.loc[::9, "fee"], made.loc[::7, "plan"] = None, None
    return made.assign(gone=np.where(signal > 52, "yes", "no"), spend=np.abs(signal))


@cache
def fitted(task: str, estimator: str, params: str, preprocessing: str = "auto") -> Artifact:
    loop = Loop.model_validate(
        {
            "name": "churn",
            "task": task,
            "target": "gone" if task == "binary" else "spend",
            "features": {"numeric": ["fee", "usage"], "categorical": ["plan", "paperless"]},
            "model": {
                "estimator": estimator if estimator.startswith(PACKAGES) else f"sklearn.{estimator}",
                "params": eval(params),
                "preprocessing": preprocessing,
            },
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge on few rows
        made = training.fit(loop, ["2024-01"], frame.check(rows(), loop, "2024-01"), HoldoutRule.of(loop))
    return Artifact(made.facts, made.estimator, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "task", "estimator", "params"), ALL, ids=[f"{m}-{e}" for m, _, e, _ in ALL])
def test_base_and_values_add_up_to_the_score_by_the_explainer_that_fits(
    method: str, task: str, estimator: str, params: dict[str, Any]
) -> None:
    artifact = fitted(task, estimator, repr(params))
    explain = explaining.explainer(artifact)
    for row in ROWS:
        found = explain(row)
        assert found["method"] == method
        assert list(found["values"]) == ["fee", "usage", "plan", "paperless"]
        apart = abs(found["base"] + math.fsum(found["values"].values()) - found["output"])
        assert apart <= 1e-6 * max(1.0, abs(found["output"]), *map(abs, found["values"].values()))
        score = artifact.score(pd.DataFrame([row]))[0]
        if task == "binary":
            assert found["probability"] == pytest.approx(score, abs=1e-12)
        if found["scale"] == "log-odds":
            assert (method, task) == ("linear", "binary")
            assert 1 / (1 + math.exp(min(-found["output"], 700))) == pytest.approx(score, abs=1e-9)
        else:
            assert found["scale"] == ("probability" if task == "binary" else "value")
            assert found["output"] == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "name"), [("tree", "TreeExplainer"), ("linear", "LinearExplainer"), ("kernel", "KernelExplainer")]
)
def test_shaps_own_explainer_gives_the_values(method: str, name: str) -> None:
    _, task, estimator, params = next(one for one in ALL if one[0] == method)
    artifact = fitted(task, estimator, repr(params))
    with patch.object(getattr(shap, name), "shap_values", side_effect=RuntimeError("asked")) as asked:
        with pytest.raises(RuntimeError, match="asked"):
            explaining.explainer(artifact)(ROWS[0])
        asked.assert_called_once()


def test_what_does_not_add_up_is_asked_of_the_model_itself() -> None:
    artifact = fitted(*TREES[0][:2], repr(TREES[0][2]))
    with patch.object(shap.TreeExplainer, "shap_values", return_value=np.zeros((1, 7))):
        found = explaining.explainer(artifact)(ROWS[0])
    assert found["method"] == "kernel"
    exact = explaining.explainer(artifact)(ROWS[0])
    # not the same: a tree's encoded columns are players of their own, here a feature's columns come together
    assert found["values"] == pytest.approx(exact["values"], abs=0.02)


def test_a_linear_models_values_are_its_coefficients_times_the_distance_from_the_sample() -> None:
    artifact = fitted(*LINEAR[-1][:2], repr(LINEAR[-1][2]))
    found = explaining.explainer(artifact)(ROWS[0])
    fee = artifact.sample["fee"].fillna(artifact.estimator["encode"].transformers_[0][1][0].statistics_[0])
    scale = artifact.estimator["encode"].transformers_[0][1][1].scale_[0]
    coefficient = artifact.estimator["model"].coef_[0] / scale
    assert found["values"]["fee"] == pytest.approx(coefficient * (70.5 - fee.mean()))
    assert found["base"] == pytest.approx(artifact.score(artifact.sample).mean())


def test_one_row_is_explained_in_one_way() -> None:
    artifact = fitted(*OTHER[0][:2], repr(OTHER[0][2]))
    explain = explaining.explainer(artifact)
    assert explain(ROWS[0]) == explain(ROWS[0]) == explaining.explainer(artifact)(ROWS[0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_without_a_finite_score_has_no_explanation() -> None:
    explain = explaining.explainer(fitted("regression", "linear_model.PoissonRegressor", "{}"))
    with pytest.raises(Unscorable):
        explain(ROWS[0] | {"fee": 3.4e38})


@pytest.mark.parametrize(
    ("method", "estimator", "preprocessing"),
    [
        ("tree", "sklearn.ensemble.RandomForestClassifier", "tests.own.scaled"),
        ("kernel", "sklearn.ensemble.RandomForestClassifier", "tests.own.squeezed"),
        ("kernel", "catboost.CatBoostClassifier", "auto"),  # it takes the words themselves
        ("kernel", "lightgbm.LGBMClassifier", "auto"),
    ],
)
def test_before_columns_that_nobody_knows_the_features_themselves_are_tried(
    method: str, estimator: str, preprocessing: str
) -> None:
    pytest.importorskip(estimator.partition(".")[0])
    artifact = fitted("binary", estimator, repr({"n_estimators": 5, "random_state": 0}), preprocessing)
    explain = explaining.explainer(artifact)
    for row in ROWS:
        found = explain(row)
        assert found["method"] == method
        assert found["base"] + math.fsum(found["values"].values()) == pytest.approx(found["output"], abs=1e-6)
        assert found["probability"] == pytest.approx(artifact.score(pd.DataFrame([row]))[0], abs=1e-12)


def test_a_tree_too_large_for_shap_is_asked_as_any_other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "LARGEST_TREE", 2)
    assert explaining.explainer(fitted(*TREES[3][:2], repr(TREES[3][2])))(ROWS[0])["method"] == "kernel"
