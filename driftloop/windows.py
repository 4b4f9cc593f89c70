"""Where windows lie: a folder of files, one table of a database, or the prediction log (log_windows).

Reading gives raw rows; frame.check judges them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.fs

from driftloop.contract import Loop
from driftloop.digests import Digests
from driftloop.errors import ContractError, Unreachable, WindowError
from driftloop.settings import Settings, without_password
from driftloop.storage import answering, locate, shown
from driftloop.tables import codes, column_names, join, read_table

if TYPE_CHECKING:
    import sqlalchemy as sa

SUFFIXES = (".parquet", ".csv")


class Windows(Protocol):
    """The windows of a loop, named by ids that sort by time."""

    def ids(self) -> list[str]:
        """All window ids, oldest first."""
        ...

    def read(self, window: str) -> pd.DataFrame:
        """The window's rows, with the target as a column when its labels are in. Raises WindowError."""
        ...

    def digest(self, window: str) -> str:
        """A hash of the window's stored content, labels included."""
        ...

    def has_labels(self, window: str) -> bool:
        """Whether the window's target can be read."""
        ...


def open_windows(loop: Loop, folder: Path, settings: Settings | None = None) -> Windows:
    """The windows that ``loop`` describes; relative paths lie beside ``folder``'s loop.toml.

    ``settings`` say where the prediction log is, which only windows that are taken from it need, and where hashes of
    files are kept.
    """
    if loop.windows.sql:
        return SqlWindows(loop, folder)
    files = FolderWindows(
        folder,
        loop.windows.path,
        loop.windows.labels,
        entity=loop.entity,
        target=loop.target,
        words=loop.features.categorical if loop.features else None,
        digests=Digests(settings.home / "digests") if settings else None,
    )
    if loop.windows.source == "files":
        return files
    from driftloop.log_windows import LogWindows
    from driftloop.prediction_log import open_store

    assert settings is not None, "where the log is read, the settings are at hand"
    store = open_store(loop, settings)
    assert store is not None, "the contract holds a log wherever windows are taken from it"
    return LogWindows(loop, store, files)


def none_yet(loop: Loop, folder: Path) -> str:
    """What to say where there is no window."""
    if loop.windows.source == "log":
        return f"{folder} has no window yet: the first {loop.windows.calendar} in the prediction log is not over."
    if loop.windows.sql:
        return f"{folder} has no window yet: table {loop.windows.table} holds no row."
    return f"{folder} has no window yet; put the first one under {shown(loop.windows.path)}/."


class FolderWindows:
    """Windows as files ``path/2024-01.parquet|.csv`` or folders of tables joined one-to-one on the entity.

    ``words``: columns that are text whatever the cells of a file look like; None where nobody has said yet, then those
    of codes such as 01, the target not among them.
    """

    def __init__(
        self,
        folder: Path,
        path: str,
        labels: str | None,
        *,
        entity: str | None,
        target: str | None,
        words: Sequence[str] | None = None,
        digests: Digests | None = None,
    ) -> None:
        self.entity, self.target, self.words = entity, target, words
        self.files, self.root = locate(path, folder, "windows.path")
        self.labels = locate(labels, folder, "windows.labels") if labels else None
        self.digests = digests or Digests()

    def exist(self) -> bool:
        """Whether their folder is there."""
        return self._list(self.files, self.root) is not None

    def ids(self) -> list[str]:
        entries = self._list(self.files, self.root)
        if entries is None:
            raise ContractError(
                f"windows.path = {self.root!r} does not exist; put the windows there or correct the path."
            )
        return sorted(i for i, entry in entries.items() if self.labels is None or entry.path != self.labels[1])

    def read(self, window: str) -> pd.DataFrame:
        tables = self.tables(window)
        rows = join(window, tables, self.entity) if len(tables) > 1 else next(iter(tables.values()))
        labels = self.label_file(window)
        if labels is None:
            return rows
        if self.target in rows:
            raise WindowError(window, [f"target {self.target} is in the window and in {labels.path}; keep one"])
        return self._with_labels(window, rows, labels)

    def digest(self, window: str) -> str:
        return self.hashed(window, self.window_files(window))

    def hashed(self, window: str, files: Sequence[pa.fs.FileInfo]) -> str:
        """A hash of the files, and of the window's labels."""
        digest = hashlib.sha256()
        labels = self.label_file(window)
        for info in [*files, *([labels] if labels else [])]:
            digest.update(info.base_name.encode())
            filesystem = self.labels[0] if self.labels and info is labels else self.files
            with answering(info.path):
                digest.update(self.digests.of(filesystem, info))
        return digest.hexdigest()[:16]

    def has_labels(self, window: str) -> bool:
        if self.label_file(window) is not None:
            return True
        return any(self.target in column_names(self.files, f) for f in self.window_files(window))

    def tables(self, window: str) -> dict[str, pd.DataFrame]:
        """The window's tables by file name, labels not among them."""
        files = self.window_files(window)
        if not files:
            raise WindowError(window, [f"{self.root}/{window} holds no .csv or .parquet table"])
        return {f.base_name: read_table(window, self.files, f, self.entity, self._words(f)) for f in files}

    def _words(self, file: pa.fs.FileInfo) -> Sequence[str]:
        if self.words is not None:
            return self.words
        return [name for name in codes(self.files, file) if name != self.target]

    def window_files(self, window: str) -> list[pa.fs.FileInfo]:
        """The window's tables, in the order of their names."""
        entry = (self._list(self.files, self.root) or {}).get(window)
        if entry is None:
            raise ContractError(
                f"there is no window {window} under {self.root}; `driftloop status` lists those there are."
            )
        if entry.type == pa.fs.FileType.File:
            return [entry]
        return sorted((self._list(self.files, entry.path) or {}).values(), key=lambda f: f.base_name)

    def label_file(self, window: str) -> pa.fs.FileInfo | None:
        """Where the window's labels lie, if they are in."""
        if self.labels is None:
            return None
        return (self._list(*self.labels) or {}).get(window)

    def _with_labels(self, window: str, rows: pd.DataFrame, file: pa.fs.FileInfo) -> pd.DataFrame:
        entity, target = self.entity, self.target
        if entity is None or target is None:
            raise ContractError("windows.labels needs entity = … in loop.toml: labels are joined on it")
        assert self.labels is not None, "a label file was found below it"
        labels = read_table(window, self.labels[0], file, entity)
        if missing := [c for c in (entity, target) if c not in labels]:
            raise WindowError(window, [f"{file.path} has no column {', '.join(missing)}"])
        problems = []
        if twice := int(labels[entity].duplicated().sum()):
            problems.append(f"{file.path} labels {twice} entities more than once")
        if labels[entity].isna().any():
            problems.append(f"{file.path} holds a null {entity}")
        unknown = labels.loc[~labels[entity].isin(rows[entity]), entity] if entity in rows else labels[entity]
        if unknown.size:
            problems.append(f"{file.path} labels {unknown.size} unknown entities, e.g. {unknown.iloc[0]}")
        if problems:
            raise WindowError(window, problems)
        return rows.merge(labels[[entity, target]], on=entity, how="left")

    @staticmethod
    def _list(filesystem: pa.fs.FileSystem, folder: str) -> dict[str, pa.fs.FileInfo] | None:
        """Window id to entry for the files and folders that can be windows; None when the folder is not there."""
        try:
            with answering(folder):
                if filesystem.get_file_info(folder).type == pa.fs.FileType.NotFound:
                    return None
                found = filesystem.get_file_info(pa.fs.FileSelector(folder))
        except OSError as error:
            raise Unreachable(f"the windows at {folder} cannot be listed: {error}") from error
        entries: dict[str, pa.fs.FileInfo] = {}
        for info in found:
            stem, dot, suffix = info.base_name.rpartition(".")
            is_folder = info.type == pa.fs.FileType.Directory
            if info.base_name.startswith((".", "_")) or not (is_folder or f".{suffix.lower()}" in SUFFIXES):
                continue
            key = info.base_name if is_folder or not dot else stem
            if key in entries:
                raise ContractError(
                    f"{folder} holds {key} twice, as {entries[key].base_name} and {info.base_name}; keep one."
                )
            entries[key] = info
        return entries


class SqlWindows:
    """Windows as the rows of one table, told apart by the values of its period column."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        import sqlalchemy as sa

        source = loop.windows
        self.loop, self.period = loop, str(source.period)  # sql, table and period come together: the contract's check
        self.engine = sa.create_engine(_database(str(source.sql), folder), pool_pre_ping=True)
        self.table = sa.table(str(source.table), sa.column(self.period))

    def ids(self) -> list[str]:
        import sqlalchemy as sa

        column = self.table.c[self.period]
        found = self._frame(sa.select(column).where(column.is_not(None)).distinct())[self.period]
        return sorted(self._name(str(period)) for period in found)

    def read(self, window: str) -> pd.DataFrame:
        import sqlalchemy as sa

        period = sa.cast(self.table.c[self.period], sa.String)
        rows = self._frame(sa.select(sa.text("*")).select_from(self.table).where(period == self._name(window)))
        return rows.drop(columns=self.period)

    def digest(self, window: str) -> str:
        rows = self.read(window)
        hashes = pd.util.hash_pandas_object(rows, index=False).sort_values()  # a table has no row order
        return hashlib.blake2b(hashes.to_numpy().tobytes(), digest_size=8).hexdigest()

    def has_labels(self, window: str) -> bool:
        rows = self.read(window)
        return self.loop.target in rows and bool(rows[self.loop.target].notna().any())

    def _name(self, window: str) -> str:
        """The id, where files can be named after it."""
        if window in (".", "..") or "/" in window or "\\" in window:
            raise ContractError(
                f"{window!r} cannot name a window: expected no / and no \\ in it, and neither . nor .. for it. "
                f"Where the column {self.period} of {self.loop.windows.table} holds it, mend these rows or read a view "
                f"without them."
            )
        return window

    def _frame(self, query: object) -> pd.DataFrame:
        from sqlalchemy.exc import OperationalError, ProgrammingError

        address = without_password(str(self.loop.windows.sql))
        try:
            with self.engine.connect() as connection:
                rows: pd.DataFrame = pd.read_sql(query, connection)  # type: ignore[call-overload]  # stubs lack Core
                return rows
        except (OperationalError, ProgrammingError) as error:
            if isinstance(error, OperationalError) and "no such" not in str(error.orig):  # SQLite's word for the latter
                raise Unreachable(f"the windows' database {address} does not answer: {error.orig}") from None
            raise ContractError(
                f"windows.table = {self.loop.windows.table!r} cannot be read from {address}: {error.orig}"
            ) from None


def _database(address: str, folder: Path) -> sa.URL:
    """The windows' database; a SQLite file lies beside loop.toml, and is not made when it is not there."""
    from driftloop.database import database_url

    url = database_url(address, "loop.toml: windows.sql")
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return url
    file = folder / url.database
    if not file.exists():
        raise ContractError(f"loop.toml: windows.sql = {address}: there is no file {file}.")
    return url.set(database=str(file))
