"""What other processes do to a ledger at once: a module of its own, so that they import little more than the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier

from driftloop.entry import Kind
from driftloop.errors import ChampionMoved
from driftloop.ledger import Ledger

_start: Barrier


def arm(barrier: Barrier) -> None:
    """Called in each process when it starts: only then can a barrier be handed over."""
    global _start  # noqa: PLW0603
    _start = barrier


def at_once() -> None:
    """Wait until all are here."""
    _start.wait(180)


@contextmanager
def opened(url: str, loop: str = "churn") -> Iterator[Ledger]:
    ledger = Ledger(url, loop)
    try:
        yield ledger
    finally:
        ledger._engine.dispose()


def promote_at_once(url: str, version: str, expected: str | None) -> str | None:
    """The version when it became champion, None when another one was faster."""
    at_once()
    with opened(url) as ledger:
        try:
            entry = ledger.promote(
                version, expected=expected, window="2024-01", reason="race", actor="test", details={}
            )
        except ChampionMoved:
            return None
    return entry.version


def append_at_once(url: str, writer: str, rows: int) -> None:
    at_once()
    with opened(url) as ledger:
        for number in range(rows):
            details = {"writer": writer, "number": number}
            ledger.append(Kind.VERDICT, window="2024-01", version=None, reason="race", actor="test", details=details)


def mark_told_at_once(url: str, seq: str, _: None) -> None:
    at_once()
    with opened(url) as ledger:
        ledger.mark_told(int(seq) // 2)  # two of the racers each mark the same
