"""A compiled model is accepted only where it says what scikit-learn says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto

from driftloop import exporting, frame, graph, training
from driftloop.artifact import arrays, score
from driftloop.compiled import TOLERANCE, Compiled, differences
from driftloop.contract import Loop
from driftloop.exporting import Exported, export
from driftloop.frame import MISSING
from driftloop.holdout import HoldoutRule
from driftloop.odd_rows import LARGEST, odd_rows
from driftloop.recipe import build
from driftloop.training import Candidate
from tests import estimators
from tests.fakes import a_loop

EXACT = 1e-12
BOOSTERS = ("xgboost", "lightgbm", "catboost")
SCALED = "tests.own.scaled"


def rows(n: int = 400, *, regression: bool = False) -> pd.DataFrame:
    """Two numeric columns of which one holds nulls, one nearly empty, one constant; two categorical ones."""
    rng = np.random.default_rng(0)
    fee, usage = rng.gamma(2, 10, n), rng.normal(0, 1e-3, n)
    plan = rng.choice(["basic", "family", None], n)
    signal = fee / 20 + 1000 * usage + (plan == "family") + rng.normal(0, 0.5, n)
    made = pd.DataFrame({"user_id": [f"u{i}" for i in range(n)], "fee": fee, "usage": usage, "plan": plan})
    made = made.assign(rare=np.where(np.arange(n) == 7, 3.0, np.nan), same=5.0, paperless=rng.random(n) < 0.5)
    made.loc[::9, "fee"] = None
    return made.assign(left=np.exp(signal / 4) if regression else signal > np.median(signal))


def fitted(
    estimator: str,
    numeric: tuple[str, ...] = ("fee", "usage", "rare", "same"),
    categorical: tuple[str, ...] = ("plan", "paperless"),
    *,
    task: str = "binary",
    preprocessing: str = "auto",
    **params: Any,
) -> tuple[Candidate, pd.DataFrame]:
    """A candidate and its holdout's rows."""
    loop = Loop.model_validate(
        a_loop().model_dump(exclude={"promotion", "model", "task"}, exclude_unset=True)
        | {
            "task": task,
            "features": {"numeric": list(numeric), "categorical": list(categorical)},
            "model": {
                "estimator": estimator if estimator.startswith(BOOSTERS) else f"sklearn.{estimator}",
                "params": params,
                "preprocessing": preprocessing,
            },
        }
    )
    rule = HoldoutRule.of(loop)
    train, holdout = training.split([frame.check(rows(regression=task == "regression"), loop, "2024-01")], rule)
    return training.fit(loop, ["2024-01"], train, rule), holdout.X


def exported(estimator: str, **changes: Any) -> Exported:
    candidate, X = fitted(estimator, **changes)
    return export(candidate.estimator, candidate.facts, X)


FOREST = {"n_estimators": 100, "random_state": 0, "n_jobs": 1}


@pytest.mark.parametrize(
    ("estimator", "task", "params"),
    [
        ("linear_model.LogisticRegression", "binary", {}),
        ("linear_model.Ridge", "regression", {}),
        ("ensemble.RandomForestClassifier", "binary", FOREST | {"class_weight": "balanced"}),
        ("ensemble.RandomForestRegressor", "regression", FOREST),
        ("ensemble.ExtraTreesClassifier", "binary", FOREST),
        ("tree.DecisionTreeClassifier", "binary", {"max_depth": 4}),
        ("ensemble.GradientBoostingClassifier", "binary", {"random_state": 0}),
        ("ensemble.GradientBoostingClassifier", "binary", {"loss": "exponential", "n_estimators": 9}),
        ("ensemble.GradientBoostingClassifier", "binary", {"init": "zero", "n_estimators": 9}),
        ("ensemble.GradientBoostingRegressor", "regression", {"loss": "huber", "n_estimators": 9}),
        ("ensemble.GradientBoostingRegressor", "regression", {"min_samples_split": 10_000}),  # trees of one leaf
        ("ensemble.HistGradientBoostingClassifier", "binary", {"max_iter": 20}),
        ("ensemble.HistGradientBoostingRegressor", "regression", {"max_iter": 20}),
        ("ensemble.HistGradientBoostingRegressor", "regression", {"max_iter": 20, "loss": "poisson"}),
        ("neural_network.MLPClassifier", "binary", {"max_iter": 500, "random_state": 0, "tol": 0.1}),
        ("calibration.CalibratedClassifierCV", "binary", {}),
        ("ensemble.BaggingClassifier", "binary", {"random_state": 0, "n_jobs": 1}),  # trees inside another estimator
        ("ensemble.RandomForestClassifier", "binary", FOREST | {"preprocessing": SCALED}),
        ("ensemble.HistGradientBoostingClassifier", "binary", {"max_iter": 20, "preprocessing": SCALED}),
        (
            "neural_network.MLPRegressor",
            "regression",
            {"max_iter": 500, "random_state": 0, "tol": 0.1},
        ),  # its target too
    ],
)
def test_what_a_loop_uses_agrees_as_doubles_do(estimator: str, task: str, params: dict[str, Any]) -> None:
    found = exported(estimator, task=task, **params)
    assert found.facts.refused is None
    assert found.content is not None
    assert found.facts.difference is not None
    assert found.facts.difference < EXACT
    assert found.facts.rows > 300


@pytest.mark.parametrize(
    ("estimator", "task", "params", "limit"),
    [
        ("xgboost.XGBClassifier", "binary", {}, TOLERANCE),  # it adds up in 32 bits
        ("xgboost.XGBRegressor", "regression", {}, TOLERANCE),
        ("xgboost.XGBRegressor", "regression", {"objective": "reg:gamma"}, TOLERANCE),
        ("xgboost.XGBRFClassifier", "binary", {}, TOLERANCE),
        ("lightgbm.LGBMClassifier", "binary", {}, EXACT),
        ("lightgbm.LGBMClassifier", "binary", {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}, EXACT),
        ("lightgbm.LGBMRegressor", "regression", {}, EXACT),
        ("lightgbm.LGBMRegressor", "regression", {"objective": "poisson"}, EXACT),
        ("lightgbm.LGBMRegressor", "regression", {"min_child_samples": 10_000}, EXACT),  # trees of one leaf
    ],
)
def test_boosters_agree_as_closely_as_they_add_up(
    estimator: str, task: str, params: dict[str, Any], limit: float
) -> None:
    pytest.importorskip(estimator.partition(".")[0])
    found = exported(estimator, task=task, n_estimators=20, n_jobs=1, **params)
    assert found.facts.refused is None
    assert found.facts.difference is not None
    assert found.facts.difference < limit


@pytest.mark.parametrize(
    ("estimator", "task", "params", "why"),
    [
        ("catboost.CatBoostClassifier", "binary", {}, "categories that stay words"),
        ("xgboost.XGBClassifier", "binary", {"booster": "dart"}, "skl2onnx has no converter for it"),
        ("lightgbm.LGBMRegressor", "regression", {"linear_tree": True}, "skl2onnx has no converter for it"),
        ("linear_model.LogisticRegression", "binary", {"preprocessing": "tests.own.squeezed"}, "through MinMaxScaler"),
    ],
)
def test_what_has_no_graph_says_why(estimator: str, task: str, params: dict[str, Any], why: str) -> None:
    if estimator.startswith(BOOSTERS):
        pytest.importorskip(estimator.partition(".")[0])
        params = params | {"n_estimators": 3} | ({} if "catboost" in estimator else {"n_jobs": 1})
    found = exported(estimator, task=task, **params).facts
    assert found.refused is not None
    assert found.refused.startswith("it cannot be converted (")
    assert why in found.refused


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize(
    "columns",
    [
        {"numeric": ("fee", "usage"), "categorical": ()},
        {"numeric": (), "categorical": ("plan", "paperless")},
        {"numeric": (), "categorical": ("plan",)},
        {"numeric": ("fee",), "categorical": ()},
    ],
)
def test_a_loop_may_have_one_kind_of_features_only(task: str, columns: dict[str, Any]) -> None:
    estimator = "linear_model.LogisticRegression" if task == "binary" else "linear_model.Ridge"
    found = exported(estimator, task=task, **columns)
    assert found.facts.refused is None


def test_a_column_without_a_value_in_training_is_imputed_as_the_pipeline_does() -> None:
    candidate, X = fitted("linear_model.LogisticRegression", categorical=("plan",))
    empty = X.assign(rare=np.nan)
    pipeline = build(a_loop(features={"numeric": ["fee", "rare"], "categorical": ["plan"]}))
    pipeline.fit(empty, np.arange(len(empty)) % 2)
    facts = candidate.facts.model_copy(update={"numeric": ("fee", "rare")})
    assert export(pipeline, facts, empty[["fee", "rare", "plan"]]).facts.refused is None


@pytest.mark.parametrize("preprocessing", ["auto", SCALED])
def test_nulls_and_unseen_categories_score_as_the_pipeline_scores_them(preprocessing: str) -> None:
    candidate, X = fitted("ensemble.RandomForestClassifier", preprocessing=preprocessing, **FOREST)
    content = export(candidate.estimator, candidate.facts, X).content
    assert content is not None
    odd = X.head(4).assign(fee=[np.nan, 1, 2, np.nan], plan=[MISSING, "never seen", "", "basic\0"])
    found = Compiled(content).score(*arrays(odd, candidate.facts))
    assert found == pytest.approx(score(candidate.estimator, odd, "binary"), abs=EXACT)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # scikit-learn's, before it raises
def test_a_value_that_the_pipeline_refuses_has_no_score() -> None:
    # usage has a scale of 0.001
    candidate, X = fitted("ensemble.RandomForestClassifier", preprocessing=SCALED, **FOREST)
    content = export(candidate.estimator, candidate.facts, X).content
    assert content is not None
    two = X.head(2).assign(usage=[LARGEST, 0.0])
    with pytest.raises(ValueError, match="too large for dtype"):
        score(candidate.estimator, two, "binary")
    assert np.isnan(Compiled(content).score(*arrays(two, candidate.facts))).tolist() == [True, False]


def test_half_a_surrogate_pair_is_an_unseen_category() -> None:
    candidate, X = fitted("linear_model.LogisticRegression")
    content = export(candidate.estimator, candidate.facts, X).content
    assert content is not None
    numbers, words = arrays(X.head(2).assign(plan=["\ud800", "unseen"], fee=1.0, usage=0.0), candidate.facts)
    words[:, 1] = "True"
    first, second = Compiled(content).score(numbers, words)
    assert first == second


# refused


def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake that a plain conversion makes: numbers are rounded before they are scaled."""
    encode = graph._encode

    def rounding(made: Any, *given: Any) -> tuple[str, int]:
        made.node("Cast", [graph.NUMERIC], "small", to=TensorProto.FLOAT)
        made.node("Cast", ["small"], "coarse", to=TensorProto.DOUBLE)
        found = encode(made, *given)
        for node in made.nodes[2:]:
            node.input[:] = ["coarse" if name == graph.NUMERIC else name for name in node.input]
        return found

    monkeypatch.setattr(graph, "_encode", rounding)


@pytest.mark.parametrize(
    "estimator",
    [
        "ensemble.RandomForestClassifier",
        "ensemble.GradientBoostingClassifier",
        "ensemble.HistGradientBoostingClassifier",
    ],
)
def test_a_graph_that_moves_rows_across_splits_is_refused(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_float32(monkeypatch)
    found = exported(estimator, random_state=0, preprocessing=SCALED)
    assert found.content is found.facts.sha256 is None
    assert found.facts.difference is not None
    assert found.facts.difference > 1e-3
    said = f"its scores differ from scikit-learn's by up to {found.facts.difference:.2g} on {found.facts.rows} rows"
    assert found.facts.refused == said
    assert str(found.facts) == f"no: {said}"


def test_what_skl2onnx_cannot_convert_says_so() -> None:
    found = exported("dummy.DummyClassifier").facts
    assert found.refused == "it cannot be converted (skl2onnx has no converter for it)"
    assert (found.sha256, found.difference) == (None, None)


def test_a_graph_that_gives_numbers_where_the_pipeline_gives_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unguarded(*given: Any, guarded: bool, exactly: bool) -> bytes:
        return graph.graph(*given, exactly=exactly)

    monkeypatch.setattr(exporting, "graph", unguarded)
    found = exported("ensemble.RandomForestClassifier", preprocessing=SCALED, **FOREST).facts
    assert found.refused is not None
    assert "one of ONNX and scikit-learn gives a number and the other none" in found.refused


def test_a_pipeline_that_cannot_score_at_all_is_refused_with_its_words() -> None:
    candidate, X = fitted("linear_model.LogisticRegression")
    del candidate.estimator["model"].coef_
    found = export(candidate.estimator, candidate.facts, X).facts
    assert found.refused is not None
    assert found.refused.startswith("scikit-learn itself cannot score extreme rows (")


# the rows it is tried on


def test_the_odd_rows_are_the_same_each_time_and_have_the_columns_of_the_others() -> None:
    candidate, X = fitted("linear_model.LogisticRegression")
    first, second = (odd_rows(X, candidate.facts.numeric, candidate.facts.categories, {}) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert first.dtypes.tolist() == X.dtypes.tolist()
    assert first.columns.tolist() == X.columns.tolist()


def test_the_odd_rows_hold_nulls_extremes_unseen_categories_and_the_neighbours_of_splits() -> None:
    candidate, X = fitted("linear_model.LogisticRegression")
    odd = odd_rows(X, candidate.facts.numeric, candidate.facts.categories, {"fee": np.array([12.5] * 60)})
    assert (odd[["fee", "usage"]].isna().all(axis=1) & (odd["plan"] == MISSING)).any()
    for name in ("fee", "usage"):
        assert {LARGEST, -LARGEST} <= set(odd[name])
    assert {12.5, np.nextafter(12.5, 13), np.nextafter(12.5, 12)} <= set(odd["fee"])
    assert not set(odd["plan"]) <= {*candidate.facts.categories["plan"], MISSING}
    assert np.isfinite(odd[["fee", "usage"]]).any().all()


def test_many_odd_rows_have_a_null_or_an_unseen_category() -> None:
    candidate, X = fitted("linear_model.LogisticRegression")
    odd = odd_rows(X, candidate.facts.numeric, candidate.facts.categories, {})
    assert (odd["usage"].isna().mean(), (odd["plan"] == MISSING).mean()) > (0.05, 0.05)
    assert (~odd["plan"].isin([*candidate.facts.categories["plan"], MISSING])).mean() > 0.1
    assert ((odd["usage"].abs() > 0) & (odd["usage"].abs() < 1e-100)).any()


# the measure


def test_a_difference_is_relative_above_one() -> None:
    assert differences(np.array([1e6, 0.5]), np.array([1e6 + 1, 0.5 + 1e-7])) == pytest.approx([1e-6, 1e-7])


def test_two_scores_that_are_no_numbers_agree_and_one_alone_does_not() -> None:
    native, compiled = np.array([np.nan, np.inf, 1.0, np.inf]), np.array([np.nan, -np.inf, np.nan, 1.0])
    assert differences(native, compiled).tolist() == [0.0, 0.0, np.inf, np.inf]


# the estimators


@pytest.mark.long
def test_the_docs_tell_what_becomes_of_each_estimator() -> None:
    """Where this fails, `python -m tests.estimators` writes the table anew."""
    assert estimators.table() == estimators.written()


def test_a_refused_export_leaves_a_candidate_that_serves_natively() -> None:
    candidate, X = fitted("dummy.DummyClassifier")
    found = export(candidate.estimator, candidate.facts, X)
    again = replace(candidate, facts=candidate.facts.model_copy(update={"compiled": found.facts}))
    assert again.compiled is None
    assert found.facts.tolerance == TOLERANCE


def test_no_probability_is_above_1() -> None:
    """Of so many shares each is rounded, and where all trees agree they add up to a little more."""
    loop = a_loop(
        model={
            "estimator": "sklearn.ensemble.RandomForestClassifier",
            "params": {"n_estimators": 100, "random_state": 0},
        }
    )
    window = frame.check(rows(), loop, "2024-01")
    fitted = training.fit(loop, ["2024-01"], window, HoldoutRule.of(loop))
    made = export(fitted.estimator, fitted.facts, window.X)
    assert made.content is not None
    found = Compiled(made.content).score(*arrays(window.X, fitted.facts))
    assert ((found >= 0) & (found <= 1)).all()
