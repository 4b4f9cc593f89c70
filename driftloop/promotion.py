"""decide_promotion: whether a candidate replaces the champion. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from driftloop.metrics import Score

ROUNDING = 1e-12  # 0.76 - 0.75 is a little more than 0.01 in binary fractions, and still exactly the margin


class Outcome(StrEnum):
    PROMOTE = "promote"
    KEEP = "keep"


class PromotionReason(StrEnum):
    NO_CHAMPION = "no champion"
    BEATS_MARGIN = "beats the margin"
    WITHIN_MARGIN = "within the margin"
    NOT_SIGNIFICANT = "not significant"
    WORSE = "worse"


@dataclass(frozen=True)
class PromotionPolicy:
    """``delta``: the gain a candidate must exceed, in the metric's units. ``confidence``: 0 turns the bound off."""

    delta: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """Candidate and champion scored on the same rows; ``gain_low`` is None when the bound is turned off."""

    candidate: Score
    champion: Score
    gain_low: float | None

    @property
    def gain(self) -> float:
        return self.candidate.gain_over(self.champion)


@dataclass(frozen=True)
class PromotionDecision:
    """What a comparison concluded, with the numbers it rests on; champion, gain and gain_low are None without one."""

    outcome: Outcome
    reason: PromotionReason
    metric: str
    candidate: float
    champion: float | None
    gain: float | None
    gain_low: float | None
    delta: float
    holdout_rows: int

    @property
    def sentence(self) -> str:
        if self.champion is None:
            return f"{self.outcome}: {self.reason}, candidate {self.metric} {self.candidate:.3f}"
        bound = "" if self.gain_low is None else f", at least {self.gain_low:+.3f} by the confidence bound"
        return (
            f"{self.outcome}: {self.reason}; {self.metric} {self.candidate:.3f} against {self.champion:.3f} on "
            f"{self.holdout_rows} holdout rows, gain {self.gain:+.3f} (delta {self.delta}){bound}"
        )


def decide_promotion(
    candidate: Score, champion: Score | None, comparison: Comparison | None, policy: PromotionPolicy
) -> PromotionDecision:
    """Promote when there is no champion, or when gain > delta and the gain's lower bound > 0.

    A gain of exactly delta is within the margin. Raises ValueError when the comparison is missing, is about other
    scores, or lacks the bound that the policy asks for.
    """
    if champion is None:
        return _decision(Outcome.PROMOTE, PromotionReason.NO_CHAMPION, candidate, None, policy)
    if comparison is None or (comparison.candidate, comparison.champion) != (candidate, champion):
        raise ValueError("a champion needs a comparison of these two scores")
    outcome, reason = _judge(comparison, policy)
    return _decision(outcome, reason, candidate, comparison, policy)


def _judge(comparison: Comparison, policy: PromotionPolicy) -> tuple[Outcome, PromotionReason]:
    if comparison.gain < 0:
        return Outcome.KEEP, PromotionReason.WORSE
    if comparison.gain <= policy.delta + ROUNDING:
        return Outcome.KEEP, PromotionReason.WITHIN_MARGIN
    if policy.confidence:
        if comparison.gain_low is None:
            raise ValueError(f"the policy asks for a bound at confidence {policy.confidence}, the comparison has none")
        if not comparison.gain_low > 0:
            return Outcome.KEEP, PromotionReason.NOT_SIGNIFICANT
    return Outcome.PROMOTE, PromotionReason.BEATS_MARGIN


def _decision(
    outcome: Outcome,
    reason: PromotionReason,
    candidate: Score,
    comparison: Comparison | None,
    policy: PromotionPolicy,
) -> PromotionDecision:
    return PromotionDecision(
        outcome=outcome,
        reason=reason,
        metric=candidate.metric,
        candidate=candidate.value,
        champion=comparison.champion.value if comparison else None,
        gain=comparison.gain if comparison else None,
        gain_low=comparison.gain_low if comparison else None,
        delta=policy.delta,
        holdout_rows=candidate.rows,
    )
