"""The ledger as a row a window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from driftloop.entry import Entry, Kind
from driftloop.report import quality_json, window_report
from driftloop.retrain import ColumnDrift, ColumnQuality, Drift
from services.dashboard.months import COLUMNS, month_rows

FEE = ColumnDrift("fee", "K-S p_value", 0.5, 0.05, drifted=False)


def row(found: Drift | None, **changes: Any) -> dict[str, Any]:
    report = window_report("homes", "2024-03", drift=found, reason="quiet", champion="1") | changes
    entry = Entry("homes", 1, datetime.now(UTC), Kind.VERDICT, "2024-03", "1", "flow", "quiet", {"report": report})
    (made,) = month_rows([entry])
    return made


@pytest.mark.parametrize(("drifted", "said"), [(True, "drifted"), (False, "same")])
def test_the_targets_drift_has_a_column_and_comes_last_among_the_columns(drifted: bool, said: str) -> None:
    made = row(Drift(0.0, (FEE,), ColumnDrift("price", "K-S p_value", 0.01, 0.05, drifted)))
    assert (made["target"], made["drift share"]) == (said, 0.0)
    assert [column["name"] for column in made["columns"]] == ["fee", "price"]


def test_a_target_without_labels_is_left_empty() -> None:
    made = row(Drift(0.0, (FEE,)))
    assert made["target"] is None
    assert [column["name"] for column in made["columns"]] == ["fee"]
    assert set(COLUMNS) < set(made)


def test_columns_whose_quality_moved_stand_apart() -> None:
    fee, plan = (ColumnQuality(name, 0.1, 0.0, None, 0.0, moved=name == "fee") for name in ("fee", "plan"))
    made = row(Drift(0.0, (FEE,)), quality=quality_json((fee, plan)))
    assert [column["name"] for column in made["moved"]] == ["fee"]
    assert row(Drift(0.0, (FEE,)))["moved"] == []


def test_windows_without_drift_and_reports_of_earlier_versions_have_a_row() -> None:
    assert (row(None)["target"], row(None)["columns"]) == (None, None)
    old = {"share": 0.5, "threshold": 0.3, "drifted": 0, "columns": []}
    assert (row(None, drift=old)["target"], row(None, drift=old)["drift share"]) == (None, 0.5)
