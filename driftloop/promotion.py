"""decide_promotion: whether a candidate replaces the champion. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from driftloop.metrics import Score, written
from driftloop.slices import NO_SLICES, Slices

ROUNDING = 1e-12  # 0.76 - 0.75 is a little more than 0.01 in binary fractions, and still exactly the margin


class Outcome(StrEnum):
    PROMOTE = "promote"
    KEEP = "keep"
    ASK = "ask"


class PromotionReason(StrEnum):
    NO_CHAMPION = "no champion"
    BEATS_MARGIN = "beats the margin"
    WITHIN_MARGIN = "within the margin"
    NOT_SIGNIFICANT = "not significant"
    WORSE = "worse"
    KNOWN_CASE_BROKE = "a known case broke"
    SLICE_WORSE = "a slice got worse"
    SLICE_CLOSE = "a slice is close"
    NOT_SERVABLE = "cannot be served"
    TOO_SLOW = "too slow"
    TOO_LARGE = "too large"
    NEEDS_APPROVAL = "needs approval"
    APPROVED = "approved"


@dataclass(frozen=True)
class PromotionPolicy:
    """What a candidate must show, and who has the last word.

    ``delta``: the gain a candidate must exceed, in the metric's units. ``confidence``: 0 turns the bound off.
    ``approval``: auto; always, every promotion waits for a human; borderline, those do that the evidence leaves open.
    ``max_latency_ms`` of one row and ``max_size_mb``: None sets no cap.
    """

    delta: float
    confidence: float
    approval: str = "auto"
    max_latency_ms: float | None = None
    max_size_mb: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Candidate and champion scored on the same rows.

    ``gain_low`` is None when the bound is turned off. ``detectable`` is the smallest true gain these rows would show
    four times in five. ``broken`` are the known cases the candidate breaks and the champion keeps, a sentence each.
    """

    candidate: Score
    champion: Score
    gain_low: float | None
    detectable: float | None = None
    slices: Slices = NO_SLICES
    broken: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        return self.candidate.gain_over(self.champion)


@dataclass(frozen=True)
class ServingCheck:
    """What a clean process found that loaded the version from the registry.

    ``problem``: why it cannot serve, None when it can. ``difference``: the largest between its scores and the
    candidate's. ``latency_ms``: median of scoring one row. ``size_mb``: of the stored model. None where it never came
    to measuring.
    """

    problem: str | None
    difference: float | None = None
    rows: int = 0
    latency_ms: float | None = None
    size_mb: float | None = None

    @property
    def found(self) -> str:
        """The problem, else what was measured."""
        return self.problem or f"{self.latency_ms:.3g} ms a row, {self.size_mb:.3g} MB"


@dataclass(frozen=True)
class PromotionDecision:
    """What a comparison concluded, with what it rests on; champion, gain and gain_low are None without one."""

    outcome: Outcome
    reason: PromotionReason
    metric: str
    candidate: float
    champion: float | None
    gain: float | None
    gain_low: float | None
    delta: float
    holdout_rows: int
    detectable: float | None = None
    slices: Slices = NO_SLICES
    broken: tuple[str, ...] = ()
    serving: ServingCheck | None = None

    @property
    def sentence(self) -> str:
        if self.champion is None or self.gain is None:
            return f"{self.outcome}: {self.reason}, candidate {self.metric} {written(self.candidate)}{self._because}"
        bound = "" if self.gain_low is None else f", at least {written(self.gain_low, '+')} by the confidence bound"
        return (
            f"{self.outcome}: {self.reason}; {self.metric} {written(self.candidate)} against {written(self.champion)} "
            f"on {self.holdout_rows} holdout rows, gain {written(self.gain, '+')} (delta {self.delta}){bound}"
            f"{self._because}"
        )

    @property
    def _because(self) -> str:
        said = "; ".join(self.because)
        return f". {said}" if said else ""

    @property
    def because(self) -> tuple[str, ...]:
        """What lies behind the reason: the slices, cases or limits it speaks of, a sentence each."""
        match self.reason:
            case PromotionReason.KNOWN_CASE_BROKE:
                return self.broken
            case PromotionReason.SLICE_WORSE | PromotionReason.SLICE_CLOSE:
                found = self.slices.worse if self.reason is PromotionReason.SLICE_WORSE else self.slices.close
                return tuple(
                    f"{s.name}: {self.metric} {written(s.candidate)} against {written(s.champion)} on {s.rows} rows "
                    f"(p {s.adjusted:.3g} after Holm)"
                    for s in found
                )
        serving = self.serving
        match self.reason:
            case PromotionReason.NOT_SERVABLE if serving:
                return (str(serving.problem),)
            case PromotionReason.TOO_SLOW if serving:
                return (f"one row takes {serving.latency_ms:.3g} ms",)
            case PromotionReason.TOO_LARGE if serving:
                return (f"the stored model has {serving.size_mb:.3g} MB",)
        return ()


def decide_promotion(
    candidate: Score,
    champion: Score | None,
    comparison: Comparison | None,
    policy: PromotionPolicy,
    serving: ServingCheck | None = None,
) -> PromotionDecision:
    """Promote when there is no champion, or when gain > delta, its lower bound > 0 and nothing speaks against it.

    A gain of exactly delta is within the margin. Against a promotion speak a known case that broke, a slice that got
    worse, and a serving check that failed or exceeds a cap. Where the policy wants a human's word the outcome is ask.
    Raises ValueError when the comparison is missing, is about other scores, or lacks what the policy asks for.
    """
    if champion is None:
        outcome, reason = Outcome.PROMOTE, PromotionReason.NO_CHAMPION
    elif comparison is None or (comparison.candidate, comparison.champion) != (candidate, champion):
        raise ValueError("a champion needs a comparison of these two scores")
    else:
        outcome, reason = _judge(comparison, policy)
    if outcome is not Outcome.KEEP:
        outcome, reason = against_serving(serving, policy) or (outcome, reason)
    if outcome is Outcome.PROMOTE and policy.approval == "always":
        outcome, reason = Outcome.ASK, PromotionReason.NEEDS_APPROVAL
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
        detectable=comparison.detectable if comparison else None,
        slices=comparison.slices if comparison else NO_SLICES,
        broken=comparison.broken if comparison else (),
        serving=serving,
    )


def decide_approved(asked: PromotionDecision, serving: ServingCheck, policy: PromotionPolicy) -> PromotionDecision:
    """What a decision that asked comes to once a human said yes: promote, unless it cannot be served now."""
    outcome, reason = against_serving(serving, policy) or (Outcome.PROMOTE, PromotionReason.APPROVED)
    return replace(asked, outcome=outcome, reason=reason, serving=serving)


def _judge(comparison: Comparison, policy: PromotionPolicy) -> tuple[Outcome, PromotionReason]:
    in_doubt = Outcome.ASK if policy.approval == "borderline" else None
    if against := _against(comparison, policy):
        return Outcome.KEEP, against
    if policy.confidence:
        if comparison.gain_low is None:
            raise ValueError(f"the policy asks for a bound at confidence {policy.confidence}, the comparison has none")
        if not comparison.gain_low > 0:
            return in_doubt or Outcome.KEEP, PromotionReason.NOT_SIGNIFICANT
    if comparison.slices.close and in_doubt:
        return in_doubt, PromotionReason.SLICE_CLOSE
    return Outcome.PROMOTE, PromotionReason.BEATS_MARGIN


def _against(comparison: Comparison, policy: PromotionPolicy) -> PromotionReason | None:
    """What rules a promotion out, whoever has the last word."""
    if comparison.gain < 0:
        return PromotionReason.WORSE
    if comparison.gain <= policy.delta + ROUNDING:
        return PromotionReason.WITHIN_MARGIN
    if comparison.broken:
        return PromotionReason.KNOWN_CASE_BROKE
    return PromotionReason.SLICE_WORSE if comparison.slices.worse else None


def against_serving(serving: ServingCheck | None, policy: PromotionPolicy) -> tuple[Outcome, PromotionReason] | None:
    """What the serving check has against a promotion. Raises ValueError when a cap was set and nothing measured."""
    if serving is None:
        if policy.max_latency_ms is not None or policy.max_size_mb is not None:
            raise ValueError("the policy caps latency or size, and there is no serving check")
        return None
    if serving.problem is not None:
        return Outcome.KEEP, PromotionReason.NOT_SERVABLE
    for measured, cap, reason in (
        (serving.latency_ms, policy.max_latency_ms, PromotionReason.TOO_SLOW),
        (serving.size_mb, policy.max_size_mb, PromotionReason.TOO_LARGE),
    ):
        if cap is not None:
            if measured is None:
                raise ValueError(f"the policy caps what makes a model {reason}, and it was not measured")
            if not measured <= cap:
                return Outcome.KEEP, reason
    return None
