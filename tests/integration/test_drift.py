"""Evidently's own report, with a metric taken out of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from driftloop import page
from driftloop.drift import measure, parse
from driftloop.errors import DriftloopError
from driftloop.page import Excerpt
from driftloop.retrain import ColumnDrift, Drift


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


def side(rows, numbers, categories, seed):
    """``categories`` columns of names, one to a row nearly, that are long and take six bytes a letter in JSON."""
    rng = np.random.default_rng(seed)
    columns = {f"n{i}": rng.normal(seed, 1, rows) for i in range(numbers)}
    names = np.array([f"{n} " + "\u4e16" * 200 for n in range(3000)], dtype=object)
    return pd.DataFrame(columns | {f"c{i}": names[rng.integers(0, 3000, rows)] for i in range(categories)})


def found(names):
    return Drift(0.5, tuple(ColumnDrift(name, "Told distance", 0.98765, 0.1, drifted=name == "n1") for name in names))


def test_the_page_of_a_large_window_is_small_and_has_the_exact_verdict():
    before, now = side(150_000, 20, 5, seed=0), side(150_000, 20, 5, seed=1)
    places = page.chosen("churn", [("2024-01", 150_000)], page.ROWS // 2)
    excerpt = Excerpt(before.iloc[places], now.iloc[places], len(before), len(now))
    html = page.draw(excerpt, found(before), [f"n{i}" for i in range(20)], "columnar")
    assert len(html.encode()) < page.MOST_BYTES / 2
    assert html.index("Drawn on 20,000 of 300,000 rows; the verdict is over all rows") < html.index(page.PLACE)
    assert html.count("Data drift not detected. Drift detection method: Told distance. Drift score: 0.9877") == 24
    assert html.count("Data drift detected. Drift detection method: Told distance. Drift score: 0.9877") == 1
    assert html.count("Drift score:") == html.count("Told distance. Drift score:"), "none is of the sample"


@pytest.mark.long
def test_the_page_of_a_wide_window_is_small_too():
    before, now = side(60, 150, 150, seed=0), side(60, 150, 150, seed=1)
    numeric = [f"n{i}" for i in range(150)]
    excerpt = Excerpt(before, now, len(before), len(now))
    html = page.draw(excerpt, found(before), numeric, "evidently")
    assert 4_000_000 < len(html.encode()) <= page.MOST_BYTES
    assert "Drift in column 'n1', over all rows" in html
    assert "columns are not drawn, so that browsers open the page" in html


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of their spread and correlations
@pytest.mark.parametrize(
    "values", [np.full(60, 1e15), 1.2e17 + 16 * (np.arange(60) % 4), np.append(np.arange(59.0), np.finfo(float).max)]
)
def test_a_column_that_cannot_be_plotted_is_named_by_both_engines(values):
    rows = pd.DataFrame({"n1": np.arange(60.0), "odd": values})
    excerpt = Excerpt(rows, rows, len(rows), len(rows))
    html = page.draw(excerpt, found(rows), ["n1", "odd"], "columnar")
    assert "Not drawn, for Evidently cannot plot values of such a size and range: odd." in html
    assert "Drift in column 'n1', over all rows" in html
    with pytest.raises(DriftloopError, match=r"it cannot plot column odd, .* Set engine = \"columnar\""):
        measure(rows, rows, ["n1", "odd"], [])
