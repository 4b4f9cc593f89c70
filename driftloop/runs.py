"""Sorted distinct numbers and their counts in files: runs that fit into memory, merged a range of values at a time."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.integer[Any]]
Counted = tuple[Array, Counts]

BLOCK = 1 << 18  # distinct values worked on at a time: what a processor's cache holds
STEP = BLOCK // 16  # of a run's values, one in so many is looked at to find where to cut


@dataclass(frozen=True)
class Files:
    """Where values and counts lie."""

    numbers: Path
    counts: Path

    @classmethod
    def within(cls, folder: Path, name: str) -> Files:
        return cls(folder / f"{name}.values", folder / f"{name}.counts")


def write(pieces: Iterable[Counted], files: Files, rows: int) -> Counted | None:
    """The pieces, of so many rows, one after the other in two files, mapped and not read; None where there is no value.

    Counts take four bytes where they surely fit.
    """
    written, kind = 0, np.int32 if rows < 2**31 else np.int64
    with files.numbers.open("wb") as values, files.counts.open("wb") as counts:
        for piece in pieces:
            piece[0].astype(np.float64, copy=False).tofile(values)
            piece[1].astype(kind, copy=False).tofile(counts)
            written += len(piece[0])
    return mapped(files) if written else None


def mapped(files: Files) -> Counted:
    """What ``write`` wrote; pages come in as they are looked at. Raises ValueError where they do not fit together."""
    values = np.memmap(files.numbers, np.float64, "r")
    short = files.counts.stat().st_size == 4 * len(values)
    return values, np.memmap(files.counts, np.int32 if short else np.int64, "r", shape=values.shape)


def forget(*arrays: Array) -> None:
    """Give back the memory of mapped pages; those looked at again come from the file."""
    for array in arrays:
        if isinstance(array, np.memmap):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # noqa: SLF001  # numpy has no other way


def counted(ordered: Array, counts: Counts | None = None) -> Counted:
    """Sorted values without repetition, and how often each occurs."""
    first = np.append([True], ordered[1:] != ordered[:-1]).astype(bool)[: len(ordered)]
    if first.all():
        return ordered, np.ones(len(ordered), np.int64) if counts is None else counts
    starts = np.flatnonzero(first)
    if counts is None:
        return ordered[first], np.diff(starts, append=len(ordered))
    return ordered[first], np.add.reduceat(counts, starts)


def together(pieces: Sequence[Counted]) -> Counted:
    """Sorted pieces as one."""
    values, counts = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    order = np.argsort(values, kind="stable")  # of sorted pieces: merged in linear time
    return counted(values[order], counts[order])


def merge(runs: Sequence[Counted]) -> Iterator[Counted]:
    """Runs as one, a range of values at a time."""
    return (together(pieces) for pieces in ranges(runs))


def ranges(runs: Sequence[Counted]) -> Iterator[list[Counted]]:
    """The same range of values of every run, ascending, some BLOCK of values in all at a time."""
    if sum(len(values) for values, _ in runs) <= BLOCK:
        yield list(runs)
        return
    seen = np.sort(np.concatenate([part for values, _ in runs for part in _some(values)]))
    cuts = np.unique(seen[BLOCK // STEP :: BLOCK // STEP])
    starts = [0] * len(runs)
    for cut in [*cuts, None]:
        ends = [len(values) if cut is None else int(np.searchsorted(values, cut, "right")) for values, _ in runs]
        yield [(_part(v, a, b), _part(c, a, b)) for (v, c), a, b in zip(runs, starts, ends, strict=True)]
        forget(*(part for run in runs for part in run))
        starts = ends


def _some(values: Array) -> Iterator[Array]:
    """One in STEP, of a mapped array a stretch at a time: the system maps more around each one that is looked at."""
    for start in range(0, len(values), STEP * 256):
        yield np.array(values[start : start + STEP * 256 : STEP])
        forget(values)


def _part(array: Array, start: int, end: int) -> Array:
    return np.array(array[start:end]) if isinstance(array, np.memmap) else array[start:end]


class Sorter:
    """Numbers in any order, at any number; what does not fit into memory waits in files that end with it."""

    def __init__(self, rows: int) -> None:
        self._run, self._rows = rows, 0
        self._pieces: list[Array] = []
        self._runs: list[Counted] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, values: Array) -> None:
        """More numbers, none of them NaN, in an array that is given away."""
        self._pieces.append(values)
        self._rows += len(values)
        if sum(map(len, self._pieces)) >= self._run:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="driftloop-")
            files = Files.within(Path(self._folder.name), str(len(self._runs)))
            run = write([self._sorted()], files, self._rows)
            self._runs += [run] if run else []

    def _sorted(self) -> Counted:
        values = np.concatenate(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces = []
        values.sort()
        return counted(values)

    def result(self) -> Counted:
        """All of them. The files of a large one are without a name from now on, and gone with its arrays."""
        last = self._sorted() if self._pieces else (np.empty(0), np.empty(0, np.int64))
        if self._folder is None:
            return last
        with self._folder as folder:
            runs, self._runs = [*self._runs, last], []
            return write(merge(runs), Files.within(Path(folder), "all"), self._rows) or last
