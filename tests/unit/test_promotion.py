"""decide_promotion: every reason, every boundary."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.metrics import METRICS, Score
from driftloop.promotion import (
    Comparison,
    Outcome,
    PromotionDecision,
    PromotionPolicy,
    PromotionReason,
    decide_promotion,
)

POLICY = PromotionPolicy(delta=0.25, confidence=0.95)  # binary fractions, so that a gain is exactly delta
values = st.floats(-10, 10)
bounds = st.floats(-10, 10) | st.just(math.nan)


def score(value: float, metric: str = "auc", rows_id: str = "r") -> Score:
    return Score(metric, value, 100, rows_id)


def decide(
    candidate: float,
    champion: float,
    low: float | None = 0.1,
    policy: PromotionPolicy = POLICY,
    metric: str = "auc",
) -> PromotionDecision:
    comparison = Comparison(score(candidate, metric), score(champion, metric), low)
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy)


def verdict(decision: PromotionDecision) -> tuple[Outcome, PromotionReason]:
    return decision.outcome, decision.reason


def test_without_a_champion_the_candidate_is_promoted_whatever_its_score() -> None:
    decision = decide_promotion(score(0.1), None, None, POLICY)
    assert verdict(decision) == (Outcome.PROMOTE, PromotionReason.NO_CHAMPION)
    assert (decision.champion, decision.gain, decision.gain_low) == (None, None, None)


def test_a_gain_above_delta_with_a_bound_above_zero_is_promoted() -> None:
    assert verdict(decide(0.75 + 1e-9, 0.5, 1e-9)) == (Outcome.PROMOTE, PromotionReason.BEATS_MARGIN)


@pytest.mark.parametrize(("candidate", "champion"), [(0.76, 0.75), (0.80, 0.79), (0.61, 0.60), (0.65, 0.64)])
def test_a_gain_of_exactly_delta_in_decimals_is_within_the_margin(candidate: float, champion: float) -> None:
    decision = decide(candidate, champion, policy=replace(POLICY, delta=0.01))
    assert decision.reason is PromotionReason.WITHIN_MARGIN


def test_a_gain_of_exactly_delta_is_within_the_margin() -> None:
    assert verdict(decide(0.75, 0.5)) == (Outcome.KEEP, PromotionReason.WITHIN_MARGIN)


def test_no_gain_is_within_the_margin_even_of_delta_zero() -> None:
    decision = decide(0.5, 0.5, policy=PromotionPolicy(0.0, 0.95))
    assert verdict(decision) == (Outcome.KEEP, PromotionReason.WITHIN_MARGIN)


def test_a_gain_below_zero_is_worse() -> None:
    assert verdict(decide(0.5 - 1e-9, 0.5)) == (Outcome.KEEP, PromotionReason.WORSE)


@pytest.mark.parametrize("low", [0.0, -0.0, -1e-9, math.nan])
def test_a_lower_bound_that_is_not_above_zero_is_not_significant(low: float) -> None:
    assert verdict(decide(1.0, 0.5, low)) == (Outcome.KEEP, PromotionReason.NOT_SIGNIFICANT)


@pytest.mark.parametrize("low", [None, -1.0])
def test_confidence_zero_turns_the_bound_off(low: float | None) -> None:
    decision = decide(1.0, 0.5, low, PromotionPolicy(0.25, 0))
    assert verdict(decision) == (Outcome.PROMOTE, PromotionReason.BEATS_MARGIN)


def test_a_policy_with_confidence_needs_a_bound() -> None:
    with pytest.raises(ValueError, match=r"asks for a bound at confidence 0\.95"):
        decide(1.0, 0.5, None)


@pytest.mark.parametrize("metric", [name for name, m in METRICS.items() if not m.higher_is_better])
def test_a_lower_error_is_a_gain(metric: str) -> None:
    assert decide(1.0, 2.0, metric=metric).outcome is Outcome.PROMOTE
    assert decide(2.0, 1.0, metric=metric).reason is PromotionReason.WORSE


def test_a_champion_without_a_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a comparison"):
        decide_promotion(score(0.9), score(0.5), None, POLICY)


def test_a_comparison_of_other_scores_is_refused() -> None:
    comparison = Comparison(score(0.9), score(0.4), 0.1)
    with pytest.raises(ValueError, match="of these two scores"):
        decide_promotion(score(0.9), score(0.5), comparison, POLICY)


@pytest.mark.parametrize("other", [score(0.5, rows_id="other"), score(0.5, "accuracy")])
def test_scores_of_other_rows_or_metrics_do_not_compare(other: Score) -> None:
    comparison = Comparison(score(0.9), other, 0.1)
    with pytest.raises(ValueError, match="does not compare"):
        decide_promotion(comparison.candidate, comparison.champion, comparison, POLICY)


def test_the_decision_carries_the_numbers_it_rests_on() -> None:
    assert decide(1.0, 0.5, 0.125) == PromotionDecision(
        Outcome.PROMOTE, PromotionReason.BEATS_MARGIN, "auc", 1.0, 0.5, 0.5, 0.125, 0.25, 100
    )


def test_a_decision_says_itself_in_a_sentence() -> None:
    assert decide(1.0, 0.5, 0.125).sentence == (
        "promote: beats the margin; auc 1.000 against 0.500 on 100 holdout rows, gain +0.500 (delta 0.25), "
        "at least +0.125 by the confidence bound"
    )
    assert decide(1.0, 0.5, None, PromotionPolicy(0.25, 0)).sentence.endswith("(delta 0.25)")
    assert decide_promotion(score(0.1), None, None, POLICY).sentence == "promote: no champion, candidate auc 0.100"


@given(candidate=values, champion=values, bound=bounds, low=st.floats(0, 5), high=st.floats(0, 5))
@pytest.mark.parametrize("metric", ["auc", "rmse"])
def test_a_larger_delta_never_turns_keep_into_promote(
    metric: str, candidate: float, champion: float, bound: float, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    lenient, strict = (decide(candidate, champion, bound, PromotionPolicy(d, 0.95), metric) for d in (low, high))
    assert lenient.outcome is Outcome.PROMOTE or strict.outcome is Outcome.KEEP


@given(candidate=values, champion=values, bound=bounds)
def test_the_bound_only_ever_holds_a_promotion_back(candidate: float, champion: float, bound: float) -> None:
    without = decide(candidate, champion, bound, PromotionPolicy(0.25, 0))
    assert without.outcome is Outcome.PROMOTE or decide(candidate, champion, bound).outcome is Outcome.KEEP


@given(candidate=values, champion=values)
def test_of_two_models_at_most_one_replaces_the_other(candidate: float, champion: float) -> None:
    there, back = (decide(*pair, 0.1).outcome for pair in ((candidate, champion), (champion, candidate)))
    assert Outcome.KEEP in (there, back)
