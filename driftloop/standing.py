"""Where a loop stands, told from its ledger and its windows alone, so that it answers in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftloop import contract
from driftloop.ledger import Entry, Kind, peek
from driftloop.settings import Settings
from driftloop.windows import open_windows


def standing(folder: Path, settings: Settings) -> dict[str, Any]:
    """Champion, windows and last verdict as one JSON object; ``champion`` and ``last`` are None before the first."""
    loop = contract.load(folder)
    windows = open_windows(loop, folder)
    entries = peek(settings.ledger_url, loop.name)
    champion, ids = _champion(entries), windows.ids()
    behind = passed_by(ids, entries)
    return {
        "loop": loop.name,
        "champion": champion,
        "windows": [
            {"window": i, "labels": windows.has_labels(i), "state": "passed by" if i in behind else _state(i, entries)}
            for i in ids
        ],
        "last": _last(entries),
    }


def _champion(entries: Sequence[Entry]) -> dict[str, Any] | None:
    promotion = next((e for e in reversed(entries) if e.kind is Kind.PROMOTION), None)
    if promotion is None:
        return None
    report = promotion.details["report"]
    return {
        "version": promotion.version,
        "since": promotion.time.isoformat(timespec="seconds"),
        "window": promotion.window,
        "reason": promotion.reason,
        "trained_on": report["training"]["windows"],
        "metrics": report["training"]["metrics"],
    }


def passed_by(ids: Sequence[str], entries: Sequence[Entry]) -> set[str]:
    """The windows never monitored and older than the newest the champion was trained on: it is too late for them."""
    champion = _champion(entries)
    known = {entry.window for entry in entries}
    return {i for i in ids if champion and i < champion["trained_on"][-1] and i not in known}


def _state(window: str, entries: list[Entry]) -> str:
    last = next((e for e in reversed(entries) if e.window == window), None)
    if last is None:
        return "new"
    return "quarantined" if last.kind is Kind.QUARANTINE else "monitored"


def _last(entries: list[Entry]) -> dict[str, Any] | None:
    if not entries:
        return None
    entry = entries[-1]
    return {"kind": str(entry.kind), "window": entry.window, "reason": entry.reason, "version": entry.version}
