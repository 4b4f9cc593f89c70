"""Who was champion when, which candidate waits for a human, what shows in a row: read off the ledger's rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from driftloop.entry import REIGNS, Entry, Kind

ARRIVALS = (Kind.VERDICT, Kind.QUARANTINE)
TRAININGS = (Kind.PROMOTION, Kind.KEEP, Kind.ASK)
ENDS_WAITING = (Kind.ASK, Kind.PROMOTION, Kind.REJECTION, Kind.EXPIRY)


def arrived(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Each window's newest verdict or quarantine."""
    return {entry.window: entry for entry in entries if entry.kind in ARRIVALS}


@dataclass(frozen=True)
class Reign:
    """A version's time as champion; ``until`` is None for the one that reigns. ``by`` is the row that began it."""

    version: str
    since: datetime
    until: datetime | None
    by: Entry


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """All reigns, oldest first."""
    rows = [entry for entry in entries if entry.kind in REIGNS]
    ends = [*(row.time for row in rows[1:]), None][: len(rows)]
    return [Reign(str(row.version), row.time, end, row) for row, end in zip(rows, ends, strict=True)]


def reign_at(entries: Sequence[Entry], moment: datetime) -> Reign | None:
    """The reign at a moment, which has a time zone; None before the first."""
    return next((reign for reign in reversed(reigns(entries)) if reign.since <= moment), None)


def previous_champion(entries: Sequence[Entry]) -> str | None:
    """The version that a rollback goes back to; None when there is none.

    A promotion puts a version on top of the one before, a rollback takes those above its own away, so that a second
    rollback goes further back and never forth again.
    """
    line: list[str] = []
    for entry in entries:
        if entry.kind is Kind.ROLLBACK and entry.version in line:
            del line[line.index(entry.version) + 1 :]
        elif entry.kind in REIGNS:
            line.append(str(entry.version))
    return line[-2] if len(line) > 1 else None


def waiting(entries: Sequence[Entry]) -> Entry | None:
    """The row of the candidate that waits for approval."""
    last = next((entry for entry in reversed(entries) if entry.kind in ENDS_WAITING), None)
    return last if last and last.kind is Kind.ASK else None


def expired(entries: Sequence[Entry], asked: Entry, window: str | None, limit: int) -> bool:
    """Whether ``limit`` newer windows arrived since the candidate asked; ``window`` is one that arrives now."""
    rows = [entry for entry in entries if entry.kind in ARRIVALS]
    known = {entry.window for entry in rows if entry.seq < asked.seq}
    arrived = {entry.window for entry in rows} | ({window} if window else set())
    return sum(name > asked.window for name in arrived - known) >= limit


def in_a_row(entries: Sequence[Entry], window: str, min_rows: int) -> dict[str, int]:
    """By finding, in how many windows right before this one it showed, since the last training or change of champion.

    Passed over, and so neither counted nor the end of a row: windows in quarantine, those with fewer than ``min_rows``
    rows, and those where the finding could not be measured.
    """
    since = max((entry.seq for entry in entries if entry.kind in (*TRAININGS, *REIGNS)), default=0)
    latest = {e.window: e for e in entries if e.seq > since and e.window < window and e.kind in ARRIVALS}
    found: Counter[str] = Counter()
    over: set[str] = set()
    for name in sorted(latest, reverse=True):
        report = latest[name].report or {}
        trigger = report.get("retrain", {}).get("trigger")
        if trigger is None or report["rows"]["current"] < min_rows:
            continue
        over |= set(trigger["measured"]) - set(trigger["on"])
        found.update(finding for finding in trigger["on"] if finding not in over)
    return dict(found)
