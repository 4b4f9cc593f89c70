"""The paired gain against values worked by hand, an independent bootstrap, the definition, and simulated ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import norm, t

from driftloop.metrics import METRICS, Predictions, auc, auc_ovr, metrics_of
from driftloop.paired import Gain, detectable_gain, paired_gain

Array = NDArray[np.float64]
Pair = tuple[Array, Predictions, Predictions]

CASES = [(task, name) for task in ("binary", "multiclass", "regression") for name in metrics_of(task)]

few_scores = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])  # so that ties come up within and between the classes


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """(y, candidate's scores, champion's) with at least two rows of each class."""
    n = draw(st.integers(4, 30))
    y = draw(arrays(float, n, elements=st.sampled_from([0.0, 1.0])).filter(lambda a: 2 <= a.sum() <= len(a) - 2))
    return y, draw(arrays(float, n, elements=few_scores)), draw(arrays(float, n, elements=few_scores))


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def probabilities(n: int = 300) -> Pair:
    """(y, a good model, a weaker one) for a binary task; each says yes from a threshold of its own."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=n)
    y = (rng.random(n) < logistic(2 * signal)).astype(float)
    good, weak = (logistic(1.5 * signal + noise * rng.normal(size=n)) for noise in (0.5, 2.0))
    return y, Predictions(good, 0.45), Predictions(weak, 0.6)


def values(n: int = 200) -> Pair:
    """(y, a good model, a weaker one) for a regression."""
    rng = np.random.default_rng(0)
    y = rng.normal(50, 10, n)
    return y, Predictions(y + rng.normal(0, 3, n)), Predictions(y + rng.normal(1, 4, n))


def softmax(x: Array) -> Array:
    powers: Array = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def classes(n: int = 300, k: int = 3) -> Pair:
    """(y, a good model, a weaker one) for a multiclass task whose last class is the rarest."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n, k)) - 0.7 * (np.arange(k) == k - 1)
    y = (2 * signal + rng.gumbel(size=(n, k))).argmax(axis=1).astype(float)
    good, weak = (softmax(1.5 * signal + noise * rng.normal(size=(n, k))) for noise in (0.5, 2.0))
    return y, Predictions(good), Predictions(weak)


def pair_for(task: str) -> Pair:
    return {"binary": probabilities, "multiclass": classes, "regression": values}[task]()


def gain_of(name: str, y: Array, candidate: Predictions, champion: Predictions) -> float:
    sign = 1 if METRICS[name].higher_is_better else -1
    return sign * (METRICS[name](y, candidate) - METRICS[name](y, champion))


# DeLong


def test_delong_is_the_one_worked_by_hand() -> None:
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    candidate = Predictions(np.array([0.1, 0.4, 0.35, 0.8, 0.9]))
    champion = Predictions(np.array([0.5, 0.2, 0.5, 0.1, 0.6]))
    # placements of the positives: candidate 1/2, 1, 1; champion 3/4 (a tie counts half), 0, 1
    # placements of the negatives: candidate 1, 2/3;    champion 1/2, 2/3
    # differences -1/4, 1, 0 (variance 7/16) and 1/2, 0 (variance 1/8); both have the mean 1/4
    error = math.sqrt((7 / 16) / 3 + (1 / 8) / 2)
    found = paired_gain("auc", y, candidate, champion, 0.95)
    assert found.value == pytest.approx(1 / 4, abs=1e-12)
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    # Welch: (7/48 + 1/16)² / ((7/48)² / 2 + (1/16)² / 1) = 100/33.5 degrees of freedom
    few = t(100 / 33.5)
    assert found.lower == pytest.approx(1 / 4 - few.ppf(0.95) * error, abs=1e-9)
    assert found.p_worse == pytest.approx(few.cdf(1 / 4 / error), abs=1e-9)


def test_with_few_events_the_bound_is_wider_than_the_normals_and_with_many_it_is_the_normals() -> None:
    rng = np.random.default_rng(5)
    for events, wider in ((3, 1.2), (5000, 1.0)):
        y = np.repeat([1.0, 0.0], [events, 5000])
        found = paired_gain("auc", y, *(Predictions(y + rng.normal(0, 1, len(y))) for _ in range(2)), 0.95)
        assert found.lower is not None
        ratio = (found.value - found.lower) / (norm.ppf(0.95) * found.standard_error)
        assert ratio > wider if events == 3 else ratio == pytest.approx(wider, abs=1e-3)


def test_a_bootstrap_p_can_be_smaller_than_one_in_the_resamples() -> None:
    y = np.arange(400) % 2.0
    found = paired_gain("accuracy", y, Predictions(1 - y), Predictions(y), 0.95)
    assert found.p_worse <= 1 / 2001
    noisy = Predictions(np.where(np.arange(400) < 300, 1 - y, y))
    assert paired_gain("accuracy", y, noisy, Predictions(y), 0.95).p_worse < 1e-6


def delong_by_definition(y: Array, candidate: Array, champion: Array) -> tuple[float, float]:
    """(gain, its standard error) from each pair of a positive and a negative, O(n²)."""

    def kernel(score: Array) -> Array:
        difference = score[y == 1][:, None] - score[y == 0]
        return np.where(difference > 0, 1.0, np.where(difference == 0, 0.5, 0.0))

    gained = kernel(candidate) - kernel(champion)
    by_positive, by_negative = gained.mean(axis=1), gained.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(by_positive) + by_negative.var(ddof=1) / len(by_negative)
    return float(gained.mean()), math.sqrt(variance)


@given(data=pairs())
def test_delong_in_n_log_n_is_the_definition_in_n_squared(data: tuple[Array, Array, Array]) -> None:
    y, candidate, champion = data
    found = paired_gain("auc", y, Predictions(candidate), Predictions(champion), 0.95)
    assert (found.value, found.standard_error) == pytest.approx(delong_by_definition(*data), abs=1e-9)


@given(data=pairs())
def test_delongs_gain_is_the_difference_of_the_two_aucs(data: tuple[Array, Array, Array]) -> None:
    y, candidate, champion = data
    found = paired_gain("auc", y, Predictions(candidate), Predictions(champion), 0.95)
    assert found.value == pytest.approx(auc(y, candidate) - auc(y, champion), abs=1e-12)


@pytest.mark.parametrize("y", [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
def test_delong_needs_two_rows_of_each_class(y: list[float]) -> None:
    scores = Predictions(np.array([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="at least two rows of each class"):
        paired_gain("auc", np.array(y), scores, scores, 0.95)


# one class against the rest


@given(data=pairs())
def test_with_two_classes_one_against_the_rest_is_delong(data: tuple[Array, Array, Array]) -> None:
    y, *both = data
    found = paired_gain("auc_ovr", y, *(Predictions(np.column_stack([1 - p, p])) for p in both), 0.95)
    delong = paired_gain("auc", y, *map(Predictions, both), 0.95)
    assert (found.value, found.standard_error) == pytest.approx((delong.value, delong.standard_error), abs=1e-9)


def test_the_gain_of_one_against_the_rest_is_the_difference_of_the_two_means() -> None:
    y, good, weak = classes()
    found = paired_gain("auc_ovr", y, good, weak, 0.95)
    assert found.value == pytest.approx(auc_ovr(y, good.scores) - auc_ovr(y, weak.scores), abs=1e-12)


def test_its_error_is_that_of_repeated_samples() -> None:
    rng, k, gains, errors = np.random.default_rng(4), 4, [], []
    for _ in range(300):
        signal, shared, *own = rng.normal(size=(4, 200, k)) - 0.5 * np.arange(k)
        y = (1.5 * signal + rng.gumbel(size=signal.shape)).argmax(axis=1).astype(float)
        both = (Predictions(softmax(signal + 0.7 * (shared + by * own[by - 1]))) for by in (1, 2))
        if min(np.bincount(y.astype(int), minlength=k)) >= 2:
            found = paired_gain("auc_ovr", y, *both, 0.95)
            gains.append(found.value)
            errors.append(found.standard_error)
    # 300 samples give the deviation to 1 / sqrt(600), 4.1 %; three of these
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(gains, ddof=1), rel=0.12)


def test_one_against_the_rest_needs_two_rows_of_each_class() -> None:
    y, good, weak = classes()
    kept = (y < 2) | (np.cumsum(y == 2) == 1)
    with pytest.raises(ValueError, match="at least two rows of each class"):
        paired_gain("auc_ovr", y[kept], good[kept], weak[kept], 0.95)


# every metric


def drawn_gains(name: str, y: Array, candidate: Predictions, champion: Predictions, rounds: int = 400) -> Array:
    """The definition of a bootstrap: draw rows with replacement, score both models on them."""
    rng, found = np.random.default_rng(7), []
    while len(found) < rounds:
        rows = rng.integers(0, len(y), len(y))
        if candidate.scores.ndim == 2 or set(y) - {0, 1} or 0 < y[rows].sum() < len(y):
            drawn = (Predictions(p.scores[rows], p.threshold) for p in (candidate, champion))
            found.append(gain_of(name, y[rows], *drawn))
    return np.array(found)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_gain_is_near_what_a_bootstrap_by_definition_gives(task: str, name: str) -> None:
    y, good, weak = pair_for(task)
    found, drawn = paired_gain(name, y, good, weak, 0.9), drawn_gains(name, y, good, weak)
    low = float(np.quantile(drawn, 0.1))
    assert found.value == pytest.approx(gain_of(name, y, good, weak), abs=1e-12)
    # 400 draws give a deviation to 1 / sqrt(800), 3.5 %, and the tenth percentile to 0.085 deviations; three of each
    assert found.standard_error == pytest.approx(drawn.std(ddof=1), rel=0.11)
    assert found.lower == pytest.approx(low, abs=0.26 * drawn.std(ddof=1))


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_model_neither_gains_nor_loses_over_itself(task: str, name: str) -> None:
    y, good, _ = pair_for(task)
    assert paired_gain(name, y, good, good, 0.95) == Gain(value=0, standard_error=0, lower=0, p_worse=1)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_better_model_is_surely_better_and_a_worse_one_surely_worse(task: str, name: str) -> None:
    y, good, weak = pair_for(task)
    there, back = paired_gain(name, y, good, weak, 0.95), paired_gain(name, y, weak, good, 0.95)
    assert there.lower is not None
    assert there.value > there.lower > 0
    assert there.p_worse > 0.99
    assert back.lower is not None
    assert back.lower < back.value < 0
    assert back.p_worse < 0.01


@pytest.mark.parametrize(("task", "name"), CASES)
def test_what_one_model_gains_the_other_loses(task: str, name: str) -> None:
    y, good, weak = pair_for(task)
    there, back = paired_gain(name, y, good, weak, 0.95), paired_gain(name, y, weak, good, 0.95)
    assert there.value == pytest.approx(-back.value)
    assert there.standard_error == pytest.approx(back.standard_error)
    assert there.p_worse + back.p_worse == pytest.approx(1, abs=0.005)  # a resample without a gain counts for both


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_bound_falls_as_confidence_rises(task: str, name: str) -> None:
    y, good, weak = pair_for(task)
    found = [paired_gain(name, y, good, weak, c).lower or 0 for c in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_gain_is_the_same_each_time(task: str, name: str) -> None:
    y, good, weak = pair_for(task)
    assert paired_gain(name, y, good, weak, 0.95) == paired_gain(name, y, good, weak, 0.95)


@pytest.mark.parametrize("name", ["auc", "auc_ovr", "brier", "rmse"])
def test_confidence_zero_asks_for_no_bound_and_leaves_the_rest_as_it_is(name: str) -> None:
    y, good, weak = pair_for(METRICS[name].tasks[0])
    without, asked = (paired_gain(name, y, good, weak, c) for c in (0, 0.95))
    assert without == Gain(asked.value, asked.standard_error, None, asked.p_worse)


@pytest.mark.parametrize(("name", "gain"), [("accuracy", 1 / 4), ("f1", 1 / 3), ("auc", 0), ("brier", 0)])
def test_each_model_says_yes_from_its_own_threshold_on(name: str, gain: float) -> None:
    y, scores = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.3, 0.4, 0.9])
    # from 0.4 on both events and nothing else: accuracy 1, F1 1; from 0.5 on one event is missed: 3/4 and 2/3
    found = paired_gain(name, y, Predictions(scores, 0.4), Predictions(scores, 0.5), 0.95)
    assert found.value == pytest.approx(gain)


def test_resamples_that_come_in_blocks_are_near_the_normal_bound() -> None:
    y, good, weak = values(n=3000)
    error_saved = np.abs(y - weak.scores) - np.abs(y - good.scores)
    error = error_saved.std() / math.sqrt(len(y))
    found = paired_gain("mae", y, good, weak, 0.95)
    assert found.standard_error == pytest.approx(error, rel=0.05)  # 2,000 draws give it to 1 / sqrt(4000), 1.6 %
    assert found.lower == pytest.approx(error_saved.mean() - norm.ppf(0.95) * error, abs=0.15 * error)


def test_r2_has_no_bound_where_a_resample_may_hold_one_value_only() -> None:
    y = np.array([0.0] * 19 + [1.0])  # a resample misses the last row more than one time in three
    with pytest.raises(ValueError, match="r2 has no value on some resamples of these 20 rows"):
        paired_gain("r2", y, Predictions(y + 0.1), Predictions(y - 0.2), 0.95)


# error rates


def a_tie(task: str, n: int, rng: np.random.Generator) -> Pair:
    """Two models drawn alike, so of equal true quality in every metric, that share half of their noise."""
    signal, shared, *own = rng.normal(size=(4, n))
    if task == "regression":
        return signal, *(Predictions(signal + 0.7 * shared + 0.7 * noise) for noise in own)
    if task == "multiclass":
        signal, shared, *own = rng.normal(size=(4, n, 3))
        y = (1.5 * signal + rng.gumbel(size=(n, 3))).argmax(axis=1).astype(float)
        return y, *(Predictions(softmax(signal + 0.7 * shared + 0.7 * noise)) for noise in own)
    y = (rng.random(n) < logistic(1.5 * signal)).astype(float)
    return y, *(Predictions(logistic(signal + 0.7 * shared + 0.7 * noise)) for noise in own)


@pytest.mark.parametrize(
    ("name", "rows", "holdouts"),
    [("auc", 200, 2000), ("auc_ovr", 200, 300), ("brier", 80, 300), ("rmse", 80, 300)],
)
@pytest.mark.long
def test_on_ties_a_gain_is_claimed_one_time_in_twenty_and_a_loss_too(name: str, rows: int, holdouts: int) -> None:
    rng = np.random.default_rng(3)
    ties = [a_tie(METRICS[name].tasks[0], rows, rng) for _ in range(holdouts)]
    found = [paired_gain(name, *tie, 0.95) for tie in ties]
    sampling_error = 3 * math.sqrt(0.05 * 0.95 / holdouts)  # three deviations of a share of 5 % in so many holdouts
    assert np.mean([g.lower is not None and g.lower > 0 for g in found]) <= 0.05 + sampling_error
    assert np.mean([g.p_worse <= 0.05 for g in found]) <= 0.05 + sampling_error
    assert np.mean([g.p_worse <= 0.5 for g in found]) == pytest.approx(0.5, abs=3 * math.sqrt(0.25 / holdouts))


@pytest.mark.parametrize(
    ("error", "delta", "confidence"),
    [(0.01, 0.0, 0.95), (0.01, 0.03, 0.95), (0.02, 0.01, 0.8), (0.01, 0.005, 0)],
)
def test_a_gain_of_the_detectable_size_is_promoted_four_times_in_five(
    error: float, delta: float, confidence: float
) -> None:
    draws = 100_000
    seen = np.random.default_rng(5).normal(detectable_gain(error, delta, confidence), error, draws)
    significant = seen - norm.ppf(confidence) * error > 0 if confidence else True
    power = np.mean((seen > delta) & significant)
    assert power == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / draws))


def test_two_models_as_far_apart_as_is_detectable_are_told_apart_four_times_in_five() -> None:
    rng, n, holdouts = np.random.default_rng(11), 300, 500

    def a_holdout(separation: float) -> Gain:
        """Scores of two classes, normal with unit variance: the true AUC is Φ(separation / √2)."""
        y = (rng.random(n) < 0.4).astype(float)
        shared, *own = rng.normal(size=(3, n)) / math.sqrt(2)
        models = [Predictions(by * y + shared + noise) for by, noise in zip((separation, 1.0), own, strict=True)]
        return paired_gain("auc", y, *models, 0.95)

    error = float(np.mean([a_holdout(1.15).standard_error for _ in range(100)]))
    true_gain = detectable_gain(error, delta=0.0, confidence=0.95)
    separation = math.sqrt(2) * norm.ppf(norm.cdf(1 / math.sqrt(2)) + true_gain)
    power = np.mean([g.lower is not None and g.lower > 0 for g in (a_holdout(separation) for _ in range(holdouts))])
    assert power == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / holdouts))


@given(error=st.floats(0, 1), delta=st.floats(0, 1), more=st.floats(0, 1), confidence=st.floats(0.5, 0.99))
def test_less_sure_rows_and_a_wider_margin_never_show_a_smaller_gain(
    error: float, delta: float, more: float, confidence: float
) -> None:
    found = detectable_gain(error, delta, confidence)
    assert found >= delta
    assert detectable_gain(error + more, delta, confidence) >= found
    assert detectable_gain(error, delta + more, confidence) >= found
