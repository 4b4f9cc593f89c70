"""What other processes do to a ledger at once: a module of its own, so that they import little more than the ledger."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier

from driftloop.entry import Kind
from driftloop.errors import ChampionMoved
from driftloop.ledger import Ledger

_start: Barrier


def arm(barrier: Barrier) -> None:
    """Called in each process when it starts: only then can a barrier be handed over."""
    global _start  # noqa: PLW0603
    _start = barrier


def promote_at_once(url: str, version: str, expected: str | None) -> str | None:
    """The version when it became champion, None when another one was faster."""
    _start.wait(60)
    try:
        entry = Ledger(url, "churn").promote(
            version, expected=expected, window="2024-01", reason="race", actor="test", details={}
        )
    except ChampionMoved:
        return None
    return entry.version


def append_five_at_once(url: str, writer: str, _: None) -> None:
    _start.wait(60)
    ledger = Ledger(url, "churn")
    for number in range(5):
        details = {"writer": writer, "number": number}
        ledger.append(Kind.VERDICT, window="2024-01", version=None, reason="race", actor="test", details=details)
