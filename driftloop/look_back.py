"""A loop's windows measured again, a column at a time, to find out when each one's drift began. Records nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from driftloop import draft, reading, schema
from driftloop.columnar import Column, Side, compare, summarise
from driftloop.contract import Loop
from driftloop.entry import REIGNS, Kind
from driftloop.errors import ContractError, DriftloopError, WindowError
from driftloop.ledger import peek
from driftloop.periods import year_before
from driftloop.progress import tell
from driftloop.reigns import arrived
from driftloop.settings import Settings
from driftloop.sides import Stored, columns_of, stored
from driftloop.stattests import OF_ROWS
from driftloop.timeline import Ids, Timeline, Track, arrivals, most_drifted_first, track
from driftloop.windows import FolderWindows, Windows, none_yet, open_windows

IN_MEMORY = 1 << 18  # rows of a column and window; with "year_ago" a year of windows is held, the rest in files


def look_back(
    folder: Path,
    settings: Settings,
    *,
    first: str | None = None,
    last: str | None = None,
    reference: str | None = None,
    columns: Sequence[str] = (),
) -> Timeline:
    """The loop's features, or those of ``columns``, in its windows from ``first`` to ``last``.

    ``reference``: "training", "previous", "year_ago" or a window; left out that of loop.toml, where "training" is the
    oldest usable window as long as there is no champion. Raises ContractError for what the loop has not.
    """
    loop = draft.resolved(folder)
    windows = open_windows(loop, folder, settings)
    ids = windows.ids()
    if not ids:
        raise ContractError(none_yet(loop, folder))
    asked = _asked(ids, first, last)
    wanted = _columns(loop, columns)
    entries = peek(settings.ledger_url, loop.name)
    reign = next((e for e in reversed(entries) if e.kind in REIGNS), None)
    put_aside = frozenset(name for name, entry in arrived(entries).items() if entry.kind is Kind.QUARANTINE)
    by = reference or loop.drift.reference
    if by not in ("training", "previous", "year_ago", *ids):
        raise ContractError(
            f"there is no reference {by}; expected training, previous, year_ago or one of {', '.join(ids)}."
        )
    if reference == "training" and reign is None:
        raise ContractError(
            f"{loop.name} has no champion yet, so nothing was trained on. Name a window: --reference {ids[0]}"
        )
    with TemporaryDirectory(prefix="driftloop-") as scratch:
        bare, rules = _unlabelled(loop, folder, windows), schema.load(folder, loop)
        sides = _Sides(loop, windows, bare, rules, Path(scratch), put_aside)
        trained_on = reign.trained_on if reign else ()
        while True:
            try:
                return _measured(loop, sides, ids, asked, wanted, by, trained_on)
            except WindowError as error:  # a column that only shows when it is read
                sides.problems[error.window] = tuple(error.problems)


def _unlabelled(loop: Loop, folder: Path, windows: Windows) -> Windows:
    """The windows without the labels that would be joined to them."""
    if not isinstance(windows, FolderWindows):
        return windows
    source = loop.windows.model_copy(update={"labels": None})
    return open_windows(loop.model_copy(update={"windows": source}), folder)


def _asked(ids: Sequence[str], first: str | None, last: str | None) -> list[str]:
    for given in (first, last):
        if given and given not in ids:
            raise ContractError(f"there is no window {given}; there are {', '.join(ids)}.")
    asked = [window for window in ids if (first or ids[0]) <= window <= (last or ids[-1])]
    if not asked:
        raise ContractError(f"no window lies from {first} to {last}: they are named the wrong way round.")
    return asked


def _columns(loop: Loop, names: Sequence[str]) -> list[Column]:
    features = columns_of(loop, target=False)
    if strange := [name for name in names if name not in loop.columns.names]:
        raise ContractError(
            f"{', '.join(strange)} is no feature of {loop.name}; expected some of {', '.join(loop.columns.names)}."
        )
    wanted = [column for column in features if not names or column.name in names]
    if shuffled := [column.name for column in wanted if column.test in OF_ROWS]:
        raise ContractError(
            f"[drift.columns] in loop.toml has {', '.join(shuffled)} judged by a test that draws from the rows "
            f"themselves, and here columns are summarised. Name the other columns with --column, or give another test."
        )
    return wanted


def _measured(
    loop: Loop,
    sides: _Sides,
    ids: Sequence[str],
    asked: Sequence[str],
    columns: Sequence[Column],
    by: str,
    trained_on: Ids,
) -> Timeline:
    """Raises WindowError for a window that turns out not to be usable, DriftloopError where it is the reference."""
    for place, window in enumerate(asked, 1):
        tell(f"checking {window}, window {place} of {len(asked)}")
        sides.usable(window)
    fixed = _fixed(sides, ids, by, trained_on)

    def reference(window: str) -> Ids:
        if fixed:
            return fixed
        if by == "year_ago":
            before = year_before(window)
            return (before,) if before is not None and before in ids and sides.usable(before) else ()
        earlier = [i for i in ids if i < window]
        return next(((i,) for i in reversed(earlier) if sides.usable(i)), ())

    windows = arrivals(asked, sides.problems, reference)

    def followed(place: int, column: Column) -> Track:
        tell(f"{column.name}, column {place} of {len(columns)}")
        return track(column, windows, lambda of: summarise(sides.of(of), column, IN_MEMORY), compare)

    tracks = [followed(place, column) for place, column in enumerate(columns, 1)]
    return Timeline(
        loop.name, by if by != "training" or trained_on else "first", tuple(windows), most_drifted_first(tracks)
    )


def _fixed(sides: _Sides, ids: Sequence[str], by: str, trained_on: Ids) -> Ids:
    """The windows that all are compared with; none where each has its own."""
    if by in ("previous", "year_ago"):
        return ()
    if by == "training" and not trained_on:
        oldest = next((window for window in ids if sides.usable(window)), None)
        if oldest is None:
            raise DriftloopError(
                f"none of {', '.join(ids)} can be used; `driftloop check` says what is wrong with each."
            )
        return (oldest,)
    fixed = trained_on if by == "training" else (by,)
    for window in fixed:
        if window not in ids or not sides.usable(window):
            wrong = "; ".join(sides.problems.get(window, ("it is gone",)))
            raise DriftloopError(
                f"what drift is compared with cannot be read: window {window}: {wrong}. Put the window back as it was, "
                f"or name another with --reference."
            )
    return fixed


@dataclass
class _Sides:
    """Each window as a side of which a column is read at a time; ``problems`` of those that cannot be used.

    A window that has to be read whole, as a CSV file has, is copied to ``scratch`` as Parquet and forgotten. So is one
    of those ``put_aside`` in the ledger: what is wrong with it may be its owners, or mended since.
    """

    loop: Loop
    windows: Windows
    bare: Windows  # without labels, of which nothing is asked here
    rules: schema.Schema | None
    scratch: Path
    put_aside: frozenset[str] = frozenset()
    problems: dict[str, Ids] = field(default_factory=dict)
    _open: dict[str, Stored] = field(default_factory=dict)
    _before: reading.Before = field(default_factory=dict)

    def usable(self, window: str) -> bool:
        if window not in self.problems and window not in self._open:
            try:
                found = None if window in self.put_aside else stored(self.bare, [window], self.loop, self.rules)
                self._open[window] = found or self._copied(window)
            except WindowError as error:
                self.problems[window] = tuple(error.problems)
        return window not in self.problems

    def of(self, ids: Ids) -> Side:
        return _Together([self._open[window] for window in ids])

    def _copied(self, window: str) -> Stored:
        read = reading.read(self.windows, window, self.loop, self.rules, self._before)
        if read.window is None:
            raise WindowError(window, list(read.problems))
        file = self.scratch / f"{window}.parquet"
        read.window.X.to_parquet(file)
        copies = FolderWindows(self.scratch, ".", None, entity=None, target=None)
        return Stored(copies, ((window, str(file), len(read.window.X)),), self.loop.task, self.loop.target)


@dataclass(frozen=True)
class _Together:
    """The rows of several sides."""

    sides: Sequence[Side]

    def batches(self, column: Column) -> Iterator[Any]:
        for side in self.sides:
            yield from side.batches(column)
