"""Drift as Evidently defines it, over exactly the loop's features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from driftloop.contract import ColumnTest
from driftloop.errors import DriftloopError
from driftloop.page import MOST_BYTES, REFUSALS, Excerpt, draw, saved
from driftloop.retrain import ColumnDrift, ColumnQuality, Drift

if TYPE_CHECKING:
    from evidently import Dataset
    from evidently.core.metric_types import Metric

SHARE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class DriftReport:
    """What was measured, and Evidently's report as one page, see ``page``; ``quality`` of every feature."""

    drift: Drift
    html: str
    quality: tuple[ColumnQuality, ...] = ()


def measure(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    numeric: Sequence[str],
    categorical: Sequence[str],
    target: str | None = None,
    excerpt: Excerpt | None = None,
    tests: Mapping[str, ColumnTest] | None = None,
) -> DriftReport:
    """Evidently's DriftedColumnsCount and a ValueDrift a feature, with its default tests and thresholds or ``tests``.

    Types are stated, not guessed, so no column drops out. ``target`` names the column among them that is no feature:
    it is measured where it is not null, and not counted. The page is drawn on the ``excerpt`` where there is one.
    Raises DriftloopError when Evidently leaves a column out.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    columns = [*numeric, *categorical]
    names = [name for name in columns if name != target]
    definition = DataDefinition(numerical_columns=list(numeric), categorical_columns=list(categorical))
    tests = tests or {}
    count = DriftedColumnsCount(
        columns=names,
        per_column_method={name: asked.test for name, asked in tests.items() if asked.test},
        per_column_threshold={name: asked.threshold for name, asked in tests.items() if asked.threshold is not None},
    )
    asked = {name: tests.get(name, ColumnTest()) for name in columns}
    each = [ValueDrift(column=name, method=test.test, threshold=test.threshold) for name, test in asked.items()]
    report = Report([count, *each], include_tests=True)
    sides = [Dataset.from_pandas(side[columns], data_definition=definition) for side in (current, reference)]
    try:
        snapshot = report.run(*sides)
    except REFUSALS as error:
        for name in columns:
            if reason := _refusal(ValueDrift(column=name), sides):  # it plots each column that it measures
                raise DriftloopError(
                    f"Evidently cannot measure drift: it cannot plot column {name}, whose values are of such a size "
                    f'and range: {reason}. Set engine = "columnar" under [drift] in loop.toml, which measures it '
                    f"without its plot, or leave the column out of [features]."
                ) from error
            if reason := _refusal(ValueDrift(column=name, method=asked[name].test), sides):
                raise DriftloopError(
                    f"Evidently cannot measure drift: test {asked[name].test} gives no drift score for column {name}: "
                    f"{reason}. Take another for it under [drift.columns] in loop.toml."
                ) from error
        raise DriftloopError(f"Evidently cannot measure drift: {error}.") from error
    assert snapshot is not None, "Evidently returns None only for a report without metrics"
    drift = parse(json.loads(snapshot.json()), names, target)
    html = saved(snapshot) if excerpt is None else ""
    if len(html.encode()) > MOST_BYTES:
        excerpt = Excerpt(reference, current, len(reference), len(current))
    return DriftReport(drift, html if excerpt is None else draw(excerpt, drift, numeric, "evidently"))


def _refusal(metric: Metric, sides: Sequence[Dataset]) -> str:
    """Why Evidently does not measure this alone, nothing where it does."""
    from evidently import Report

    try:
        Report([metric]).run(*sides)
    except REFUSALS as error:
        return str(error).rstrip(".")
    return ""


def parse(snapshot: Mapping[str, Any], names: Sequence[str], target: str | None = None) -> Drift:
    """Evidently's snapshot as a Drift. Raises DriftloopError when a metric, a test or a column is not in it."""
    share = _only(m for m in snapshot["metrics"] if m["config"]["type"].endswith(":DriftedColumnsCount"))["value"]
    metrics = {m["config"].get("column"): m for m in snapshot["metrics"] if m["config"]["type"].endswith(":ValueDrift")}
    verdicts = {t["metric_config"]["metric_id"]: t["status"] for t in snapshot["tests"] if t["id"] == "drift"}
    wanted = [*names, *([target] if target is not None else [])]
    if missing := [name for name in wanted if name not in metrics or metrics[name]["id"] not in verdicts]:
        raise DriftloopError(
            f"Evidently's report holds no drift for {', '.join(missing)}; its share is not to be trusted."
        )
    found = {name: _column(name, metrics[name], verdicts[metrics[name]["id"]]) for name in wanted}
    own = None if target is None else found.pop(target)
    drift = Drift(share=float(share["share"]), columns=tuple(found.values()), target=own)
    if drift.drifted != int(share["count"]) or abs(drift.share - drift.drifted / len(names)) > SHARE_TOLERANCE:
        raise DriftloopError(
            f"Evidently counts {share['count']} drifted columns, a share of {share['share']}, "
            f"its columns' verdicts say {drift.drifted} of {len(names)}."
        )
    return drift


def _column(name: str, metric: Mapping[str, Any], status: str) -> ColumnDrift:
    value, config = metric["value"], metric["config"]
    if value is None or value != value:
        raise DriftloopError(f"Evidently gives no drift score for column {name}")
    if status not in ("SUCCESS", "FAIL"):
        raise DriftloopError(f"Evidently came to no verdict on column {name}: its test ended as {status}")
    return ColumnDrift(name, config["method"], float(value), float(config["threshold"]), status == "FAIL")


def _only(found: Any) -> Mapping[str, Any]:
    metrics = list(found)
    if len(metrics) != 1:
        raise DriftloopError(f"Evidently's report holds {len(metrics)} DriftedColumnsCount metrics, expected one.")
    return dict(metrics[0])
