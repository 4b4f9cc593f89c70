"""When a column's drift began and what changed in it: its scores window by window, told from summaries. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from driftloop.change import Change, change_json, change_of, said
from driftloop.columnar import Column, Summary
from driftloop.retrain import ColumnDrift

Json = dict[str, Any]
Ids = tuple[str, ...]


@dataclass(frozen=True)
class Arrival:
    """A window in its turn: what it is compared with, or why it cannot be used.

    ``newer``: than all of its reference, so that a drift can have begun in it. ``reference`` is empty where there is
    nothing to compare with.
    """

    window: str
    reference: Ids = ()
    newer: bool = False
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        if self.problems:
            return "quarantined"
        if not self.reference:
            return "no reference"
        return "reference" if self.window in self.reference else "measured"


@dataclass(frozen=True)
class Cell:
    """A column in one window; ``newer`` as the window's."""

    window: str
    drift: ColumnDrift
    newer: bool


@dataclass(frozen=True)
class Track:
    """A column over the windows that could be measured; ``change`` is that of the window in which it first drifted.

    None where it did not, and where only scores are known.
    """

    name: str
    numeric: bool
    cells: tuple[Cell, ...]
    change: Change | None

    @property
    def since(self) -> tuple[Cell, ...]:
        """The cells from the first drifted one on, of windows newer than their reference."""
        newer = [cell for cell in self.cells if cell.newer]
        begun = next((place for place, cell in enumerate(newer) if cell.drift.drifted), len(newer))
        return tuple(newer[begun:])

    @property
    def first(self) -> str | None:
        """The window in which it first drifted."""
        return self.since[0].window if self.since else None

    @property
    def last(self) -> str | None:
        """The newest window in which it drifted."""
        return next((cell.window for cell in reversed(self.since) if cell.drift.drifted), None)

    @property
    def came_back(self) -> bool:
        """Whether it drifted and does not in the newest window."""
        return bool(self.since) and not self.since[-1].drift.drifted

    @property
    def sentence(self) -> str | None:
        """When it drifted, what changed and by how much; None for a column that did not."""
        if self.change is None:
            return None
        drift = self.since[0].drift
        score = f"{drift.method.replace(' (normed)', '')} {drift.score:.3g}, threshold {drift.threshold:g}"
        return f"{self.name} drifted {_when(self.since)}: {said(self.change)} ({score})"


@dataclass(frozen=True)
class Timeline:
    """A loop's columns over its windows, those that drifted most first.

    ``by``: training, previous, year_ago or a window, as in drift.reference; first: there was no champion; monitored:
    taken from reports, each with its own.
    """

    loop: str
    by: str
    windows: tuple[Arrival, ...]
    columns: tuple[Track, ...]

    @property
    def drifted(self) -> tuple[Track, ...]:
        return tuple(column for column in self.columns if column.since)

    @property
    def reference(self) -> Ids:
        """The reference windows; empty where each window has its own."""
        each = {arrival.reference for arrival in self.windows if arrival.reference}
        return each.pop() if len(each) == 1 else ()

    @property
    def against(self) -> str:
        """What the windows are compared with, in words."""
        ids = self.reference
        span = "" if not ids else ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
        words = {
            "training": f"{span}, the champion's training",
            "first": f"{span}, the first window",
            "previous": "the window before",
            "year_ago": "the window a year before",
            "monitored": "the reference that each was monitored with",
        }
        return words.get(self.by, self.by)

    def json(self) -> Json:
        return {
            "loop": self.loop,
            "by": self.by,
            "reference": list(self.reference),
            "windows": [
                {
                    "window": arrival.window,
                    "state": arrival.state,
                    "reference": list(arrival.reference),
                    "problems": list(arrival.problems),
                }
                for arrival in self.windows
            ],
            "columns": [_column_json(column) for column in self.columns],
        }


def _column_json(column: Track) -> Json:
    return {
        "name": column.name,
        "kind": "numeric" if column.numeric else "categorical",
        "first": column.first,
        "last": column.last,
        "came_back": column.came_back,
        "sentence": column.sentence,
        "cells": [
            {"window": cell.window, **{k: v for k, v in asdict(cell.drift).items() if k != "name"}}
            for cell in column.cells
        ],
        "change": change_json(column.change) if column.change else None,
    }


def arrivals(
    ids: Sequence[str], problems: dict[str, tuple[str, ...]], reference: Callable[[str], Ids]
) -> list[Arrival]:
    """The windows in their order, each with what ``reference`` says that it is compared with."""
    made = []
    for window in ids:
        if window in problems:
            made.append(Arrival(window, problems=problems[window]))
        else:
            before = reference(window)
            made.append(Arrival(window, before, newer=bool(before) and window > max(before)))
    return made


def track(
    column: Column,
    windows: Sequence[Arrival],
    summary: Callable[[Ids], Summary],
    compare: Callable[[Summary, Summary, Column], ColumnDrift],
) -> Track:
    """One column over the windows. ``summary`` reads it from some of them; none is read twice, or kept any longer
    than a later window needs it.
    """
    cells: list[Cell] = []
    change: Change | None = None
    kept: dict[Ids, Summary] = {}
    measured = [arrival for arrival in windows if arrival.reference]
    for place, arrival in enumerate(measured):
        own = (arrival.window,)
        for ids in (arrival.reference, own):
            kept[ids] = kept[ids] if ids in kept else summary(ids)
        before, after = kept[arrival.reference], kept[own]
        cells.append(Cell(arrival.window, compare(before, after, column), arrival.newer))
        if change is None and arrival.newer and cells[-1].drift.drifted:
            change = change_of(column, before, after, arrival.window)
        later = {ids for next_ in measured[place + 1 :] for ids in (next_.reference, (next_.window,))}
        kept = {ids: known for ids, known in kept.items() if ids in later}
    return Track(column.name, column.numeric, tuple(cells), change)


def monitored(loop: str, numeric: Sequence[str], reports: Sequence[Json]) -> Timeline:
    """What was found when each window was monitored, from its newest report; without what changed in a column."""
    windows = [
        Arrival(
            report["window"],
            tuple(report["reference"]) if report["drift"] else (),
            newer=report["drift"] is not None and report["window"] > max(report["reference"]),
            problems=tuple(report.get("quarantine", {}).get("problems", ())),
        )
        for report in reports
    ]
    cells: dict[str, list[Cell]] = {}
    for arrival, report in zip(windows, reports, strict=True):
        for told in (report["drift"] or {}).get("columns", ()):
            drift = ColumnDrift(**{name: told[name] for name in ("name", "method", "score", "threshold", "drifted")})
            cells.setdefault(drift.name, []).append(Cell(arrival.window, drift, arrival.newer))
    columns = [Track(name, name in numeric, tuple(found), None) for name, found in cells.items()]
    return Timeline(loop, "monitored", tuple(windows), most_drifted_first(columns))


def most_drifted_first(columns: Iterable[Track]) -> tuple[Track, ...]:
    """Those that drifted in more windows first, then by how far beyond the threshold they came."""

    def weight(column: Track) -> tuple[int, int, float]:
        since = sum(cell.drift.drifted for cell in column.since)
        return (
            since,
            sum(cell.drift.drifted for cell in column.cells),
            max((c.drift.excess for c in column.cells), default=0),
        )

    return tuple(sorted(columns, key=weight, reverse=True))


def _when(since: Sequence[Cell]) -> str:
    """From when to when, and whether it stayed so; ``since`` begins with the first drifted cell."""
    drifted = [cell for cell in since if cell.drift.drifted]
    first, last, newest = since[0].window, drifted[-1].window, since[-1].window
    if first == newest:
        return f"in {first}, the newest window"
    if len(drifted) == 1:
        return f"in {first} only"
    run = since[: since.index(drifted[-1]) + 1]
    often = "" if len(run) == len(drifted) else f", in {len(drifted)} of {len(run)} windows"
    if last == newest:
        return f"from {first} on{often}"
    return f"from {first} to {last}{often}{',' if often else ''} and came back"
