"""From a recipe of loop.toml to an unfitted pipeline."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from driftloop.boosters import LIBRARIES, library
from driftloop.contract import Loop, Recipe
from driftloop.encoding import Nullable
from driftloop.errors import ContractError, DriftloopError
from driftloop.trees import HISTOGRAM, KINDS

# What they do by default is to print, to write files into the working folder, or to differ with the cores' timing.
QUIET: dict[str, dict[str, Any]] = {
    "lightgbm": {"verbosity": -1, "deterministic": True, "force_row_wise": True},
    "catboost": {"verbose": 0, "allow_writing_files": False},
}
# what scikit-learn's pipelines ask of the estimator in them
AS_AN_ESTIMATOR = (
    "a class has to derive from sklearn.base.BaseEstimator and keep what it learns in attributes whose names end "
    'with "_"'
)


def require(loop: Loop) -> None:
    """Raise ContractError unless each of the loop's recipes can be made."""
    for recipe in loop.model.recipes:
        build(loop, recipe)


def build(loop: Loop, recipe: Recipe | None = None) -> Pipeline:
    """The unfitted pipeline: "encode", the recipe's preprocessing or what suits its estimator, then "model".

    ``recipe``: the loop's first one when left out. The model is the estimator, for a scaled target inside a
    TransformedTargetRegressor.
    Raises ContractError when something cannot be imported or refuses its parameters.
    """
    recipe = recipe or loop.model.recipes[0]
    estimator, numeric, categorical = (
        _estimator(loop, recipe),
        list(loop.columns.numeric),
        list(loop.columns.categorical),
    )
    if recipe.preprocessing == "auto":
        encode = _suitable(estimator, numeric, categorical, recipe.params)
    else:
        encode = _own(recipe.preprocessing, numeric, categorical)
    scaled = (
        library(estimator, "sklearn.neural_network") is not None if recipe.scale_target is None else recipe.scale_target
    )
    if scaled and loop.task == "regression":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler(), check_inverse=False)
    return Pipeline([("encode", encode), ("model", estimator)])


def in_one_thread(pipeline: Pipeline) -> None:
    """For requests: to start threads costs more than their few rows."""
    model = pipeline["model"]
    if isinstance(model, TransformedTargetRegressor):
        model = model.regressor_
    if {"n_jobs", "n_estimators"} <= set(model.get_params()):
        model.set_params(n_jobs=1)


def _estimator(loop: Loop, recipe: Recipe) -> Any:
    made = _imported(recipe.estimator, "estimator")
    try:
        estimator = made(**recipe.params)
    except Exception as error:  # noqa: BLE001  # the class may be anybody's, and boosters raise classes of their own
        raise ContractError(f"loop.toml: model.params does not fit {recipe.estimator}: {error}") from None
    asked = "predict" if loop.task == "regression" else "predict_proba"
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params") and hasattr(estimator, asked)):
        raise ContractError(
            f"loop.toml: model.estimator = {recipe.estimator!r}: task {loop.task} needs a scikit-learn estimator "
            f"with {asked}"
        )
    _require_kind(estimator, recipe.estimator, loop.task)
    if found := library(estimator, *QUIET):
        estimator.set_params(**{name: value for name, value in QUIET[found].items() if name not in recipe.params})
    if {"n_jobs", "n_estimators"} <= set(estimator.get_params()) and "n_jobs" not in recipe.params:
        estimator.set_params(n_jobs=-1)  # an ensemble's members are the same on any number of cores
    return estimator


def _require_kind(estimator: Any, path: str, task: str) -> None:
    """Raise ContractError where scikit-learn could not run the estimator, or says that it is of another kind."""
    if not hasattr(estimator, "__sklearn_tags__"):
        raise ContractError(f"loop.toml: model.estimator = {path!r}: {AS_AN_ESTIMATOR}")
    try:
        kind = get_tags(estimator).estimator_type
    except AttributeError:  # one around another asks that for its tags, and none was given
        return
    asked = "regressor" if task == "regression" else "classifier"
    if kind not in (asked, None):  # a class need not say
        raise ContractError(
            f"loop.toml: model.estimator = {path!r} is a {kind.replace('_', ' ')}; task {task} needs a {asked}"
        )


def require_learnt(model: Any, task: str) -> None:
    """Raise DriftloopError unless scikit-learn sees that the model was fitted, and which classes it knows."""
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise DriftloopError(
            f"{type(model).__name__} learnt nothing that scikit-learn sees: {AS_AN_ESTIMATOR}"
        ) from None
    if task != "regression" and not hasattr(model, "classes_"):
        raise DriftloopError(
            f"{type(model).__name__} has no classes_ after its fit: keep there the sorted labels that the columns of "
            f"predict_proba stand for, as numpy.unique(y) gives them"
        )


def _imported(path: str, key: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001  # the module may be anybody's, and fail in any way
        hint = ""
        if module.partition(".")[0] in LIBRARIES and isinstance(error, ModuleNotFoundError):
            hint = f"; install it with pip install 'driftloop[{module.partition('.')[0]}]'"
        raise ContractError(f"loop.toml: model.{key} = {path!r} cannot be imported: {error}{hint}") from None


def _own(path: str, numeric: list[str], categorical: list[str]) -> Any:
    """What the user's function makes."""
    factory = _imported(path, "preprocessing")
    try:
        encode = factory(numeric, categorical)
    except Exception as error:  # noqa: BLE001  # it may be anybody's, and fail in any way
        raise ContractError(
            f"loop.toml: model.preprocessing = {path!r} failed for ({numeric}, {categorical}): "
            f"{type(error).__name__}: {error}"
        ) from None
    if not (hasattr(encode, "fit") and hasattr(encode, "transform")):
        raise ContractError(
            f"loop.toml: model.preprocessing = {path!r}: expected a function of (numeric, categorical) that returns a "
            f"scikit-learn transformer, it returned {type(encode).__name__}"
        )
    return encode


def _suitable(estimator: Any, numeric: list[str], categorical: list[str], given: dict[str, Any]) -> ColumnTransformer:
    """Preprocessing by the estimator's kind; trees that can split on categories are told which columns they are.

    ``given`` are the estimator's parameters in loop.toml, which are left as they are.
    """
    numbers: Any = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    words: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    places = list(range(len(numeric), len(numeric) + len(categorical)))
    told: dict[str, Any] = {}
    if library(estimator, "catboost"):
        numbers = words = "passthrough"
        told = {"cat_features": places}
    elif isinstance(estimator, KINDS) or (library(estimator, "xgboost", "lightgbm") and not _is_linear(estimator)):
        nulls = get_tags(estimator).input_tags.allow_nan
        numbers = "passthrough" if nulls else SimpleImputer(strategy="median", keep_empty_features=True)
        words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan if nulls else -1)
        if isinstance(estimator, HISTOGRAM):
            numbers = Nullable()
            words.set_params(max_categories=estimator.max_bins)  # the rare ones beyond share a code
            told = {"categorical_features": places}
        elif library(estimator, "xgboost"):
            told = {"enable_categorical": True, "feature_types": ["q"] * len(numeric) + ["c"] * len(categorical)}
        elif library(estimator, "lightgbm"):
            told = {"categorical_column": places}
    if categorical and not set(told) & set(given):
        estimator.set_params(**told)
    return ColumnTransformer([("numeric", numbers, numeric), ("categorical", words, categorical)])


def _is_linear(estimator: Any) -> bool:
    return getattr(estimator, "booster", None) == "gblinear"
