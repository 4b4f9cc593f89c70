"""decide_retrain: every reason, every boundary."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.retrain import (
    ColumnDrift,
    Drift,
    History,
    Performance,
    RetrainReason,
    RetrainVerdict,
    TriggerPolicy,
    decide_retrain,
)

POLICY = TriggerPolicy(threshold=0.3, on=("drift", "performance"), max_drop=0.05, cooldown=2, min_rows=30)
HISTORY = History(champion=True, new_labels=True, comparable=True, rows=500, windows_since_training=3)
NEWBORN = replace(HISTORY, champion=False, windows_since_training=None)
CALM, DRIFTED = Drift(0.1, ()), Drift(0.5, ())

shares = st.floats(0, 1)
drops = st.floats(-1, 1)
histories = st.builds(
    History,
    champion=st.booleans(),
    new_labels=st.booleans(),
    comparable=st.booleans(),
    rows=st.integers(0, 60),
    windows_since_training=st.none() | st.integers(0, 5),
)


def fell(drop: float) -> Performance:
    return Performance("auc", 0.7, 100, drop)


def reason(
    drift: Drift | None = DRIFTED,
    performance: Performance | None = None,
    history: History = HISTORY,
    policy: TriggerPolicy = POLICY,
) -> RetrainReason:
    verdict = decide_retrain(drift, performance, history, policy)
    assert verdict.retrain == (
        verdict.reason in (RetrainReason.FIRST_CHAMPION, RetrainReason.DRIFT, RetrainReason.PERFORMANCE)
    )
    return verdict.reason


def test_without_a_champion_the_first_is_trained() -> None:
    assert decide_retrain(None, None, NEWBORN, POLICY) == RetrainVerdict(True, RetrainReason.FIRST_CHAMPION)


def test_a_share_above_the_threshold_retrains() -> None:
    assert reason(Drift(math.nextafter(0.3, 1), ())) == RetrainReason.DRIFT


def test_a_share_of_exactly_the_threshold_is_quiet() -> None:
    assert reason(Drift(0.3, ())) == RetrainReason.QUIET


def test_a_threshold_of_one_is_never_exceeded() -> None:
    assert reason(Drift(1.0, ()), policy=replace(POLICY, threshold=1.0)) == RetrainReason.QUIET


def test_performance_that_fell_by_more_than_max_drop_retrains() -> None:
    assert reason(CALM, fell(0.050001)) == RetrainReason.PERFORMANCE


def test_a_drop_of_exactly_max_drop_is_quiet() -> None:
    assert reason(CALM, fell(0.05)) == RetrainReason.QUIET
    assert reason(CALM, fell(0.80 - 0.75)) == RetrainReason.QUIET


def test_better_performance_is_quiet() -> None:
    assert reason(CALM, fell(-0.2)) == RetrainReason.QUIET


def test_performance_not_measured_is_quiet_while_drift_is() -> None:
    assert reason(CALM, None) == RetrainReason.QUIET


def test_drift_is_named_first_where_both_trigger() -> None:
    assert reason(DRIFTED, fell(0.5)) == RetrainReason.DRIFT


@pytest.mark.parametrize(
    ("on", "expected"),
    [(("drift",), RetrainReason.DRIFT), (("performance",), RetrainReason.PERFORMANCE), ((), RetrainReason.QUIET)],
)
def test_only_the_triggers_of_the_policy_count(on: tuple[str, ...], expected: RetrainReason) -> None:
    assert reason(DRIFTED, fell(0.5), policy=replace(POLICY, on=on)) == expected


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (0, RetrainReason.COOLING_DOWN),
        (1, RetrainReason.COOLING_DOWN),
        (2, RetrainReason.COOLING_DOWN),
        (3, RetrainReason.DRIFT),
        (None, RetrainReason.DRIFT),
    ],
)
def test_a_cooldown_of_two_holds_back_the_two_windows_after_a_training(
    since: int | None, expected: RetrainReason
) -> None:
    assert reason(history=replace(HISTORY, windows_since_training=since)) == expected


@pytest.mark.parametrize("since", [0, 1, None])
def test_a_cooldown_of_zero_holds_nothing_back(since: int | None) -> None:
    history = replace(HISTORY, windows_since_training=since)
    assert reason(history=history, policy=replace(POLICY, cooldown=0)) == RetrainReason.DRIFT


@pytest.mark.parametrize(("rows", "expected"), [(29, RetrainReason.TOO_FEW_ROWS), (30, RetrainReason.DRIFT)])
def test_exactly_min_rows_are_enough(rows: int, expected: RetrainReason) -> None:
    assert reason(history=replace(HISTORY, rows=rows)) == expected


def test_a_trigger_without_new_labels_waits_for_them() -> None:
    assert reason(history=replace(HISTORY, new_labels=False)) == RetrainReason.LABELS_NOT_READY


def test_a_holdout_too_small_to_compare_on_holds_a_trigger_back() -> None:
    assert reason(history=replace(HISTORY, comparable=False)) == RetrainReason.TOO_FEW_ROWS


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"new_labels": False, "comparable": False}, RetrainReason.LABELS_NOT_READY),
        ({"rows": 29}, RetrainReason.TOO_FEW_ROWS),
        ({"comparable": False}, RetrainReason.TOO_FEW_ROWS),
    ],
)
def test_a_first_champion_is_held_back_for_the_same_reasons(change: dict[str, object], expected: RetrainReason) -> None:
    assert reason(None, history=replace(NEWBORN, **change)) == expected


@pytest.mark.parametrize("change", [{"rows": 1}, {"new_labels": False}, {"windows_since_training": 1}])
def test_a_quiet_window_is_quiet_whatever_would_hold_a_trigger_back(change: dict[str, object]) -> None:
    assert reason(CALM, history=replace(HISTORY, **change)) == RetrainReason.QUIET


def test_a_champion_without_measured_drift_is_an_error_and_not_quiet() -> None:
    with pytest.raises(ValueError, match="drift was not measured"):
        decide_retrain(None, fell(0.5), HISTORY, POLICY)


@pytest.mark.parametrize("share", [math.nan, -0.1, 1.1, math.inf])
def test_a_share_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="not within 0 and 1"):
        Drift(share, ())


@pytest.mark.parametrize(("value", "drop"), [(math.nan, 0.1), (0.7, math.nan), (math.inf, 0.1), (0.7, -math.inf)])
def test_a_performance_that_is_no_number_is_refused(value: float, drop: float) -> None:
    with pytest.raises(ValueError, match="that is no performance"):
        Performance("auc", value, 10, drop)


def test_drift_counts_its_drifted_columns() -> None:
    columns = [ColumnDrift(n, "K-S p_value", 0.01, 0.05, n != "b") for n in "abc"]
    assert Drift(2 / 3, tuple(columns)).drifted == 2


@given(share=shares, low=shares, high=shares, drop=drops, history=histories)
def test_a_larger_threshold_never_turns_quiet_into_retrain(
    share: float, low: float, high: float, drop: float, history: History
) -> None:
    low, high = sorted((low, high))
    verdicts = [
        decide_retrain(Drift(share, ()), fell(drop), history, replace(POLICY, threshold=threshold))
        for threshold in (low, high)
    ]
    assert verdicts[0].retrain >= verdicts[1].retrain


@given(drop=drops, low=st.floats(0, 1), high=st.floats(0, 1), history=histories)
def test_a_larger_max_drop_never_turns_quiet_into_retrain(
    drop: float, low: float, high: float, history: History
) -> None:
    low, high = sorted((low, high))
    verdicts = [decide_retrain(CALM, fell(drop), history, replace(POLICY, max_drop=most)) for most in (low, high)]
    assert verdicts[0].retrain >= verdicts[1].retrain


@given(share=shares, drop=drops, history=histories)
def test_the_same_findings_always_come_to_the_same_verdict(share: float, drop: float, history: History) -> None:
    first, second = (decide_retrain(Drift(share, ()), fell(drop), history, POLICY) for _ in range(2))
    assert first == second
