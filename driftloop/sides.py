"""The sides of a comparison: windows in memory, or in Parquet files of which a column is read at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from driftloop.columnar import Column, Summary, summary
from driftloop.contract import Loop
from driftloop.errors import DriftloopError, WindowError
from driftloop.frame import Window
from driftloop.schema import Schema
from driftloop.storage import answering
from driftloop.windows import FolderWindows, Windows

Array = npt.NDArray[Any]
BATCH = 1 << 20  # rows of a column read at a time
BUFFER = 1 << 24  # bytes of a file read at a time


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
