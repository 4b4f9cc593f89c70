"""Evidently's snapshot, taken at its word only where it is whole. Made by hand after what Evidently 0.7.23 writes."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from driftloop.drift import parse
from driftloop.errors import DriftloopError
from driftloop.retrain import ColumnDrift, Drift

Snapshot = dict[str, Any]
NAMES = ["fee", "plan"]


def value_drift(column: str, method: str, value: float | None, status: str) -> tuple[Snapshot, Snapshot]:
    config = {"type": "evidently:metric_v2:ValueDrift", "column": column, "method": method, "threshold": 0.05}
    metric = {"id": f"id-{column}", "metric_name": f"ValueDrift(column={column})", "config": config, "value": value}
    test = {"id": "drift", "metric_config": {"metric_id": f"id-{column}", "params": config}, "status": status}
    return metric, test


def snapshot() -> Snapshot:
    fee, fee_test = value_drift("fee", "K-S p_value", 0.001, "FAIL")
    plan, plan_test = value_drift("plan", "Z-test p_value", 0.617, "SUCCESS")
    config = {"type": "evidently:metric_v2:DriftedColumnsCount", "columns": NAMES, "drift_share": 0.5}
    count = {"id": "id-count", "config": config, "value": {"count": 1.0, "share": 0.5}}
    share_test = {"id": "lt", "metric_config": {"metric_id": "id-count", "params": config}, "status": "FAIL"}
    return {"metrics": [count, fee, plan], "tests": [share_test, fee_test, plan_test]}


def changed(part: str, index: int, key: str, value: Any) -> Snapshot:
    altered = copy.deepcopy(snapshot())
    altered[part][index][key] = value
    return altered


def without(part: str, index: int) -> Snapshot:
    altered = snapshot()
    del altered[part][index]
    return altered


def test_a_whole_snapshot_is_read_as_it_is() -> None:
    assert parse(snapshot(), NAMES) == Drift(
        0.5,
        (
            ColumnDrift("fee", "K-S p_value", 0.001, 0.05, drifted=True),
            ColumnDrift("plan", "Z-test p_value", 0.617, 0.05, drifted=False),
        ),
    )


def test_columns_come_in_the_loops_order_and_not_in_evidentlys() -> None:
    found = parse(snapshot() | {"metrics": snapshot()["metrics"][::-1]}, NAMES)
    assert [column.name for column in found.columns] == NAMES


def test_a_snapshot_without_the_count_is_refused_and_not_read_as_zero() -> None:
    with pytest.raises(DriftloopError, match="holds 0 DriftedColumnsCount metrics, expected one"):
        parse(without("metrics", 0), NAMES)


def test_a_snapshot_with_two_counts_is_refused() -> None:
    twice = snapshot()
    twice["metrics"].append(twice["metrics"][0])
    with pytest.raises(DriftloopError, match="holds 2 DriftedColumnsCount metrics"):
        parse(twice, NAMES)


@pytest.mark.parametrize(("index", "column"), [(1, "fee"), (2, "plan")])
@pytest.mark.parametrize("part", ["metrics", "tests"])
def test_a_column_without_its_metric_or_its_test_is_refused(part: str, index: int, column: str) -> None:
    with pytest.raises(DriftloopError, match=f"holds no drift for {column}; its share is not to be trusted"):
        parse(without(part, index), NAMES)


def test_a_feature_evidently_never_heard_of_is_refused() -> None:
    with pytest.raises(DriftloopError, match="holds no drift for usage"):
        parse(snapshot(), [*NAMES, "usage"])


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("index", [1, 2])
def test_a_column_without_a_score_is_refused(index: int, value: float | None) -> None:
    with pytest.raises(DriftloopError, match=r"gives no drift score for column (fee|plan)"):
        parse(changed("metrics", index, "value", value), NAMES)


@pytest.mark.parametrize("count", [0.0, 2.0])
def test_a_count_that_disagrees_with_the_columns_is_refused(count: float) -> None:
    altered = changed("metrics", 0, "value", {"count": count, "share": count / 2})
    with pytest.raises(DriftloopError, match=rf"counts {count} drifted columns, .* verdicts say 1 of 2"):
        parse(altered, NAMES)


@pytest.mark.parametrize("status", ["ERROR", "SKIPPED", "WARNING"])
def test_a_test_that_did_not_come_to_a_verdict_is_refused_and_not_read_as_no_drift(status: str) -> None:
    altered = changed("tests", 2, "status", status)  # the count agrees: plan is not among the drifted
    with pytest.raises(DriftloopError, match="plan"):
        parse(altered, NAMES)


@pytest.mark.parametrize("share", [math.nan, 1.5])
def test_a_share_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="not within 0 and 1"):
        parse(changed("metrics", 0, "value", {"count": 1.0, "share": share}), NAMES)


def test_a_share_that_disagrees_with_its_own_count_is_refused() -> None:
    altered = changed("metrics", 0, "value", {"count": 1.0, "share": 0.0})
    with pytest.raises(DriftloopError, match="share"):
        parse(altered, NAMES)


def test_metrics_of_other_kinds_are_passed_over() -> None:
    more = snapshot()
    more["metrics"].append({"id": "x", "config": {"type": "evidently:metric_v2:RowCount"}, "value": 3})
    assert parse(more, NAMES) == parse(snapshot(), NAMES)


def with_target(status: str = "FAIL") -> Snapshot:
    """As Evidently writes it where the target is measured and not among the counted columns."""
    made = snapshot()
    metric, test = value_drift("left", "Z-test p_value", 0.002, status)
    return {"metrics": [*made["metrics"], metric], "tests": [*made["tests"], test]}


def test_the_targets_drift_is_told_apart_and_not_counted() -> None:
    found = parse(with_target(), NAMES, "left")
    assert found.target == ColumnDrift("left", "Z-test p_value", 0.002, 0.05, drifted=True)
    assert (found.share, found.drifted, found.columns) == (0.5, 1, parse(snapshot(), NAMES).columns)


def test_a_target_that_was_not_measured_is_none() -> None:
    assert parse(snapshot(), NAMES).target is None


def test_a_target_that_evidently_left_out_is_refused() -> None:
    with pytest.raises(DriftloopError, match="holds no drift for left"):
        parse(snapshot(), NAMES, "left")
