"""decide_retrain: whether a window's findings start a training. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

ROUNDING = 1e-12  # 0.80 - 0.75 is a little more than 0.05 in binary fractions, and still exactly the limit


class RetrainReason(StrEnum):
    FIRST_CHAMPION = "first champion"
    DRIFT = "drift above threshold"
    PERFORMANCE = "performance fell"
    COOLING_DOWN = "cooling down"
    TOO_FEW_ROWS = "too few rows"
    LABELS_NOT_READY = "labels not ready"
    QUIET = "quiet"


@dataclass(frozen=True)
class ColumnDrift:
    """One column as Evidently judged it: the test's name, its score, the threshold and the verdict."""

    name: str
    method: str
    score: float
    threshold: float
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """``share`` is Evidently's share of drifted columns; NaN is refused.

    ``target`` is the labels' own drift, None while they are not in; ``prediction`` that of what the champion answers.
    Both are told apart and never counted in the share.
    """

    share: float
    columns: tuple[ColumnDrift, ...]
    target: ColumnDrift | None = None
    prediction: ColumnDrift | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"drift share {self.share} is not within 0 and 1")

    @property
    def drifted(self) -> int:
        return sum(column.drifted for column in self.columns)


@dataclass(frozen=True)
class ColumnQuality:
    """Shares of a column's values now and in the reference: nulls, categories unknown to it, numbers outside its range.

    ``unseen`` is None for numbers, ``outside`` for categories. ``moved``: one of them is more than chance explains.
    """

    name: str
    nulls: float
    reference_nulls: float
    unseen: float | None
    outside: float | None
    moved: bool


@dataclass(frozen=True)
class Performance:
    """The champion on the current window: its metric now, and how far that lies below its score at promotion.

    ``drop`` is None where it was adopted without one. ``drop_low`` is the drop's one-sided lower bound at
    trigger.confidence, None where there is none. ``note`` says where it takes something for granted.
    """

    metric: str
    value: float
    rows: int
    drop: float | None
    drop_low: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and (self.drop is None or math.isfinite(self.drop))):
            raise ValueError(f"{self.metric} is {self.value}, drop {self.drop}: that is no performance")


@dataclass(frozen=True)
class Estimate:
    """What the champion's metric on the current window would be, told without its labels, with its interval.

    ``drop`` and ``drop_low`` as in Performance. ``method``: how it was estimated.
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int
    drop: float | None
    drop_low: float | None
    method: str


@dataclass(frozen=True)
class History:
    """What the loop knows besides the window's own findings.

    ``champion``: is there one. ``new_labels``: labelled windows newer than those of the last training.
    ``comparable``: the newest labelled window's holdout can carry a comparison. ``rows``: of the current window.
    ``windows_since_training``: None when nothing was trained yet.
    """

    champion: bool
    new_labels: bool
    comparable: bool
    rows: int
    windows_since_training: int | None


@dataclass(frozen=True)
class TriggerPolicy:
    threshold: float
    on: tuple[str, ...]
    max_drop: float
    cooldown: int
    min_rows: int


@dataclass(frozen=True)
class RetrainVerdict:
    retrain: bool
    reason: RetrainReason


def decide_retrain(
    drift: Drift | None, performance: Performance | None, history: History, policy: TriggerPolicy
) -> RetrainVerdict:
    """Retrain when there is no champion, or when drift share > threshold or performance fell by more than max_drop.

    A share of exactly the threshold is quiet. A trigger is held back, with its reason, while the window has too few
    rows, the loop is cooling down or no label came in since the last training.
    Raises ValueError when there is a champion but no drift: a missing measurement is not "no drift".
    """
    if not history.champion:
        return _held_back(history, policy) or RetrainVerdict(True, RetrainReason.FIRST_CHAMPION)
    if drift is None:
        raise ValueError("there is a champion but drift was not measured")
    trigger = _trigger(drift, performance, policy)
    if trigger is None:
        return RetrainVerdict(False, RetrainReason.QUIET)
    return _held_back(history, policy) or RetrainVerdict(True, trigger)


def _trigger(drift: Drift, performance: Performance | None, policy: TriggerPolicy) -> RetrainReason | None:
    if "drift" in policy.on and drift.share > policy.threshold:
        return RetrainReason.DRIFT
    drop = performance.drop if performance and "performance" in policy.on else None
    if drop is not None and drop > policy.max_drop + ROUNDING:
        return RetrainReason.PERFORMANCE
    return None


def _held_back(history: History, policy: TriggerPolicy) -> RetrainVerdict | None:
    if history.rows < policy.min_rows:
        return RetrainVerdict(False, RetrainReason.TOO_FEW_ROWS)
    since = history.windows_since_training
    if since is not None and since <= policy.cooldown and policy.cooldown:
        return RetrainVerdict(False, RetrainReason.COOLING_DOWN)
    if not history.new_labels:
        return RetrainVerdict(False, RetrainReason.LABELS_NOT_READY)
    if not history.comparable:
        return RetrainVerdict(False, RetrainReason.TOO_FEW_ROWS)
    return None
