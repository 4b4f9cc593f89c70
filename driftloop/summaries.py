"""Summaries of a side's columns, kept in files from run to run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from driftloop.columnar import Column, Side, Summary, summarise
from driftloop.grid import Cells, Grid, rests_of
from driftloop.runs import Counts, Files, all_ones, mapped, total, write

Array = npt.NDArray[Any]
FORMAT = "4"  # of kept summaries; another one is another key
UNFINISHED = ".unfinished-"  # folders of what is being written
A_DAY = 86_400.0  # seconds after which nobody writes there any more
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    pa.ArrowException,
)  # what reading a file that is not as it was raises
REFERENCES = 3  # of which summaries are kept: the champion's, and those that trigger and look back have beside it


@dataclass(frozen=True)
class Kept:
    """A side whose columns are summarised once and kept in ``folder``, which is named after all they depend on."""

    side: Side
    folder: Path

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """The column's summary."""
        try:
            found = self._load(column)
        except DAMAGED:
            made = summarise(self.side, column)
            found = Summary(made.values, made.counts, made.nulls)  # in order: that it cannot be is nothing to pass over
            with suppress(OSError):  # a worker elsewhere may have no such folder; the next window then reads it again
                self._save(column, found)
        yield found

    def frame(self, columns: Sequence[Column], read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Some rows of these columns of the side, kept beside the summaries once they are read."""
        file = self.folder / f"excerpt-{_hashed(*map(_kind_and_name, columns))}.parquet"
        names = [column.name for column in columns]
        with suppress(*DAMAGED):
            return pd.read_parquet(file, columns=names)
        found = read()
        with suppress(*DAMAGED):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=UNFINISHED) as folder:
                new = Path(folder) / file.name
                found.to_parquet(new)
                new.replace(file)
            return pd.read_parquet(file, columns=names)  # as the next window will have it
        return found

    def _load(self, column: Column) -> Summary:
        """What ``_save`` wrote. Raises one of DAMAGED where it is not all there."""
        said = json.loads(self._note(column).read_text(encoding="utf-8"))
        values: Array
        counts: Counts
        if "values" in said:
            values, counts = np.array(said["values"], dtype=object), np.array(said["counts"], np.int64)
        else:
            values, counts = mapped(Files.within(self.folder, self._name(column)), said["kind"], said["distinct"])
        if (len(values), total(counts)) != (said["distinct"], said["rows"]):
            raise ValueError(f"{self._note(column)} tells of other rows than are there")
        found = Summary(values, counts, said["nulls"])
        vars(found).update(rows=said["rows"])  # computed once, as the summary itself would
        if "values" not in said:
            cells = self._load_cells(column, said)
            vars(found).update(_moments=tuple(said["moments"]), cells=cells, grid=cells and cells.grid)
        return found

    def _load_cells(self, column: Column, said: dict[str, Any]) -> Cells | None:
        if said["grid"] is None:
            return None
        grid, content = Grid(**said["grid"]), self._cells(column).read_bytes()
        if _digest(said, content) != said["digest"]:
            raise ValueError(f"{self._cells(column)} is not what {self._note(column)} tells of")
        middle = len(content) // 2
        return Cells(grid, np.frombuffer(content[:middle], np.int64), np.frombuffer(content[middle:]))

    def _save(self, column: Column, found: Summary) -> None:
        """Numbers first, the note that they are there last, each at once under its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        said: dict[str, Any] = {"nulls": found.nulls, "distinct": len(found.values), "rows": found.rows}
        files = Files.within(self.folder, self._name(column))
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=UNFINISHED) as folder:
            new = Files.within(Path(folder), "new")
            with new.numbers.open("wb+") as values, new.counts.open("wb+") as counts:
                there = write(found.blocks(), values, counts, found.rows) if column.numeric else None
            if there is None:
                said |= {"values": found.values.tolist(), "counts": found.counts.tolist()}  # noqa: PD011
            else:
                kind = None if all_ones(there[1]) else there[1].dtype.str
                cells = found.cells
                said |= {"kind": kind, "moments": [found.mean, found.variance], "grid": cells and vars(cells.grid)}
                if cells is not None:
                    rests = rests_of(found, cells)
                    vars(found).update(cells=replace(cells, rests=rests))  # this comparison is spared them too
                    content = cells.counts.astype(np.int64).tobytes() + rests.tobytes()
                    said["digest"] = _digest(said, content)
                    (Path(folder) / "cells").write_bytes(content)
                    (Path(folder) / "cells").replace(self._cells(column))
                new.numbers.replace(files.numbers)
                new.counts.replace(files.counts)
            note = Path(folder) / "note"
            note.write_text(json.dumps(said), encoding="utf-8")
            note.replace(self._note(column))

    def _cells(self, column: Column) -> Path:
        return self.folder / f"{self._name(column)}.cells"

    def _note(self, column: Column) -> Path:
        return self.folder / f"{self._name(column)}.json"

    @staticmethod
    def _name(column: Column) -> str:
        return _hashed(_kind_and_name(column))


def _kind_and_name(column: Column) -> str:
    return f"{column.numeric} {column.name}"


def _digest(said: Mapping[str, Any], cells: bytes) -> str:
    """Of the cells, and of what a note says that depends on them or is as little told by the numbers' own count."""
    told = json.dumps([said["grid"], said["moments"]]).encode()
    return hashlib.blake2b(told + cells, digest_size=16).hexdigest()


def _hashed(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def kept(side: Side, folder: Path, key: Sequence[str]) -> Kept:
    """``side`` with summaries kept below ``folder`` under a hash of ``key``; those long not asked for go."""
    own = folder / _hashed(FORMAT, *key)
    with suppress(OSError):  # without such a folder all is measured, and nothing kept
        own.mkdir(parents=True, exist_ok=True)
        os.utime(own)
        for old in sorted(folder.iterdir(), key=_since, reverse=True)[REFERENCES:]:
            shutil.rmtree(old, ignore_errors=True)
        for old in folder.glob(f"*/{UNFINISHED}*"):  # of a process that was killed
            if time.time() - _since(old) > A_DAY:
                shutil.rmtree(old, ignore_errors=True)
    return Kept(side, own)


def _since(path: Path) -> float:
    """When it was last written or asked for; long ago where another process has removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
