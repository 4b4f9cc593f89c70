"""A timeline for the terminal: months by columns, and a sentence a drifted column."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from driftloop.change import QUANTILES, NumericChange, rounded
from driftloop.cli.render import out
from driftloop.plots import Plots
from driftloop.timeline import Arrival, Cell, Timeline, Track

ROWS = 20
NAME = 32
SHOWN = (0.05, 0.5, 0.95)  # quantiles
EDGES = 6  # characters of a table that are not its columns' own
DRIFTED, QUIET = "bold dark_orange", "dim"
EMPTY = {"quarantined": "×"}


def show(timeline: Timeline, drawn: Plots) -> None:
    console, drifted = out(), timeline.drifted
    ids = [arrival.window for arrival in timeline.windows]
    console.print(
        f"[bold]{escape(timeline.loop)}[/], {ids[0]} to {ids[-1]} against {escape(timeline.against)}: {len(drifted)} "
        f"of {len(timeline.columns)} columns drifted."
    )
    found, notes = table(timeline, console)
    console.print(found)
    for note in notes:
        console.print(note, style=QUIET)
    for column in drifted:
        console.print(f"[{DRIFTED}]•[/] {escape(str(column.sentence))}")
        if isinstance(column.change, NumericChange):
            console.print(Padding(Text(_numbers(column.change), QUIET), (0, 0, 0, 2)))
    compared = [arrival for arrival in timeline.windows if arrival.reference]
    if compared and not any(arrival.newer for arrival in compared):
        console.print(
            f"No window here is newer than its reference, so nothing can have started in one. To look further back: "
            f"--reference {ids[0]}"
        )
    console.print(f"Heat map: {escape(_near(drawn.heat_map))}", soft_wrap=True)
    if drawn.columns:
        folder = next(iter(drawn.columns.values())).parent
        console.print(f"Before and after of each drifted column: {escape(_near(folder))}/", soft_wrap=True)


def _near(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def table(timeline: Timeline, console: Console) -> tuple[Table, list[str]]:
    """The scores where they fit the width, else a mark a window; and what one has to know to read it."""
    shown, windows = timeline.columns[:ROWS], timeline.windows
    made, notes = _scores(shown, windows), ["* drifted"]
    if any(arrival.state == "reference" for arrival in windows):
        notes = ["* drifted; windows in brackets are the reference's own"]
    if console.measure(made, options=console.options.update(max_width=10_000)).maximum > console.width:
        room = max(console.width - max(len(_name(column)) for column in shown) - EDGES, 1)
        windows = timeline.windows[-room:]
        made, notes = _marks(shown, windows), ["█ drifted, · did not"]
    if left := len(timeline.windows) - len(windows):
        notes.append(f"{left} earlier windows are left out; a wider terminal, --from and --to show others.")
    if left := len(timeline.columns) - len(shown):
        notes.append(f"{left} columns that drifted less are left out; --column NAME shows those you name.")
    notes += [f"× {a.window} is quarantined: {escape('; '.join(a.problems))}" for a in windows if a.problems]
    if without := [a.window for a in windows if a.state == "no reference"]:
        notes.append(f"– {', '.join(without)}: nothing to compare with")
    return made, notes


def _scores(columns: tuple[Track, ...], windows: tuple[Arrival, ...]) -> Table:
    made = _frame()
    for arrival in windows:
        made.add_column(_heading(arrival), justify="right", no_wrap=True)
    for column in columns:
        cells = {cell.window: cell for cell in column.cells}
        made.add_row(_name(column), *(_score(cells.get(arrival.window), arrival) for arrival in windows))
    return made


def _marks(columns: tuple[Track, ...], windows: tuple[Arrival, ...]) -> Table:
    made = _frame()
    made.add_column(f"{windows[0].window} to {windows[-1].window}", no_wrap=True)
    for column in columns:
        cells = {cell.window: cell for cell in column.cells}
        made.add_row(_name(column), Text.assemble(*(_mark(cells.get(arrival.window), arrival) for arrival in windows)))
    return made


def _frame() -> Table:
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("column", no_wrap=True)
    return made


def _heading(arrival: Arrival) -> str:
    """A window's id on two lines, cut where its last part begins; in brackets what is part of the reference."""
    own = arrival.window.replace("_", "-").rpartition("-")[2]
    head = arrival.window.removesuffix(own)
    return escape(f"{head}\n{f'({own})' if arrival.state == 'reference' else own}")


def _name(column: Track) -> str:
    return escape(column.name if len(column.name) <= NAME else f"{column.name[: NAME - 1]}…")


def _score(cell: Cell | None, arrival: Arrival) -> Text:
    if cell is None:
        return Text(EMPTY.get(arrival.state, "–"), QUIET)
    score = cell.drift.score
    told = f"{score:.2f}" if score < 10 else f"{score:.0f}" if score < 10_000 else f"{score:.0e}"
    return Text(f"{told}*", DRIFTED) if cell.drift.drifted else Text(f"{told} ", QUIET)


def _mark(cell: Cell | None, arrival: Arrival) -> tuple[str, str]:
    if cell is None:
        return EMPTY.get(arrival.state, "–"), QUIET
    return ("█", DRIFTED) if cell.drift.drifted else ("·", QUIET)


def _numbers(change: NumericChange) -> str:
    """Both sides in the column's own units, and what the distance is made up of."""
    before, after = change.before, change.after
    pairs = [("mean", before.mean, after.mean), ("std", before.std, after.std)]
    quantiles = zip(QUANTILES, before.quantiles, after.quantiles, strict=True)
    pairs += [("median" if q == 0.5 else f"{q:.0%}", one, other) for q, one, other in quantiles if q in SHOWN]
    told = ", ".join(f"{name} {rounded(one, 3)} → {rounded(other, 3)}" for name, one, other in pairs)
    parts = ", ".join(f"{part} {size:.0%}" for part, size in change.parts.items())
    return f"{told}; {parts} of the change"
