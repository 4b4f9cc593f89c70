"""A CSV file's rows as questions to the API, and its answers as columns beside them. A cell is only ever data."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from driftloop.category import MISSING
from driftloop.frame import categories
from services.dashboard.client import Api, Json, Refused, Row, Scored, TooLarge
from services.dashboard.dialect import begins, composed, swapped

AT_ONCE = 1_000  # rows a request: progress is seen to move, and the API's other clients get in between
SHOWN = 20  # problems; more of them say nothing new
WIDEST = 60  # characters of a cell or of a list of names in a problem


class WrongFile(Exception):
    """What is wrong with an uploaded file; ``problems`` quote it, so they are shown as plain text."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        more = [f"… and {len(problems) - SHOWN:,} more."] if len(problems) > SHOWN else []
        self.summary, self.problems = summary, [*problems[:SHOWN], *more]
        super().__init__(summary)


@dataclass(frozen=True)
class Upload:
    """The file's cells as they are written there, and its ``rows`` as the API takes them.

    ``preface`` stands before the header, see services.dashboard.dialect. ``decimal`` is its numbers' own.
    """

    preface: str
    separator: str
    decimal: str
    header: list[str]
    cells: list[list[str]]
    rows: list[Row]

    def unused(self) -> list[str]:
        """Columns that the model does not ask for; those without a name are unnamed()."""
        asked = {composed(name) for name in self.rows[0]}
        return [name for name in self.header if name.strip() and composed(name) not in asked]

    def unnamed(self) -> list[int]:
        """The places of columns without a name, from 1."""
        return [place for place, name in enumerate(self.header, 1) if not name.strip()]

    def titles(self) -> list[str]:
        """The header, each column with a name of its own."""
        unnamed = self.unnamed()
        return [free(f"column {i}", self.header) if i in unnamed else name for i, name in enumerate(self.header, 1)]


def read(content: bytes, inputs: Sequence[Json]) -> Upload:
    """The rows of a CSV file with a column for each of the model's ``inputs``. Raises WrongFile."""
    try:
        text = content.decode()
        preface, separator = begins(text)
        lines = csv.reader(io.StringIO(text[len(preface) :], newline=""), delimiter=separator, strict=True)
        header, *cells = [line for line in lines if line]
    except UnicodeDecodeError:
        raise WrongFile("The file is not UTF-8 text. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise WrongFile(f"The file is not CSV: {error}.") from None
    except ValueError:
        raise WrongFile("The file is empty.") from None
    names = [one["name"] for one in inputs]
    places = _places(header, cells, names)
    asked, decimal = [[line[place] for place in places] for line in cells], "."
    columns, wrong = _typed(asked, inputs)
    if wrong and separator != ",":  # of a whole file, or 1.234 beside 0,5 would be read as a little more than one
        other = _typed(_swapped(asked, inputs), inputs)
        if len(other[1]) < len(wrong):
            (columns, wrong), decimal = other, ","
    if wrong:
        raise wrong_cells([(row, names[at], _not_a_number(asked[row][at])) for row, at in sorted(wrong)])
    rows: list[Row] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return Upload(preface, separator, decimal, header, cells, rows)


def _places(header: list[str], cells: list[list[str]], names: list[str]) -> list[int]:
    """Where the columns of these names stand. Raises WrongFile unless the file is a table that has them."""
    found, asked = [composed(name) for name in header], [composed(name) for name in names]
    if missing := [name for name in asked if name not in found]:
        raise WrongFile(
            "The file lacks columns that the model needs.",
            [f"Missing: {', '.join(missing)}.", f"The file has: {_short(', '.join(header), 10 * WIDEST)}."],
        )
    if twice := sorted(name for name, count in Counter(found).items() if count > 1 and name.strip()):
        raise WrongFile("The file names a column more than once.", [f"Column {_short(name)}." for name in twice])
    if not cells:
        raise WrongFile("The file has a header and no rows.")
    lengths = [(row, len(line)) for row, line in enumerate(cells, 1) if len(line) != len(header)]
    if lengths:
        raise WrongFile(
            f"Every row needs as many cells as the header has, {len(header)}.",
            [f"Row {row} has {length}." for row, length in lengths],
        )
    return [found.index(name) for name in asked]


def _swapped(cells: list[list[str]], inputs: Sequence[Json]) -> list[list[str]]:
    """The cells, decimal commas as points; a point is what no number may have then."""
    number = [one["type"] == "double" for one in inputs]
    return [[swapped(cell) if is_one else cell for cell, is_one in zip(line, number, strict=True)] for line in cells]


def _typed(cells: list[list[str]], inputs: Sequence[Json]) -> tuple[list[list[Any]], list[tuple[int, int]]]:
    """(a column an input, null for blanks; the row and the column, from 0, of what should be a number and is none)."""
    table = _as_windows_are_read(cells, inputs)
    columns: list[list[Any]] = []
    wrong: list[tuple[int, int]] = []
    for at, one in enumerate(inputs):
        if one["type"] == "double":
            numbers, places = _numbers(table[one["name"]])
            columns.append(numbers)
            wrong += [(row, at) for row in places]
        else:
            columns.append([None if word == MISSING else word for word in categories(table[one["name"]])])
    return columns, wrong


def _as_windows_are_read(cells: list[list[str]], inputs: Sequence[Json]) -> pd.DataFrame:
    """The inputs' columns: categories as text, or their spelling would hang on what the other rows hold."""
    text = io.StringIO()
    csv.writer(text).writerows([[one["name"] for one in inputs], *cells])
    text.seek(0)
    return pd.read_csv(
        text,
        dtype={one["name"]: str for one in inputs if one["type"] != "double"},
        low_memory=False,
        skip_blank_lines=False,
        float_precision="round_trip",
        index_col=False,
    )


def _numbers(column: pd.Series) -> tuple[list[float | None], list[int]]:
    """(the numbers, null for blanks, and the places of what is none)."""
    found = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = np.isinf(found) | (found.isna() & column.notna())
    return [None if value != value else value for value in found.tolist()], np.flatnonzero(wrong).tolist()


def wrong_cells(problems: Sequence[tuple[int, str, str]]) -> WrongFile:
    """``problems`` are (row from 0, column, what is wrong)."""
    cells = f"{len(problems):,} cells hold" if len(problems) > 1 else "One cell holds"
    return WrongFile(
        f"{cells} what the model cannot take. Rows are counted from the one below the header.",
        [f"Row {row + 1:,}, column {name}: {what}." for row, name, what in problems],
    )


def _not_a_number(cell: str) -> str:
    return f'expected a finite number or nothing, found "{_short(cell)}"'


def _short(text: str, most: int = WIDEST) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def predict(api: Api, upload: Upload, max_rows: int) -> Iterator[Scored]:
    """The file's predictions, some rows at a time. Raises WrongFile where the API refuses a value, and ApiError."""
    most = min(max_rows, AT_ONCE)
    for start in range(0, len(upload.rows), most):
        yield from _some(api, upload.rows[start : start + most], start)


def _some(api: Api, rows: list[Row], start: int) -> Iterator[Scored]:
    try:
        yield api.predict(rows)
    except TooLarge:
        if len(rows) == 1:
            raise
        half = len(rows) // 2
        yield from _some(api, rows[:half], start)
        yield from _some(api, rows[half:], start + half)
    except Refused as error:
        raise _refused(error, start) from None


def _refused(error: Refused, start: int) -> WrongFile:
    """The API's problems, each with the file's row and column where it names them."""
    cells, others = [], []
    for problem in error.problems:
        place = problem["loc"][2:]  # after "body" and "rows"
        if len(place) == 2:
            cells.append((start + place[0], place[1], str(problem["msg"]).removeprefix(f"{place[1]}: ")))
        else:
            others.append(f"{problem['msg']}.")
    return wrong_cells(cells) if cells else WrongFile("The model cannot score these rows.", others)


def answers(model: Json, scored: Sequence[Scored], taken: Sequence[str]) -> dict[str, list[str | float]]:
    """The predictions as columns, none of them named as one of those ``taken``."""
    columns: dict[str, list[str | float]] = {}
    for some in scored:
        for prediction in some.predictions:
            for name, value in _named(model, prediction, some.version).items():
                columns.setdefault(name, []).append(value)
    return {free(name, taken): values for name, values in columns.items()}


def _named(model: Json, prediction: Json, version: str) -> dict[str, str | float]:
    label = f"predicted_{model['target']}"
    if "prediction" in prediction:
        return {label: prediction["prediction"], "model_version": version}
    likely = {f"probability_{word}": value for word, value in probabilities(model, prediction).items()}
    return {label: prediction["label"], **likely, "model_version": version}


def probabilities(model: Json, prediction: Json) -> dict[str, float]:
    """By label: those that the answer holds, a binary one's being that of its positive label."""
    if "probability" in prediction:
        return {model["labels"][1]: prediction["probability"]}
    return dict(prediction["probabilities"])


def free(name: str, taken: Sequence[str]) -> str:
    """The name, or with a number behind it where it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def to_csv(upload: Upload, columns: dict[str, list[str | float]]) -> bytes:
    """The file with the columns added, its own cells unchanged: one that begins with "=" still does."""
    text = io.StringIO(upload.preface)
    text.seek(0, io.SEEK_END)
    added = zip(*([_written(value, upload) for value in values] for values in columns.values()), strict=True)
    writer = csv.writer(text, delimiter=upload.separator, lineterminator="\n")
    writer.writerow([*upload.header, *columns])
    writer.writerows([*line, *more] for line, more in zip(upload.cells, added, strict=True))
    return text.getvalue().encode()


def _written(value: str | float, upload: Upload) -> str:
    """A number as the file writes its own."""
    return value if isinstance(value, str) else str(value).replace(".", upload.decimal)
