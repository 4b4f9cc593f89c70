"""decide_retrain: every reason, every boundary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import contract
from driftloop.retrain import (
    FINDINGS,
    ColumnDrift,
    ColumnQuality,
    Drift,
    Estimate,
    History,
    Performance,
    RetrainReason,
    RetrainVerdict,
    TriggerPolicy,
    counted,
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


def fell(drop: float | None, low: float | None = None) -> Performance:
    return Performance("auc", 0.7, 100, drop, low)


def estimated(drop: float | None, low: float | None = None) -> Estimate:
    return Estimate("auc", 0.7, 0.65, 0.75, 100, drop, low, "confidence")


def column(name: str, drifted: bool = True, score: float = 0.01) -> ColumnDrift:
    return ColumnDrift(name, "K-S p_value", score, 0.05, drifted)


def drift_of(drifted: str, others: str = "") -> Drift:
    """A column a letter."""
    columns = (*(column(name) for name in drifted), *(column(name, drifted=False) for name in others))
    return Drift(len(drifted) / len(columns), columns)


def moved(name: str, moved: bool = True) -> ColumnQuality:
    return ColumnQuality(name, 0.5, 0.0, None, 0.0, moved)


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


# every finding


def all_findings(**shows: bool) -> RetrainVerdict:
    """The verdict where all are asked for, all could be told, and those named show."""
    drift = replace(
        DRIFTED if shows.get("drift") else CALM,
        prediction=column("prediction", shows.get("prediction", False)),
        target=column("left", shows.get("target", False)),
    )
    return decide_retrain(
        drift,
        fell(0.5 if shows.get("performance") else 0.0),
        HISTORY,
        replace(POLICY, on=tuple(FINDINGS)),
        estimate=estimated(0.5 if shows.get("estimated") else 0.0),
        quality=[moved("plan", shows.get("quality", False))],
    )


def test_loop_toml_may_name_exactly_these_findings() -> None:
    assert tuple(FINDINGS) == contract.FINDINGS


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        ("drift", "drift above threshold"),
        ("performance", "performance fell"),
        ("estimated", "estimated performance fell"),
        ("prediction", "predictions drifted"),
        ("target", "target drifted"),
        ("quality", "data quality changed"),
    ],
)
def test_each_finding_retrains_with_its_own_reason(finding: str, told: str) -> None:
    verdict = all_findings(**{finding: True})
    assert (verdict.retrain, str(verdict.reason), verdict.on) == (True, told, (finding,))
    assert verdict.measured == tuple(FINDINGS)
    assert all_findings().reason == RetrainReason.QUIET


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_that_loop_toml_does_not_name_starts_nothing(finding: str) -> None:
    others = tuple(name for name in FINDINGS if name != finding)
    drift = replace(DRIFTED, prediction=column("prediction"), target=column("left"))
    verdict = decide_retrain(
        drift, fell(0.5), HISTORY, replace(POLICY, on=others), estimate=estimated(0.5), quality=[moved("plan")]
    )
    assert finding not in (*verdict.on, *verdict.measured)
    assert verdict.reason == FINDINGS[others[0]], "several at once: the first gives the reason"


@pytest.mark.parametrize("finding", [name for name in FINDINGS if name != "drift"])
def test_a_finding_that_could_not_be_measured_starts_nothing(finding: str) -> None:
    verdict = decide_retrain(DRIFTED, None, HISTORY, replace(POLICY, on=(finding,)))
    assert verdict == RetrainVerdict(False, RetrainReason.QUIET, share=0.5)


@pytest.mark.parametrize("measured", [fell, estimated])
def test_a_version_without_a_score_at_promotion_cannot_have_fallen(measured: Any) -> None:
    policy = replace(POLICY, on=("performance", "estimated"))
    found = {"performance": None, "estimate": measured(None)} if measured is estimated else {"performance": fell(None)}
    verdict = decide_retrain(CALM, history=HISTORY, policy=policy, **found)
    assert (verdict.reason, verdict.measured) == (RetrainReason.QUIET, ())


@pytest.mark.parametrize(
    ("confidence", "low", "retrains"),
    [
        (0.95, 0.001, True),
        (0.95, 0.0, False),  # exactly 0 is not above it
        (0.95, -0.1, False),
        (0.95, None, True),  # a version that gives no bound: max_drop alone
        (0.0, -0.1, True),
    ],
)
def test_a_fall_has_to_be_significant_where_a_bound_is_asked_for_and_known(
    confidence: float, low: float | None, retrains: bool
) -> None:
    policy = replace(POLICY, on=("performance", "estimated"), confidence=confidence)
    assert decide_retrain(CALM, fell(0.2, low), HISTORY, policy).retrain == retrains
    assert decide_retrain(CALM, None, HISTORY, policy, estimate=estimated(0.2, low)).retrain == retrains
    assert not decide_retrain(CALM, fell(0.05, low), HISTORY, policy).retrain, "exactly max_drop"


# in a row


@pytest.mark.parametrize(("before", "expected"), [(0, "not yet in a row"), (1, "not yet in a row"), (2, "drift above")])
def test_a_finding_has_to_show_in_as_many_windows_in_a_row_as_asked_for(before: int, expected: str) -> None:
    history = replace(HISTORY, in_a_row={"drift": before} if before else {})
    verdict = decide_retrain(DRIFTED, None, history, replace(POLICY, consecutive=3))
    assert str(verdict.reason).startswith(expected)
    assert (verdict.on, verdict.in_a_row) == (("drift",), before + 1)


def test_one_finding_does_not_go_on_with_the_row_of_another() -> None:
    history = replace(HISTORY, in_a_row={"performance": 5})
    verdict = decide_retrain(DRIFTED, fell(0.0), history, replace(POLICY, consecutive=2))
    assert (verdict.reason, verdict.in_a_row) == (RetrainReason.NOT_YET, 1)


def test_of_several_findings_the_one_that_lasted_gives_the_reason() -> None:
    history = replace(HISTORY, in_a_row={"performance": 1})
    verdict = decide_retrain(DRIFTED, fell(0.5), history, replace(POLICY, consecutive=2))
    assert (verdict.reason, verdict.in_a_row) == (RetrainReason.PERFORMANCE, 2)


@pytest.mark.parametrize("change", [{"rows": 1}, {"new_labels": False}, {"windows_since_training": 1}])
def test_what_is_not_yet_in_a_row_is_held_back_by_nothing_else(change: dict[str, object]) -> None:
    history = replace(HISTORY, **change)
    assert reason(history=history, policy=replace(POLICY, consecutive=2)) == RetrainReason.NOT_YET


def test_the_columns_are_those_of_what_lasted_and_of_what_shows_while_nothing_did() -> None:
    policy, drift = replace(POLICY, consecutive=2), drift_of("ab")
    verdict = decide_retrain(drift, fell(0.5), replace(HISTORY, in_a_row={"performance": 1}), policy)
    assert (verdict.on, verdict.lasted, verdict.columns) == (("drift", "performance"), ("performance",), ())
    verdict = decide_retrain(drift, fell(0.5), HISTORY, policy)
    assert (verdict.reason, verdict.lasted, verdict.columns) == (RetrainReason.NOT_YET, (), ("a", "b"))


# what the model uses


def test_a_drifted_column_that_moves_no_score_does_not_count() -> None:
    drift, policy = drift_of("abc", "defg"), replace(POLICY, min_importance=0.0)
    assert decide_retrain(drift, None, HISTORY, policy, importance={"a": 0.1}).retrain, "unmeasured ones count"
    verdict = decide_retrain(drift, None, HISTORY, policy, importance={"a": 0.1, "b": 0.0, "c": -0.02})
    assert (verdict.retrain, verdict.share, verdict.columns) == (False, 2 / 7, ())
    assert drift.share == 3 / 7, "the report's share stays Evidently's"


@pytest.mark.parametrize(("least", "names"), [(None, "bca"), (0.0, "bca"), (0.05, "bc"), (0.2, "b"), (0.3, "")])
def test_a_column_counts_when_it_moves_the_score_by_more_than_min_importance(least: float | None, names: str) -> None:
    found = counted(drift_of("abc", "d"), {"a": 0.05, "b": 0.3, "c": -0.2, "d": 9.0}, least)
    assert "".join(column.name for column in found) == names


def test_columns_of_the_same_importance_come_by_how_far_they_drifted() -> None:
    found = (
        ColumnDrift("distance", "Wasserstein distance (normed)", 0.3, 0.1, drifted=True),
        ColumnDrift("weak", "K-S p_value", 0.04, 0.05, drifted=True),
        ColumnDrift("strong", "K-S p_value", 0.0, 0.05, drifted=True),
    )
    assert [column.name for column in counted(Drift(1.0, found), {}, 0.0)] == ["strong", "distance", "weak"]


def test_the_columns_behind_a_verdict_are_those_of_its_findings() -> None:
    policy = replace(POLICY, on=("drift", "quality"))
    quality = [moved("q"), moved("still", moved=False), moved("a")]
    drift = drift_of("ab", "c")
    assert decide_retrain(drift, None, HISTORY, policy, quality=quality, importance={"b": 1.0}).columns == (
        "b", "a", "q",
    )  # fmt: skip
    assert decide_retrain(drift_of("a", "bcd"), None, HISTORY, policy, quality=quality).columns == ("q", "a")
    assert decide_retrain(drift, None, HISTORY, policy).columns == ("a", "b")


letters = st.sets(st.sampled_from("abcdefgh"))
importances = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 1))
floors = st.none() | st.floats(0, 1)


@given(drifted=letters, importance=importances, low=floors, high=st.floats(0, 1), history=histories)
def test_a_larger_min_importance_never_turns_quiet_into_retrain(
    drifted: set[str], importance: dict[str, float], low: float | None, high: float, history: History
) -> None:
    drift = drift_of("".join(drifted), "".join(set("abcdefgh") - drifted))
    verdicts = [
        decide_retrain(drift, None, history, replace(POLICY, min_importance=least), importance=importance)
        for least in (low, high if low is None else max(low, high))
    ]
    assert verdicts[0].retrain >= verdicts[1].retrain
    assert all(verdict.share is None or verdict.share <= drift.share for verdict in verdicts)


@given(drifted=letters, unused=letters, threshold=shares)
def test_the_drift_of_columns_that_move_no_score_never_retrains(
    drifted: set[str], unused: set[str], threshold: float
) -> None:
    importance = dict.fromkeys(unused, 0.0)
    verdicts = []
    for found in (drifted - unused, drifted | unused):
        drift = drift_of("".join(found), "".join(set("abcdefgh") - found))
        policy = replace(POLICY, threshold=threshold, min_importance=0.0)
        verdicts.append(decide_retrain(drift, None, HISTORY, policy, importance=importance).retrain)
    assert verdicts[0] == verdicts[1]


@given(
    shows=st.fixed_dictionaries({name: st.booleans() for name in FINDINGS}),
    before=st.dictionaries(st.sampled_from(list(FINDINGS)), st.integers(1, 4)),
    low=st.integers(1, 5),
    high=st.integers(1, 5),
    history=histories,
)
def test_a_larger_consecutive_never_turns_quiet_into_retrain(
    shows: dict[str, bool], before: dict[str, int], low: int, high: int, history: History
) -> None:
    low, high = sorted((low, high))
    drift = replace(
        DRIFTED if shows["drift"] else CALM,
        prediction=column("p", shows["prediction"]),
        target=column("t", shows["target"]),
    )
    verdicts = [
        decide_retrain(
            drift,
            fell(shows["performance"]),
            replace(history, in_a_row=before),
            replace(POLICY, on=tuple(FINDINGS), consecutive=most),
            estimate=estimated(shows["estimated"]),
            quality=[moved("q", shows["quality"])],
        )
        for most in (low, high)
    ]
    assert verdicts[0].retrain >= verdicts[1].retrain
