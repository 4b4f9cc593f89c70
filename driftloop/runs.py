"""Sorted distinct numbers and their counts in files: runs that fit into memory, merged a range of values at a time."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.integer[Any]]
Counted = tuple[Array, Counts]
Place = tuple[int, int, np.dtype[Any] | None]  # where a run starts in a file, its length, and its counts' kind

ROWS = max(1 << 21, (1 << 25) // (os.cpu_count() or 1))  # of a column and side in memory: half a gigabyte in all
BLOCK = 1 << 16  # distinct values worked on at a time: what a processor's cache holds
STEP = BLOCK // 16  # of a run's values, one in so many is looked at to find where to cut


@dataclass(frozen=True)
class Files:
    """Where values and counts lie."""

    numbers: Path
    counts: Path

    @classmethod
    def within(cls, folder: Path, name: str) -> Files:
        return cls(folder / f"{name}.values", folder / f"{name}.counts")


def ones(length: int) -> Counts:
    """How often values occur that never repeat: a number for all of them, which takes no room."""
    return np.broadcast_to(np.int64(1), length)


def all_ones(counts: Counts) -> bool:
    """Whether the counts are such; others that are all one may pass for different ones."""
    return counts.strides == (0,)


def write(pieces: Iterable[Counted], values: IO[bytes], counts: IO[bytes], rows: int) -> Counted | None:
    """The pieces, of so many rows, one after the other in two empty files, mapped; None where there is no value.

    Counts take four bytes where they surely fit, and none while no value repeats. The arrays outlive the files' names.
    """
    written, kind, repeats = 0, np.dtype(np.int32 if rows < 2**31 else np.int64), False
    for piece in pieces:
        piece[0].astype(np.float64, copy=False).tofile(values)
        if not repeats and not all_ones(piece[1]):
            repeats = True
            for start in range(0, written, BLOCK):
                np.ones(min(BLOCK, written - start), kind).tofile(counts)
        if repeats:
            piece[1].astype(kind).tofile(counts)
        written += len(piece[0])
    if not written:
        return None
    return _mapped(values, np.float64, written), _mapped(counts, kind, written) if repeats else ones(written)


def mapped(files: Files, kind: str | None, distinct: int) -> Counted:
    """What ``write`` wrote; pages come in as they are looked at. Raises ValueError where it is not all there.

    ``kind`` is None where no value repeats: there are no counts then.
    """
    with files.numbers.open("rb") as values, files.counts.open("rb") as counts:
        found = _mapped(values, np.float64), ones(distinct) if kind is None else _mapped(counts, kind)
    if {len(array) for array in found} != {distinct}:
        raise ValueError(f"{files.numbers} and {files.counts} do not hold {distinct} values and counts")
    return found


def _mapped(file: IO[bytes], kind: npt.DTypeLike, length: int | None = None) -> Array:
    file.flush()
    return np.memmap(file, kind, "r", shape=length)


def forget(*arrays: Array) -> None:
    """Give back the memory of mapped pages; those looked at again come from the file."""
    # several runs are of one mapping; numpy has no other way to it
    for one in {id(a._mmap): a._mmap for a in arrays if isinstance(a, np.memmap) and a._mmap}.values():  # type: ignore[attr-defined]  # noqa: SLF001
        one.madvise(mmap.MADV_DONTNEED)


def total(counts: Counts) -> int:
    """Their sum, a stretch at a time, as they may lie in a file."""
    if all_ones(counts):
        return len(counts)
    rows = 0
    for start in range(0, len(counts), 16 * BLOCK):
        rows += int(counts[start : start + 16 * BLOCK].sum())
        forget(counts)
    return rows


def counted(ordered: Array, counts: Counts | None = None) -> Counted:
    """Sorted values without repetition, and how often each occurs."""
    first = np.append([True], ordered[1:] != ordered[:-1]).astype(bool)[: len(ordered)]
    if first.all():
        return ordered, ones(len(ordered)) if counts is None else counts
    starts = np.flatnonzero(first)
    if counts is None:
        return ordered[first], np.diff(starts, append=len(ordered))
    return ordered[first], np.add.reduceat(counts, starts)


def together(pieces: Sequence[Counted]) -> Counted:
    """Sorted pieces as one."""
    values, counts = zip(*pieces, strict=True)
    whole = np.concatenate(values)
    if all(map(all_ones, counts)):
        whole.sort(kind="stable")  # of sorted pieces: merged in linear time
        return counted(whole)
    order = np.argsort(whole, kind="stable")
    return counted(whole[order], np.concatenate(counts)[order])


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
        if ends == starts:  # where the greatest value of all was a cut
            continue
        yield [(part(v, a, b), part(c, a, b)) for (v, c), a, b in zip(runs, starts, ends, strict=True)]
        forget(*(part for run in runs for part in run))
        starts = ends


def _some(values: Array) -> Iterator[Array]:
    """One in STEP, of a mapped array a stretch at a time: the system maps more around each one that is looked at."""
    for start in range(0, len(values), STEP * 256):
        yield np.array(values[start : start + STEP * 256 : STEP])
        forget(values)


def part(array: Array, start: int, end: int) -> Array:
    """Some of an array, in memory."""
    return np.array(array[start:end]) if isinstance(array, np.memmap) else array[start:end]


class Numbers:
    """Numbers in any order, at any number: what does not fit into memory waits in a file that has no name."""

    def __init__(self, most: int = ROWS) -> None:
        """``most``: how many may be in memory, and are sorted at once."""
        self.rows, self._most = 0, most
        self._pieces: list[Array] = []
        self._file: IO[bytes] | None = None

    def add(self, values: Array) -> None:
        """More of them, none NaN. The array is only read."""
        self.rows += len(values)
        self._pieces.append(values)
        if self._file is None and self.rows > self._most:
            self._file = tempfile.TemporaryFile(prefix="driftloop-")  # noqa: SIM115  # as long as the numbers are
            weakref.finalize(self, self._file.close)
        if self._file is not None:
            for piece in self._pieces:
                piece.tofile(self._file)
            self._pieces = []

    def blocks(self, rows: int | None = None) -> Iterator[Array]:
        """All of them as they came, so many at a time, by default BLOCK."""
        rows = rows or BLOCK
        for piece in self._pieces:
            yield from (piece[start : start + rows] for start in range(0, len(piece), rows))
        if self._file is not None:
            for start in range(0, self.rows, rows):
                self._file.seek(start * 8)
                yield np.fromfile(self._file, np.float64, min(rows, self.rows - start))

    def some(self, count: int) -> Array:
        """About so many of them, from all over."""
        each = max(1, self.rows // count)
        if self._file is None:
            return np.concatenate([np.empty(0), *(piece[::each] for piece in self._pieces)])
        found = np.empty(-(-self.rows // each))
        for place in range(len(found)):
            self._file.seek(place * each * 8)
            found[place] = np.fromfile(self._file, np.float64, 1)[0]
        return found

    def sorted(self) -> Counted:
        """All of them, which are given away. Many lie in files without a name, which are gone with the arrays."""
        if self._file is None:
            values = np.concatenate([np.empty(0), *self._pieces])
            self._pieces = []
            values.sort()
            return counted(values)
        with tempfile.TemporaryFile(prefix="driftloop-") as file:
            places = [self._written(block, file) for block in self.blocks(self._most)]
            runs = list(_runs(_mapped(file, np.uint8), places))
        with tempfile.TemporaryFile(prefix="driftloop-") as numbers, tempfile.TemporaryFile() as counts:
            found = write(merge(runs), numbers, counts, self.rows)
        assert found is not None, "there are more than fit into memory"
        self._file.close()  # not before: where the disk is full, they are still all there
        self._file = None
        return found

    def _written(self, run: Array, file: IO[bytes]) -> Place:
        run.sort()
        ordered, counts = counted(run)
        kind = None if all_ones(counts) else np.dtype(np.int32 if self.rows < 2**31 else np.int64)
        place = file.tell(), len(ordered), kind
        ordered.tofile(file)
        if kind is not None:
            counts = counts.astype(kind, copy=False)
            counts.tofile(file)
            file.write(b"\0" * (-counts.nbytes % ordered.itemsize))  # the next run's numbers are aligned
        return place


def _runs(whole: Array, places: Iterable[Place]) -> Iterator[Counted]:
    """Of one mapping, as each would take descriptors of its own."""
    for start, length, kind in places:
        middle = start + length * 8
        counts = ones(length) if kind is None else whole[middle : middle + length * kind.itemsize].view(kind)
        yield whole[start:middle].view(np.float64), counts
