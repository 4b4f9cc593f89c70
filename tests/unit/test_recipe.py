"""What goes in front of an estimator, by its kind, and what a user may put in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor, kernels
from sklearn.linear_model import (
    Lasso,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from driftloop import contract
from driftloop.artifact import REVIEWED_TYPES, score, unreviewed
from driftloop.contract import Loop, Recipe
from driftloop.encoding import Codes, Numbers, OneHot, blocks, fit_transform
from driftloop.errors import ArtifactError, ContractError, DriftloopError
from driftloop.frame import MISSING, Window
from driftloop.recipe import build, in_one_thread
from driftloop.strategy import TrainingSet
from driftloop.training import fitted
from tests.fakes import a_loop

BOOSTERS = ("xgboost", "lightgbm", "catboost")
TREES = [
    ("sklearn.tree.DecisionTree", {}),
    ("sklearn.tree.ExtraTree", {}),
    ("sklearn.ensemble.RandomForest", {"n_estimators": 3}),
    ("sklearn.ensemble.ExtraTrees", {"n_estimators": 3}),
    ("sklearn.ensemble.HistGradientBoosting", {"max_iter": 3}),
    ("xgboost.XGB", {"n_estimators": 3, "n_jobs": 1}),
    ("lightgbm.LGBM", {"n_estimators": 3, "n_jobs": 1}),
]
FEATURES = {"numeric": ["fee", "rare"], "categorical": ["plan", "paperless"]}


def loop(estimator: str, task: str = "binary", **model: Any) -> Loop:
    return a_loop(task=task, features=FEATURES, model={"estimator": estimator} | model)


def rows(n: int = 200) -> tuple[pd.DataFrame, pd.Series]:
    """Features in the form of frame.features; what decides is which plan, out of order, and whether fee is null."""
    rng = np.random.default_rng(0)
    fee, plan = rng.normal(0, 1, n), rng.choice(["a", "b", "c", "d", MISSING], n)
    fee[::5] = np.nan
    X = pd.DataFrame({"fee": fee, "rare": np.nan, "plan": plan, "paperless": rng.choice(["True", "False"], n)})
    return X.astype({"plan": object, "paperless": object}), pd.Series((np.isin(plan, ["a", "c"]) ^ np.isnan(fee)) * 1)


def made(estimator: str, task: str = "binary", **model: Any) -> Pipeline:
    if (package := estimator.partition(".")[0]) in BOOSTERS:
        pytest.importorskip(package)
    X, y = rows()
    pipeline = build(loop(estimator, task, **model)).fit(X, y)
    in_one_thread(pipeline)
    return pipeline


def copied(pipeline: Pipeline) -> Pipeline:
    """As a registry hands it back: only with reviewed types."""
    return skops.io.loads(skops.io.dumps(pipeline), trusted=list(REVIEWED_TYPES))


@pytest.mark.parametrize(("estimator", "params"), TREES)
@pytest.mark.parametrize(("task", "suffix"), [("binary", "Classifier"), ("regression", "Regressor")])
def test_trees_get_codes_and_nulls_as_they_are(estimator: str, params: dict[str, Any], task: str, suffix: str) -> None:
    pipeline = made(estimator + suffix, task, params=params | {"random_state": 0})
    X, _ = rows()
    numbers, words = blocks(pipeline["encode"], *FEATURES.values())
    assert isinstance(numbers, Numbers)
    assert isinstance(words, Codes)
    assert (numbers.mean, numbers.scale) == (None, None)
    odd = X.head(2).assign(fee=[np.nan, 3.0], plan=["of tomorrow", "d"])
    encoded = pipeline["encode"].transform(odd)
    assert np.isnan(encoded[0, [0, 2]]).all(), "a null, and a category that training never met"
    assert encoded[1, [0, 2]].tolist() == [3.0, 4.0]
    assert score(copied(pipeline), pd.concat([X, odd]), task) == pytest.approx(
        score(pipeline, pd.concat([X, odd]), task), abs=0
    )


def test_gradient_boosting_which_takes_no_nulls_gets_medians_and_a_code_for_the_unknown() -> None:
    pipeline = made("sklearn.ensemble.GradientBoostingClassifier", params={"n_estimators": 3})
    odd = rows()[0].head(1).assign(fee=np.nan, plan="of tomorrow")
    assert pipeline["encode"].transform(odd)[0, [0, 2]].tolist() == [rows()[0]["fee"].median(), -1.0]
    pipeline.predict_proba(odd)


@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "xgboost.XGBClassifier",
        "lightgbm.LGBMClassifier",
        "catboost.CatBoostClassifier",
    ],
)
def test_who_can_splits_on_sets_of_categories(estimator: str) -> None:
    """Two splits are enough for every row, which they are not where categories are numbers in an order."""
    params = {
        "sklearn": {"max_iter": 9, "learning_rate": 0.5, "max_depth": 2},
        "xgboost": {"n_estimators": 20, "learning_rate": 0.5, "max_depth": 2, "max_cat_to_onehot": 1, "n_jobs": 1},
        "lightgbm": {
            "n_estimators": 20,
            "learning_rate": 0.5,
            "max_depth": 2,
            "min_data_per_group": 1,
            "cat_smooth": 0,
        },
        "catboost": {"n_estimators": 20, "learning_rate": 0.5, "depth": 3},
    }[estimator.partition(".")[0]]
    pipeline = made(estimator, params=params)
    X, y = rows()
    assert (pipeline.predict(X) == y).mean() > 0.95
    if "cat" not in estimator:
        from driftloop.trees import trees_of

        trees = trees_of(pipeline["model"], binary=True)
        assert trees is not None
        assert any(tree.members for tree in trees.trees)


def test_catboost_takes_the_words_themselves_prints_nothing_and_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = made("catboost.CatBoostClassifier", params={"n_estimators": 3})
    odd = rows()[0].head(2).assign(plan=["of tomorrow", MISSING], fee=np.nan)
    assert score(copied(pipeline), odd, "binary") == pytest.approx(score(pipeline, odd, "binary"), abs=0)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_more_categories_than_bins_share_one_of_them() -> None:
    rng = np.random.default_rng(0)
    X = rows(2000)[0].assign(plan=np.where(rng.random(2000) < 0.5, "most", rng.integers(0, 900, 2000).astype(str)))
    pipeline = build(loop("sklearn.ensemble.HistGradientBoostingClassifier", params={"max_iter": 3}))
    pipeline.fit(X, (X["plan"] == "most").astype(int))
    codes = blocks(pipeline["encode"], *FEATURES.values())[1].codes[0]
    assert len(set(codes.values())) == 255
    assert list(codes.values()).count(codes["most"]) == 1
    assert (pipeline.predict(X) == (X["plan"] == "most")).all()


@pytest.mark.parametrize(
    ("estimator", "task"),
    [
        ("sklearn.linear_model.LogisticRegression", "binary"),
        ("sklearn.neural_network.MLPClassifier", "binary"),
        ("sklearn.neighbors.KNeighborsRegressor", "regression"),
        ("tests.own.Share", "binary"),
        ("xgboost.XGBClassifier", "binary"),
    ],
)
def test_everything_else_gets_medians_one_scale_and_a_column_a_category(estimator: str, task: str) -> None:
    params = {"booster": "gblinear"} if "xgboost" in estimator else {"tol": 1.0} if "MLP" in estimator else {}
    numbers, words = blocks(made(estimator, task, params=params)["encode"], *FEATURES.values())
    assert isinstance(numbers, Numbers)
    assert numbers.fill is not None
    assert numbers.scale is not None
    assert isinstance(words, OneHot)


def test_what_loop_toml_says_of_categories_is_left_as_it_is() -> None:
    estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
    pipeline = build(loop(estimator, params={"categorical_features": [3]}))
    assert pipeline["model"].categorical_features == [3]


# what usual parameters make of an estimator is stored


KERNELS = (
    kernels.Matern(), kernels.RationalQuadratic(), kernels.RBF() + kernels.WhiteKernel(), kernels.RBF() ** 2,
    kernels.DotProduct(), kernels.ExpSineSquared(1.0, 9.0, length_scale_bounds="fixed", periodicity_bounds="fixed"),
    kernels.ConstantKernel() * kernels.RBF(),
)  # fmt: skip
METRICS = (
    "manhattan", "chebyshev", "canberra", "braycurtis", "hamming", "jaccard", "dice", "rogerstanimoto", "russellrao",
    "sokalsneath", "cosine",
)  # fmt: skip
VARIANTS = [
    *(SVC(kernel=kernel, probability=True) for kernel in ("linear", "poly", "rbf", "sigmoid")),
    *(LogisticRegression(solver=one) for one in ("lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")),
    *(MLPClassifier(solver=solver, max_iter=3) for solver in ("lbfgs", "sgd", "adam")),
    MLPRegressor(solver="sgd", learning_rate="adaptive", max_iter=3),
    *(SGDClassifier(loss=loss) for loss in ("log_loss", "modified_huber")),
    *(SGDRegressor(loss=loss) for loss in ("huber", "epsilon_insensitive")),
    *(TweedieRegressor(power=power) for power in (0, 1, 1.5, 2, 3)),
    *(KNeighborsClassifier(algorithm=one, p=p) for one in ("ball_tree", "kd_tree", "brute") for p in (1, 2, 3)),
    *(KNeighborsClassifier(metric=metric) for metric in METRICS),
    KNeighborsRegressor(algorithm="ball_tree", metric="haversine"),
    *(GradientBoostingRegressor(loss=one, n_estimators=2) for one in ("absolute_error", "huber", "quantile")),
    GradientBoostingClassifier(loss="exponential", n_estimators=2),
    *(HistGradientBoostingRegressor(loss=one, max_iter=2) for one in ("absolute_error", "gamma", "poisson")),
    *(RandomForestRegressor(2, criterion=criterion) for criterion in ("absolute_error", "poisson")),
    *(RandomForestClassifier(2, criterion=criterion) for criterion in ("entropy", "log_loss")),
    *(LinearDiscriminantAnalysis(solver=solver) for solver in ("svd", "lsqr", "eigen")),
    *(CalibratedClassifierCV(method=method) for method in ("sigmoid", "isotonic", "temperature")),
    *(GaussianProcessRegressor(kernel, alpha=0.5) for kernel in KERNELS),
    *(GaussianProcessClassifier(kernel) for kernel in KERNELS[:2]),
    VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    StackingRegressor([("a", Ridge()), ("b", Lasso())]),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", VARIANTS, ids=lambda one: " ".join(str(one).split()))
def test_what_usual_parameters_make_of_an_estimator_is_stored_and_loaded(estimator: Any) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 2)), np.arange(60) % 2 + (0 if is_classifier(estimator) else rng.random(60) + 0.1)
    pipeline = Pipeline([("model", clone(estimator).fit(X, y))])
    assert unreviewed(pipeline) == []
    told = "predict_proba" if is_classifier(estimator) else "predict"
    assert np.array_equal(getattr(copied(pipeline), told)(X), getattr(pipeline, told)(X))


def test_a_model_that_holds_itself_cannot_be_stored_and_that_is_said() -> None:
    X = np.arange(40.0).reshape(-1, 1)
    held = HistGradientBoostingRegressor(early_stopping=True, scoring="r2", max_iter=2).fit(X, X[:, 0])
    with pytest.raises(ArtifactError, match=r"cannot be stored without pickle: skops cannot write .*RecursionError"):
        unreviewed(held)


# own


def test_an_own_factory_comes_in_front_of_any_estimator() -> None:
    pipeline = made("sklearn.tree.DecisionTreeClassifier", preprocessing="tests.own.scaled")
    assert isinstance(blocks(pipeline["encode"], *FEATURES.values())[1], OneHot)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.nowhere.encoder", "model.preprocessing = 'tests.nowhere.encoder' cannot be imported"),
        ("tests.own.encoder", "model.preprocessing = 'tests.own.encoder' cannot be imported"),
        ("tests.own.nothing", "expected a function of .numeric, categorical. .* it returned NoneType"),
        ("tests.own.broken", r"model.preprocessing = 'tests.own.broken' failed for \(\['fee', .*: KeyError: 'plan'"),
    ],
)
def test_a_factory_that_gives_no_transformer_is_a_contract_error(path: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        build(loop("sklearn.tree.DecisionTreeClassifier", preprocessing=path))


def test_parameters_that_do_not_fit_an_own_class_are_a_contract_error() -> None:
    with pytest.raises(ContractError, match=r"model\.params does not fit tests\.own\.Share: .*'posterior'"):
        build(loop("tests.own.Share", params={"posterior": 1}))


@pytest.mark.parametrize(
    ("estimator", "task", "message"),
    [
        ("sklearn.ensemble.RandomForestClassifier", "regression", "is a classifier; task regression needs a regressor"),
        ("sklearn.cluster.KMeans", "regression", "is a clusterer; task regression needs a regressor"),
        ("sklearn.mixture.GaussianMixture", "binary", "is a density estimator; task binary needs a classifier"),
        ("tests.own.Duck", "regression", "'tests.own.Duck': a class has to derive from sklearn.base.BaseEstimator"),
    ],
)
def test_an_estimator_of_another_kind_is_a_contract_error(estimator: str, task: str, message: str) -> None:
    with pytest.raises(ContractError, match=f"model.estimator = .*{message}"):
        build(loop(estimator, task))


def test_a_class_that_does_not_say_its_kind_may_do_either() -> None:
    for task in ("regression", "binary"):
        assert build(loop("tests.own.Secretive", task))["model"].get_params() == {}


@pytest.mark.parametrize(
    ("estimator", "task", "message"),
    [
        ("tests.own.Secretive", "regression", "Secretive learnt nothing that scikit-learn sees: .* names end with"),
        ("tests.own.Classless", "binary", "Classless has no classes_ after its fit"),
    ],
)
def test_what_an_own_class_lacks_after_its_fit_is_said(estimator: str, task: str, message: str) -> None:
    X, y = rows()
    learnt = TrainingSet("all", ("w1",), Window("w1", X, y.astype(float), None, None))
    with pytest.raises(DriftloopError, match=f"{estimator} could not be trained on w1: {message}"):
        fitted(loop(estimator, task), Recipe(estimator=estimator), learnt)


def test_a_module_that_fails_in_its_own_way_is_a_contract_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ContractError, match=r"model\.estimator = 'half_written\.Best' cannot be imported: "):
        build(loop("half_written.Best"))


def test_a_booster_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(ContractError, match=r"pip install 'driftloop\[lightgbm\]'"):
        build(loop("lightgbm.LGBMClassifier"))


# the target's scale


@pytest.mark.parametrize(
    ("estimator", "asked", "scaled"),
    [
        ("tests.own.Mean", None, False),
        ("tests.own.Mean", True, True),
        ("sklearn.neural_network.MLPRegressor", None, True),
        ("sklearn.neural_network.MLPRegressor", False, False),
    ],
)
def test_a_networks_target_is_scaled_and_anothers_where_asked(estimator: str, asked: bool | None, scaled: bool) -> None:
    model = {} if asked is None else {"scale_target": asked}
    assert isinstance(build(loop(estimator, "regression", **model))["model"], TransformedTargetRegressor) == scaled


def test_a_scaled_target_has_mean_nought_and_the_prediction_its_own_unit() -> None:
    X, _ = rows()
    y = np.arange(200.0) * 1e6
    pipeline = build(loop("tests.own.Mean", "regression", scale_target=True)).fit(X, y)
    seen = pipeline["model"].regressor_.seen_
    assert (seen.mean(), seen.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert pipeline.predict(X[:1]) == pytest.approx([y.mean()])


def test_a_target_of_classes_cannot_be_scaled() -> None:
    text = 'name="x"\ntask="binary"\ntarget="y"\n[model]\nestimator="sklearn.svm.SVC"\nscale_target=true\n'
    with pytest.raises(ContractError, match='scale_target is for task = "regression" only'):
        contract.parse(text)


def test_one_thread_serves_what_many_trained() -> None:
    X, y = rows()
    forest = "sklearn.ensemble.RandomForestRegressor"
    pipeline = build(loop(forest, "regression", params={"n_estimators": 2}, scale_target=True))
    assert pipeline["model"].regressor.n_jobs == -1
    pipeline.fit(X, y)
    in_one_thread(pipeline)
    assert pipeline["model"].regressor_.n_jobs == 1


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("categorical", [[], ["plan", "paperless"]])
def test_trees_on_histograms_learn_the_same_from_numbers_that_were_not_copied(
    categorical: list[str], empty: bool
) -> None:
    X, y = rows()
    X = X[["fee", "rare", *categorical]] if empty else X[["fee", *categorical]].assign(fee=X["fee"])
    numeric = [name for name in X if name not in categorical]
    given = a_loop(
        features={"numeric": numeric, "categorical": categorical},
        model={
            "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
            "params": {"max_iter": 3, "random_state": 0},
        },
    )
    plain, lean = build(given), build(given)
    plain.fit(X, y)
    Z = fit_transform(lean[:-1], X, y)
    lean["model"].fit(Z, y)
    assert isinstance(Z, np.ndarray) if empty else np.shares_memory(Z[0].to_numpy(), X["fee"].to_numpy())
    assert joblib.hash(lean) == joblib.hash(plain)
    assert np.array_equal(np.asarray(Z), plain[:-1].transform(X), equal_nan=True)
