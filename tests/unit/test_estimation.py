"""A metric told without labels, where the truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop.estimation import Calibration, estimate, expected
from driftloop.evidence import Evidence, keep
from driftloop.metrics import METRICS, Array, Predictions
from driftloop.retrain import Estimate

SEEDS = 60
THRESHOLD = 0.4
BINARY = ("auc", "accuracy", "f1", "log_loss", "brier")
MULTICLASS = ("auc_ovr", "accuracy", "f1_macro", "log_loss")


def binary(rng: np.random.Generator, rows: int, shift: float = 0.0, stretch: float = 1.0) -> tuple[Array, Array]:
    """Labels as likely as the scores say, which are over-confident where ``stretch`` is above 1."""
    logit = rng.normal(shift - 1, 1.2, rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    return y, 1 / (1 + np.exp(-stretch * logit))


def multiclass(rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
    odds = np.exp(rng.normal(0, 1.5, (rows, 3)))
    scores = odds / odds.sum(axis=1, keepdims=True)
    return (rng.random(rows)[:, None] > scores.cumsum(axis=1)).sum(axis=1).astype(float), scores


def estimated(metric: str, y: Array, held: Array, scores: Array, confidence: float = 0.95) -> Estimate:
    """With the score on the holdout as the one at promotion."""
    promoted = METRICS[metric](y, Predictions(held, THRESHOLD))
    return estimate(metric, keep(y, held), Predictions(scores, THRESHOLD), promoted, confidence)


# how near, and how sure


@pytest.mark.parametrize("metric", BINARY)
@pytest.mark.parametrize("stretch", [1.0, 2.0])
def test_the_interval_holds_the_real_metric_about_as_often_as_it_says(metric: str, stretch: float) -> None:
    inside, errors, alarms = 0, [], 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        (y, held), (now, scores) = binary(rng, 800, stretch=stretch), binary(rng, 1200, stretch=stretch)
        found = estimated(metric, y, held, scores)
        real = METRICS[metric](now, Predictions(scores, THRESHOLD))
        inside += found.low <= real <= found.high
        errors.append(found.value - real)
        assert found.drop_low is not None
        alarms += found.drop_low > 0
    assert 0.88 <= inside / SEEDS <= 1
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(SEEDS), "it is neither bright nor gloomy"
    assert alarms / SEEDS < 0.12, "one in twenty, where nothing fell"


@pytest.mark.parametrize("metric", MULTICLASS)
def test_several_classes_are_told_as_well(metric: str) -> None:
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (y, held), (now, scores) = multiclass(rng, 800), multiclass(rng, 1200)
        found = estimated(metric, y, held, scores)
        inside += found.low <= METRICS[metric](now, Predictions(scores)) <= found.high
    assert inside >= 34


@pytest.mark.parametrize("metric", ["auc", "accuracy", "log_loss"])
def test_rows_that_are_harder_lower_the_estimate_as_they_lower_the_metric(metric: str) -> None:
    rng = np.random.default_rng(0)
    y, held = binary(rng, 5000)
    now, scores = binary(rng, 20_000)
    unsure = (scores > 0.2) & (scores < 0.8)
    found = estimated(metric, y, held, scores[unsure])
    real = METRICS[metric](now[unsure], Predictions(scores[unsure], THRESHOLD))
    assert found.value == pytest.approx(real, abs=0.02)
    assert found.drop is not None
    assert found.drop_low is not None
    assert 0.02 < found.drop_low < found.drop


def test_a_confidence_of_0_asks_for_no_bound_and_none_is_there_without_a_score_to_fall_from() -> None:
    rng = np.random.default_rng(0)
    (y, held), (_, scores) = binary(rng, 300), binary(rng, 300)
    assert estimated("auc", y, held, scores, confidence=0).drop_low is None
    found = estimate("auc", keep(y, held), Predictions(scores), None, 0.95)
    assert (found.drop, found.drop_low) == (None, None)


def test_a_holdout_kept_in_part_makes_the_bound_no_surer() -> None:
    rng = np.random.default_rng(0)
    (y, held), (_, scores) = binary(rng, 500), binary(rng, 500, shift=1.0)
    whole, part = (
        estimate("accuracy", Evidence(y, held, rows), Predictions(scores), 0.8, 0.95).drop_low for rows in (500, 50_000)
    )
    assert whole is not None
    assert part == pytest.approx(whole, abs=0.02)


@given(st.integers(0, 2**32 - 1), st.sampled_from(BINARY))
@settings(max_examples=25, deadline=None)
def test_the_same_rows_give_the_same_estimate_in_any_order(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    (y, held), (_, scores) = binary(rng, 120), binary(rng, 80)
    order, again = rng.permutation(120), rng.permutation(80)
    one, other = estimated(metric, y, held, scores), estimated(metric, y[order], held[order], scores[again])
    assert one == estimated(metric, y, held, scores)
    assert (other.value, other.low, other.drop_low) == pytest.approx((one.value, one.low, one.drop_low), rel=1e-6)


# labels that are known


@given(st.integers(0, 2**32 - 1), st.sampled_from((*BINARY, *(f"{m}/3" for m in MULTICLASS))), st.booleans())
@settings(max_examples=50, deadline=None)
def test_with_certain_labels_the_expectation_is_the_metric(seed: int, metric: str, coarse: bool) -> None:
    name, _, several = metric.partition("/")
    y, scores = (multiclass if several else binary)(np.random.default_rng(seed), 60)
    scores = np.round(scores, 1) if coarse else scores
    known = (y[:, None] == np.arange(3 if several else 2)).astype(float)
    if name.startswith("auc") and not known.any(axis=0).all():
        return
    said = Predictions(scores, THRESHOLD)
    found = expected(name, known, said)
    assert found.value == pytest.approx(METRICS[name](y, said))
    assert found.influence.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", BINARY)
def test_the_slope_is_what_a_little_more_of_a_label_changes(metric: str) -> None:
    _, scores = binary(np.random.default_rng(1), 30)
    said = Predictions(np.round(scores, 1), THRESHOLD)
    rates = np.linspace(0.1, 0.9, 30)

    def value(rates: Array) -> float:
        return expected(metric, np.column_stack([1 - rates, rates]), said).value

    slope = expected(metric, np.column_stack([1 - rates, rates]), said).slope
    bump = np.eye(30) * 1e-6
    found = [(value(rates + one) - value(rates - one)) / 2e-6 for one in bump]
    assert slope[:, 1] - slope[:, 0] == pytest.approx(found, abs=1e-6)


# calibration


def test_a_calibration_finds_the_rate_that_a_score_stands_for() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(20_000)
    y = (rng.random(20_000) < score**2).astype(float)
    asked = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    assert Calibration.learn(y, score)(asked) == pytest.approx(asked**2, abs=0.03)


@pytest.mark.parametrize("score", [np.full(50, 0.7), np.zeros(50), np.ones(50), np.repeat([0.0, 1.0], 25)])
def test_scores_of_one_or_two_values_are_rates_of_their_rows(score: Array) -> None:
    y = np.tile([0.0, 0.0, 1.0, 0.0, 1.0], 10)
    found = Calibration.learn(y, score)(score)
    for value in np.unique(score):
        assert found[score == value].mean() == pytest.approx(y[score == value].mean(), abs=0.01)


@pytest.mark.parametrize("y", [np.zeros(40), np.ones(40), np.repeat([0.0, 1.0], 20)])
def test_labels_of_one_class_or_told_apart_completely_are_nearly_certain(y: Array) -> None:
    found = Calibration.learn(y, np.linspace(0.05, 0.95, 40))(np.linspace(0.05, 0.95, 40))
    assert np.isfinite(found).all()
    assert np.abs(found - y).mean() < 0.1


def test_constant_scores_have_an_auc_of_one_half() -> None:
    y = np.tile([0.0, 1.0, 1.0], 30)
    found = estimated("auc", y, np.full(90, 0.6), np.full(40, 0.6))
    assert (found.value, found.drop) == (pytest.approx(0.5), pytest.approx(0))


def test_an_auc_of_rows_sure_to_be_of_one_class_is_refused() -> None:
    certain: Any = np.column_stack([np.zeros(5), np.ones(5)])
    with pytest.raises(ValueError, match="all but certain to be of one class"):
        expected("auc", certain, Predictions(np.linspace(0.1, 0.9, 5)))


def test_a_class_that_no_holdout_row_had_is_estimated_as_all_but_absent() -> None:
    rng = np.random.default_rng(0)
    y, held = multiclass(rng, 300)
    some = y < 2
    found = estimate("accuracy", keep(y[some], held[some]), Predictions(held), None, 0.95)
    assert 0 <= found.low <= found.value <= found.high <= 1
