"""Where windows lie: a folder of files, or one table of a database. Reading gives raw rows; frame.check judges them."""

from __future__ import annotations

import hashlib
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from driftloop.contract import Loop
from driftloop.errors import ContractError, Unreachable, WindowError
from driftloop.frame import categories
from driftloop.settings import without_password

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


def open_windows(loop: Loop, folder: Path) -> Windows:
    """The windows that ``loop`` describes; relative paths lie beside ``folder``'s loop.toml."""
    if loop.windows.sql:
        return SqlWindows(loop, folder)
    return FolderWindows(folder, loop.windows.path, loop.windows.labels, entity=loop.entity, target=loop.target)


class FolderWindows:
    """Windows as files ``path/2024-01.parquet|.csv`` or folders of tables joined one-to-one on the entity."""

    def __init__(self, folder: Path, path: str, labels: str | None, *, entity: str | None, target: str | None) -> None:
        self.entity, self.target = entity, target
        self.files, self.root = _filesystem(path, folder)
        self.labels = _filesystem(labels, folder) if labels else None

    def ids(self) -> list[str]:
        entries = self._list(self.files, self.root)
        if entries is None:
            raise ContractError(
                f"windows.path = {self.root!r} does not exist; put the windows there or correct the path."
            )
        return sorted(i for i, entry in entries.items() if self.labels is None or entry.path != self.labels[1])

    def read(self, window: str) -> pd.DataFrame:
        tables = self.tables(window)
        rows = _join(window, tables, self.entity) if len(tables) > 1 else next(iter(tables.values()))
        labels = self.label_file(window)
        if labels is None:
            return rows
        if self.target in rows:
            raise WindowError(window, [f"target {self.target} is in the window and in {labels.path}; keep one"])
        return self._with_labels(window, rows, labels)

    def digest(self, window: str) -> str:
        digest = hashlib.blake2b(digest_size=8)
        labels = self.label_file(window)
        for info in [*self._window_files(window), *([labels] if labels else [])]:
            digest.update(info.base_name.encode())
            filesystem = self.labels[0] if self.labels and info is labels else self.files
            with filesystem.open_input_stream(info.path) as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def has_labels(self, window: str) -> bool:
        if self.label_file(window) is not None:
            return True
        return any(self.target in _column_names(self.files, f) for f in self._window_files(window))

    def tables(self, window: str) -> dict[str, pd.DataFrame]:
        """The window's tables by file name, labels not among them."""
        files = self._window_files(window)
        if not files:
            raise WindowError(window, [f"{self.root}/{window} holds no .csv or .parquet table"])
        return {f.base_name: read_table(window, self.files, f, self.entity) for f in files}

    def _window_files(self, window: str) -> list[pa.fs.FileInfo]:
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
        return sorted(map(str, self._frame(sa.select(column).where(column.is_not(None)).distinct())[self.period]))

    def read(self, window: str) -> pd.DataFrame:
        import sqlalchemy as sa

        period = sa.cast(self.table.c[self.period], sa.String)
        rows = self._frame(sa.select(sa.text("*")).select_from(self.table).where(period == window))
        return rows.drop(columns=self.period)

    def digest(self, window: str) -> str:
        rows = self.read(window)
        hashes = pd.util.hash_pandas_object(rows, index=False).sort_values()  # a table has no row order
        return hashlib.blake2b(hashes.to_numpy().tobytes(), digest_size=8).hexdigest()

    def has_labels(self, window: str) -> bool:
        rows = self.read(window)
        return self.loop.target in rows and bool(rows[self.loop.target].notna().any())

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
    import sqlalchemy as sa

    try:
        url = sa.engine.make_url(address)
        url.get_dialect()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise ContractError(
            f"loop.toml: windows.sql = {without_password(address)}: expected a database's address such as "
            f"postgresql+psycopg://user@host/name ({error})."
        ) from None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return url
    file = folder / url.database
    if not file.exists():
        raise ContractError(f"loop.toml: windows.sql = {address}: there is no file {file}.")
    return url.set(database=str(file))


def _filesystem(path: str, folder: Path) -> tuple[pa.fs.FileSystem, str]:
    if "://" in path:
        try:
            filesystem, root = pa.fs.FileSystem.from_uri(path)
        except pa.ArrowInvalid as error:
            raise ContractError(f"loop.toml: windows.path = {path!r}: {error}.") from None
        return filesystem, root
    place = (folder / path).absolute()
    if place.is_file():
        raise ContractError(f"loop.toml: windows.path = {path!r} is a file; expected the folder of the windows.")
    return pa.fs.LocalFileSystem(), str(place)


def read_table(
    window: str, filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo, entity: str | None = None
) -> pd.DataFrame:
    """One .csv or .parquet file, its entities as text.

    Raises WindowError when it is empty, damaged, half-written, or no comma-separated UTF-8.
    """
    try:
        if file.extension.lower() == "csv":
            _require_whole_rows(window, filesystem, file)
            with filesystem.open_input_stream(file.path) as stream:
                # "007" read as a number in one window and as text in another would be two entities
                return pd.read_csv(stream, dtype={entity: str} if entity else None)
        table: pd.DataFrame = pa.parquet.read_table(file.path, filesystem=filesystem).to_pandas()
        if entity in table:
            table[entity] = _as_text(table[entity])
        return table
    except pd.errors.EmptyDataError:
        raise WindowError(window, [f"{file.path} is empty"]) from None
    except UnicodeDecodeError as error:
        raise WindowError(window, [f"{file.path} is not UTF-8: {error}"]) from None
    except (pa.ArrowInvalid, pd.errors.ParserError, EOFError) as error:
        raise WindowError(window, [f"{file.path} cannot be read, is it half-written? {error}"]) from None
    except OSError as error:
        raise WindowError(window, [f"{file.path} cannot be read: {error}"]) from None


def _require_whole_rows(window: str, filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> None:
    """Raise unless every row has as many fields as the header: pandas fills up a row that was cut off.

    Only the first column is kept, a block at a time. Raises WindowError or ArrowInvalid.
    """
    with filesystem.open_input_stream(file.path) as stream:
        header = stream.read(1 << 16).partition(b"\n")[0]
    for other, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if b"," not in header and other in header:
            raise WindowError(window, [f"{file.path} separates its columns by {name}; expected commas"])
    if not header:
        return  # pandas says that it is empty
    with filesystem.open_input_stream(file.path) as stream:
        rows = pa.csv.open_csv(
            stream,
            pa.csv.ReadOptions(autogenerate_column_names=True),
            pa.csv.ParseOptions(newlines_in_values=True),
            pa.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
        )
        for _ in rows:
            pass


def _as_text(column: pd.Series) -> pd.Series:
    """Entities as text, the same for a number and its text; nulls stay."""
    text = categories(column)
    text[column.isna()] = None
    return text


def _column_names(filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> list[str]:
    """Only the header; a file that has none reads as no columns here and is refused when it is read."""
    try:
        if file.extension.lower() == "csv":
            with filesystem.open_input_stream(file.path) as stream:
                return list(pd.read_csv(stream, nrows=0).columns)
        return list(pa.parquet.read_schema(file.path, filesystem=filesystem).names)
    except (pa.ArrowInvalid, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError):
        return []


def _join(window: str, tables: dict[str, pd.DataFrame], entity: str | None) -> pd.DataFrame:
    """One row an entity from tables that all hold the same entities once each."""
    if entity is None:
        raise ContractError(
            f"window {window} is a folder of {len(tables)} tables; name the column that joins them: entity = …"
        )
    problems = []
    first_name, first = next(iter(tables.items()))
    for name, table in tables.items():
        if entity not in table:
            raise WindowError(window, [f"{name} has no column {entity} to be joined on"])
        if table[entity].isna().any():
            problems.append(f"{name} holds a null {entity}")
        if twice := int(table[entity].duplicated().sum()):
            problems.append(f"{name} holds {twice} {entity} more than once")
        here, there = set(table[entity]), set(first[entity])
        if here != there:
            problems.append(
                f"{name} and {first_name} do not join one-to-one on {entity}: "
                f"{len(here - there)} only in {name}, {len(there - here)} only in {first_name}"
            )
    shared = pd.Series([c for t in tables.values() for c in t.columns if c != entity])
    if shared.duplicated().any():
        problems.append(f"column {shared[shared.duplicated()].iloc[0]} stands in more than one table")
    if problems:
        raise WindowError(window, problems)
    return reduce(lambda left, right: left.merge(right, on=entity, validate="1:1"), tables.values())
