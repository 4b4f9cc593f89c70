"""A CSV file's rows as questions to the API, and its answers as columns beside them. A cell is only ever data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from driftloop.category import MISSING
from driftloop.frame import categories
from services.dashboard.client import Api, Json, Refused, Row, Scored, TooLarge

SEPARATORS = ",;\t"
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
    """The file's cells as they are written there, and its ``rows`` as the API takes them."""

    separator: str
    header: list[str]
    cells: list[list[str]]
    rows: list[Row]

    def unused(self) -> list[str]:
        """Columns that the model does not ask for."""
        return [name for name in self.header if name not in self.rows[0]]


def read(content: bytes, inputs: Sequence[Json]) -> Upload:
    """The rows of a CSV file with a column for each of the model's ``inputs``. Raises WrongFile."""
    try:
        text = content.decode("utf-8-sig")
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header, *cells = [line for line in lines if line]
    except UnicodeDecodeError:
        raise WrongFile("The file is not UTF-8 text. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise WrongFile(f"The file is not CSV: {error}.") from None
    except ValueError:
        raise WrongFile("The file is empty.") from None
    names = [one["name"] for one in inputs]
    _require_whole(header, cells, names)
    table, columns, wrong = _as_windows_are_read(header, cells, inputs), {}, []
    for name, one in zip(names, inputs, strict=True):
        if one["type"] == "double":
            columns[name], places = _numbers(table[name])
            wrong += [(row, name) for row in places]
        else:
            columns[name] = [None if word == MISSING else word for word in categories(table[name])]
    if wrong:
        at = {name: header.index(name) for name in names}
        raise wrong_cells([(row, name, _not_a_number(cells[row][at[name]])) for row, name in sorted(wrong)])
    rows: list[Row] = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Upload(separator, header, cells, rows)


def _require_whole(header: list[str], cells: list[list[str]], names: list[str]) -> None:
    if missing := [name for name in names if name not in header]:
        raise WrongFile(
            "The file lacks columns that the model needs.",
            [f"Missing: {', '.join(missing)}.", f"The file has: {_short(', '.join(header), 10 * WIDEST)}."],
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise WrongFile("The file names a column more than once.", [f"Column {_short(name)}." for name in twice])
    if not cells:
        raise WrongFile("The file has a header and no rows.")
    lengths = [(row, len(line)) for row, line in enumerate(cells, 1) if len(line) != len(header)]
    if lengths:
        raise WrongFile(
            f"Every row needs as many cells as the header has, {len(header)}.",
            [f"Row {row} has {length}." for row, length in lengths],
        )


def _as_windows_are_read(header: list[str], cells: list[list[str]], inputs: Sequence[Json]) -> pd.DataFrame:
    """The columns of the inputs: categories as text, or their spelling would hang on what the other rows hold."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *cells])
    text.seek(0)
    return pd.read_csv(
        text,
        usecols=[one["name"] for one in inputs],
        dtype={one["name"]: str for one in inputs if one["type"] != "double"},
        low_memory=False,
        skip_blank_lines=False,
        float_precision="round_trip",
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
    return {_free(name, taken): values for name, values in columns.items()}


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


def _free(name: str, taken: Sequence[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def to_csv(upload: Upload, columns: dict[str, list[str | float]]) -> bytes:
    """The file with the columns added, its own cells unchanged: one that begins with "=" still does."""
    text = io.StringIO()
    added = zip(*columns.values(), strict=True)
    writer = csv.writer(text, delimiter=upload.separator, lineterminator="\n")
    writer.writerow([*upload.header, *columns])
    writer.writerows([*line, *more] for line, more in zip(upload.cells, added, strict=True))
    return text.getvalue().encode()
