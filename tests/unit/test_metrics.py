"""Metrics against scikit-learn's, and scores that compare only where they may."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics as peer

from driftloop.metrics import METRICS, Predictions, Score, auc, auc_ovr, metrics_of

Array = NDArray[np.float64]

PEERS: dict[str, Callable[[Array, Array], float]] = {
    "auc": peer.roc_auc_score,
    "accuracy": peer.accuracy_score,
    "f1": lambda y, label: peer.f1_score(y, label, zero_division=0),
    "log_loss": lambda y, p: peer.log_loss(y, p, labels=[0, 1]),
    "brier": peer.brier_score_loss,
    "rmse": peer.root_mean_squared_error,
    "mse": peer.mean_squared_error,
    "mae": peer.mean_absolute_error,
    "r2": peer.r2_score,
}
MULTICLASS_PEERS: dict[str, Callable[[Array, Array], float]] = {
    "auc_ovr": lambda y, p: peer.roc_auc_score(y, p, multi_class="ovr", labels=range(p.shape[1])),
    "accuracy": lambda y, p: peer.accuracy_score(y, p.argmax(axis=1)),
    "f1_macro": lambda y, p: peer.f1_score(
        y, p.argmax(axis=1), average="macro", labels=range(p.shape[1]), zero_division=0
    ),
    "log_loss": lambda y, p: peer.log_loss(y, p, labels=range(p.shape[1])),
}

# few distinct values, so that ties, 0, 0.5 and 1 come up
probabilities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1)
sizes = st.integers(2, 40)


@st.composite
def scored(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[Array, Array]:
    n = draw(sizes)
    y = draw(arrays(float, n, elements=st.sampled_from([0.0, 1.0])).filter(lambda a: 0 < a.sum() < len(a)))
    return y, draw(arrays(float, n, elements=values))


@st.composite
def measured(draw: st.DrawFn) -> tuple[Array, Array]:
    n = draw(sizes)
    numbers = arrays(float, n, elements=st.integers(-1000, 1000).map(lambda i: i / 8))
    return draw(numbers.filter(lambda a: np.ptp(a) > 0)), draw(numbers)


def test_every_metric_has_a_peer_here() -> None:
    assert PEERS.keys() == metrics_of("binary").keys() | metrics_of("regression").keys()
    assert MULTICLASS_PEERS.keys() == metrics_of("multiclass").keys()
    assert PEERS.keys() | MULTICLASS_PEERS.keys() == METRICS.keys()


@pytest.mark.parametrize("name", metrics_of("binary"))
@given(data=scored(probabilities), threshold=probabilities)
def test_a_binary_metric_is_scikit_learns(name: str, data: tuple[Array, Array], threshold: float) -> None:
    y, p = data
    asked = p >= threshold if name in ("accuracy", "f1") else p
    assert METRICS[name](y, Predictions(p, threshold)) == pytest.approx(PEERS[name](y, asked), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", metrics_of("regression"))
@given(data=measured())
def test_a_regression_metric_is_scikit_learns(name: str, data: tuple[Array, Array]) -> None:
    y, predicted = data
    assert METRICS[name](y, Predictions(predicted)) == pytest.approx(PEERS[name](*data), rel=1e-9, abs=1e-12)


@st.composite
def classified(draw: st.DrawFn) -> tuple[Array, Array]:
    """(classes, probabilities of three to five of them); ties and certainties come up, classes may be absent."""
    n, k = draw(sizes), draw(st.integers(3, 5))
    weights = draw(arrays(float, (n, k), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])))
    weights[:, 0] += weights.sum(axis=1) == 0
    return draw(arrays(float, n, elements=st.integers(0, k - 1).map(float))), weights / weights.sum(
        axis=1, keepdims=True
    )


@pytest.mark.parametrize("name", metrics_of("multiclass"))
@given(data=classified())
def test_a_multiclass_metric_is_scikit_learns(name: str, data: tuple[Array, Array]) -> None:
    y, p = data
    if name == "auc_ovr" and len(np.unique(y)) < p.shape[1]:
        assert math.isnan(METRICS[name](y, Predictions(p)))
    else:
        assert METRICS[name](y, Predictions(p)) == pytest.approx(MULTICLASS_PEERS[name](y, p), rel=1e-9, abs=1e-12)


def test_with_two_classes_one_against_the_rest_is_the_auc() -> None:
    y, p = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])
    assert auc_ovr(y, np.column_stack([1 - p, p])) == auc(y, p) == 0.75


def test_a_class_says_the_likeliest_and_of_equals_the_first() -> None:
    said = Predictions(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]))
    assert said.labels.tolist() == [1, 0]
    assert said[np.array([False, True])].labels.tolist() == [0]


def test_the_directions_are_those_of_the_metrics() -> None:
    assert {name for name, m in METRICS.items() if m.higher_is_better} == {
        "auc",
        "auc_ovr",
        "accuracy",
        "f1",
        "f1_macro",
        "r2",
    }


def test_a_model_says_yes_at_its_threshold_and_above() -> None:
    y, scores = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.3, 0.4, 0.9])
    assert METRICS["accuracy"](y, Predictions(scores, 0.4)) == 1
    assert METRICS["accuracy"](y, Predictions(scores, 0.41)) == 0.75
    assert METRICS["f1"](y, Predictions(scores, 0.3)) == pytest.approx(4 / 5)  # 2 hits, 3 said yes, 2 events


def test_a_model_says_yes_from_one_half_on_unless_told_otherwise() -> None:
    assert METRICS["accuracy"](np.array([1.0, 0.0]), Predictions(np.array([0.5, 0.5 - 1e-9]))) == 1


def test_some_of_the_rows_keep_the_threshold() -> None:
    some = Predictions(np.array([0.1, 0.2, 0.3]), 0.25)[np.array([True, False, True])]
    assert (some.scores.tolist(), some.threshold) == ([0.1, 0.3], 0.25)


def test_ties_between_the_classes_count_half_in_the_auc() -> None:
    assert auc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert auc(np.array([0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.9])) == 0.75


@pytest.mark.parametrize("y", [[0.0, 0.0], [1.0, 1.0]])
def test_the_auc_of_one_class_is_nan(y: list[float]) -> None:
    assert math.isnan(auc(np.array(y), np.array([0.1, 0.9])))


def test_a_score_that_is_missing_makes_the_auc_missing() -> None:
    assert math.isnan(auc(np.array([0.0, 1.0, 1.0]), np.array([0.1, math.nan, 0.3])))


@pytest.mark.parametrize("value", [2.0, 0.1, 1e6 + 0.1])
def test_r2_of_a_constant_target_is_nan(value: float) -> None:
    y = np.full(11, value)
    assert math.isnan(METRICS["r2"](y, Predictions(y + 0.1)))


def test_f1_without_a_positive_on_either_side_is_zero() -> None:
    assert METRICS["f1"](np.zeros(3), Predictions(np.zeros(3))) == 0


@given(data=scored(probabilities))
def test_turning_the_scores_around_turns_the_auc_around(data: tuple[Array, Array]) -> None:
    y, p = data
    assert auc(y, p) + auc(y, -p) == pytest.approx(1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="that is no score"):
        Score("auc", value, 10, "r")


def test_a_score_of_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown metric 'gini'; expected one of auc, auc_ovr, accuracy"):
        Score("gini", 0.5, 10, "r")


def test_a_gain_is_positive_when_better_whatever_the_direction() -> None:
    assert Score("auc", 0.75, 10, "r").gain_over(Score("auc", 0.5, 10, "r")) == 0.25
    assert Score("rmse", 0.75, 10, "r").gain_over(Score("rmse", 0.5, 10, "r")) == -0.25


@pytest.mark.parametrize("other", [Score("auc", 0.5, 10, "s"), Score("f1", 0.5, 10, "r")])
def test_scores_of_other_rows_or_metrics_do_not_compare(other: Score) -> None:
    with pytest.raises(ValueError, match="does not compare with"):
        Score("auc", 0.75, 10, "r").gain_over(other)
