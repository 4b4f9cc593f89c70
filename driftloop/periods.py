"""The calendar that cuts the prediction log into windows, in UTC, and what of the log may be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from driftloop.contract import Loop
from driftloop.prediction_log import Store


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


def year_before(window: str) -> str | None:
    """The id of the same month, week or day a year earlier; None for an id that names no such period.

    >>> [year_before(window) for window in ("2026-11", "2026-W47", "2026-11-21", "month_001")]
    ['2025-11', '2025-W47', '2025-11-21', None]
    """
    if not any(span_of(window, calendar) for calendar in ("month", "week", "day")):
        return None
    return f"{int(window[:4]) - 1:04}{window[4:]}"


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
