"""What people read of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driftloop.cli import records, render
from driftloop.report import drift_json, quality_json, window_report
from driftloop.retrain import ColumnDrift, ColumnQuality, Drift

FEE = ColumnDrift("fee", "K-S p_value", 0.5, 0.05, drifted=False)
TARGET = ColumnDrift("price", "K-S p_value", 0.001, 0.05, drifted=True)


def monitored(capsys: pytest.CaptureFixture[str], found: Drift | None, **changes: Any) -> str:
    """What is printed of a window, on one line."""
    report = window_report("homes", "2024-03", drift=found, threshold=0.3, reason="quiet", champion="1")
    render.window(report | changes, Path("homes"))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("drifted", [True, False])
def test_the_targets_drift_is_told_apart(capsys: pytest.CaptureFixture[str], drifted: bool) -> None:
    target = ColumnDrift("price", "K-S p_value", 0.001, 0.05, drifted)
    said = monitored(capsys, Drift(0.0, (FEE,), target))
    assert (
        f"The target price {'drifted' if drifted else 'did not drift'}: K-S p_value 0.0010, threshold 0.05; it" in said
    )
    assert "drift share 0.000" in said


def test_a_window_that_was_monitored_before_says_so_and_how_to_run_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "Nothing to do: same data, loop.toml and champion as in ledger row 4 (--force runs it)."
        in monitored(capsys, Drift(0.0, (FEE,)), repeated=4)
    )  # fmt: skip


def test_what_a_version_does_not_tell_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"windows": ["2024-01"], "rows": 1200, "threshold": None}
    found = {"loop": "homes", "versions": ["1", "2"], "data": [data, data], "parameters": {}, "recorded": {}}
    records.difference(found | {"compared": None, "not_compared": "no labels", "drift": None})
    said = " ".join(capsys.readouterr().out.split())
    assert "windows 2024-01 2024-01 rows 1,200 1,200 threshold – –" in said


def test_only_columns_whose_quality_moved_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    fee = ColumnQuality("fee", 0.125, 0.004, None, 0.031, moved=True)
    plan = ColumnQuality("plan", 0.0, 0.0, 0.5, None, moved=True)
    same = ColumnQuality("months", 0.001, 0.0, None, 0.0, moved=False)
    said = monitored(capsys, None, quality=quality_json((fee, plan, same)))
    assert "fee 12.50% 0.40% – 3.10%" in said
    assert "plan 0.00% 0.00% 50.00% –" in said
    assert "months" not in said
    assert "quality" not in monitored(capsys, None, quality=quality_json((same,)))
    assert "quality" not in monitored(capsys, None, quality=None)


@pytest.mark.parametrize("drift", [None, Drift(0.0, (FEE,))])
def test_a_target_without_labels_is_not_spoken_of(capsys: pytest.CaptureFixture[str], drift: Drift | None) -> None:
    assert "target" not in monitored(capsys, drift)


def test_a_report_from_before_the_target_was_measured_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    old = {"share": 0.5, "threshold": 0.3, "drifted": 0, "columns": []}
    assert "drift share 0.500" in monitored(capsys, None, drift=old)


def test_the_status_shows_the_baseline_beside_each_metric_that_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    champion = {"version": "1", "since": "now", "reason": "no champion", "trained_on": ["2024-01"]}
    metrics = {"val_rmse": 65432.1, "val_r2": 0.5, "baseline_rmse": 81000.0}
    found = {"loop": "homes", "champion": champion | {"metrics": metrics}, "challenger": None, "last": None}
    records.status(found | {"windows": []}, Path("homes"), "ledger")
    said = " ".join(capsys.readouterr().out.split())
    assert "val_rmse 65,432.1 (baseline 81,000.0), val_r2 0.500" in said
    assert said.count("baseline") == 1


def test_a_drifted_columns_mean_and_z_stand_beside_its_score(capsys: pytest.CaptureFixture[str]) -> None:
    plan = ColumnDrift("plan", "Z-test p_value", 0.0, 0.05, drifted=True)
    moved = ColumnDrift("fee", "K-S p_value", 0.001, 0.05, drifted=True)
    fee = {"name": "fee", "mean": 81.25, "trained_mean": 65.5, "z": 12.346, "moved": True}
    drift = drift_json(Drift(1.0, (moved, plan)), 0.3)
    said = monitored(capsys, None, drift=drift | {"means": [fee]})
    assert "score threshold mean in training z" in said
    assert "fee K-S p_value 0.0010 0.05 81.25 65.5 +12.35" in said
    assert "plan Z-test p_value 0.0000 0.05 – – –" in said
    said = monitored(capsys, None, drift=drift | {"means": [fee | {"z": None}]})
    assert "one value in training" in said


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("monitored", "new"), "1 new. Next: driftloop monitor homes"),
        (("new", "quarantined"), "1 new. Next: driftloop monitor homes --window 2024-01"),
        (("training unfinished", "monitored"), "1 training unfinished. Next: driftloop monitor homes --window 2024-01"),
        (("training unfinished", "new"), "1 training unfinished, 1 new. Next: driftloop replay homes"),
    ],
)
def test_the_next_command_runs_what_is_left(
    capsys: pytest.CaptureFixture[str], states: tuple[str, str], told: str
) -> None:
    windows = [{"window": f"2024-{n:02}", "labels": True, "state": state} for n, state in enumerate(states, start=1)]
    found = {"loop": "homes", "champion": None, "challenger": None, "windows": windows, "last": None}
    records.status(found, Path("homes"), "ledger.db")
    assert " ".join(capsys.readouterr().out.split()).endswith(told)


@pytest.mark.parametrize(
    ("drop", "low", "told"),
    [
        (0.08, 0.03, "0.080 worse than at promotion, surely 0.030."),
        (0.08, -0.01, "0.080 worse than at promotion, which may be chance."),
        (0.08, None, "0.080 worse than at promotion."),
        (-0.02, -0.05, "0.020 better than at promotion."),
        (None, None, "0.700 (0.680 to 0.720)."),
    ],
)
def test_an_estimate_is_told_with_its_interval_and_its_drop(
    capsys: pytest.CaptureFixture[str], drop: float | None, low: float | None, told: str
) -> None:
    found = {"metric": "auc", "value": 0.7, "low": 0.68, "high": 0.72, "rows": 9, "drop": drop, "drop_low": low}
    said = monitored(capsys, None, estimated=found | {"method": "calibrated probabilities"})
    assert "Its auc estimated without labels, by calibrated probabilities: 0.700 (0.680 to 0.720)" in said
    assert told in said


def test_the_drift_of_the_champions_answers_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    said = monitored(capsys, Drift(0.0, (FEE,), prediction=ColumnDrift("prediction", "K-S p_value", 0.001, 0.05, True)))
    assert "The champion's answers drifted: K-S p_value 0.0010, threshold 0.05; they are no feature" in said


FELL = {"metric": "rmse", "value": 9.0, "rows": 500, "drop": 4.0, "drop_low": 3.5}
QUIET = {"retrain": False, "reason": "quiet", "columns": []}
UNHEEDED = "Nothing trains on that: trigger.on in loop.toml does not name performance. `driftloop train` does now."


@pytest.mark.parametrize(
    ("found", "retrain", "heeded"),
    [
        (FELL, QUIET | {"trigger": {"measured": ["drift"]}}, False),
        (FELL, QUIET | {"trigger": {"measured": ["drift", "performance"]}}, True),
        (FELL, QUIET | {"retrain": True, "trigger": {"measured": ["drift"]}}, True),
        (FELL | {"drop_low": -0.1}, QUIET | {"trigger": {"measured": ["drift"]}}, True),
        (FELL, QUIET | {"trigger": None}, True),
    ],
)
def test_a_champion_that_is_surely_worse_is_told_where_nothing_trains_on_that(
    found: dict[str, Any], retrain: dict[str, Any], heeded: bool
) -> None:
    report = {"window": "2024-04", "performance": found, "estimated": None, "retrain": retrain}
    assert (UNHEEDED in render.answers(report)) is not heeded


def test_the_status_tells_the_last_labelled_window_besides_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    estimate = {"metric": "rmse", "value": 5, "low": 4, "high": 6, "method": "an error model"}
    last = {"window": "2024-06", "performance": None, "estimated": estimate, "retrain": QUIET | {"trigger": None}}
    seen = {"window": "2024-04", "performance": FELL, "estimated": None, "retrain": QUIET | {"trigger": None}}
    found = {"loop": "homes", "champion": None, "challenger": None, "last": None, "windows": []}
    records.status(found | {"measured": last, "labelled": seen}, Path("homes"), "ledger")
    said = " ".join(capsys.readouterr().out.split())
    assert "On 2024-04: The champion's rmse on the 500 labelled rows" in said
    assert "On 2024-06: Its rmse estimated without labels" in said
    records.status(found | {"measured": seen, "labelled": seen}, Path("homes"), "ledger")
    assert capsys.readouterr().out.count("On 2024-04") == 1
