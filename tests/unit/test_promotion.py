"""decide_promotion: every reason, every boundary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

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
    ServingCheck,
    decide_approved,
    decide_promotion,
)
from driftloop.slices import NO_SLICES, Slice, Slices

POLICY = PromotionPolicy(delta=0.25, confidence=0.95)  # binary fractions, so that a gain is exactly delta
CAPPED = replace(POLICY, max_latency_ms=20.0, max_size_mb=8.0)
SERVES = ServingCheck(None, 0.0, 100, latency_ms=20.0, size_mb=8.0)  # exactly at both caps
NOT_LOADED = ServingCheck("version 4 has no signature")
WORSE = Slice("plan = basic", 120, 0.5, 0.625, p=0.001, adjusted=0.0042, worse=True, close=False)
CLOSE = Slice("fee < 10", 110, 0.625, 0.6875, p=0.04, adjusted=0.12, worse=False, close=True)
FINE = Slice("plan = family", 90, 0.75, 0.5, p=0.99, adjusted=1.0, worse=False, close=False)
APPROVALS = ("auto", "borderline", "always")
TOWARDS_PROMOTE = [Outcome.KEEP, Outcome.ASK, Outcome.PROMOTE]

values = st.floats(-10, 10)
bounds = st.floats(-10, 10) | st.just(math.nan)
slices = st.sampled_from([NO_SLICES, Slices((FINE,)), Slices((FINE, CLOSE)), Slices((FINE, CLOSE, WORSE))])
broken_cases = st.sampled_from([(), ("cheap one: says True, expected False",)])
checks = st.sampled_from([None, SERVES, NOT_LOADED])


def score(value: float, metric: str = "auc", rows_id: str = "r") -> Score:
    return Score(metric, value, 100, rows_id)


def decide(
    candidate: float,
    champion: float,
    low: float | None = 0.1,
    policy: PromotionPolicy = POLICY,
    metric: str = "auc",
    serving: ServingCheck | None = None,
    **found: Any,
) -> PromotionDecision:
    """``found``: the comparison's slices, broken cases and detectable gain."""
    comparison = Comparison(score(candidate, metric), score(champion, metric), low, **found)
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy, serving)


def better(**changes: Any) -> PromotionDecision:
    """What is decided on a candidate that beats the margin."""
    return decide(1.0, 0.5, 0.1, **changes)


def asking(approval: str, policy: PromotionPolicy = POLICY) -> PromotionPolicy:
    return replace(policy, approval=approval)


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


# known cases and slices


def test_a_known_case_that_broke_keeps_the_champion_and_is_named() -> None:
    decision = better(broken=("cheap one: says True, expected False", "row 3: goes from 0.2 to 0.1"))
    assert verdict(decision) == (Outcome.KEEP, PromotionReason.KNOWN_CASE_BROKE)
    assert (
        decision.because == decision.broken == ("cheap one: says True, expected False", "row 3: goes from 0.2 to 0.1")
    )
    assert decision.sentence.endswith(
        "by the confidence bound. cheap one: says True, expected False; row 3: goes from 0.2 to 0.1"
    )


def test_a_slice_that_got_worse_keeps_the_champion_and_is_named_alone() -> None:
    decision = better(slices=Slices((FINE, CLOSE, WORSE)))
    assert verdict(decision) == (Outcome.KEEP, PromotionReason.SLICE_WORSE)
    assert decision.because == ("plan = basic: auc 0.500 against 0.625 on 120 rows (p 0.0042 after Holm)",)
    assert decision.slices == Slices((FINE, CLOSE, WORSE))


@pytest.mark.parametrize("approval", ["auto", "always"])
def test_a_slice_that_is_close_says_nothing_unless_what_is_borderline_is_asked_about(approval: str) -> None:
    free, asked = (better(policy=asking(approval), slices=found) for found in (NO_SLICES, Slices((CLOSE,))))
    assert verdict(free) == verdict(asked)


def test_slices_that_could_not_be_judged_hold_nothing_back() -> None:
    assert better(slices=Slices((FINE,), ("plan = basic (3 rows)",))).outcome is Outcome.PROMOTE


def test_known_cases_and_slices_do_not_speak_of_a_first_champion() -> None:
    decision = decide_promotion(score(0.1), None, None, POLICY)
    assert (decision.slices, decision.broken, decision.detectable) == (NO_SLICES, (), None)


# who has the last word


def test_where_every_promotion_is_asked_about_the_better_candidate_waits() -> None:
    assert verdict(better(policy=asking("always"))) == (Outcome.ASK, PromotionReason.NEEDS_APPROVAL)


def test_where_every_promotion_is_asked_about_the_first_champion_waits_too() -> None:
    decision = decide_promotion(score(0.1), None, None, asking("always"))
    assert verdict(decision) == (Outcome.ASK, PromotionReason.NEEDS_APPROVAL)


def test_where_only_the_borderline_is_asked_about_the_clear_cases_are_decided() -> None:
    policy = asking("borderline")
    assert verdict(better(policy=policy)) == (Outcome.PROMOTE, PromotionReason.BEATS_MARGIN)
    assert verdict(decide_promotion(score(0.1), None, None, policy)) == (Outcome.PROMOTE, PromotionReason.NO_CHAMPION)
    assert verdict(decide(0.75, 0.5, policy=policy)) == (Outcome.KEEP, PromotionReason.WITHIN_MARGIN)
    assert verdict(decide(0.25, 0.5, policy=policy)) == (Outcome.KEEP, PromotionReason.WORSE)


@pytest.mark.parametrize("low", [0.0, -0.1, math.nan])
def test_a_gain_that_may_be_chance_is_borderline(low: float) -> None:
    assert verdict(decide(1.0, 0.5, low, asking("borderline"))) == (Outcome.ASK, PromotionReason.NOT_SIGNIFICANT)
    assert verdict(decide(1.0, 0.5, low, asking("always"))) == (Outcome.KEEP, PromotionReason.NOT_SIGNIFICANT)


def test_a_slice_that_is_close_is_borderline_and_named() -> None:
    decision = better(policy=asking("borderline"), slices=Slices((FINE, CLOSE)))
    assert verdict(decision) == (Outcome.ASK, PromotionReason.SLICE_CLOSE)
    assert decision.because == ("fee < 10: auc 0.625 against 0.688 on 110 rows (p 0.12 after Holm)",)


# serving


def test_a_version_that_cannot_be_served_is_kept_out_with_the_problem() -> None:
    decision = better(serving=NOT_LOADED)
    assert verdict(decision) == (Outcome.KEEP, PromotionReason.NOT_SERVABLE)
    assert decision.because == ("version 4 has no signature",)
    assert decision.serving == NOT_LOADED


def test_a_first_champion_that_cannot_be_served_is_kept_out() -> None:
    decision = decide_promotion(score(0.1), None, None, POLICY, NOT_LOADED)
    assert verdict(decision) == (Outcome.KEEP, PromotionReason.NOT_SERVABLE)
    assert decision.sentence == ("keep: cannot be served, candidate auc 0.100. version 4 has no signature")


@pytest.mark.parametrize(
    ("measured", "reason", "because"),
    [
        ({"latency_ms": 20.0, "size_mb": 8.0}, PromotionReason.BEATS_MARGIN, ()),
        ({"latency_ms": 20.5, "size_mb": 8.0}, PromotionReason.TOO_SLOW, ("one row takes 20.5 ms",)),
        ({"latency_ms": 20.0, "size_mb": 8.5}, PromotionReason.TOO_LARGE, ("the stored model has 8.5 MB",)),
        ({"latency_ms": 30.0, "size_mb": 80.0}, PromotionReason.TOO_SLOW, ("one row takes 30 ms",)),
    ],
)
def test_what_exceeds_a_cap_is_kept_out_and_what_meets_it_exactly_is_not(
    measured: dict[str, float], reason: PromotionReason, because: tuple[str, ...]
) -> None:
    decision = better(policy=CAPPED, serving=replace(SERVES, **measured))
    assert decision.reason is reason
    assert (decision.outcome is Outcome.KEEP) == bool(because)
    assert decision.because == because


def test_without_caps_nothing_is_too_slow_or_too_large_nor_need_it_be_measured() -> None:
    for measured in (1e9, None):
        assert better(serving=replace(SERVES, latency_ms=measured, size_mb=measured)).outcome is Outcome.PROMOTE
    assert better(serving=None).outcome is Outcome.PROMOTE


@pytest.mark.parametrize("policy", [replace(POLICY, max_latency_ms=20.0), replace(POLICY, max_size_mb=8.0)])
def test_a_cap_needs_a_serving_check(policy: PromotionPolicy) -> None:
    with pytest.raises(ValueError, match="caps latency or size, and there is no serving check"):
        better(policy=policy)


@pytest.mark.parametrize(("missing", "reason"), [("latency_ms", "too slow"), ("size_mb", "too large")])
def test_a_cap_needs_its_measurement(missing: str, reason: str) -> None:
    serving = replace(SERVES, **{missing: None})
    with pytest.raises(ValueError, match=f"caps what makes a model {reason}, and it was not measured"):
        better(policy=CAPPED, serving=serving)


def test_a_candidate_that_lost_needs_no_serving_check() -> None:
    assert decide(0.25, 0.5, policy=CAPPED).reason is PromotionReason.WORSE


@pytest.mark.parametrize("approval", ["always", "borderline"])
def test_nobody_is_asked_about_what_cannot_be_served(approval: str) -> None:
    for low in (0.1, -0.1):
        if approval == "borderline" or low > 0:
            decision = decide(1.0, 0.5, low, asking(approval), serving=NOT_LOADED)
            assert verdict(decision) == (Outcome.KEEP, PromotionReason.NOT_SERVABLE)


# what comes first


def test_of_several_reasons_the_graver_is_given() -> None:
    all_against: dict[str, Any] = {
        "candidate": 0.25, "champion": 0.5, "low": -0.1, "policy": replace(CAPPED, approval="always"),
        "broken": ("cheap one: says True",), "slices": Slices((WORSE, CLOSE)),
        "serving": ServingCheck("its scores differ", 0.1, 100, latency_ms=50.0, size_mb=50.0),
    }  # fmt: skip
    steps: list[tuple[dict[str, Any], Outcome, PromotionReason]] = [
        ({}, Outcome.KEEP, PromotionReason.WORSE),
        ({"candidate": 0.5}, Outcome.KEEP, PromotionReason.WITHIN_MARGIN),
        ({"candidate": 1.0}, Outcome.KEEP, PromotionReason.KNOWN_CASE_BROKE),
        ({"broken": ()}, Outcome.KEEP, PromotionReason.SLICE_WORSE),
        ({"slices": Slices((CLOSE,))}, Outcome.KEEP, PromotionReason.NOT_SIGNIFICANT),
        ({"policy": replace(CAPPED, approval="borderline")}, Outcome.KEEP, PromotionReason.NOT_SERVABLE),
        ({"serving": replace(SERVES, latency_ms=50.0, size_mb=50.0)}, Outcome.KEEP, PromotionReason.TOO_SLOW),
        ({"serving": replace(SERVES, size_mb=50.0)}, Outcome.KEEP, PromotionReason.TOO_LARGE),
        ({"serving": SERVES}, Outcome.ASK, PromotionReason.NOT_SIGNIFICANT),
        ({"low": 0.1}, Outcome.ASK, PromotionReason.SLICE_CLOSE),
        ({"policy": replace(CAPPED, approval="always")}, Outcome.ASK, PromotionReason.NEEDS_APPROVAL),
        ({"policy": CAPPED}, Outcome.PROMOTE, PromotionReason.BEATS_MARGIN),
    ]
    for changes, outcome, reason in steps:
        all_against |= changes
        assert verdict(decide(**all_against)) == (outcome, reason)


# once a human said yes


def test_what_was_approved_is_promoted_with_the_figures_it_was_asked_with() -> None:
    asked = decide(1.0, 0.5, -0.1, asking("borderline"), slices=Slices((CLOSE,)), detectable=0.3)
    approved = decide_approved(asked, SERVES, CAPPED)
    assert verdict(approved) == (Outcome.PROMOTE, PromotionReason.APPROVED)
    assert approved == replace(asked, outcome=approved.outcome, reason=approved.reason, serving=SERVES)
    assert approved.sentence.startswith("promote: approved; auc 1.000 against 0.500")


@pytest.mark.parametrize(
    ("serving", "reason"),
    [
        (NOT_LOADED, PromotionReason.NOT_SERVABLE),
        (replace(SERVES, latency_ms=21.0), PromotionReason.TOO_SLOW),
        (replace(SERVES, size_mb=8.1), PromotionReason.TOO_LARGE),
    ],
)
def test_an_approval_does_not_promote_what_cannot_be_served_now(serving: ServingCheck, reason: PromotionReason) -> None:
    decision = decide_approved(better(policy=asking("always")), serving, CAPPED)
    assert verdict(decision) == (Outcome.KEEP, reason)
    assert decision.serving == serving
    assert len(decision.because) == 1


def test_an_approval_needs_the_measurement_of_a_cap() -> None:
    asked, serving = better(policy=asking("always")), replace(SERVES, latency_ms=None)
    with pytest.raises(ValueError, match="was not measured"):
        decide_approved(asked, serving, CAPPED)


# properties


@given(
    candidate=values, champion=values, bound=bounds, low=st.floats(0, 5), high=st.floats(0, 5),
    found=slices, broken=broken_cases, serving=checks,
)  # fmt: skip
@pytest.mark.parametrize("approval", APPROVALS)
@pytest.mark.parametrize("metric", ["auc", "rmse"])
def test_a_larger_delta_never_moves_the_outcome_towards_promote(
    metric: str,
    approval: str,
    candidate: float,
    champion: float,
    bound: float,
    low: float,
    high: float,
    found: Slices,
    broken: tuple[str, ...],
    serving: ServingCheck | None,
) -> None:
    low, high = sorted((low, high))
    lenient, strict = (
        TOWARDS_PROMOTE.index(
            decide(
                candidate, champion, bound, PromotionPolicy(delta, 0.95, approval), metric, serving,
                slices=found, broken=broken,
            ).outcome
        )
        for delta in (low, high)
    )  # fmt: skip
    assert strict <= lenient


@given(candidate=values, champion=values, bound=bounds, found=slices, broken=broken_cases, serving=checks)
def test_an_approval_never_turns_keep_into_promote_nor_promotes_by_itself(
    candidate: float,
    champion: float,
    bound: float,
    found: Slices,
    broken: tuple[str, ...],
    serving: ServingCheck | None,
) -> None:
    auto, borderline, always = (
        decide(candidate, champion, bound, asking(approval), serving=serving, slices=found, broken=broken).outcome
        for approval in APPROVALS
    )
    assert auto is not Outcome.ASK
    assert borderline is not Outcome.PROMOTE or auto is Outcome.PROMOTE
    assert always is (Outcome.ASK if auto is Outcome.PROMOTE else Outcome.KEEP)


@given(candidate=values, champion=values, bound=bounds, found=slices, broken=broken_cases)
@pytest.mark.parametrize("approval", APPROVALS)
def test_what_speaks_against_a_candidate_only_ever_holds_it_back(
    approval: str, candidate: float, champion: float, bound: float, found: Slices, broken: tuple[str, ...]
) -> None:
    policy = asking(approval)
    without = decide(candidate, champion, bound, policy)
    for against in ({"slices": found}, {"broken": broken}, {"serving": NOT_LOADED}):
        with_it = decide(candidate, champion, bound, policy, **against)
        assert TOWARDS_PROMOTE.index(with_it.outcome) <= TOWARDS_PROMOTE.index(without.outcome)


@given(candidate=values, champion=values, bound=bounds)
def test_the_bound_only_ever_holds_a_promotion_back(candidate: float, champion: float, bound: float) -> None:
    without = decide(candidate, champion, bound, PromotionPolicy(0.25, 0))
    assert without.outcome is Outcome.PROMOTE or decide(candidate, champion, bound).outcome is Outcome.KEEP


@given(candidate=values, champion=values)
def test_of_two_models_at_most_one_replaces_the_other(candidate: float, champion: float) -> None:
    there, back = (decide(*pair, 0.1).outcome for pair in ((candidate, champion), (champion, candidate)))
    assert Outcome.KEEP in (there, back)
