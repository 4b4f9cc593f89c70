"""From a recipe of loop.toml to an unfitted pipeline."""

from __future__ import annotations

import importlib

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from driftloop.contract import Loop, Recipe
from driftloop.errors import ContractError


def require(loop: Loop) -> None:
    """Raise ContractError unless each of the loop's recipes can be made."""
    for recipe in loop.model.recipes:
        build(loop, recipe)


def build(loop: Loop, recipe: Recipe | None = None) -> Pipeline:
    """The unfitted pipeline: median imputation and scaling, one-hot categories, then the recipe's estimator.

    ``recipe``: the loop's first one when left out.
    Raises ContractError when the estimator cannot be imported or refuses its parameters.
    """
    recipe = recipe or loop.model.recipes[0]
    module, _, name = recipe.estimator.rpartition(".")
    try:
        estimator = getattr(importlib.import_module(module), name)(**recipe.params)
    except (ImportError, AttributeError) as error:
        raise ContractError(f"loop.toml: model.estimator = {recipe.estimator!r} cannot be imported: {error}") from None
    except TypeError as error:
        raise ContractError(f"loop.toml: model.params does not fit {recipe.estimator}: {error}") from None
    asked = "predict" if loop.task == "regression" else "predict_proba"
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params") and hasattr(estimator, asked)):
        raise ContractError(
            f"loop.toml: model.estimator = {recipe.estimator!r}: task {loop.task} needs a scikit-learn estimator "
            f"with {asked}"
        )
    if {"n_jobs", "n_estimators"} <= set(estimator.get_params()) and "n_jobs" not in recipe.params:
        estimator.set_params(n_jobs=-1)  # an ensemble's members are the same on any number of cores
    encode = ColumnTransformer(
        [
            (
                "numeric",
                make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
                list(loop.columns.numeric),
            ),
            (
                "categorical",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                list(loop.columns.categorical),
            ),
        ]
    )
    return Pipeline([("encode", encode), ("model", estimator)])
