"""Evidently's own report, with a metric taken out of it."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from driftloop.drift import parse
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
