"""Which engine measures drift, and what the columnar one reads, keeps and says. Evidently's worker is a fake."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from driftloop import drift_worker, engine, monitoring, page, references
from driftloop.columnar import Column, compare, summary
from driftloop.contract import Loop
from driftloop.drift import DriftReport
from driftloop.errors import DriftloopError
from driftloop.ledger import Ledger
from driftloop.page import Excerpt
from driftloop.registry import Registry
from driftloop.retrain import Drift
from driftloop.settings import Settings
from driftloop.sides import Rows, Stored
from driftloop.windows import open_windows
from driftloop.workspace import Workspace
from tests.fakes import FakeRegistry, a_loop, some_rows

MONTHS = ("2024-01", "2024-02", "2024-03")


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Evidently's worker was asked for."""
    asked: dict[str, Any] = {"measured": [], "drawn": []}

    def measure(*request: Any) -> DriftReport:
        asked["measured"].append(request)
        return DriftReport(Drift(0.0, ()), "")

    def draw(excerpt: Excerpt, drift: Drift, numeric: list[str]) -> str:
        asked["drawn"].append((excerpt, drift, numeric))
        return "<html>"

    monkeypatch.setattr(drift_worker, "measure", measure)
    monkeypatch.setattr(drift_worker, "draw", draw)
    return asked


def opened(folder: Path, loop: Loop, suffix: str = "parquet") -> Any:
    (folder / "windows").mkdir(exist_ok=True)
    for seed, month in enumerate(MONTHS):
        file, rows = folder / "windows" / f"{month}.{suffix}", some_rows(200, seed=seed, shift=seed / 2)
        rows.to_csv(file, index=False) if suffix == "csv" else rows.to_parquet(file)
    settings = Settings.from_env({}, folder)
    windows = open_windows(loop, folder)
    ledger = Ledger(settings.ledger_url, "churn")
    return Workspace(folder, settings, loop, windows, ledger, cast("Registry", FakeRegistry()))


@pytest.fixture
def work(tmp_path: Path) -> Any:
    made = opened(tmp_path, a_loop(drift={"engine": "columnar"}))
    yield made
    made.ledger._engine.dispose()


@pytest.mark.parametrize(
    ("drift", "rows", "expected"),
    [
        ({}, engine.EVIDENTLY_VALUES // 2, "evidently"),
        ({}, engine.EVIDENTLY_VALUES // 2 + 1, "columnar"),
        ({"engine": "columnar"}, 10, "columnar"),
        ({"engine": "evidently"}, 10**12, "evidently"),
        ({"columns": {"fee": {"test": "psi"}}}, 10**12, "columnar"),
        ({"columns": {"plan": {"test": "TVD"}}}, 10**12, "evidently"),
    ],
)
def test_auto_is_evidently_up_to_a_size_and_wherever_only_it_has_the_test(drift: Any, rows: int, expected: str) -> None:
    assert engine.engine_for(a_loop(drift=drift), rows) == expected


def test_the_columnar_engine_leaves_the_reference_where_it_lies_and_reads_it_once(
    work: Workspace, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    arrays = Stored._arrays

    def counted(self: Stored, window: str, path: str, rows: int, name: str) -> Any:
        read.append(window)
        return arrays(self, window, path, rows, name)

    monkeypatch.setattr(Stored, "_arrays", counted)
    found = []
    for month in ("2024-02", "2024-03"):
        current = work.read(month)
        reference = references.side(work, ["2024-01"], current)
        assert isinstance(reference, Stored)
        found.append(monitoring.measure_drift(work, reference, current))
        read.append(month)
    before_second, after = read.index("2024-02"), read[read.index("2024-02") + 1 :]
    assert before_second > 2, "each column of the reference is read"
    assert after == ["2024-01", "2024-03"], "then no more than whether it has labels"
    whole = work.read("2024-01")
    for report, month in zip(found, ("2024-02", "2024-03"), strict=True):
        now = work.read(month)
        expected = [
            compare(summary(whole.X[name].to_numpy(), column), summary(now.X[name].to_numpy(), column), column)
            for name, column in (("fee", Column("fee", numeric=True)), ("plan", Column("plan", numeric=False)))
        ]
        assert list(report.drift.columns) == expected
        assert report.drift.share == sum(column.drifted for column in expected) / 2
        assert (report.drift.engine, report.html) == ("columnar", "<html>")
        assert report.drift.target is not None
        assert (report.drift.target.name, report.drift.target.method) == ("left", "Z-test p_value")
        assert [column.name for column in report.quality] == ["fee", "plan"]
    assert worker["measured"] == []
    excerpt, drift, numeric = worker["drawn"][-1]
    assert (excerpt.reference_rows, excerpt.current_rows, numeric) == (200, 200, ["fee"])
    assert drift == found[-1].drift
    pd.testing.assert_frame_equal(excerpt.reference[["fee", "plan"]], whole.X)


def test_a_reference_whose_content_changed_is_summarised_again(work: Workspace) -> None:
    def share() -> float:
        current = work.read("2024-03")
        return monitoring.measure_drift(work, references.side(work, ["2024-01"], current), current).drift.share

    assert share() > 0
    some_rows(200, seed=2, shift=1.0).to_parquet(work.folder / "windows" / "2024-01.parquet")
    assert share() == 0


def test_windows_read_whole_are_compared_by_column_too(tmp_path: Path) -> None:
    work = opened(tmp_path, a_loop(drift={"engine": "columnar"}), "csv")
    current = work.read("2024-03")
    reference = references.side(work, ["2024-01", "2024-02"], current)
    assert isinstance(reference, Rows)
    found = monitoring.measure_drift(work, reference, current).drift
    again = monitoring.drift_between(work.loop, [work.read(m) for m in MONTHS[:2]], [current]).drift
    assert found == again
    assert found.columns[0].method == "K-S p_value"
    work.ledger._engine.dispose()


def test_small_windows_are_read_for_evidently_with_the_tests_that_are_asked_for(tmp_path: Path, worker: Any) -> None:
    work = opened(tmp_path, a_loop(drift={"columns": {"fee": {"test": "psi", "threshold": 0.3}}}))
    current = work.read("2024-03")
    reference = references.side(work, ["2024-01"], current)
    assert isinstance(reference, Rows)
    monitoring.measure_drift(work, reference, current)
    ((before, now, numeric, categorical, target, excerpt, tests),) = worker["measured"]
    assert (numeric, categorical, target, excerpt) == (["fee"], ["plan", "left"], "left", None)
    assert (tests["fee"].test, tests["fee"].threshold) == ("psi", 0.3)
    assert (len(before), len(now)) == (200, 200)
    work.ledger._engine.dispose()


@pytest.mark.parametrize("change", [{"fee": float("inf")}, {"fee": "dear"}, {"plan": None}])
def test_a_reference_that_turns_out_unusable_stops_the_run_and_quarantines_nothing(
    work: Workspace, change: Any
) -> None:
    some_rows(200).assign(**change).to_parquet(work.folder / "windows" / "2024-01.parquet")
    current = work.read("2024-03")
    reference = references.side(work, ["2024-01"], current)
    with pytest.raises(DriftloopError, match=r"what drift is compared with cannot be read: window 2024-01: column"):
        monitoring.measure_drift(work, reference, current)


def test_a_reference_without_a_column_stops_the_run_before_anything_is_measured(work: Workspace) -> None:
    some_rows(200).drop(columns="fee").to_parquet(work.folder / "windows" / "2024-01.parquet")
    with pytest.raises(DriftloopError, match=r"what drift is compared with cannot be read: .* fee is missing"):
        references.side(work, ["2024-01"], work.read("2024-03"))


def test_a_column_without_a_value_has_no_drift() -> None:
    column = Column("fee", numeric=True)
    one, none = (
        summary(pd.Series([1.0, 2.0]).to_numpy(), column),
        summary(pd.Series([None], dtype=float).to_numpy(), column),
    )
    with pytest.raises(DriftloopError, match="column fee is null in all current rows"):
        compare(one, none, column)


@pytest.mark.parametrize("tells", [True, False])
def test_columns_are_judged_in_as_many_threads_as_the_process_has_cores(
    monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(engine.columnar, "judged", lambda *request: asked.append(request[-1]))
    monkeypatch.setattr(engine.os, "cpu_count", lambda: 64)
    if tells:
        monkeypatch.setattr(engine.os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    else:
        monkeypatch.delattr(engine.os, "sched_getaffinity", raising=False)
    engine.in_threads(cast("Any", None), cast("Any", None), [], cast("Any", None))
    assert asked == [3 if tells else 64]


def test_a_large_windows_page_is_drawn_on_as_many_rows_of_each_side(
    work: Workspace, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ROWS", 100)
    current = work.read("2024-03")
    monitoring.measure_drift(work, references.side(work, ["2024-01", "2024-02"], current), current)
    ((excerpt, *_),) = worker["drawn"]
    assert (len(excerpt.reference), len(excerpt.current), excerpt.reference_rows) == (50, 50, 400)
