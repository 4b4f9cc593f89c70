"""decide_retrain: whether a window's findings start a training. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

ROUNDING = 1e-12  # 0.80 - 0.75 is a little more than 0.05 in binary fractions, and still exactly the limit


class RetrainReason(StrEnum):
    FIRST_CHAMPION = "first champion"
    DRIFT = "drift above threshold"
    PERFORMANCE = "performance fell"
    ESTIMATED = "estimated performance fell"
    PREDICTION = "predictions drifted"
    TARGET = "target drifted"
    QUALITY = "data quality changed"
    NOT_YET = "not yet in a row"
    COOLING_DOWN = "cooling down"
    TOO_FEW_ROWS = "too few rows"
    LABELS_NOT_READY = "labels not ready"
    QUIET = "quiet"


FINDINGS = {  # what trigger.on may name, the one that gives the reason first where several start a training
    "drift": RetrainReason.DRIFT,
    "performance": RetrainReason.PERFORMANCE,
    "estimated": RetrainReason.ESTIMATED,
    "prediction": RetrainReason.PREDICTION,
    "target": RetrainReason.TARGET,
    "quality": RetrainReason.QUALITY,
}
HELD_BACK = (RetrainReason.TOO_FEW_ROWS, RetrainReason.COOLING_DOWN, RetrainReason.LABELS_NOT_READY)


@dataclass(frozen=True)
class ColumnDrift:
    """One column as Evidently judged it: the test's name, its score, the threshold and the verdict."""

    name: str
    method: str
    score: float
    threshold: float
    drifted: bool

    @property
    def excess(self) -> float:
        """How far beyond the threshold: above 1 for a drifted column, whether its score is a distance or a p-value."""
        small_is_drift = self.drifted == (self.score < self.threshold)
        over, under = (self.threshold, self.score) if small_is_drift else (self.score, self.threshold)
        if over == under:
            return 1.0
        return over / under if under else math.inf


@dataclass(frozen=True)
class Drift:
    """``share`` is Evidently's share of drifted columns; NaN is refused.

    ``target`` is the labels' own drift, None while they are not in; ``prediction`` that of what the champion answers.
    Both are told apart and never counted in the share. ``engine``: who measured, "evidently" or "columnar".
    """

    share: float
    columns: tuple[ColumnDrift, ...]
    target: ColumnDrift | None = None
    prediction: ColumnDrift | None = None
    engine: str = "evidently"

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
    ``windows_since_training``: None when nothing was trained yet. ``in_a_row``: by finding, how many windows right
    before this one showed it.
    """

    champion: bool
    new_labels: bool
    comparable: bool
    rows: int
    windows_since_training: int | None
    in_a_row: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TriggerPolicy:
    """``min_importance`` None: every drifted column counts."""

    threshold: float
    on: tuple[str, ...]
    max_drop: float
    cooldown: int
    min_rows: int
    confidence: float = 0.0
    consecutive: int = 1
    min_importance: float | None = None


@dataclass(frozen=True)
class RetrainVerdict:
    """Whether to train, and why.

    ``share``: of drifted columns that count, None without drift. ``measured``: the findings of the policy that could
    be told, ``on`` those that the window shows, ``lasted`` those of them in as many windows in a row as the policy asks
    for, ``in_a_row`` in how many, this one included, the most lasting one. ``columns``: those behind ``lasted``, or
    behind ``on`` while nothing lasted, by what they matter to the champion.
    """

    retrain: bool
    reason: RetrainReason
    share: float | None = None
    measured: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    in_a_row: int = 0
    columns: tuple[str, ...] = ()
    lasted: tuple[str, ...] = ()


def decide_retrain(  # all that is known of a window, each by its name
    drift: Drift | None,
    performance: Performance | None,
    history: History,
    policy: TriggerPolicy,
    *,
    estimate: Estimate | None = None,
    quality: Sequence[ColumnQuality] = (),
    importance: Mapping[str, float] | None = None,
) -> RetrainVerdict:
    """Retrain when there is no champion, or when a finding of ``policy.on`` shows in as many windows as it asks for.

    A share of exactly the threshold is quiet. What could not be measured shows nothing. A training is held back, with
    its reason, while the window has too few rows, the loop is cooling down or no label came in since the last one.
    ``importance`` is the champion's, see ``counted``.
    Raises ValueError when there is a champion but no drift: a missing measurement is not "no drift".
    """
    if not history.champion:
        held = _held_back(history, policy)
        return RetrainVerdict(held is None, held or RetrainReason.FIRST_CHAMPION)
    if drift is None:
        raise ValueError("there is a champion but drift was not measured")
    counting = counted(drift, importance or {}, policy.min_importance)
    share = _share(drift, counting)
    shows = {
        "drift": share > policy.threshold,
        "performance": _fell(performance, policy),
        "estimated": _fell(estimate, policy),
        "prediction": drift.prediction and drift.prediction.drifted,
        "target": drift.target and drift.target.drifted,
        "quality": any(column.moved for column in quality) if quality else None,
    }
    measured = tuple(name for name in FINDINGS if name in policy.on and shows[name] is not None)
    on = tuple(name for name in measured if shows[name])
    lasting = {name: history.in_a_row.get(name, 0) + 1 for name in on}
    lasted = tuple(name for name in on if lasting[name] >= policy.consecutive)
    behind = lasted or on
    columns = [column.name for column in counting] if "drift" in behind else []
    columns += [
        column.name for column in quality if column.moved and "quality" in behind and column.name not in columns
    ]
    held = _held_back(history, policy) if lasted else None
    if not on:
        reason = RetrainReason.QUIET
    elif not lasted:
        reason = RetrainReason.NOT_YET
    else:
        reason = held or FINDINGS[lasted[0]]
    in_a_row = max(lasting.values(), default=0)
    return RetrainVerdict(bool(lasted) and held is None, reason, share, measured, on, in_a_row, tuple(columns), lasted)


def counted(drift: Drift, importance: Mapping[str, float], min_importance: float | None) -> tuple[ColumnDrift, ...]:
    """The drifted columns that count towards the trigger, what matters most first, then what drifted furthest.

    A column counts when shuffling it moved the champion's score by more than ``min_importance``, for better or worse:
    on few rows the sign is chance, and a model that uses a column is misled when it drifts. One whose importance
    nobody could measure counts, and so does each where ``min_importance`` is None.
    """

    def counts(column: ColumnDrift) -> bool:
        known = importance.get(column.name)
        return column.drifted and (min_importance is None or known is None or abs(known) > min_importance)

    def rank(column: ColumnDrift) -> tuple[float, float]:
        return abs(importance.get(column.name, 0.0)), column.excess

    return tuple(sorted(filter(counts, drift.columns), key=rank, reverse=True))


def _share(drift: Drift, counting: Sequence[ColumnDrift]) -> float:
    """Of all columns; Evidently's own where every drifted column counts."""
    return drift.share if len(counting) == drift.drifted else min(drift.share, len(counting) / len(drift.columns))


def _fell(found: Performance | Estimate | None, policy: TriggerPolicy) -> bool | None:
    """None where it was not measured, or with nothing to compare it with. Without a bound max_drop alone decides."""
    if found is None or found.drop is None:
        return None
    sure = policy.confidence == 0 or found.drop_low is None or found.drop_low > 0
    return found.drop > policy.max_drop + ROUNDING and sure


def _held_back(history: History, policy: TriggerPolicy) -> RetrainReason | None:
    if history.rows < policy.min_rows:
        return RetrainReason.TOO_FEW_ROWS
    since = history.windows_since_training
    if since is not None and since <= policy.cooldown and policy.cooldown:
        return RetrainReason.COOLING_DOWN
    if not history.new_labels:
        return RetrainReason.LABELS_NOT_READY
    if not history.comparable:
        return RetrainReason.TOO_FEW_ROWS
    return None
