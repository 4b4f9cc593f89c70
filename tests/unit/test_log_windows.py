"""The prediction log as windows: periods that are over, rows, labels, what a digest notices, what pruning spares."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from driftloop import frame
from driftloop.errors import ContractError, WindowError
from driftloop.log_files import ParquetStore
from driftloop.log_windows import LogWindows
from driftloop.periods import keep_since, period_of, span_of
from driftloop.prediction_log import Record, nanoseconds
from driftloop.windows import FolderWindows
from tests.fakes import a_loop, some_rows

NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)


class Case:
    """A log in a folder, the windows over it and a clock."""

    def __init__(self, folder: Path, calendar: str = "month", **changes: Any) -> None:
        self.folder, self.now = folder, NOW
        windows = {"source": "log", "calendar": calendar, "labels": "labels"}
        self.loop = a_loop(windows=windows, entity=None, **changes)
        self.store = ParquetStore(folder / "log")
        files = FolderWindows(folder, "windows", "labels", entity=self.loop.entity, target="left")
        self.windows = LogWindows(self.loop, self.store, files, lambda: self.now)

    def log(self, when: str, *rows: dict[str, Any], request: str | None = None) -> str:
        request = request or f"r-{when}"
        at = nanoseconds(datetime.fromisoformat(when).replace(tzinfo=UTC))
        self.store.append([Record(request, n, at, "1", row, 0.5, "no", 0.2) for n, row in enumerate(rows or [ROW])])
        return request

    def label_file(self, window: str, text: str) -> None:
        (self.folder / "labels").mkdir(exist_ok=True)
        (self.folder / "labels" / f"{window}.csv").write_text(text)


ROW = {"fee": 1.5, "plan": "basic"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


# which there are


@pytest.mark.parametrize(
    ("calendar", "ids"),
    [
        ("month", ["2025-12", "2026-10"]),
        ("week", ["2026-W01", "2026-W44", "2026-W46"]),
        ("day", ["2025-12-31", "2026-10-31", "2026-11-15", "2026-11-20"]),
    ],
)
def test_a_period_is_a_window_once_it_is_over(tmp_path: Path, calendar: str, ids: list[str]) -> None:
    case = Case(tmp_path, calendar)
    for when in ("2025-12-31T23:00", "2026-10-31T10:00", "2026-11-15T10:00", "2026-11-20T10:00", "2026-11-21T10:00"):
        case.log(when)
    assert case.windows.ids() == ids


def test_a_month_becomes_a_window_at_its_end_to_the_second(case: Case) -> None:
    case.log("2026-11-21T10:00")
    case.now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    assert case.windows.ids() == []
    case.now += timedelta(seconds=1)
    assert case.windows.ids() == ["2026-11"]


def test_windows_from_before_the_log_are_those_of_the_folder_and_have_their_period(case: Case) -> None:
    (case.folder / "windows").mkdir()
    for window in ("2026-08", "2026-09"):
        some_rows(20).to_csv(case.folder / "windows" / f"{window}.csv", index=False)
    case.log("2026-09-10T10:00")
    case.log("2026-10-10T10:00")
    assert case.windows.ids() == ["2026-08", "2026-09", "2026-10"]
    assert [len(case.windows.read(window)) for window in case.windows.ids()] == [20, 20, 1]
    assert [case.windows.has_labels(window) for window in case.windows.ids()] == [True, True, False]
    assert len({case.windows.digest(window) for window in case.windows.ids()}) == 3


@pytest.mark.parametrize("window", ["2026-11", "2026-09", "2026-10-01", "2026-1", "x"])
def test_what_is_no_window_is_a_contract_error(case: Case, window: str) -> None:
    case.log("2026-10-10T10:00")
    case.log("2026-11-10T10:00")
    for ask in (case.windows.read, case.windows.digest, case.windows.has_labels):
        with pytest.raises(ContractError, match=f"there is no window {window} in the prediction log"):
            ask(window)


# rows and labels


def test_a_window_holds_what_was_asked_in_its_period(case: Case) -> None:
    case.log("2026-10-01T00:00", {"fee": 1.0, "plan": "basic"}, {"fee": None, "plan": None})
    case.log("2026-10-31T23:59", {"fee": 3.0, "plan": "family", "older": 1})
    case.log("2026-11-01T00:00", {"fee": 9.0, "plan": "late"})
    rows = case.windows.read("2026-10")
    assert list(rows.columns) == ["fee", "plan"]
    assert rows["plan"].tolist() == ["basic", None, "family"]
    checked = frame.check(rows, case.loop, "2026-10")
    assert checked.X["plan"].tolist() == ["basic", "(missing)", "family"]
    assert checked.notes == ()


def test_owner_and_time_are_the_request_s(tmp_path: Path) -> None:
    case = Case(tmp_path, timestamp="at")
    case.loop = case.windows.loop = a_loop(timestamp="at", windows={"source": "log"})
    case.log("2026-10-05T06:00", ROW, ROW, request="a")
    case.log("2026-10-06T06:00", request="b")
    rows = case.windows.read("2026-10")
    assert rows["user_id"].tolist() == ["a", "a/1", "b"]
    assert rows["at"].tolist() == [pd.Timestamp("2026-10-05T06:00Z")] * 2 + [pd.Timestamp("2026-10-06T06:00Z")]
    assert frame.check(rows, case.loop, "2026-10").timestamp is not None


def test_labels_are_the_feedback_s(case: Case) -> None:
    batch, single = case.log("2026-10-05T06:00", ROW, ROW), case.log("2026-10-06T06:00")
    assert not case.windows.has_labels("2026-10")
    assert "left" not in case.windows.read("2026-10")
    case.store.label([(batch, 1, True), (single, 0, False)])
    assert case.windows.has_labels("2026-10")
    rows = case.windows.read("2026-10")
    assert rows["left"].tolist() == [None, True, False]
    assert frame.check(rows, case.loop, "2026-10").labelled_rows == 2


def test_a_label_file_names_requests_and_has_the_last_word(case: Case) -> None:
    case.log("2026-10-05T06:00", ROW, ROW, request="a")
    case.log("2026-10-06T06:00", request="7")
    case.store.label([("a", 0, True), ("a", 1, True)])
    case.label_file("2026-10", "request_id,row,left\na,1.0,False\n7,0,True\n")
    assert case.windows.has_labels("2026-10")
    assert case.windows.read("2026-10")["left"].tolist() == [True, False, True]


def test_in_a_label_file_without_rows_each_request_has_one(case: Case) -> None:
    case.log("2026-10-06T06:00", request="b")
    case.label_file("2026-10", "request_id,left\nb,True\n")
    assert case.windows.read("2026-10")["left"].tolist() == [True]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("request_id,label\nb,1\n", "has no column left"),
        ("request_id,left\nb,1\nb,1\n", "labels 1 requests more than once"),
        ("request_id,left\nb,1\nc,1\n", "labels 1 unknown requests, e.g. c"),
        ("request_id,left\n,1\nb,1\n", "holds a null request_id"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused(case: Case, text: str, told: str) -> None:
    case.log("2026-10-06T06:00", request="b")
    case.label_file("2026-10", text)
    with pytest.raises(WindowError, match=told):
        case.windows.read("2026-10")


def test_the_digest_changes_with_rows_labels_and_label_files_and_with_nothing_else(case: Case) -> None:
    seen = []

    def changed() -> bool:
        seen.append(case.windows.digest("2026-10"))
        assert case.windows.digest("2026-10") == seen[-1]
        return len(set(seen)) == len(seen)

    request = case.log("2026-10-06T06:00")
    assert changed()
    case.log("2026-10-07T06:00")
    assert changed()
    case.store.label([(request, 0, True)])
    assert changed()
    case.store.label([(request, 0, False)])
    assert changed()
    case.label_file("2026-10", f"request_id,left\n{request},True\n")
    assert changed()
    case.log("2026-09-06T06:00")
    case.log("2026-10-06T06:00")  # shipped again
    case.store.prune(datetime(2020, 1, 1, tzinfo=UTC))  # merges parts
    assert not changed()


# the calendar


@pytest.mark.parametrize("calendar", ["month", "week", "day"])
def test_every_day_lies_in_its_period_and_periods_follow_each_other(calendar: str) -> None:
    day, end = date(2019, 12, 1), None
    while day < date(2027, 2, 1):
        window = period_of(day, calendar)
        span = span_of(window, calendar)
        assert span
        assert span[0].date() <= day < span[1].date()
        if end and span[0].date() == day:
            assert span[0] == end
        day, end = day + timedelta(days=1), span[1]


@pytest.mark.parametrize(
    ("window", "calendar"),
    [
        ("2026-13", "month"),
        ("2026-1", "month"),
        ("9999-12", "month"),
        ("2026-10-01", "month"),
        ("2025-W53", "week"),
        ("2026-W1", "week"),
        ("2026-10", "week"),
        ("2026-02-30", "day"),
        ("2026-10", "day"),
    ],
)
def test_what_is_no_period_has_no_span(window: str, calendar: str) -> None:
    assert span_of(window, calendar) is None


def test_ids_sort_by_time() -> None:
    days = [date(2020, 1, 1) + timedelta(days=n) for n in range(2500)]
    for calendar in ("month", "week", "day"):
        ids = [period_of(day, calendar) for day in days]
        assert ids == sorted(ids)


# retention


def test_pruning_spares_what_the_champion_was_trained_on(case: Case) -> None:
    case.log("2026-03-06T06:00")
    retention = NOW - timedelta(days=90)
    assert keep_since(case.loop, case.store, ["2025-01", "2026-03"], NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    assert keep_since(case.loop, case.store, ["2025-01"], NOW) == retention  # a file's
    assert keep_since(case.loop, case.store, [], NOW) == retention
    assert keep_since(a_loop(serving={"retention_days": 5}), case.store, ["2026-03"], NOW) == NOW - timedelta(days=5)
