"""Metrics against scikit-learn's, bounds against values worked by hand and slow bootstraps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn import metrics as peer

from driftloop.metrics import METRICS, Score, auc, gain_lower_bound

Array = NDArray[np.float64]

PEERS: dict[str, Callable[[Array, Array], float]] = {
    "auc": peer.roc_auc_score,
    "accuracy": lambda y, p: peer.accuracy_score(y, p >= 0.5),
    "f1": lambda y, p: peer.f1_score(y, p >= 0.5, zero_division=0),
    "log_loss": lambda y, p: peer.log_loss(y, p, labels=[0, 1]),
    "brier": peer.brier_score_loss,
    "rmse": peer.root_mean_squared_error,
    "mse": peer.mean_squared_error,
    "mae": peer.mean_absolute_error,
    "r2": peer.r2_score,
}
BINARY = [name for name, metric in METRICS.items() if metric.task == "binary"]
REGRESSION = [name for name, metric in METRICS.items() if metric.task == "regression"]

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


def a_test_set(n: int = 300, *, skill: float = 1.5, seed: int = 0) -> tuple[Array, Array, Array]:
    """(y, a good model's probabilities, a weaker one's) for a binary task."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * signal))).astype(float)
    good, weak = (1 / (1 + np.exp(-(skill * signal + noise * rng.normal(size=n)))) for noise in (0.5, 2.0))
    return y, good, weak


def measurements(n: int = 200, seed: int = 0) -> tuple[Array, Array, Array]:
    """(y, a good model's predictions, a weaker one's) for a regression."""
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 10, n)
    return y, y + rng.normal(0, 3, n), y + rng.normal(1, 4, n)


def test_every_metric_has_a_peer_here() -> None:
    assert PEERS.keys() == METRICS.keys()


@pytest.mark.parametrize("name", BINARY)
@given(data=scored(probabilities))
def test_a_binary_metric_is_scikit_learns(name: str, data: tuple[Array, Array]) -> None:
    assert METRICS[name](*data) == pytest.approx(PEERS[name](*data), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", REGRESSION)
@given(data=measured())
def test_a_regression_metric_is_scikit_learns(name: str, data: tuple[Array, Array]) -> None:
    assert METRICS[name](*data) == pytest.approx(PEERS[name](*data), rel=1e-9, abs=1e-12)


def test_the_directions_are_those_of_the_metrics() -> None:
    assert {name for name, m in METRICS.items() if m.higher_is_better} == {"auc", "accuracy", "f1", "r2"}


def test_ties_between_the_classes_count_half_in_the_auc() -> None:
    assert auc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert auc(np.array([0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.9])) == 0.75


@pytest.mark.parametrize("y", [[0.0, 0.0], [1.0, 1.0]])
def test_the_auc_of_one_class_is_nan(y: list[float]) -> None:
    assert math.isnan(auc(np.array(y), np.array([0.1, 0.9])))


@pytest.mark.parametrize("value", [2.0, 0.1, 1e6 + 0.1])
def test_r2_of_a_constant_target_is_nan(value: float) -> None:
    y = np.full(11, value)
    assert math.isnan(METRICS["r2"](y, y + 0.1))


def test_f1_without_a_positive_on_either_side_is_zero() -> None:
    assert METRICS["f1"](np.zeros(3), np.zeros(3)) == 0


@given(data=scored(probabilities))
def test_turning_the_scores_around_turns_the_auc_around(data: tuple[Array, Array]) -> None:
    y, p = data
    assert auc(y, p) + auc(y, -p) == pytest.approx(1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="that is no score"):
        Score("auc", value, 10, "r")


def test_a_score_of_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown metric 'gini'; expected one of auc, accuracy"):
        Score("gini", 0.5, 10, "r")


def test_a_gain_is_positive_when_better_whatever_the_direction() -> None:
    assert Score("auc", 0.75, 10, "r").gain_over(Score("auc", 0.5, 10, "r")) == 0.25
    assert Score("rmse", 0.75, 10, "r").gain_over(Score("rmse", 0.5, 10, "r")) == -0.25


@pytest.mark.parametrize("other", [Score("auc", 0.5, 10, "s"), Score("f1", 0.5, 10, "r")])
def test_scores_of_other_rows_or_metrics_do_not_compare(other: Score) -> None:
    with pytest.raises(ValueError, match="does not compare with"):
        Score("auc", 0.75, 10, "r").gain_over(other)


def test_delongs_bound_is_the_one_worked_by_hand() -> None:
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    candidate = np.array([0.1, 0.4, 0.35, 0.8, 0.9])
    champion = np.array([0.5, 0.2, 0.5, 0.1, 0.6])
    # placements of the positives: candidate 1/2, 1, 1; champion 3/4 (a tie counts half), 0, 1
    # placements of the negatives: candidate 1, 2/3;    champion 1/2, 2/3
    # differences -1/4, 1, 0 (variance 7/16) and 1/2, 0 (variance 1/8); both have the mean 1/4
    variance = (7 / 16) / 3 + (1 / 8) / 2
    expected = 1 / 4 - norm.ppf(0.95) * math.sqrt(variance)
    assert gain_lower_bound("auc", y, candidate, champion, 0.95) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(-0.500770, abs=1e-6)


def slow_bootstrap(name: str, y: Array, candidate: Array, champion: Array, confidence: float, rounds: int) -> float:
    """The definition itself: draw rows with replacement, score both models on them, take the percentile."""
    rng = np.random.default_rng(7)
    sign = 1 if METRICS[name].higher_is_better else -1
    gains = []
    for _ in range(rounds):
        rows = rng.integers(0, len(y), len(y))
        drawn = y[rows]
        if METRICS[name].task == "regression" or 0 < drawn.sum() < len(y):
            gains.append(sign * (PEERS[name](drawn, candidate[rows]) - PEERS[name](drawn, champion[rows])))
    return float(np.quantile(gains, 1 - confidence))


def test_delongs_bound_is_near_a_bootstraps() -> None:
    y, good, weak = a_test_set()
    gain = auc(y, good) - auc(y, weak)
    bound = gain_lower_bound("auc", y, good, weak, 0.95)
    slow = slow_bootstrap("auc", y, good, weak, 0.95, rounds=150)
    assert bound < gain
    assert bound == pytest.approx(slow, abs=0.2 * (gain - slow))


@pytest.mark.parametrize("name", ["accuracy", "f1", "log_loss", "brier"])
def test_the_bound_of_a_binary_metric_is_near_a_slow_bootstraps(name: str) -> None:
    y, good, weak = a_test_set()
    assert_near_slow_bootstrap(name, y, good, weak)


@pytest.mark.parametrize("name", REGRESSION)
def test_the_bound_of_a_regression_metric_is_near_a_slow_bootstraps(name: str) -> None:
    assert_near_slow_bootstrap(name, *measurements())


def assert_near_slow_bootstrap(name: str, y: Array, good: Array, weak: Array) -> None:
    sign = 1 if METRICS[name].higher_is_better else -1
    gain = sign * (METRICS[name](y, good) - METRICS[name](y, weak))
    slow = slow_bootstrap(name, y, good, weak, 0.9, rounds=150)
    bound = gain_lower_bound(name, y, good, weak, 0.9)
    assert bound < gain
    assert bound == pytest.approx(slow, abs=0.25 * (gain - slow))  # two bootstraps differ by chance alone


@pytest.mark.parametrize("name", METRICS)
def test_a_model_gains_nothing_over_itself(name: str) -> None:
    y, good, _ = a_test_set() if METRICS[name].task == "binary" else measurements()
    assert gain_lower_bound(name, y, good, good, 0.95) <= 0


@pytest.mark.parametrize("name", METRICS)
def test_a_worse_model_has_a_bound_below_zero(name: str) -> None:
    y, good, weak = a_test_set() if METRICS[name].task == "binary" else measurements()
    assert gain_lower_bound(name, y, weak, good, 0.95) < 0


@pytest.mark.parametrize("name", METRICS)
def test_the_bound_falls_as_confidence_rises(name: str) -> None:
    y, good, weak = a_test_set() if METRICS[name].task == "binary" else measurements()
    found = [gain_lower_bound(name, y, good, weak, c) for c in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


@pytest.mark.parametrize("name", METRICS)
def test_the_bound_is_the_same_each_time(name: str) -> None:
    y, good, weak = a_test_set() if METRICS[name].task == "binary" else measurements()
    assert gain_lower_bound(name, y, good, weak, 0.95) == gain_lower_bound(name, y, good, weak, 0.95)


def test_a_bound_whose_resamples_come_in_blocks_is_near_the_normal_one() -> None:
    y, good, weak = measurements(n=3000)
    gain = METRICS["mae"](y, weak) - METRICS["mae"](y, good)
    errors = np.abs(y - weak) - np.abs(y - good)
    expected = gain - norm.ppf(0.95) * errors.std() / math.sqrt(len(y))
    assert gain_lower_bound("mae", y, good, weak, 0.95) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("y", [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
def test_delong_needs_two_rows_of_each_class(y: list[float]) -> None:
    scores = np.array([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="at least two rows of each class"):
        gain_lower_bound("auc", np.array(y), scores, scores, 0.95)
