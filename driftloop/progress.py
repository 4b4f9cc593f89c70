"""What a long step is at, a line at a time, for whoever listens: a terminal, a run's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], object]] = []


def tell(line: str) -> None:
    for listener in tuple(_listeners):
        listener(line)


@contextmanager
def heard_by(listener: Callable[[str], object]) -> Iterator[None]:
    """Let ``listener`` have every line that is told while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
