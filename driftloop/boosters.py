"""The trees of XGBoost and LightGBM, out of the text in which they describe themselves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from driftloop.trees import Tree, Trees, in_bits

LIBRARIES = ("xgboost", "lightgbm", "catboost")
XGBOOST_LINKS = {
    "binary:logistic": "Sigmoid", "reg:logistic": "Sigmoid", "count:poisson": "Exp", "reg:gamma": "Exp",
    "reg:tweedie": "Exp", "reg:squarederror": "Identity", "reg:absoluteerror": "Identity",
    "reg:pseudohubererror": "Identity", "reg:squaredlogerror": "Identity",
}  # fmt: skip
LIGHTGBM_LINKS = {
    "binary": "Sigmoid", "cross_entropy": "Sigmoid", "poisson": "Exp", "gamma": "Exp", "tweedie": "Exp",
    "regression": "Identity", "regression_l1": "Identity", "huber": "Identity", "fair": "Identity",
    "quantile": "Identity", "mape": "Identity",
}  # fmt: skip
CATEGORICAL, DEFAULT_LEFT, MISSING_ZERO, MISSING_NAN = 1, 2, 4, 8  # bits of LightGBM's decision_type


def library(estimator: Any, *names: str) -> str | None:
    """The one of ``names`` (packages) that an object's class, or one that it extends, is from."""
    modules = [made.__module__ for made in type(estimator).__mro__]
    return next((name for name in names if any(f"{module}.".startswith(f"{name}.") for module in modules)), None)


def boosted(model: Any) -> Trees | None:
    """The trees of a fitted booster; None for anything else, and where its form is not known here."""
    found = library(model, "xgboost", "lightgbm")
    if found is None:
        return None
    return _of_xgboost(model) if found == "xgboost" else _of_lightgbm(model)


def _of_xgboost(model: Any) -> Trees | None:
    """None for another booster than trees, or an objective whose form is not known here."""
    learner = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    grown, link = learner["gradient_booster"], XGBOOST_LINKS.get(learner["objective"]["name"])
    base = np.atleast_1d(json.loads(learner["learner_model_param"]["base_score"])).astype(np.float32)
    if grown["name"] != "gbtree" or link is None or len(base) != 1 or "best_iteration" in learner["attributes"]:
        return None
    with np.errstate(all="ignore"):  # of the links that it is not
        raw = {"Sigmoid": -np.log(1 / base - 1), "Exp": np.log(base), "Identity": base}[link]
    return Trees(tuple(map(_xgboost_tree, grown["model"]["trees"])), float(raw[0]), link=link)


def _xgboost_tree(tree: dict[str, Any]) -> Tree:
    """A row goes left where its value, rounded, is below the threshold, or where its category is not listed."""
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    condition = np.array(tree["split_conditions"], dtype=np.float32)
    missing_left = np.array(tree["default_left"], dtype=bool)
    starts, sizes = tree["categories_segments"], tree["categories_sizes"]
    members = {
        node: np.array(tree["categories"][start : start + size], dtype=float)
        for node, start, size in zip(tree["categories_nodes"], starts, sizes, strict=True)
    }
    for node in members:  # here what is listed goes left
        left[node], right[node], missing_left[node] = right[node], left[node], not missing_left[node]
    threshold = np.nextafter(condition, np.float32(-np.inf)).astype(float)
    return Tree(left, right, np.array(tree["split_indices"]), threshold, condition.astype(float), missing_left, members)


def _of_lightgbm(model: Any) -> Trees | None:
    """None for an objective, or a way to treat nulls, whose form is not known here."""
    head, *parts = model.booster_.model_to_string().split("\n\nTree=")
    said = _fields(head)
    objective, *options = said.get("objective", "").split()
    link = LIGHTGBM_LINKS.get(objective)
    steep = dict(option.partition(":")[::2] for option in options)
    trees = [_fields(part.partition("\nend of trees")[0]) for part in parts]
    if link is None or "sqrt" in options or said["num_tree_per_iteration"] != "1":
        return None
    if any(tree["is_linear"] != "0" or _nulls_are_zeros(tree) for tree in trees):
        return None
    factor = float(steep.get("sigmoid", 1)) / (len(trees) if "average_output" in head.splitlines() else 1)
    return Trees(tuple(map(_lightgbm_tree, trees)), factor=factor, link=link, rounded=False)


def _fields(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def _nulls_are_zeros(tree: dict[str, str]) -> bool:
    kinds = np.array(tree.get("decision_type", "").split(), dtype=int)
    return bool(((kinds & MISSING_ZERO) > 0).any())


def _lightgbm_tree(tree: dict[str, str]) -> Tree:
    """Inner nodes first, then the leaves. Where training met no null, one is taken for 0, and among words for none."""
    values = np.array(tree["leaf_value"].split(), dtype=float)
    inner = len(values) - 1
    if not inner:
        return Tree(np.array([-1]), np.array([-1]), np.array([0]), np.zeros(1), values, np.zeros(1, dtype=bool))
    kinds, feature = (np.array(tree[name].split(), dtype=int) for name in ("decision_type", "split_feature"))
    left, right = (np.array(tree[f"{side}_child"].split(), dtype=int) for side in ("left", "right"))
    left, right = (np.where(child < 0, inner + ~child, child) for child in (left, right))
    threshold = np.array(tree["threshold"].split(), dtype=float)
    missing_left = np.where(kinds & MISSING_NAN, (kinds & DEFAULT_LEFT) > 0, threshold >= 0)
    members = {}
    if (among := np.flatnonzero(kinds & CATEGORICAL)).size:
        bounds = np.array(tree["cat_boundaries"].split(), dtype=int)
        words = np.array(tree["cat_threshold"].split(), dtype=np.uint32)
        for node in among:
            place = int(threshold[node])
            members[int(node)] = in_bits(words[bounds[place] : bounds[place + 1]]).astype(float)
            missing_left[node] = False
    leaves = np.full(len(values), -1)
    return Tree(
        np.concatenate([left, leaves]),
        np.concatenate([right, leaves]),
        np.concatenate([feature, np.zeros(len(values), dtype=int)]),
        np.concatenate([threshold, np.zeros(len(values))]),
        np.concatenate([np.zeros(inner), values]),
        np.concatenate([missing_left, np.zeros(len(values), dtype=bool)]),
        members,
    )
