"""A window as every part of the loop gets to see it: read, judged by schema.yaml, brought into canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from driftloop import frame
from driftloop.contract import Loop
from driftloop.errors import WindowError
from driftloop.frame import Window
from driftloop.periods import span_of
from driftloop.schema import Schema, kinds, typed
from driftloop.validation import Arrival, Judgement, judge
from driftloop.windows import Windows

Json = dict[str, Any]
CALENDARS = ("month", "week", "day")
REFERENCE = 12  # windows that a schema is learnt from, at most


@dataclass(frozen=True)
class Reading:
    """A window's checked rows, or the ``problems`` for which it cannot be used.

    ``judgement`` is None where there is no schema, or nothing could be read; ``set_aside`` are the raw rows that the
    window goes on without, only the loop's columns, with the ``reason`` of each.
    """

    window: Window | None
    problems: tuple[str, ...] = ()
    judgement: Judgement | None = None
    set_aside: pd.DataFrame | None = None

    @property
    def size(self) -> int:
        """How many rows it holds in memory."""
        return (0 if self.window is None else len(self.window.X)) + (
            0 if self.set_aside is None else len(self.set_aside)
        )

    def report(self, loop: Loop) -> Json | None:
        """The validation part of the window's report."""
        if self.judgement is None:
            return None
        findings = [finding.json for finding in self.judgement.findings]
        return {
            "errors": sum(finding["level"] == "error" for finding in findings),
            "warnings": sum(finding["level"] == "warning" for finding in findings),
            "bad_rows": int(self.judgement.bad.sum()),
            "kept_rows": 0 if self.window is None else len(self.window.X),
            "on_bad_rows": loop.validation.on_bad_rows,
            "checks": findings,
        }


Newest = dict[tuple[str, str], pd.Timestamp | None]  # the newest time by window and content, None where none is read


def key(windows: Windows, window: str, loop: Loop, schema: Schema | None, newest: Newest) -> tuple[str, ...]:
    """All that a reading depends on beside loop.toml: the window's content, the schema, and the time it must exceed."""
    if schema is None:
        return (windows.digest(window),)
    before = _before(windows, window, loop, schema, newest)
    return (windows.digest(window), schema.digest, *((before[0], before[1].isoformat()) if before else ()))


def read(windows: Windows, window: str, loop: Loop, schema: Schema | None, newest: Newest) -> Reading:
    """Read a window and put aside what loop.toml says of bad rows. ``newest`` is filled in on the way."""
    judgement = set_aside = None
    try:
        rows = windows.read(window)
        if schema is not None and not rows.empty:
            ends = next((span[1] for calendar in CALENDARS if (span := span_of(window, calendar))), None)
            judgement = judge(rows, schema, loop, Arrival(_before(windows, window, loop, schema, newest), ends))
            rows, set_aside = _kept(rows, loop, judgement, window)
        checked = frame.check(rows, loop, window)
    except WindowError as error:
        return Reading(None, tuple(error.problems), judgement)
    left_out = 0 if set_aside is None else len(set_aside)
    return Reading(replace(checked, left_out=left_out), (), judgement, set_aside)


def notes(report: Json | None) -> list[str]:
    """What a validation says of a window that goes on, for the ledger: its warnings, and how many rows are missing."""
    if report is None:
        return []
    said = [f"schema.yaml: {broken['sentence']}" for broken in report["checks"] if broken["level"] == "warning"]
    bad = report["bad_rows"]
    total = bad + report["kept_rows"]
    return said + [f"{bad:,} of {total:,} rows break an error of schema.yaml and are left out"] * bool(bad)


def _kept(
    rows: pd.DataFrame, loop: Loop, judgement: Judgement, window: str
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows that the loop goes on with, and those it does not. Raises WindowError when it does not go on at all."""
    rule = loop.validation
    if problems := judgement.problems(keep=rule.on_bad_rows != "fail", max_bad_share=rule.max_bad_share):
        raise WindowError(window, problems)
    bad = judgement.bad
    if not bad.any():
        return rows, None
    own = [name for name in kinds(loop) if name in rows]
    return rows[~bad].reset_index(drop=True), rows.loc[bad, own].assign(reason=judgement.reasons)


def _before(
    windows: Windows, window: str, loop: Loop, schema: Schema, newest: Newest
) -> tuple[str, pd.Timestamp] | None:
    """The nearest earlier window whose times can be read, and the newest of them."""
    if not (schema.compares and loop.timestamp):
        return None
    for earlier in reversed([i for i in windows.ids() if i < window]):
        at = (earlier, windows.digest(earlier))
        if at not in newest:
            newest[at] = _newest(windows, earlier, loop.timestamp)
        if (time := newest[at]) is not None:
            return earlier, time
    return None


def _newest(windows: Windows, window: str, timestamp: str) -> pd.Timestamp | None:
    try:
        rows = windows.read(window)
    except WindowError:
        return None
    times = typed(rows[timestamp], "time")[0] if timestamp in rows else pd.Series()
    return times.max() if times.notna().any() else None


def usable(windows: Windows, loop: Loop) -> Iterator[tuple[str, pd.DataFrame]]:
    """The raw rows of the windows to learn a schema from: from the first labelled one on, those that can be used."""
    ids = windows.ids()
    first = next((i for i in ids if windows.has_labels(i)), "")
    for window in [i for i in ids if i >= first][:REFERENCE]:
        try:
            rows = windows.read(window)
            frame.check(rows, loop, window)
        except WindowError:
            continue  # `check` says what is wrong with it
        yield window, rows
