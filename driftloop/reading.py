"""A window as every part of the loop gets to see it: read, judged by schema.yaml, brought into canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from driftloop import frame
from driftloop.contract import Loop
from driftloop.errors import WindowError
from driftloop.frame import Window
from driftloop.periods import span_of
from driftloop.schema import Schema, kinds, typed
from driftloop.validation import Arrival, Judgement, Newest, judge
from driftloop.windows import Windows

Json = dict[str, Any]
CALENDARS = ("month", "week", "day")
REFERENCE = 12  # windows that a schema is learnt from, at most


@dataclass(frozen=True)
class Reading:
    """A window's checked rows, or the ``problems`` for which it cannot be used.

    ``judgement`` is None where there is no schema, or nothing could be read; ``set_aside`` are the raw rows that the
    window goes on without, only the loop's columns, with the ``reason`` of each (``reason_`` where the loop has a
    column of that name).
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


Before = dict[tuple[str, ...], Newest | None]  # by window, content, schema and window judged; None: it is passed over


def key(windows: Windows, window: str, loop: Loop, schema: Schema | None, known: Before) -> tuple[str, ...]:
    """All that a reading depends on beside loop.toml: the window's content, the schema, the times to exceed."""
    if schema is None:
        return (windows.digest(window),)
    before = _before(windows, window, loop, schema, known)
    times = (before[0], str(before[1].time), str(before[1].within)) if before else ()
    return (windows.digest(window), schema.digest, *times)


def read(windows: Windows, window: str, loop: Loop, schema: Schema | None, known: Before) -> Reading:
    """Read a window and put aside what loop.toml says of bad rows. ``known`` is filled in on the way."""
    before = None if schema is None else _before(windows, window, loop, schema, known)
    found = _read(windows, window, loop, schema, before)
    pa.default_memory_pool().release_unused()  # it had the raw rows and would keep their memory
    return found


def _read(
    windows: Windows, window: str, loop: Loop, schema: Schema | None, before: tuple[str, Newest] | None
) -> Reading:
    judgement = set_aside = None
    try:
        rows = windows.read(window)
        if schema is not None and not rows.empty:
            judgement = judge(rows, schema, loop, Arrival(before, _end(window)))
            rows, set_aside = _kept(rows, loop, judgement, window)
        checked = frame.check(rows, loop, window)
    except WindowError as error:
        return Reading(None, tuple(error.problems), judgement)
    left_out = 0 if set_aside is None else len(set_aside)
    return Reading(replace(checked, left_out=left_out), (), judgement, set_aside)


def _end(window: str) -> datetime | None:
    """Where the period ends that an id names."""
    return next((span[1] for calendar in CALENDARS if (span := span_of(window, calendar))), None)


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
    reason = "reason"
    while reason in own:
        reason += "_"
    return rows[~bad].reset_index(drop=True), rows.loc[bad, own].assign(**{reason: judgement.reasons})


def _before(windows: Windows, window: str, loop: Loop, schema: Schema, known: Before) -> tuple[str, Newest] | None:
    """The nearest earlier window that can be used, and the newest of its times.

    Its own freshness is no part of that: it would ask for the window before it, and so on to the first.
    """
    if not (schema.compares and loop.timestamp):
        return None
    for earlier in reversed([i for i in windows.ids() if i < window]):
        at = (earlier, windows.digest(earlier), schema.digest, window)
        if at not in known:
            found = _read(windows, earlier, loop, schema, None)
            known[at] = None if found.window is None else Newest.of(_times(found, loop.timestamp), _end(window))
        if (newest := known[at]) is not None:
            return earlier, newest
    return None


def _times(found: Reading, timestamp: str) -> pd.Series:
    """The times of all its rows, also of those set aside: a window is held against it with all of its own."""
    aside = [] if found.set_aside is None else [found.set_aside[timestamp]]
    assert found.window is not None, "asked of windows that can be used"
    given = [times for times in (found.window.timestamp, *aside) if times is not None]
    together: pd.Series = pd.concat([typed(times, "time")[0] for times in given])
    return together


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
