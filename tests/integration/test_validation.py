"""schema.yaml in monitor_flow: what becomes of a window with bad rows, and where the report is."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from prefect.client.orchestration import get_client

from driftloop.cli.running import Flows
from driftloop.entry import Kind
from tests.integration.conftest import month

pytestmark = pytest.mark.usefixtures("prefect_api")

RULES = """
columns:
  fee: {type: number, range: {min: -1000, max: 1000}}
  plan: {type: category, categories: {one_of: [basic, full]}}
unique: {columns: [customer]}
"""


def deliver(loop, mode):
    rows = month(1).astype({"fee": object}).assign(plan=lambda d: ["premium", *d["plan"][1:]])
    rows.loc[4, "fee"], rows.loc[9, "customer"] = "cheap", "c00010"
    loop.deliver("2024-01", rows, labels=False)
    (loop.folder / "schema.yaml").write_text(RULES)
    loop.set("validation", on_bad_rows=mode)


def test_by_default_a_window_with_bad_rows_is_quarantined_whole_until_data_or_schema_change(loop, monitor):
    deliver(loop, "fail")
    report = monitor()
    assert report["retrain"]["reason"] == "quarantined"
    assert report["quarantine"]["problems"] == [
        "column fee: expected numbers, none of them infinite, not so in 1 row, e.g. cheap",
        "expected each customer once, not so in 2 rows, e.g. c00010",
    ]
    assert {k: v for k, v in report["validation"].items() if k != "checks"} == {
        "errors": 2, "warnings": 1, "bad_rows": 3, "kept_rows": 0, "on_bad_rows": "fail",
    }  # fmt: skip
    assert "repeated" in monitor()
    (loop.folder / "schema.yaml").write_text("rows: {max: 10}\n")
    again = monitor()
    assert "repeated" not in again
    assert again["validation"]["errors"] == 0
    assert "appear more than once" in again["quarantine"]["problems"][0]  # what the loop needs, no schema lets pass


def test_a_window_put_aside_has_no_notes_of_a_run_that_went_on(loop, monitor):
    deliver(loop, "drop")
    monitor()
    assert "3 of 600 rows break an error of schema.yaml and are left out" in Flows(None).notes(loop.folder, "2024-01")
    (loop.folder / "schema.yaml").write_text("rows: {max: 10, level: error}\n")
    assert monitor()["retrain"]["reason"] == "quarantined"
    assert Flows(None).notes(loop.folder, "2024-01") == []


@pytest.mark.parametrize("mode", ["drop", "quarantine"])
def test_a_window_goes_on_without_its_bad_rows(loop, monitor, mode):
    deliver(loop, mode)
    report = monitor()
    assert (report["retrain"]["reason"], report["rows"]["current"]) == ("labels not ready", 597)
    found = report["validation"]
    assert (found["errors"], found["warnings"], found["bad_rows"], found["kept_rows"]) == (2, 1, 3, 597)
    assert [(check["column"], check["check"], check["level"], check["rows"]) for check in found["checks"]] == [
        ("fee", "type", "error", 1), ("customer", "unique", "error", 2), ("plan", "categories", "warning", 1),
    ]  # fmt: skip
    entry = loop.open().ledger.entries("2024-01")[-1]
    assert (entry.kind, entry.details["report"]["validation"]) == (Kind.VERDICT, found)
    assert "3 of 600 rows break an error of schema.yaml and are left out" in entry.details["notes"]
    file = loop.home / "quarantine" / "churn" / "2024-01.csv"
    assert (found.get("file") == str(file)) is file.exists() is (mode == "quarantine")
    if mode == "quarantine":
        aside = pd.read_csv(file)
        assert aside["reason"].tolist() == ["fee: type", "customer: unique", "customer: unique"]
        assert list(aside.columns) == ["fee", "usage", "plan", "customer", "reason"]
        with get_client(sync_client=True) as client:
            artifacts = client.read_latest_artifacts(limit=200)
        shown = next(artifact for artifact in artifacts if artifact.key == "validation-churn")
        assert shown.description == "2024-01 by schema.yaml: 2 errors, 1 warning, 3 of 600 rows left out"
        assert [row["check"] for row in json.loads(shown.data)] == ["type", "unique", "categories"]
