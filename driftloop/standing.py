"""Where a loop stands, told from its ledger and its windows alone, so that it answers in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from driftloop import contract
from driftloop.ledger import Entry, Kind, Ledger
from driftloop.settings import Settings
from driftloop.windows import open_windows


def standing(folder: Path, settings: Settings) -> dict[str, Any]:
    """Champion, windows and last verdict as one JSON object; ``champion`` and ``last`` are None before the first."""
    loop = contract.load(folder)
    windows = open_windows(loop, folder)
    entries = Ledger(settings.ledger_url, loop.name).entries()
    monitored = {entry.window for entry in entries if entry.kind is not Kind.QUARANTINE}
    return {
        "loop": loop.name,
        "champion": _champion(entries),
        "windows": [
            {"window": i, "labels": windows.has_labels(i), "state": _state(i, monitored, entries)}
            for i in windows.ids()
        ],
        "last": _last(entries),
    }


def _champion(entries: list[Entry]) -> dict[str, Any] | None:
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


def _state(window: str, monitored: set[str], entries: list[Entry]) -> str:
    last = next((e for e in reversed(entries) if e.window == window), None)
    if last is not None and last.kind is Kind.QUARANTINE:
        return "quarantined"
    return "monitored" if window in monitored else "new"


def _last(entries: list[Entry]) -> dict[str, Any] | None:
    if not entries:
        return None
    entry = entries[-1]
    return {"kind": str(entry.kind), "window": entry.window, "reason": entry.reason, "version": entry.version}
