"""Where a loop stands, told from its ledger and its windows alone, so that it answers in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftloop import contract
from driftloop.entry import REIGNS, Entry, Kind
from driftloop.ledger import peek
from driftloop.reigns import ARRIVALS, TRAININGS, waiting
from driftloop.settings import Settings
from driftloop.windows import open_windows


def standing(folder: Path, settings: Settings) -> dict[str, Any]:
    """Champion, challenger, windows, last verdict and how the champion does, as JSON; None is what there is not."""
    loop = contract.load(folder)
    windows = open_windows(loop, folder, settings)
    entries = peek(settings.ledger_url, loop.name)
    champion, ids = _champion(entries), windows.ids()
    behind = passed_by(ids, entries)
    return {
        "loop": loop.name,
        "champion": champion,
        "challenger": _challenger(entries),
        "windows": [
            {"window": i, "labels": windows.has_labels(i), "state": "passed by" if i in behind else _state(i, entries)}
            for i in ids
        ],
        "last": _last(entries),
        "measured": _measured(entries, "performance", "estimated"),
        "labelled": _measured(entries, "performance"),
    }


def _champion(entries: Sequence[Entry]) -> dict[str, Any] | None:
    reign = next((e for e in reversed(entries) if e.kind in REIGNS), None)
    if reign is None:
        return None
    return {
        "version": reign.version,
        "since": reign.time.isoformat(timespec="seconds"),
        "window": reign.window,
        "reason": reign.reason,
        "trained_on": list(reign.trained_on),
        "metrics": reign.training["metrics"],
    }


def _challenger(entries: Sequence[Entry]) -> dict[str, Any] | None:
    asked = waiting(entries)
    if asked is None:
        return None
    return {
        "version": asked.version,
        "since": asked.time.isoformat(timespec="seconds"),
        "window": asked.window,
        "reason": asked.reason,
        "decision": asked.details["report"]["decision"],
    }


def _measured(entries: Sequence[Entry], *parts: str) -> dict[str, Any] | None:
    """How the champion did on the last window that one of these parts was found of."""
    champion = next((e.version for e in reversed(entries) if e.kind in REIGNS), None)
    for entry in reversed(entries):
        report = entry.report or {}
        if entry.kind is Kind.VERDICT and entry.version == champion and any(report.get(part) for part in parts):
            told = ("performance", "estimated", "retrain")
            return {"window": entry.window, **{part: report.get(part) for part in told}}
    return None


def passed_by(ids: Sequence[str], entries: Sequence[Entry]) -> set[str]:
    """The windows not monitored that are older than the newest the champion learnt from: it is too late for them."""
    champion = _champion(entries)
    known = {entry.window for entry in entries if entry.kind is not Kind.QUARANTINE}
    return {i for i in ids if champion and i < champion["trained_on"][-1] and i not in known}


def _state(window: str, entries: list[Entry]) -> str:
    last = next((e for e in reversed(entries) if e.window == window and e.kind in (*ARRIVALS, *TRAININGS)), None)
    if last is None:
        return "new"
    if last.kind is Kind.VERDICT and last.report and last.report["retrain"]["retrain"]:
        return "training unfinished"  # a run that came to its end left a decision behind its verdict
    return "quarantined" if last.kind is Kind.QUARANTINE else "monitored"


def _last(entries: list[Entry]) -> dict[str, Any] | None:
    if not entries:
        return None
    entry = entries[-1]
    return {"kind": str(entry.kind), "window": entry.window, "reason": entry.reason, "version": entry.version}
