"""One table of a window: a .csv or .parquet file, read whole or refused, and tables joined on their entity."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import reduce

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from driftloop.errors import ContractError, WindowError
from driftloop.frame import categories
from driftloop.storage import answering

CODED_ROWS = 10_000
MOST_KINDS = 50  # of categories whose cells have to tell that they are some


def read_table(
    window: str,
    filesystem: pa.fs.FileSystem,
    file: pa.fs.FileInfo,
    entity: str | None = None,
    words: Sequence[str] = (),
) -> pd.DataFrame:
    """One .csv or .parquet file, its entities as text; of a .csv the columns ``words`` too, where it has them.

    Raises WindowError when it is empty, damaged, half-written, or no comma-separated UTF-8.
    """
    try:
        if file.extension.lower() == "csv":
            with answering(file.path):
                _require_whole_rows(window, filesystem, file)
                with filesystem.open_input_stream(file.path) as stream:
                    # "007" read as a number in one window and as text in another would be two entities, or categories
                    rows = pd.read_csv(stream, dtype=dict.fromkeys([*words, *([entity] if entity else [])], str))
                if entity in rows:
                    rows[entity] = _as_text(rows[entity])  # "7.0" is what 7 becomes beside a null
                return rows
        # each column is handed over and its memory given back, or the rows would be there twice
        with answering(file.path):
            read = pa.parquet.read_table(file.path, filesystem=filesystem)
        table: pd.DataFrame = read.to_pandas(split_blocks=True, self_destruct=True)
        del read
        pa.default_memory_pool().release_unused()
        if any(name is not None for name in table.index.names):
            table = table.reset_index()  # pandas wrote a column of the file as its index
        if entity in table:
            table[entity] = _as_text(table[entity])
        return table
    except pd.errors.EmptyDataError:
        raise WindowError(window, [f"{file.path} is empty"]) from None
    except UnicodeDecodeError as error:
        said = f"byte {error.object[error.start]:#04x} at {error.start:,}"
        raise WindowError(window, [f"{file.path} is not UTF-8 ({said}); save it as UTF-8"]) from None
    except (pa.ArrowInvalid, pd.errors.ParserError, EOFError) as error:
        raise WindowError(window, [f"{file.path} cannot be read, is it half-written? {error}"]) from None
    except OSError as error:
        raise WindowError(window, [f"{file.path} cannot be read: {error}"]) from None


def codes(filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> list[str]:
    """The columns of a .csv file with numbers such as 01, of one width and few kinds: counts are not written so.

    Looked at are its first CODED_ROWS rows. Nothing is told of a file that cannot be read.
    """
    if file.extension.lower() != "csv":
        return []
    try:
        with answering(file.path), filesystem.open_input_stream(file.path) as stream:
            table = pd.read_csv(stream, dtype=str, nrows=CODED_ROWS)
    except (ValueError, OSError):  # pandas' errors are ValueErrors; read_table says what is wrong with it
        return []
    return [str(name) for name in table if _are_codes(table[name].dropna())]


def _are_codes(cells: pd.Series) -> bool:
    one_width = cells.str.fullmatch(r"\d{2,}").all() and cells.str.len().nunique() == 1
    return bool(one_width and cells.str.startswith("0").any() and cells.nunique() <= MOST_KINDS)


def _require_whole_rows(window: str, filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> None:
    """Raise unless every row has as many fields as the header: pandas fills up a row that was cut off.

    Only the first column is kept, a block at a time. Raises WindowError or ArrowInvalid.
    """
    with filesystem.open_input_stream(file.path) as stream:
        header = stream.read(1 << 16).partition(b"\n")[0]
    if header.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WindowError(window, [f"{file.path} is not UTF-8 but UTF-16; save it as UTF-8"])
    for other, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if b"," not in header and other in header:
            raise WindowError(
                window, [f"{file.path} separates its columns by {name}; expected commas. Save it with commas"]
            )
    if not header.strip():
        return  # pandas says that it is empty
    with filesystem.open_input_stream(file.path) as stream:
        names = pd.read_csv(stream, header=None, nrows=1, dtype=str).iloc[0].dropna()
    if (twice := names[names.duplicated()]).size:  # pandas would give the second one another name
        raise WindowError(window, [f"{file.path} has the column {twice.iloc[0]} more than once"])
    short: list[pa.csv.InvalidRow] = []

    def told(row: pa.csv.InvalidRow) -> str:
        short.append(row)
        return "error"

    try:
        with filesystem.open_input_stream(file.path) as stream:
            rows = pa.csv.open_csv(
                stream,
                pa.csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
                pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=told),
                pa.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
            )
            for _ in rows:
                pass
    except pa.ArrowInvalid:
        if not short:
            raise
        row = short[0]  # Arrow's own words quote it, and it may tell of a person
        said = f"row {row.number}: expected {row.expected_columns} fields as in its header, found {row.actual_columns}"
        raise WindowError(window, [f"{file.path} cannot be read, is it half-written? {said}"]) from None


def _as_text(column: pd.Series) -> pd.Series:
    """Entities as text, the same for a number and its text; nulls stay."""
    text = categories(column)
    text[column.isna()] = None
    return text


def column_names(filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> list[str]:
    """Only the header; a file that has none reads as no columns here and is refused when it is read."""
    try:
        with answering(file.path):
            if file.extension.lower() == "csv":
                with filesystem.open_input_stream(file.path) as stream:
                    return list(pd.read_csv(stream, nrows=0).columns)
            return list(pa.parquet.read_schema(file.path, filesystem=filesystem).names)
    except (pa.ArrowInvalid, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError):
        return []


def join(window: str, tables: dict[str, pd.DataFrame], entity: str | None) -> pd.DataFrame:
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
    return reduce(lambda left, right: left.merge(right, on=entity), tables.values())
