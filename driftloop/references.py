"""What drift compares a window with: the windows that loop.toml names, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from driftloop.contract import Loop
from driftloop.engine import engine_for
from driftloop.entry import Kind
from driftloop.errors import ContractError, DriftloopError, WindowError
from driftloop.frame import Window
from driftloop.periods import year_before
from driftloop.reigns import arrived
from driftloop.sides import Rows, Stored, stored
from driftloop.workspace import Serving, Workspace


def chosen(work: Workspace, window: str, serving: Serving) -> tuple[str, ...]:
    """Which windows drift compares the current one with, by ``drift.reference``."""
    return _chosen(work, window, serving, work.loop.drift.reference)


def chosen_for_trigger(work: Workspace, window: str, serving: Serving) -> tuple[str, ...]:
    """Which windows the trigger's drift compares it with, by ``trigger.reference``, else ``drift.reference``."""
    return _chosen(work, window, serving, work.loop.trigger.reference or work.loop.drift.reference)


def _chosen(work: Workspace, window: str, serving: Serving, wanted: str) -> tuple[str, ...]:
    if wanted == "training":
        return serving.windows
    if wanted not in ("previous", "year_ago"):
        return (wanted,)
    usable = (name for name in _earlier(work.windows.ids(), window, wanted) if _usable(work, name))
    found = next(usable, None)
    return serving.windows if found is None else (found,)


def _usable(work: Workspace, window: str) -> bool:
    """Whether a window can be compared with.

    It is read whole, unless a run has had a verdict of it and the columnar engine is to read it a column at a time.
    """
    seen = arrived(work.ledger.entries(window)).get(window)
    try:
        if seen is not None and seen.kind is Kind.VERDICT:
            found = stored(work.windows, [window], work.loop, work.schema)
            if found and engine_for(work.loop, found.rows) == "columnar":
                return True
        work.read(window)
    except WindowError:
        return False  # quarantined when its turn was
    return True


def named(work: Workspace, window: str) -> list[str]:
    """The windows that loop.toml has this one compared with; none for "training", which the champion stands for."""
    ids = work.windows.ids()
    found: list[str] = []
    for wanted in (work.loop.drift.reference, work.loop.trigger.reference):
        earlier = _earlier(ids, window, wanted)
        if wanted == "previous":  # those in quarantine count as well: mended, the nearest is the reference
            seen = arrived(work.ledger.entries())
            usable = (n for n, name in enumerate(earlier) if name not in seen or seen[name].kind is Kind.VERDICT)
            earlier = earlier[: next(usable, len(earlier)) + 1]
        found += earlier if wanted in ("previous", "year_ago") else [name for name in ids if name == wanted]
    return [name for name in dict.fromkeys(found) if name != window]


def _earlier(ids: Sequence[str], window: str, wanted: str | None) -> list[str]:
    """The windows that "previous" or "year_ago" may mean, newest first."""
    before = year_before(window)
    return [name for name in reversed(ids) if name < window and (wanted == "previous" or name == before)]


def require(loop: Loop, ids: Sequence[str]) -> None:
    """Raise ContractError for a reference that is no window, and for a year_ago that the windows' ids do not tell."""
    for key, wanted in (("drift", loop.drift.reference), ("trigger", loop.trigger.reference or "training")):
        if wanted not in ("training", "previous", "year_ago", *ids):
            raise ContractError(
                f'loop.toml: {key}.reference = "{wanted}" is neither "training", "previous", "year_ago" nor a window '
                f"there is."
            )
        if wanted == "year_ago" and (strange := [name for name in ids if year_before(name) is None]):
            raise ContractError(
                f'loop.toml: {key}.reference = "year_ago" needs ids that name a month, week or day, such as 2024-03, '
                f"2024-W09 or 2024-03-01; {strange[-1]} names none. Rename the windows, or take another reference."
            )


def without_year_ago(work: Workspace, window: str, *used: Sequence[str]) -> list[str]:
    """A note where year_ago was asked for and training had to stand in."""
    asked = (work.loop.drift.reference, work.loop.trigger.reference or work.loop.drift.reference)
    before = year_before(window)
    missed = any(one == "year_ago" and tuple(ids) != (before,) for one, ids in zip(asked, used, strict=True))
    return [f"no usable window {before}: compared with what the champion was trained on"] if missed else []


def read(work: Workspace, windows: Sequence[str]) -> list[Window]:
    """All rows of the reference windows, the holdout's included."""
    with reading():
        return [work.read(window) for window in windows]


def side(work: Workspace, windows: Sequence[str], current: Window) -> Rows | Stored:
    """What the current window is compared with: in memory, or left where it lies and read a column at a time.

    The latter where the columnar engine is to measure and the windows allow it.
    """
    loop = work.loop
    with reading():
        found = stored(work.windows, windows, loop, work.schema)
    if found and engine_for(loop, found.rows + len(current.X)) == "columnar":
        return found
    return Rows(read(work, windows), loop.task, loop.target)


@contextmanager
def reading() -> Iterator[None]:
    try:
        yield
    except (WindowError, ContractError) as error:
        raise DriftloopError(
            f"what drift is compared with cannot be read: {str(error).rstrip('.')}. Put the window back as it was, or "
            f"name another with drift.reference or trigger.reference in loop.toml."
        ) from error
