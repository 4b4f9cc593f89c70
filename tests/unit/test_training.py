"""From labelled windows to a candidate, and from two models' scores to a comparison."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t
from sklearn.metrics import f1_score

from driftloop.artifact import score
from driftloop.calibration import best_f1_threshold
from driftloop.contract import Loop
from driftloop.errors import ContractError, DriftloopError
from driftloop.facts import Facts
from driftloop.frame import MISSING, Window
from driftloop.holdout import HoldoutRule
from driftloop.live import mean_shifts
from driftloop.metrics import Predictions, metrics_of
from driftloop.paired import paired_gain
from driftloop.recipe import build
from driftloop.scores import baseline, comparable, compare, evaluate
from driftloop.slices import NO_SLICES, quartiles
from driftloop.strategy import Base, TrainingSet, joined, pieces, training_set, window_limit
from driftloop.training import (
    FOLD_ROWS,
    FOLDS,
    Candidate,
    fit,
    fit_set,
    fitted,
    folds,
    out_of_bag,
    ranges,
    refit,
    representative,
    split,
    split_parts,
    statistics,
    threshold_of,
    with_base,
)
from tests.fakes import a_candidate, a_loop, a_window, some_facts, some_rows

LOOP = a_loop()
RULE = HoldoutRule.of(LOOP)
REGRESSION = a_loop(task="regression", model={"estimator": "sklearn.linear_model.LinearRegression"})


def labelled(y: list[float], window: str = "2024-01") -> Window:
    X = pd.DataFrame({"fee": np.arange(len(y), dtype=float)})
    return Window(window, X, pd.Series(y, dtype=float), None, None, slicing=X)


def said(*scores: float, threshold: float = 0.5) -> Predictions:
    return Predictions(np.array(scores), threshold)


def trained(loop: Loop = LOOP, rows: pd.DataFrame | None = None) -> tuple[Candidate, Window, Window]:
    """A candidate of one window, its training rows and the holdout."""
    training, holdout = split([a_window(rows, loop)], HoldoutRule.of(loop))
    return fit(loop, ["2024-01"], training, HoldoutRule.of(loop)), training, holdout


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
    for metric in metrics_of("binary"):
        loop = a_loop(promotion={"metric": metric})
        assert np.isfinite(compare(loop, holdout, said(0.1, 0.4, 0.3, 0.9), said(0.5, 0.5, 0.5, 0.5), {}).gain)


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
    assert build(a_loop(model={"estimator": "sklearn.linear_model.LogisticRegression"}))["model"].n_jobs is None


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
    assert len(facts.sample) == len(facts.sample_scores) == 50


def test_the_sample_of_a_few_rows_is_all_of_them_once() -> None:
    window = a_window(some_rows(12))
    training, _ = split([window], RULE)
    facts = fit(LOOP, ["2024-01"], training, RULE).facts
    assert len(facts.sample) == facts.rows == len(training.X)


def test_the_sample_s_mean_score_is_about_that_of_all_rows_whatever_their_order() -> None:
    rows = pd.DataFrame({"x": np.random.default_rng(0).permutation(500).astype(float)})
    for ordered in (rows, rows.sort_values("x", ignore_index=True)):
        picked = representative(ordered, lambda X: X["x"].to_numpy())
        assert (len(picked), picked.index.is_monotonic_increasing) == (50, True)
        assert picked["x"].mean() == pytest.approx(rows["x"].mean(), abs=1)


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


# folds


def rows_of(entities: list[str] | None, n: int = 0) -> Window:
    owners = None if entities is None else pd.Series(entities)
    n = n if owners is None else len(owners)
    return Window("2024-01", pd.DataFrame({"fee": np.zeros(n)}), None, owners, None)


@given(entities=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40))
def test_an_entitys_rows_share_a_fold(entities: list[str]) -> None:
    fold = folds(rows_of(entities), in_order=False)
    assert set(fold.tolist()) <= set(range(FOLDS))
    assert len(set(zip(entities, fold.tolist(), strict=True))) == len(set(entities))


@given(owners=st.integers(1, 60))
def test_folds_hold_as_many_entities_each(owners: int) -> None:
    fold = folds(rows_of([f"u{n}" for n in range(owners)]), in_order=False)
    counts = np.bincount(fold, minlength=FOLDS)
    assert counts.max() - counts.min() <= 1


def test_rows_without_an_entity_are_drawn_one_by_one_and_the_same_way_each_time() -> None:
    fold = folds(rows_of(None, 300), in_order=False)
    assert np.bincount(fold).tolist() == [100, 100, 100]
    assert (np.diff(fold) < 0).any()
    assert fold.tolist() == folds(rows_of(None, 300), in_order=False).tolist()


@given(n=st.integers(FOLDS, 200))
def test_folds_in_order_are_blocks(n: int) -> None:
    fold = folds(rows_of(None, n), in_order=True)
    assert fold.tolist() == sorted(fold.tolist())
    counts = np.bincount(fold)
    assert len(counts) == FOLDS
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_an_instant_that_would_leave_a_block_empty_is_cut(zone: str | None) -> None:
    n = FOLDS * 10
    few = pd.Series(pd.date_range("2024-01-01", periods=2, tz=zone).repeat(n // 2))
    many = pd.Series(pd.date_range("2024-01-01", periods=n // 2, tz=zone).repeat(2))
    cut, whole = (folds(replace(rows_of(None, n), timestamp=times), in_order=True) for times in (few, many))
    assert np.bincount(cut).tolist() == [10] * FOLDS
    assert (whole[::2] == whole[1::2]).all()


def test_of_many_rows_in_order_the_newest_are_used() -> None:
    fold = folds(rows_of(None, FOLD_ROWS + 1000), in_order=True)
    assert (fold[:1000] == -1).all()
    assert (fold[1000:] >= 0).all()
    assert np.bincount(fold[1000:]).min() >= FOLD_ROWS // FOLDS


def test_of_as_many_rows_as_a_threshold_takes_all_are_used() -> None:
    for in_order in (True, False):
        assert (folds(rows_of(None, FOLD_ROWS), in_order=in_order) >= 0).all()


@pytest.mark.parametrize("each", [1, 4])
def test_of_many_rows_about_as_many_are_used_as_a_threshold_takes(each: int) -> None:
    n = 2 * FOLD_ROWS
    entities = [f"u{row // each}" for row in range(n)]
    fold = folds(rows_of(entities), in_order=False)
    assert FOLD_ROWS - each <= (fold >= 0).sum() <= FOLD_ROWS + each
    assert len(set(zip(entities, fold.tolist(), strict=True))) == n / each  # left out or used with all their rows


# the threshold


def test_the_threshold_is_the_best_for_f1_on_probabilities_of_models_that_did_not_see_the_row() -> None:
    candidate, training, _ = trained(rows=some_rows(200))
    assert training.y is not None
    y, fold, out_of_fold = training.y.to_numpy(), folds(training, in_order=False), np.empty(len(training.X))
    for held in range(FOLDS):
        model = build(LOOP).fit(training.X[fold != held], y[fold != held].astype(int))
        out_of_fold[fold == held] = model.predict_proba(training.X[fold == held])[:, 1]
    f1 = {t: f1_score(y, out_of_fold >= t) for t in out_of_fold}
    assert candidate.facts.threshold == min(t for t, value in f1.items() if value > max(f1.values()) - 1e-12)


def test_the_holdout_has_no_say_in_the_threshold() -> None:
    rows = some_rows(200)
    window = a_window(rows)
    held = RULE.mask(window, newest=True)
    candidate, training, holdout = trained(rows=rows)
    changed, same_training, other_holdout = trained(
        rows=rows.assign(left=np.where(held, ~rows["left"], rows["left"]), fee=np.where(held, 99.0, rows["fee"]))
    )
    assert (training.fingerprint, holdout.fingerprint) != (same_training.fingerprint, other_holdout.fingerprint)
    assert candidate.facts.threshold is not None
    assert candidate.facts == changed.facts


def test_a_regression_has_no_threshold() -> None:
    loop = a_loop(task="regression", target="cost", model={"estimator": "sklearn.linear_model.LinearRegression"})
    rows = some_rows().rename(columns={"left": "cost"})
    assert trained(loop, rows.assign(cost=rows["fee"] * 2))[0].facts.threshold is None


def test_where_a_fold_would_train_on_one_class_there_is_no_threshold() -> None:
    rows = some_rows(30)
    held = RULE.mask(a_window(rows), newest=True)
    one_event = rows.assign(left=np.arange(30) == np.flatnonzero(~held)[0])
    candidate, _, _ = trained(rows=one_event)
    assert candidate.facts.threshold is None


def test_the_threshold_of_a_holdout_by_time_comes_from_folds_in_order() -> None:
    loop = a_loop(entity=None, timestamp="day", holdout={"by": "time", "share": 0.25})
    rows = some_rows(80).assign(day=pd.date_range("2024-01-01", periods=80))
    rows["left"] = np.arange(80) >= 40  # of 60 training rows the last block holds events alone, the first none
    candidate, training, _ = trained(loop, rows)
    assert training.y is not None
    assert training.y.sum() == 20
    assert candidate.facts.threshold is None  # without the last block no event is left to train on


def test_by_time_the_order_of_the_file_makes_no_difference() -> None:
    loop = a_loop(entity=None, timestamp="day", holdout={"by": "time", "share": 0.25})
    rows = some_rows(400).assign(day=pd.date_range("2024-01-01", periods=400))
    shuffled = rows.sample(frac=1, random_state=0)
    assert trained(loop, shuffled)[0].facts.threshold == trained(loop, rows)[0].facts.threshold


def test_duplicates_share_a_fold_of_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[bool] = []
    original = fitted

    def spied(loop: Loop, recipe: Any, learnt: Any, *more: Any) -> Any:
        copies = learnt.rows.X["fee"].value_counts()
        met.append(bool((copies == 3).all()))
        return original(loop, recipe, learnt, *more)

    monkeypatch.setattr("driftloop.training.fitted", spied)
    rows = pd.concat([some_rows(60)] * 3)
    trained(a_loop(entity=None, holdout={"by": "row"}), rows)
    assert met == [True] * (1 + FOLDS)


def test_a_base_that_knows_the_owners_keeps_its_threshold() -> None:
    recipe = LOOP.model.recipes[0]
    candidate, known, _ = trained(rows=some_rows(200))
    base = Base("1", candidate.estimator, candidate.facts.model_copy(update={"threshold": 0.123}))
    assert threshold_of(LOOP, recipe, TrainingSet("fine_tune", ("2024-01",), known, base=base)) == 0.123


def test_the_quartiles_of_the_training_rows_go_with_the_version() -> None:
    candidate, training, _ = trained()
    assert candidate.facts.quartiles.keys() == {"fee"}
    assert candidate.facts.quartiles["fee"] == pytest.approx(training.X["fee"].quantile([0.25, 0.5, 0.75]).tolist())


def test_mean_and_deviation_of_the_training_values_go_with_the_version() -> None:
    rows = some_rows()
    rows.loc[::3, "fee"] = None
    candidate, training, _ = trained(rows=rows)
    fee = training.X["fee"].dropna()
    assert candidate.facts.statistics == {"fee": pytest.approx((fee.mean(), fee.std(ddof=0)))}


def test_the_ranges_and_usual_values_of_the_training_rows_go_with_the_version() -> None:
    loop = a_loop(features={"numeric": ["fee", "empty"], "categorical": ["plan"]})
    rows = some_rows(4).assign(fee=[3.0, 1.5, None, 9.0], empty=[None, None, None, 1.0], plan=["b", "a", None, "b"])
    window = a_window(rows.assign(left=[True, False, True, False]), loop)
    facts = fit(loop, [window.id], window.where(np.array([True, True, True, False])), HoldoutRule.of(loop)).facts
    assert facts.ranges == {"fee": (1.5, 1.5, 3.0)}  # the middle is a value that is there
    assert facts.modes == {"plan": "(missing)"}  # of the equally frequent the first


def test_a_column_without_values_has_no_statistics() -> None:
    empty, known = pd.Series([np.nan, np.nan]), pd.Series([1.0, np.nan])
    assert statistics(pd.DataFrame({"fee": empty, "usage": known})) == {"usage": (1.0, 0.0)}


def test_the_quartiles_of_a_slicing_column_that_is_no_feature_go_with_it() -> None:
    loop = a_loop(promotion={"slices": ["age", "region"]})
    rows = some_rows().assign(age=np.arange(60.0), region=["north", "south"] * 30)
    candidate, training, _ = trained(loop, rows)
    assert training.slicing is not None
    assert len(training.slicing) == len(training.X)
    assert candidate.facts.quartiles.keys() == {"fee", "age"}
    expected = training.slicing["age"].quantile([0.25, 0.5, 0.75]).tolist()
    assert candidate.facts.quartiles["age"] == pytest.approx(expected)


# fitted again


def with_holdout(training: Window, holdout: Window) -> TrainingSet:
    return TrainingSet("all", ("2024-01",), joined([training, holdout]))


def test_a_refit_trains_on_the_holdout_too_and_keeps_what_was_measured_without_it() -> None:
    judged, training, holdout = trained(rows=some_rows(200))
    measured = {"metrics": {"auc": 0.7}, "baseline": {"auc": 0.5}}
    judged = Candidate(judged.estimator, judged.facts.model_copy(update=measured), evaluation="<p>plots</p>")
    again = refit(LOOP, judged, "4", with_holdout(training, holdout))
    assert again.facts.rows == len(training.X) + len(holdout.X) == 200
    assert (again.facts.metrics, again.facts.threshold) == ({"auc": 0.7}, judged.facts.threshold)
    assert (again.facts.baseline, again.evaluation) == ({"auc": 0.5}, "<p>plots</p>")
    assert again.facts.refit_of == "4"
    assert judged.facts.refit_of is None
    assert (again.facts.windows, again.facts.holdout) == (judged.facts.windows, judged.facts.holdout)
    assert again.facts.fingerprint != judged.facts.fingerprint
    assert again.facts.quartiles["fee"] == pytest.approx(some_rows(200)["fee"].quantile([0.25, 0.5, 0.75]).tolist())


def test_a_refits_quartiles_are_those_of_all_rows_by_slicing_columns_too() -> None:
    loop = a_loop(promotion={"slices": ["age"]})
    judged, training, holdout = trained(loop, some_rows().assign(age=np.arange(60.0)))
    again = refit(loop, judged, "4", with_holdout(training, holdout))
    assert again.facts.quartiles["age"] == (14.75, 29.5, 44.25)  # of 0 … 59


def test_a_refitted_model_is_the_same_recipe_on_all_rows() -> None:
    judged, training, holdout = trained()
    again = refit(LOOP, judged, "4", with_holdout(training, holdout))
    X = pd.concat([training.X, holdout.X])
    assert training.y is not None
    assert holdout.y is not None
    expected = build(LOOP).fit(X, pd.concat([training.y, holdout.y]).astype(int)).predict_proba(X)[:, 1]
    assert score(again.estimator, X, "binary") == pytest.approx(expected)
    sample = pd.DataFrame(list(again.facts.sample))
    assert score(again.estimator, sample, "binary") == pytest.approx(list(again.facts.sample_scores))


# scores and comparisons


def test_all_metrics_of_the_task_are_reported() -> None:
    values = evaluate(LOOP, labelled([0, 0, 1, 1]), said(0.1, 0.6, 0.4, 0.9))
    assert values.keys() == metrics_of("binary").keys() | {"calibration_error"}
    assert (values["auc"], values["accuracy"]) == (0.75, 0.5)
    assert values["calibration_error"] == pytest.approx(0.35)  # a bin each: (0.1 + 0.6 + 0.6 + 0.1) / 4


def test_labels_are_told_from_the_models_threshold_on() -> None:
    values = evaluate(LOOP, labelled([0, 0, 1, 1]), said(0.1, 0.6, 0.4, 0.9, threshold=0.4))
    assert (values["accuracy"], values["f1"]) == (0.75, pytest.approx(4 / 5))  # 2 hits, 3 said yes, 2 events


def test_a_regression_has_no_calibration_error() -> None:
    values = evaluate(REGRESSION, labelled([1, 2, 4]), said(1, 2, 3))
    assert values.keys() == metrics_of("regression").keys()
    assert values["mae"] == pytest.approx(1 / 3)


def test_a_metric_that_is_undefined_is_left_out_where_it_does_not_decide() -> None:
    loop = a_loop(promotion={"metric": "brier"})
    assert "auc" not in evaluate(loop, labelled([1, 1]), said(0.5, 0.5))


def test_a_metric_that_decides_but_is_undefined_is_an_error_and_not_zero() -> None:
    with pytest.raises(DriftloopError, match="auc is undefined on the 2 labelled rows of window 2024-01"):
        evaluate(LOOP, labelled([1, 1]), said(0.5, 0.5))


GOOD, WEAK = said(0.1, 0.2, 0.8, 0.9), said(0.1, 0.6, 0.4, 0.9)


def test_both_models_are_scored_on_the_same_rows() -> None:
    holdout = labelled([0, 0, 1, 1])
    found = compare(LOOP, holdout, GOOD, WEAK, {})
    assert (found.candidate.value, found.champion.value, found.gain) == (1.0, 0.75, 0.25)
    assert found.candidate.rows_id == found.champion.rows_id == holdout.fingerprint
    assert found.slices.judged == found.broken == ()


def test_a_comparison_carries_its_bound_and_the_gain_these_rows_would_show() -> None:
    found = compare(a_loop(promotion={"delta": 0.01}), labelled([0, 0, 1, 1]), GOOD, WEAK, {})
    # placements differ by 0, 1/2 for the events and 0, 1/2 for the others: variance (1/8) / 2 + (1/8) / 2
    error = np.sqrt(1 / 8)
    assert found.gain_low == pytest.approx(0.25 - t(2).ppf(0.95) * error)  # one degree of freedom each
    assert found.detectable == pytest.approx((norm.ppf(0.95) + norm.ppf(0.8)) * error)


def test_without_confidence_there_is_no_bound_and_delta_alone_is_to_be_exceeded() -> None:
    found = compare(a_loop(promotion={"confidence": 0, "delta": 0.1}), labelled([0, 0, 1, 1]), GOOD, WEAK, {})
    assert found.gain_low is None
    assert found.detectable == pytest.approx(0.1 + norm.ppf(0.8) * np.sqrt(1 / 8))


def test_a_comparison_by_labels_takes_each_models_own_threshold() -> None:
    loop = a_loop(promotion={"metric": "accuracy"})
    found = compare(loop, labelled([0, 0, 1, 1]), said(0.1, 0.3, 0.4, 0.9, threshold=0.4), said(0.1, 0.3, 0.4, 0.9), {})
    assert (found.candidate.value, found.champion.value) == (1.0, 0.75)


def test_the_loops_slices_are_compared_at_the_references_quartiles() -> None:
    loop = a_loop(promotion={"metric": "accuracy", "slices": ["fee"], "min_slice_rows": 4})
    y = np.array([0.0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    candidate, champion = said(*np.where(np.arange(10) < 4, 1 - y, y)), said(*y)
    found = compare(loop, labelled(y.tolist()), candidate, champion, {"fee": (4.0, 8.0)}).slices
    assert [(s.name, s.rows, s.candidate, s.champion) for s in found.judged] == [
        ("fee < 4", 4, 0.0, 1.0),
        ("4 <= fee < 8", 4, 1.0, 1.0),
    ]
    assert found.unjudged == ("fee >= 8 (2 rows)",)
    part = paired_gain("accuracy", y[:4], Predictions(candidate.scores[:4]), Predictions(champion.scores[:4]), 0.95)
    assert found.judged[0].p == part.p_worse
    assert [s.name for s in found.worse] == ["fee < 4"]


def test_a_loop_without_slices_is_compared_on_all_rows_alone() -> None:
    holdout = replace(labelled([0, 0, 1, 1]), slicing=None)
    assert compare(LOOP, holdout, GOOD, WEAK, {"fee": (1.0,)}).slices == NO_SLICES


def test_a_loss_of_a_slice_up_to_what_the_loop_puts_up_with_is_none() -> None:
    loop = a_loop(promotion={"metric": "accuracy", "slices": ["fee"], "min_slice_rows": 2, "max_slice_drop": 1.0})
    found = compare(loop, labelled([0, 0, 1, 1]), said(1, 1, 0, 0), said(0, 0, 1, 1), {"fee": (0.0,)})
    assert found.slices.judged[0].candidate == 0
    assert found.slices.worse == ()


def test_rows_too_few_for_the_metric_are_an_error_that_names_the_window() -> None:
    with pytest.raises(DriftloopError, match=r"^the 3 holdout rows of window 2024-01 cannot carry a comparison: the"):
        compare(LOOP, labelled([0, 1, 1]), said(0.1, 0.2, 0.3), said(0.1, 0.2, 0.3), {})


def test_a_binary_baseline_answers_with_the_training_rate_and_the_majority() -> None:
    found = baseline(LOOP, labelled([0, 0, 0, 1]), labelled([0, 1, 1, 1, 1]))
    assert found["auc"] == 0.5
    assert (found["accuracy"], found["f1"]) == (0.2, 0)  # it never says yes: an F1 of 0 is measured, not missing
    assert found["brier"] == pytest.approx((0.25**2 + 4 * 0.75**2) / 5)
    assert found["log_loss"] == pytest.approx(-(np.log(0.75) + 4 * np.log(0.25)) / 5)
    assert found["calibration_error"] == pytest.approx(0.8 - 0.25)


def test_a_majority_of_events_says_yes() -> None:
    found = baseline(LOOP, labelled([1, 1, 0]), labelled([1, 1, 1, 0]))
    assert (found["accuracy"], found["f1"]) == (0.75, pytest.approx(6 / 7))


def test_a_regressions_baseline_is_the_mean_of_the_training_targets() -> None:
    found = baseline(REGRESSION, labelled([1, 2, 6]), labelled([0, 3, 9]))
    assert found == pytest.approx({"rmse": np.sqrt(15), "mse": 15, "mae": 3, "r2": 1 - 15 / 14})


def test_a_baseline_of_several_classes_answers_with_their_shares() -> None:
    loop = LOOP.model_copy(update={"task": "multiclass"})
    training, rows = (replace(labelled(y), labels=("a", "b", "c")) for y in ([0.0, 1, 1, 1], [0.0, 1, 2, 1]))
    found = baseline(loop, training, rows)
    assert found["accuracy"] == 0.5  # it says b
    assert found["auc_ovr"] == 0.5
    assert found["log_loss"] > 1  # a class it never saw has probability 0, which costs what scikit-learn says it costs
    assert found["f1_macro"] == pytest.approx(f1_score([0, 1, 2, 1], [1, 1, 1, 1], average="macro"))


def test_an_undefined_baseline_is_left_out_and_never_zero() -> None:
    assert "auc" not in baseline(LOOP, labelled([0, 1]), labelled([1, 1]))
    assert "r2" not in baseline(REGRESSION, labelled([0, 1]), labelled([2, 2]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_on_its_own_rows_the_mean_explains_nothing_of_their_variance(y: list[float]) -> None:
    found = baseline(REGRESSION, labelled(y), labelled(y))
    assert found.get("r2", 0.0) == pytest.approx(0, abs=1e-6)
    assert found["rmse"] == pytest.approx(np.std(y), rel=1e-6, abs=1e-6)


# out of bag


def a_forest(**changes: Any) -> Loop:
    params = {"n_estimators": 100, "random_state": 0, "max_depth": 3, "n_jobs": 1}
    return a_loop(model={"estimator": "sklearn.ensemble.RandomForestClassifier", "params": params | changes})


def test_a_forests_threshold_comes_from_the_trees_that_did_not_draw_the_row() -> None:
    loop = a_forest()
    candidate, training, _ = trained(loop, some_rows(150))
    scores = out_of_bag(loop, candidate.estimator, training)
    assert scores is not None
    assert training.y is not None
    again = build(a_forest(oob_score=True)).fit(training.X, training.y.astype(int))["model"]
    assert scores == pytest.approx(again.oob_decision_function_[:, 1])
    assert candidate.facts.threshold == best_f1_threshold(training.y.to_numpy(), scores)


@pytest.mark.parametrize("changes", [{"bootstrap": False}, {"n_estimators": 30}])
def test_without_trees_enough_that_did_not_draw_a_row_folds_are_asked(changes: dict[str, Any]) -> None:
    loop = a_forest(**changes)
    candidate, training, _ = trained(loop, some_rows(60))
    assert out_of_bag(loop, candidate.estimator, training) is None
    assert candidate.facts.threshold is not None


def test_where_rows_tell_of_each_other_a_tree_that_did_not_draw_one_knows_too_much() -> None:
    loop = a_forest()
    candidate, training, _ = trained(loop, some_rows(60))
    shared = replace(training, entity=pd.Series([f"u{n // 2}" for n in range(len(training.X))]))
    in_order = loop.model_copy(update={"holdout": loop.holdout.model_copy(update={"by": "time"})})
    assert out_of_bag(loop, candidate.estimator, shared) is None
    twice = replace(training, entity=None, X=pd.concat([training.X[::2]] * 2, ignore_index=True)[: len(training.X)])
    assert out_of_bag(loop, candidate.estimator, twice) is None
    assert out_of_bag(in_order, candidate.estimator, training) is None


def test_the_training_rows_of_several_windows_are_in_memory_once() -> None:
    windows = [a_window(some_rows(seed=n), window=f"2024-0{n}") for n in (1, 2, 3)]
    parts, _ = split_parts(windows, RULE)
    whole = joined(parts)
    for part, window in zip(parts, windows, strict=True):
        assert np.shares_memory(part.X["fee"].to_numpy(), whole.X["fee"].to_numpy())
        assert part.fingerprint == window.where(~RULE.mask(window, newest=False)).fingerprint
    assert whole.X["fee"].tolist() == [fee for part in parts for fee in part.X["fee"]]
    assert len(joined(parts[1:]).X) == len(whole.X) - len(parts[0].X)
    assert joined(parts[2:]).fingerprint == parts[2].fingerprint


def test_putting_windows_together_takes_no_memory_but_that_of_their_rows() -> None:
    X = pd.DataFrame(np.ones((10_000, 20)), columns=[f"n{i}" for i in range(20)]).assign(word="one")
    windows = [Window(f"2024-0{n}", X, pd.Series(np.ones(len(X))), None, None) for n in (1, 2, 3, 4)]
    masks = [np.arange(len(X)) % 5 > 0] * 4
    tracemalloc.start()
    parts = pieces(windows, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * sum(part.X.memory_usage(index=False).sum() for part in parts)
    pd.testing.assert_frame_equal(joined(parts).X, pd.concat([X[mask] for mask in masks], ignore_index=True))


def test_facts_of_a_version_that_learnt_on_are_of_all_its_rows() -> None:
    old, new = (pd.Series(x) for x in ([1.0, 2.0, 3.0, 4.0, 9.0, 5.0], [30.0, 50.0]))
    both = pd.concat([old, new])

    def facts(x: pd.Series, mode: str, left_out: int) -> Facts:
        numbers = {"fee": x}
        return some_facts(
            rows=len(x), left_out=left_out, statistics=statistics(numbers), ranges=ranges(numbers),
            quartiles=quartiles(pd.DataFrame(numbers)), modes={"plan": mode},
        )  # fmt: skip

    base, fresh = facts(old, "basic", 2), facts(new, "family", 3)
    made = with_base(fresh, base)
    assert (made.rows, made.new_rows, made.left_out) == (8, 2, 5)
    assert made.statistics["fee"] == pytest.approx((both.mean(), both.std(ddof=0)))
    assert made.ranges["fee"] == (1.0, 3.0, 50.0)
    assert (made.quartiles, made.modes) == (base.quartiles, base.modes)
    more = with_base(base, fresh)  # the new rows are more
    assert more.ranges["fee"] == (1.0, 3.0, 50.0)
    assert (more.quartiles, more.modes) == (base.quartiles, base.modes)
    assert with_base(facts(both, "student", 0), base).modes == {"plan": "basic"}  # its encoder knows no student
    assert with_base(fresh, base.model_copy(update={"statistics": {}})).statistics == fresh.statistics


def test_rows_like_those_that_the_base_learnt_from_have_not_moved() -> None:
    loop = a_loop(
        task="regression", entity=None, features={"numeric": ["x"]}, training={"strategy": "fine_tune"},
        model={"estimator": "sklearn.linear_model.SGDRegressor", "params": {"random_state": 0}},
    )  # fmt: skip

    def window(name: str, mean: float, n: int) -> Window:
        x = np.random.default_rng(0).normal(mean, 1, n)
        return Window(name, pd.DataFrame({"x": x}), pd.Series(x), None, None, left_out=5)

    parts, recipe = [window("1", 0, 200), window("2", 10, 50)], loop.model.recipes[0]
    base = fit_set(loop, recipe, TrainingSet("all", ("1",), parts[0]), "rule")
    learnt = training_set("fine_tune", parts, recipe=recipe, base=Base("1", base.estimator, base.facts))
    facts = fit_set(loop, recipe, learnt, "rule").facts
    assert (facts.windows, facts.rows, facts.new_rows, facts.left_out) == (("1", "2"), 250, 50, 10)
    (shift,) = mean_shifts(joined(parts).X, facts.statistics, facts.rows)
    assert shift.z == pytest.approx(0, abs=1e-9)
    assert facts.ranges["x"][0] == parts[0].X["x"].min()
