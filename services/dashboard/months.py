"""The ledger as a row a window, for tables and charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from driftloop.entry import Entry
from driftloop.report import validated

COLUMNS = ("drift share", "target", "verdict", "candidate", "champion", "decision", "serving")


def month_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The last report of each window, by window: COLUMNS, ``window``, and ``columns``, the drift by column.

    The target's own drift comes last among those. ``moved`` are the columns whose data quality moved. ``schema.yaml``
    is what that found, None where there was none.
    """
    reports = {entry.window: entry.report for entry in entries if entry.report}
    return [_row(reports[window]) for window in sorted(reports)]


def _row(report: dict[str, Any]) -> dict[str, Any]:
    drift, decision = report["drift"] or {}, report["decision"] or {}
    target = drift.get("target")  # reports of earlier versions have none
    return {
        "window": report["window"],
        "drift share": drift.get("share"),
        "target": ("drifted" if target["drifted"] else "same") if target else None,
        "verdict": report["retrain"]["reason"],
        "schema.yaml": validated(report["validation"]) if "validation" in report else None,
        "candidate": decision.get("candidate"),
        "champion": decision.get("champion"),
        "decision": f"{decision['outcome']}: {decision['reason']}" if decision else None,
        "serving": f"v{report['champion']['version']}" if report["champion"] else "–",
        "columns": drift.get("columns") and [*drift["columns"], *([target] if target else [])],
        "moved": [c for c in (report.get("quality") or {}).get("columns", ()) if c["moved"]],
    }
