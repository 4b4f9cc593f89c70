"""The prediction log as windows: what production really saw, cut by the calendar."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from driftloop.category import category
from driftloop.contract import Loop
from driftloop.errors import ContractError, WindowError
from driftloop.prediction_log import Store, rows_of
from driftloop.tables import read_table
from driftloop.windows import FolderWindows


def utc_now() -> datetime:
    return datetime.now(UTC)


class LogWindows:
    """Each month, week or day (UTC) of the log is a window once it is over; ``files`` are those from before the log.

    A first champion has to come from somewhere: windows in the folder count as ever, and a period that is in both is
    the folder's. A row's label is the feedback to its request, or comes from a label file with request_id, row where
    a request has several, and the target; the file has the last word. A request is its own owner: the entity's column
    holds its id, ``id/row`` from the second row on, and the timestamp's column when it was answered.
    """

    def __init__(self, loop: Loop, store: Store, files: FolderWindows, now: Callable[[], datetime] = utc_now) -> None:
        self.loop, self.store, self.files, self._now = loop, store, files, now
        self._calendar = loop.windows.calendar

    def ids(self) -> list[str]:
        return sorted({*self._in_folder(), *self._in_log()})

    def read(self, window: str) -> pd.DataFrame:
        if window in self._in_folder():
            return self.files.read(window)
        found = self.store.read(*self._period(window))
        rows = rows_of(found, self.loop.columns.names)[list(self.loop.columns.names)]
        keys = _keys(found)
        if self.loop.entity:
            rows[self.loop.entity] = keys
        if self.loop.timestamp:
            rows[self.loop.timestamp] = found["time"]
        labels = self._file_labels(window, keys)
        if labels is not None or found["feedback"].notna().any():
            given = found["feedback"]
            rows[self.loop.target] = given if labels is None else labels.where(labels.notna(), given)
        return rows

    def digest(self, window: str) -> str:
        if window in self._in_folder():
            return self.files.digest(window)
        said = (window, *self.store.state(*self._period(window)), self.files.hashed(window, []))
        return hashlib.blake2b(repr(said).encode(), digest_size=8).hexdigest()

    def has_labels(self, window: str) -> bool:
        if window in self._in_folder():
            return self.files.has_labels(window)
        _, labelled, _ = self.store.state(*self._period(window))
        return labelled > 0 or self.files.label_file(window) is not None

    def _in_folder(self) -> list[str]:
        return self.files.ids() if self.files.exist() else []

    def _in_log(self) -> set[str]:
        now = self._now()
        periods = {period_of(day, self._calendar) for day in self.store.days()}
        return {window for window in periods if (span := span_of(window, self._calendar)) and span[1] <= now}

    def _period(self, window: str) -> tuple[datetime, datetime]:
        span = span_of(window, self._calendar)
        if span is None or window not in self._in_log():
            raise ContractError(
                f"there is no window {window} in the prediction log; `driftloop status` lists those there are."
            )
        return span

    def _file_labels(self, window: str, keys: pd.Series) -> pd.Series | None:
        """The labels of the window's file, aligned with ``keys``, None for those it does not name."""
        file = self.files.label_file(window)
        if file is None:
            return None
        assert self.files.labels is not None, "a label file was found below it"
        table = read_table(window, self.files.labels[0], file, "request_id")
        if missing := [c for c in ("request_id", self.loop.target) if c not in table]:
            raise WindowError(window, [f"{file.path} has no column {', '.join(missing)}"])
        named = _keys(table if "row" in table else table.assign(row=0))
        problems = []
        if table["request_id"].isna().any():
            problems.append(f"{file.path} holds a null request_id")
        if twice := int(named.duplicated().sum()):
            problems.append(f"{file.path} labels {twice} requests more than once")
        if (unknown := named[~named.isin(keys)]).size:
            problems.append(f"{file.path} labels {unknown.size} unknown requests, e.g. {unknown.iloc[0]}")
        if problems:
            raise WindowError(window, problems)
        values = dict(zip(named, table[self.loop.target], strict=True))
        return pd.Series([values.get(key) for key in keys], index=keys.index, dtype=object)


def _keys(rows: pd.DataFrame) -> pd.Series:
    """One string for each request id and row."""
    ids = rows["request_id"].astype(str)
    return ids.where(rows["row"] == 0, ids + "/" + rows["row"].map(category))  # 1 and 1.0 are one


def period_of(day: date, calendar: str) -> str:
    """The id of the window that a day (UTC) falls into.

    >>> [period_of(date(2026, 11, 21), calendar) for calendar in ("month", "week", "day")]
    ['2026-11', '2026-W47', '2026-11-21']
    """
    if calendar == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02}"
    return day.isoformat() if calendar == "day" else f"{day:%Y-%m}"


def span_of(window: str, calendar: str) -> tuple[datetime, datetime] | None:
    """Where a window begins, and where the next one does; None for an id that is no such period."""
    text, form = {"month": (window, "%Y-%m"), "week": (f"{window}-1", "%G-W%V-%u"), "day": (window, "%Y-%m-%d")}[
        calendar
    ]
    try:
        first = datetime.strptime(text, form).replace(tzinfo=UTC)
        if period_of(first.date(), calendar) != window:
            return None  # 2026-1 is understood too, but no window bears that name
        if calendar == "month":
            return first, (first + timedelta(days=31)).replace(day=1)
        return first, first + timedelta(days=7 if calendar == "week" else 1)
    except (ValueError, OverflowError):
        return None


def keep_since(loop: Loop, store: Store, trained_on: Sequence[str], now: datetime) -> datetime:
    """Before when the log may be pruned: ``retention_days`` ago, or where what the champion was trained on begins.

    ``trained_on`` are its windows. Drift is measured against them, so those in the log stay as long as it serves.
    """
    oldest = now - timedelta(days=loop.serving.retention_days)
    if loop.windows.source == "files":
        return oldest
    there = {period_of(day, loop.windows.calendar) for day in store.days()}
    spans = [span_of(window, loop.windows.calendar) for window in trained_on if window in there]
    return min([oldest, *(span[0] for span in spans if span)])
