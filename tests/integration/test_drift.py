"""Evidently's own report, with a metric taken out of it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from driftloop.drift import measure, parse
from driftloop.errors import DriftloopError


@pytest.mark.parametrize("removed", ["DriftedColumnsCount", "ValueDrift"])
def test_a_metric_removed_from_evidentlys_own_report_raises_and_is_never_0(removed):
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    definition = DataDefinition(numerical_columns=["fee"])
    rows = [Dataset.from_pandas(pd.DataFrame({"fee": range(n, n + 50)}), definition) for n in (0, 100)]
    report = Report([DriftedColumnsCount(columns=["fee"]), ValueDrift(column="fee")], include_tests=True)
    made = json.loads(report.run(*rows).json())
    assert parse(made, ["fee"]).share == 1
    made["metrics"] = [m for m in made["metrics"] if not m["config"]["type"].endswith(f":{removed}")]
    with pytest.raises(DriftloopError, match=r"Evidently's report holds (0 DriftedColumnsCount|no drift for fee)"):
        parse(made, ["fee"])


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_the_targets_drift_is_what_evidentlys_value_drift_says_and_is_not_counted(task):
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    def rows(start):
        values = pd.Series(range(start, start + 60), dtype=float)
        label = values if task == "regression" else (values % (start + 2) > 0).map({True: "yes", False: "no"})
        return pd.DataFrame({"fee": values % 7, "left": label.where(values % 10 > 0)})

    before, now = rows(0), rows(90)
    kinds = (["fee", "left"], []) if task == "regression" else (["fee"], ["left"])
    found = measure(before, now, *kinds, "left")
    definition = DataDefinition(numerical_columns=kinds[0], categorical_columns=kinds[1])
    sides = [Dataset.from_pandas(side, definition) for side in (now, before)]
    (alone,) = json.loads(Report([ValueDrift(column="left")]).run(*sides).json())["metrics"]
    assert found.drift.target.score == alone["value"]
    assert (found.drift.target.method, found.drift.target.drifted) == (alone["config"]["method"], True)
    assert (found.drift.share, [column.name for column in found.drift.columns]) == (0.0, ["fee"])
    assert "Drift in column 'left'" in found.html
