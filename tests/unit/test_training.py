"""From labelled windows to a candidate, and from two models' scores to a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop.artifact import score
from driftloop.errors import ContractError, DriftloopError
from driftloop.frame import MISSING, Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import METRICS, gain_lower_bound
from driftloop.training import build, comparable, compare, evaluate, fit, split, window_limit
from tests.fakes import a_candidate, a_loop, a_window, some_rows

LOOP = a_loop()
RULE = HoldoutRule.of(LOOP)
REGRESSION = a_loop(task="regression", model={"estimator": "sklearn.linear_model.LinearRegression"})


def labelled(y: list[float], window: str = "2024-01") -> Window:
    return Window(window, pd.DataFrame({"fee": np.arange(len(y), dtype=float)}), pd.Series(y, dtype=float), None, None)


# which windows


@pytest.mark.parametrize(("strategy", "limit"), [("all", None), ("latest", 1), ("rolling:1", 1), ("rolling:12", 12)])
def test_a_strategy_says_how_many_of_the_newest_windows_count(strategy: str, limit: int | None) -> None:
    assert window_limit(strategy) == limit


# which rows


def test_the_holdout_is_the_newest_windows_and_no_window_trains_on_its_own() -> None:
    windows = [a_window(some_rows(seed=n), window=f"2024-0{n}") for n in (1, 2, 3)]
    training, holdout = split(windows, RULE)
    assert holdout.id == training.id == "2024-03"
    assert holdout.entity is not None
    assert windows[-1].entity is not None
    held = RULE.mask(windows[-1], newest=True)
    assert holdout.entity.tolist() == windows[-1].entity[held].tolist()
    assert len(training.X) == 3 * (len(held) - held.sum())  # the same users come in every window
    assert training.y is not None
    assert training.y.index.equals(training.X.index)


@pytest.mark.parametrize(
    ("estimator", "task", "asked"),
    [("os.getcwd", "binary", "predict_proba"), ("sklearn.linear_model.LinearRegression", "binary", "predict_proba"),
     ("sklearn.preprocessing.StandardScaler", "regression", "predict")],
)  # fmt: skip
def test_what_cannot_do_the_task_is_told_before_it_is_fitted(estimator: str, task: str, asked: str) -> None:
    loop = a_loop(task=task, promotion={}, model={"estimator": estimator})
    with pytest.raises(ContractError, match=f"'{estimator}'.* needs a scikit-learn estimator with {asked}$"):
        build(loop)


def test_rows_without_labels_cannot_be_split() -> None:
    window = a_window(some_rows().drop(columns="left"))
    with pytest.raises(ValueError, match="window 2024-01 has no labels here"):
        split([window], RULE)


@pytest.mark.parametrize(
    ("y", "enough"),
    [
        ([0, 0, 1, 1], True),
        ([0, 1, 1], False),
        ([0, 0, 1], False),
        ([0, 0], False),
        ([], False),
    ],
)
def test_a_binary_holdout_needs_two_rows_of_each_class(y: list[float], enough: bool) -> None:
    assert comparable(LOOP, labelled(y)) == enough


@pytest.mark.parametrize(("y", "enough"), [([1, 2], True), ([1, 1], False), ([1], False), ([], False)])
def test_a_regression_holdout_needs_two_values(y: list[float], enough: bool) -> None:
    assert comparable(REGRESSION, labelled(y)) == enough


def test_what_is_comparable_can_be_compared() -> None:
    holdout = labelled([0, 0, 1, 1])
    for metric in (name for name, m in METRICS.items() if m.task == "binary"):
        loop = a_loop(promotion={"metric": metric})
        assert np.isfinite(compare(loop, holdout, np.array([0.1, 0.4, 0.3, 0.9]), np.full(4, 0.5)).gain)


# the pipeline


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"estimator": "sklearn.nowhere.Forest"}, "model.estimator = 'sklearn.nowhere.Forest' cannot be imported"),
        ({"estimator": "sklearn.svm.Forest"}, "model.estimator = 'sklearn.svm.Forest' cannot be imported"),
        ({"estimator": "sklearn.svm.SVC", "params": {"c": 1}}, "model.params does not fit sklearn.svm.SVC: .*'c'"),
    ],
)
def test_an_estimator_that_cannot_be_made_is_a_contract_error(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        build(a_loop(model=model))


@pytest.mark.parametrize(("params", "n_jobs"), [({}, -1), ({"n_jobs": 2}, 2)])
def test_a_forest_grows_on_all_cores_unless_told_otherwise(params: dict[str, Any], n_jobs: int) -> None:
    model = {"estimator": "sklearn.ensemble.RandomForestClassifier", "params": params}
    assert build(a_loop(model=model))["model"].n_jobs == n_jobs


def test_an_estimator_is_not_given_a_parameter_it_warns_about() -> None:
    a_candidate(a_loop(model={"estimator": "sklearn.linear_model.LogisticRegression"}))


def test_a_value_the_estimator_refuses_is_an_error_with_its_name() -> None:
    loop = a_loop(model={"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": -1}})
    with pytest.raises(DriftloopError, match=r"DecisionTreeClassifier could not be trained on 2024-01: "):
        a_candidate(loop)


def test_a_candidate_says_what_it_was_trained_on() -> None:
    facts = a_candidate(windows=[a_window(some_rows(seed=n), window=f"2024-0{n}") for n in (1, 2)]).facts
    assert (facts.loop, facts.task, facts.target, facts.labels) == ("churn", "binary", "left", ("False", "True"))
    assert facts.windows == ("2024-01", "2024-02")
    assert facts.categories == {"plan": ("basic", "family")}
    assert facts.holdout == "entity(user_id) share=0.2 seed=churn"
    assert len(facts.sample) == len(facts.sample_scores) == 20


def test_the_sample_of_a_few_rows_is_all_of_them_once() -> None:
    window = a_window(some_rows(12))
    training, _ = split([window], RULE)
    facts = fit(LOOP, ["2024-01"], training, RULE).facts
    assert len(facts.sample) == facts.rows == len(training.X)


def test_a_sample_row_is_what_a_client_would_send() -> None:
    rows = some_rows()
    rows.loc[rows.index % 2 == 0, ["fee", "plan"]] = None
    facts = a_candidate(windows=[a_window(rows)]).facts
    assert {"fee": None, "plan": None} in facts.sample
    assert facts.categories == {"plan": (MISSING, "basic", "family")}


def test_the_same_rows_make_the_same_candidate() -> None:
    first, second = a_candidate(), a_candidate()
    assert first.facts == second.facts


def test_a_category_met_only_later_does_not_stop_a_model() -> None:
    X = a_window().X.assign(plan="never seen")
    assert np.isfinite(score(a_candidate().estimator, X, "binary")).all()


# scores and comparisons


def test_all_metrics_of_the_task_are_reported() -> None:
    values = evaluate(LOOP, labelled([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]))
    assert values.keys() == {name for name, m in METRICS.items() if m.task == "binary"}
    assert (values["auc"], values["accuracy"]) == (0.75, 0.5)


def test_a_metric_that_is_undefined_is_left_out_where_it_does_not_decide() -> None:
    loop = a_loop(promotion={"metric": "brier"})
    assert "auc" not in evaluate(loop, labelled([1, 1]), np.array([0.5, 0.5]))


def test_a_metric_that_decides_but_is_undefined_is_an_error_and_not_zero() -> None:
    with pytest.raises(DriftloopError, match="auc is undefined on the 2 labelled rows of window 2024-01"):
        evaluate(LOOP, labelled([1, 1]), np.array([0.5, 0.5]))


def test_both_models_are_scored_on_the_same_rows() -> None:
    holdout = labelled([0, 0, 1, 1])
    good, weak = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.1, 0.6, 0.4, 0.9])
    found = compare(LOOP, holdout, good, weak)
    assert (found.candidate.value, found.champion.value, found.gain) == (1.0, 0.75, 0.25)
    assert found.candidate.rows_id == found.champion.rows_id == holdout.fingerprint
    y = np.array([0.0, 0.0, 1.0, 1.0])
    assert found.gain_low == gain_lower_bound("auc", y, good, weak, 0.95)


def test_without_confidence_there_is_no_bound() -> None:
    loop = a_loop(promotion={"confidence": 0})
    assert compare(loop, labelled([0, 0, 1, 1]), np.arange(4.0), np.arange(4.0)).gain_low is None
