"""The sides of a comparison: windows in memory, or in Parquet files of which a column is read at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
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
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from driftloop import frame
from driftloop.category import MISSING
from driftloop.columnar import Column, Side, Summary, summarise, summary
from driftloop.contract import Loop
from driftloop.errors import DriftloopError, WindowError
from driftloop.frame import Window
from driftloop.grid import Cells, Grid, rests_of
from driftloop.runs import Counts, Files, all_ones, mapped, total, write
from driftloop.schema import Schema
from driftloop.storage import answering
from driftloop.windows import FolderWindows, Windows

Array = npt.NDArray[Any]
BATCH = 1 << 20  # rows of a column read at a time
BUFFER = 1 << 24  # bytes of a file read at a time
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


def columns_of(loop: Loop, *, target: bool) -> list[Column]:
    """What drift compares: the features, each as [drift.columns] has it, and the target."""
    features, asked = loop.columns, loop.drift.columns
    found = [
        Column(name, name in features.numeric, *((asked[name].test, asked[name].threshold) if name in asked else ()))
        for name in features.names
    ]
    return [*found, *([Column(loop.target, loop.task == "regression")] if target else [])]


def labels_of(window: Window, task: str) -> pd.Series:
    """The target as drift compares it: the value, or the label as the window spells it; null where it is not in."""
    if window.y is None or window.labels is None:
        dtype = float if task == "regression" else object
        return pd.Series(index=window.X.index, dtype=dtype) if window.y is None else window.y.astype(dtype)
    return window.y.map(dict(enumerate(window.labels)))


@dataclass(frozen=True)
class Rows:
    """Windows in memory."""

    windows: Sequence[Window]
    task: str
    target: str

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Each window and its rows."""
        return [(window.id, len(window.X)) for window in self.windows]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.sizes)

    @property
    def labelled(self) -> bool:
        return any(window.labelled_rows for window in self.windows)

    def labels(self) -> Iterator[Array]:
        """The target, a part at a time, each of one window; null where it is not in."""
        for window in self.windows:
            yield labels_of(window, self.task).to_numpy()

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """Each window's column."""
        for window in self.windows:
            yield self._of(window, column.name).to_numpy()

    def frame(self, columns: Sequence[Column]) -> pd.DataFrame:
        """All rows of these columns, one window after the other."""
        each = [pd.DataFrame({c.name: self._of(window, c.name) for c in columns}) for window in self.windows]
        return pd.concat(each, ignore_index=True)

    def excerpt(self, columns: Sequence[Column], places: npt.NDArray[np.int64]) -> pd.DataFrame:
        """The rows at these places, which ascend."""
        ends = np.cumsum([rows for _, rows in self.sizes])
        own = np.split(places, np.searchsorted(places, ends[:-1]))
        each = [
            pd.DataFrame({c.name: self._of(window, c.name).iloc[found - start] for c in columns})
            for window, start, found in zip(self.windows, [0, *ends[:-1]], own, strict=True)
        ]
        return pd.concat(each, ignore_index=True)

    def _of(self, window: Window, name: str) -> pd.Series:
        return labels_of(window, self.task) if name == self.target else window.X[name]


@dataclass(frozen=True)
class Stored:
    """Windows that are a Parquet file each, read a column at a time.

    What drift depends on is checked as ``frame.check`` does: the columns are there, hold numbers where they should, no
    infinite ones, and are not empty. Owners and times of rows are not looked at.
    """

    windows: FolderWindows
    files: tuple[tuple[str, str, int], ...]  # window, path, rows
    task: str
    target: str

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Each window and its rows."""
        return [(window, rows) for window, _, rows in self.files]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.sizes)

    @property
    def labelled(self) -> bool:
        return any(not pd.isna(piece).all() for piece in self.labels())

    def labels(self) -> Iterator[Array]:
        """The target, a part at a time, each of one window; null where it is not in. Raises WindowError."""
        column = Column(self.target, self.task == "regression")
        for window, path, rows in self.files:
            for array in self._arrays(window, path, rows, self.target):
                yield self._canonical(window, array, column)

    def batches(self, column: Column) -> Iterator[Array | Summary]:
        """The column of each file, a part at a time. Raises WindowError."""
        for window, path, rows in self.files:
            empty = True
            for array in self._arrays(window, path, rows, column.name):
                piece = (self._canonical if column.numeric else self._counted)(window, array, column)
                empty = empty and _empty(piece)
                yield piece
            if empty and column.name != self.target:
                raise WindowError(window, [f"column {column.name} is empty in all {rows} rows"])

    def excerpt(self, columns: Sequence[Column], places: npt.NDArray[np.int64]) -> pd.DataFrame:
        """The rows at these places, which ascend. Raises WindowError."""
        return pd.DataFrame({column.name: self._excerpt(column, places) for column in columns})

    def _excerpt(self, column: Column, places: npt.NDArray[np.int64]) -> Array:
        parts, start = [], 0
        for window, path, rows in self.files:
            for array in self._arrays(window, path, rows, column.name):
                first, last = np.searchsorted(places, [start, start + len(array)])
                parts.append(self._canonical(window, array.take(pa.array(places[first:last] - start)), column))
                start += len(array)
        return np.concatenate(parts)

    def _canonical(self, window: str, array: pa.Array, column: Column) -> Array:
        if not column.numeric:
            try:
                names: Array = frame.categories(array.to_pandas()).to_numpy()
            except TypeError as error:  # lists and the like
                raise WindowError(window, [f"column {column.name}: expected categories, {error}"]) from None
            if column.name == self.target:
                names[names == MISSING] = np.nan
            return names
        if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
            numbers: Array = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        else:
            rows = pd.DataFrame({column.name: array.to_pandas()})
            try:
                numbers = frame.features(rows, [column.name], [])[column.name].to_numpy()
            except ValueError as error:
                raise WindowError(window, [str(error)]) from None
        if infinite := int(np.isinf(numbers).sum()):
            raise WindowError(window, [f"column {column.name} holds {infinite} infinite values"])
        return numbers

    def _counted(self, window: str, array: pa.Array, column: Column) -> Summary:
        try:
            found = pc.value_counts(array)
        except pa.ArrowNotImplementedError:  # as of half floats
            return summary(self._canonical(window, array, column), column)
        names = frame.categories(found.field(0).to_pandas())
        rows = pd.Series(found.field(1).to_numpy()).groupby(names.to_numpy()).sum().sort_index()
        nulls = int(rows.get(MISSING, 0)) if column.name == self.target else 0
        rows = rows.drop(MISSING) if nulls else rows  # of a feature it is a category of its own
        return Summary(rows.index.to_numpy(dtype=object), rows.to_numpy().astype(np.int64), nulls)

    def _arrays(self, window: str, path: str, rows: int, name: str) -> Iterator[pa.Array]:
        try:
            with answering(path), self._open(path) as parquet:
                if name == self.target and name not in parquet.schema_arrow.names:
                    yield pa.nulls(rows)  # its labels are not in
                    return
                for batch in parquet.iter_batches(BATCH, columns=[name], use_threads=False):
                    yield _with_nulls(batch.column(0))
        except FileNotFoundError:  # the window was there when it was listed: it is the reader who does not have it
            raise DriftloopError(
                f"{path} is not there for {socket.gethostname()}. Every worker needs the windows at the same place: on "
                f"S3-compatible storage, or in a shared folder."
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise WindowError(window, [f"{path} cannot be read, is it half-written? {error}"]) from None

    def _open(self, path: str) -> pq.ParquetFile:
        return pq.ParquetFile(path, filesystem=self.windows.files, pre_buffer=False, buffer_size=BUFFER)


def stored(windows: Windows, ids: Sequence[str], loop: Loop, schema: Schema | None) -> Stored | None:
    """The windows column by column; None where they have to be read whole.

    That is where they are no Parquet file each, where labels are joined to them, and where schema.yaml may drop rows of
    theirs. Raises WindowError where a column is missing or a file holds no rows.
    """
    if schema is not None or not isinstance(windows, FolderWindows) or windows.labels is not None:
        return None
    files = []
    for window in ids:
        own = windows.window_files(window)
        if len(own) != 1 or own[0].extension.lower() != "parquet":
            return None
        try:
            with answering(own[0].path):
                metadata = pq.read_metadata(own[0].path, filesystem=windows.files)
        except (pa.ArrowInvalid, OSError) as error:
            raise WindowError(window, [f"{own[0].path} cannot be read, is it half-written? {error}"]) from None
        names = metadata.schema.to_arrow_schema().names
        if problems := frame.table_problems(names, metadata.num_rows, loop):
            raise WindowError(window, problems)
        files.append((window, own[0].path, metadata.num_rows))
    return Stored(windows, tuple(files), loop.task, loop.target)


def _with_nulls(array: pa.Array) -> pa.Array:
    """Arrow counts a null of a string view as an empty string, and takes none out of it."""
    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array


def _empty(piece: Array | Summary) -> bool:
    if isinstance(piece, Summary):
        return piece.values.tolist() in ([], [MISSING])  # noqa: PD011  # of a summary
    return bool(np.isnan(piece).all())


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
