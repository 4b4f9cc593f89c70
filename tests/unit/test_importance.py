"""Which features a score rests on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop.importance import MOST_ROWS, REPEATS, Importance, permutation_importance
from driftloop.metrics import METRICS, Predictions

Frame = pd.DataFrame


def rows(n: int = 400, seed: int = 1) -> Frame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"strong": rng.normal(size=n), "weak": rng.normal(size=n), "unused": rng.normal(size=n)}
        | {"plan": rng.choice(["basic", "full"], n)}
    )


def signal(X: Frame) -> Any:
    return (3 * X["strong"] + 0.5 * X["weak"] + 1.0 * (X["plan"] == "full")).to_numpy()


def probability(X: Frame) -> Predictions:
    return Predictions(1 / (1 + np.exp(-signal(X))))


def likelihoods(X: Frame) -> Predictions:
    """Of three classes: signals around -3, around 0 and around 4."""
    powers = np.exp(-((signal(X)[:, None] - [-3, 0.5, 4]) ** 2) / 4)
    return Predictions(powers / powers.sum(axis=1, keepdims=True))


def value(X: Frame) -> Predictions:
    return Predictions(signal(X))


def found(metric: str, X: Frame, predict: Any = None) -> Importance:
    if "multiclass" in METRICS[metric].tasks:
        y = np.digitize(signal(X) + np.random.default_rng(2).normal(size=len(X)), [-1, 2]).astype(float)
        made = permutation_importance(metric, X, y, predict or likelihoods)
    elif "binary" in METRICS[metric].tasks:
        y = (signal(X) + np.random.default_rng(2).normal(size=len(X)) > 0).astype(float)
        made = permutation_importance(metric, X, y, predict or probability)
    else:
        made = permutation_importance(metric, X, signal(X), predict or value)
    assert made is not None
    return made


@pytest.mark.parametrize("metric", METRICS)
def test_the_strong_feature_is_first_and_one_that_is_not_used_is_worth_nothing(metric: str) -> None:
    importance = found(metric, rows())
    assert importance.features[0].name == "strong"
    assert importance.means["strong"] > 3 * abs(importance.means["weak"]) > 0, "a loss is positive, whatever is better"
    assert importance.means["unused"] == 0
    assert {feature.name: feature.std for feature in importance.features}["unused"] == 0
    assert importance.features[0].std > 0


def test_the_same_rows_give_the_same_answer() -> None:
    assert found("auc", rows()) == found("auc", rows())


def test_what_shuffling_costs_is_what_it_costs() -> None:
    X = pd.DataFrame({"x": np.arange(400.0)})
    y = X["x"].to_numpy()
    importance = permutation_importance("mse", X, y, lambda rows: Predictions(rows["x"].to_numpy()))
    assert importance is not None
    assert importance.score == 0
    assert importance.means["x"] == pytest.approx(2 * y.var(), rel=0.05), "two independent draws differ by 2 variances"


def test_at_most_some_rows_are_looked_at_and_the_model_is_asked_about_several_columns_at_once() -> None:
    asked: list[int] = []

    def counted(X: Frame) -> Predictions:
        asked.append(len(X))
        return probability(X)

    importance = found("auc", rows(3 * MOST_ROWS), counted)
    assert (importance.rows, importance.shuffles) == (MOST_ROWS, REPEATS)
    assert asked == [MOST_ROWS, MOST_ROWS * REPEATS * 4]


def test_a_threshold_decides_what_labels_are_shuffled() -> None:
    importance = found("f1", rows(), lambda X: Predictions(probability(X).scores, threshold=0.9))
    assert importance.score < found("f1", rows()).score


def test_where_the_metric_is_undefined_nothing_matters() -> None:
    X = rows(20)
    assert permutation_importance("auc", X, np.ones(20), probability) is None


def test_the_page_has_a_bar_a_feature_and_escapes_their_names() -> None:
    X = rows().rename(columns={"unused": "<b>&"})
    importance = found("auc", X)
    page = importance.page()
    widths = [int(width) for width in re.findall(r"width: (\d+)px", page)]
    assert widths[0] == 400
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 4
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "src=" not in page
    assert "http" not in page


def test_what_is_stored_names_the_metric_and_the_rows() -> None:
    stored = found("auc", rows()).json()
    assert (stored["metric"], stored["rows"], stored["shuffles"]) == ("auc", 400, REPEATS)
    assert stored["features"][0].keys() == {"name", "mean", "std"}


def test_a_column_with_one_value_on_the_rows_says_nothing_and_is_left_out() -> None:
    X = rows().assign(season=3.0, missing=np.nan)
    assert {feature.name for feature in found("rmse", X).features} == {
        "strong", "weak", "unused", "plan",
    }  # fmt: skip
