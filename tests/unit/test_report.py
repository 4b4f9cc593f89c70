"""The object that monitor --json prints, key by key."""

from __future__ import annotations

import json

from driftloop.metrics import Score
from driftloop.promotion import Comparison, PromotionPolicy, ServingCheck, decide_promotion
from driftloop.report import (
    decision_json,
    decision_of,
    drift_json,
    performance_json,
    said,
    training_json,
    trigger_json,
    window_report,
)
from driftloop.retrain import ColumnDrift, ColumnQuality, Drift, Estimate, Performance, RetrainReason, RetrainVerdict
from driftloop.slices import Slice, Slices
from tests.fakes import some_facts

DRIFT = Drift(
    0.5,
    (
        ColumnDrift("fee", "K-S p_value", 0.001, 0.05, drifted=True),
        ColumnDrift("plan", "Z-test p_value", 0.6, 0.05, drifted=False),
    ),
)


VERDICT = RetrainVerdict(
    True,
    RetrainReason.DRIFT,
    0.5,
    measured=("drift", "performance"),
    on=("drift",),
    in_a_row=3,
    columns=("fee",),
    lasted=("drift",),
)


def test_a_report_has_exactly_the_keys_of_the_design() -> None:
    report = window_report(
        "churn",
        "2024-03",
        reference=("2024-01", "2024-02"),
        reference_rows=1200,
        current_rows=600,
        drift=DRIFT,
        threshold=0.3,
        quality=(ColumnQuality("fee", 0.1, 0.0, None, 0.0, moved=True), ColumnQuality("plan", 0, 0, 0, None, False)),
        performance=Performance("auc", 0.7, 500, 0.1),
        estimated=Estimate("auc", 0.72, 0.7, 0.74, 600, 0.08, 0.05, "calibrated probabilities"),
        retrain=True,
        reason=RetrainReason.DRIFT,
        columns=("fee",),
        trigger=trigger_json(VERDICT, 2, ("2024-01", "2024-02"), None, 0.3),
        champion="3",
    )
    assert report == {
        "loop": "churn",
        "window": "2024-03",
        "reference": ["2024-01", "2024-02"],
        "rows": {"reference": 1200, "current": 600},
        "drift": {
            "share": 0.5,
            "threshold": 0.3,
            "engine": "evidently",
            "drifted": 1,
            "columns": [
                {"name": "fee", "method": "K-S p_value", "score": 0.001, "threshold": 0.05, "drifted": True},
                {"name": "plan", "method": "Z-test p_value", "score": 0.6, "threshold": 0.05, "drifted": False},
            ],
            "target": None,
            "prediction": None,
            "means": [],
        },
        "quality": {
            "columns": [
                {"name": "fee", "nulls": 0.1, "reference_nulls": 0.0, "unseen": None, "outside": 0.0, "moved": True},
                {"name": "plan", "nulls": 0, "reference_nulls": 0, "unseen": 0, "outside": None, "moved": False},
            ],
            "moved": 1,
        },
        "performance": {"metric": "auc", "value": 0.7, "rows": 500, "drop": 0.1, "drop_low": None, "note": None},
        "estimated": {
            "metric": "auc",
            "value": 0.72,
            "low": 0.7,
            "high": 0.74,
            "rows": 600,
            "drop": 0.08,
            "drop_low": 0.05,
            "method": "calibrated probabilities",
        },
        "retrain": {
            "retrain": True,
            "reason": "drift above threshold",
            "columns": ["fee"],
            "trigger": {
                "share": 0.5,
                "on": ["drift"],
                "lasted": ["drift"],
                "measured": ["drift", "performance"],
                "consecutive": 3,
                "needed": 2,
                "reference": ["2024-01", "2024-02"],
                "drift": None,
            },
        },
        "training": None,
        "decision": None,
        "champion": {"version": "3"},
    }


def test_the_keys_come_in_the_designs_order() -> None:
    assert list(window_report("churn", "2024-01", reason="quiet", champion=None)) == [
        "loop", "window", "reference", "rows", "drift", "quality", "performance", "estimated", "retrain", "training",
        "decision", "champion",
    ]  # fmt: skip


def test_a_trigger_that_judged_against_another_reference_shows_that_drift_too() -> None:
    assert trigger_json(VERDICT, 1, ("2023-03",), DRIFT, 0.3)["drift"] == drift_json(DRIFT, 0.3)


def test_a_verdict_in_a_line_names_its_first_columns() -> None:
    assert said({"reason": "quiet"}) == "quiet", "of an earlier version"
    trigger = trigger_json(VERDICT, 2, (), None, 0.3)
    report = window_report("churn", "w", reason="drift above threshold", columns="ab", trigger=trigger, champion="1")
    assert said(report["retrain"]) == "drift above threshold: a, b"
    report = window_report("churn", "w", reason="drift above threshold", columns="abcdef", champion="1")
    assert said(report["retrain"]) == "drift above threshold: a, b, c, d, e, …"


def test_a_training_that_was_held_back_says_what_would_have_started_it() -> None:
    trigger = trigger_json(VERDICT, 2, (), None, 0.3)
    retrain = {"reason": "too few rows", "columns": ["fee"], "trigger": trigger}
    assert said(retrain) == "too few rows (drift above threshold: fee)"
    assert said({**retrain, "columns": []}) == "too few rows (drift above threshold)"
    assert said({"reason": "labels not ready", "trigger": None}) == "labels not ready", "a first champion"


def test_a_verdict_that_is_not_there_yet_says_how_many_windows_showed_it() -> None:
    trigger = trigger_json(VERDICT, 4, (), None, 0.3)
    assert said({"reason": "not yet in a row", "columns": ["fee"], "trigger": trigger}) == (
        "not yet in a row (3 of 4): fee"
    )


def test_what_there_is_not_is_null_and_never_zero() -> None:
    report = window_report("churn", "2024-01", reason="first champion", retrain=True, champion=None)
    nothing = ("drift", "quality", "performance", "estimated", "training", "decision", "champion")
    assert [report[key] for key in nothing] == [None] * 7


def test_no_drift_at_all_is_a_drift_of_zero_and_not_null() -> None:
    assert window_report("churn", "w", drift=Drift(0.0, ()), reason="quiet", champion="1")["drift"] == {
        "share": 0.0,
        "threshold": 0.0,
        "engine": "evidently",
        "drifted": 0,
        "columns": [],
        "target": None,
        "prediction": None,
        "means": [],
    }


def test_a_training_names_its_metrics_as_mlflow_does() -> None:
    assert training_json(some_facts(), "4") == {
        "windows": ["2024-01", "2024-02"],
        "rows": 1200,
        "version": "4",
        "metrics": {"val_auc": 0.71, "val_brier": 0.2},
        **dict.fromkeys(
            ("new_rows", "estimator", "strategy", "note", "effective_rows", "tuned_from", "contest", "search")
        ),  # of long ago
    }


def test_a_decision_has_exactly_the_keys_of_the_design() -> None:
    comparison = Comparison(Score("auc", 0.75, 90, "r"), Score("auc", 0.5, 90, "r"), 0.125)
    decision = decide_promotion(comparison.candidate, comparison.champion, comparison, PromotionPolicy(0.01, 0.95))
    assert decision_json(decision) == {
        "outcome": "promote",
        "reason": "beats the margin",
        "metric": "auc",
        "candidate": 0.75,
        "champion": 0.5,
        "gain": 0.25,
        "gain_low": 0.125,
        "delta": 0.01,
        "holdout_rows": 90,
        "detectable": None,
        "slices": {"judged": (), "unjudged": ()},
        "broken": (),
        "serving": None,
    }


def test_a_decision_is_read_back_as_it_was_written() -> None:
    judged = Slice("plan = basic", 40, 0.7, 0.8, 0.01, 0.02, worse=True, close=False)
    comparison = Comparison(
        Score("auc", 0.75, 90, "r"),
        Score("auc", 0.5, 90, "r"),
        0.125,
        0.03,
        Slices((judged,), ("plan = full",)),
        ("c",),
    )
    policy, serving = PromotionPolicy(0.01, 0.95), ServingCheck(None, 0.0, 90, 1.5, 2.5)
    decision = decide_promotion(comparison.candidate, comparison.champion, comparison, policy, serving)
    assert decision_of(json.loads(json.dumps(decision_json(decision)))) == decision


def test_a_first_champions_decision_has_nulls_for_what_was_not_compared() -> None:
    decision = decide_promotion(Score("auc", 0.75, 90, "r"), None, None, PromotionPolicy(0.01, 0.95))
    found = decision_json(decision)
    assert [found[key] for key in ("champion", "gain", "gain_low")] == [None, None, None]


def test_every_part_is_plain_json() -> None:
    parts = [
        drift_json(DRIFT, 0.3),
        performance_json(Performance("auc", 0.7, 5, 0.0)),
        training_json(some_facts(), "1"),
        json.loads(
            json.dumps(decision_json(decide_promotion(Score("auc", 0.7, 9, "r"), None, None, PromotionPolicy(0.01, 0))))
        ),
        window_report("churn", "w", reason=RetrainReason.QUIET, champion=None),
    ]
    for part in parts:
        assert json.loads(json.dumps(part, allow_nan=False)) == part


def test_the_targets_drift_stands_beside_the_columns() -> None:
    target = ColumnDrift("left", "Z-test p_value", 0.001, 0.05, drifted=True)
    assert drift_json(Drift(0.5, DRIFT.columns, target), 0.3) == drift_json(DRIFT, 0.3) | {
        "target": {"name": "left", "method": "Z-test p_value", "score": 0.001, "threshold": 0.05, "drifted": True}
    }


def test_the_baseline_stands_beside_each_metric_that_it_has() -> None:
    metrics = training_json(some_facts(baseline={"auc": 0.5}), "4")["metrics"]
    assert metrics == {"val_auc": 0.71, "val_brier": 0.2, "baseline_auc": 0.5}
