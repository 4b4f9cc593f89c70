"""A window's rows, checked once at the read boundary and brought into one canonical form."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from driftloop.category import MISSING, category
from driftloop.contract import Label, Loop
from driftloop.errors import LabelsNotReady, WindowError

T = TypeVar("T", pd.Series, pd.DataFrame)
MOST_LABELS = 100  # of a multiclass target; more are values, or names of rows


@dataclass(frozen=True)
class Window:
    """The checked rows of one period.

    ``X`` holds exactly the loop's features: float64 for numeric, str for categorical ones.
    ``y`` is float64, aligned with X: 0/1 for binary, the label's place among ``labels`` for multiclass, the value for
    regression, NaN where a row has no label; None when the window has no labels yet. ``labels`` are as the user spells
    them: (negative, positive) for binary, those of the window in sort order for multiclass. ``entity`` and
    ``timestamp`` are aligned with X where the loop has them. ``notes`` are findings that do not stop the loop.
    ``slicing`` holds the columns of promotion.slices, features or not: float64 for numbers, else category strings.
    ``left_out``: how many rows schema.yaml had put aside.
    ``of``: the rows of several windows, of whose memory these are a piece.
    """

    id: str
    X: pd.DataFrame
    y: pd.Series | None
    entity: pd.Series | None
    timestamp: pd.Series | None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    slicing: pd.DataFrame | None = None
    left_out: int = 0
    of: Window | None = field(default=None, repr=False, compare=False)

    @property
    def labelled(self) -> Window:
        """Only the rows whose label is in. Raises LabelsNotReady when there is none."""
        if self.y is None or not self.y.notna().any():
            raise LabelsNotReady(f"window {self.id} has no labels yet")
        return self.where(self.y.notna().to_numpy())

    @property
    def labelled_rows(self) -> int:
        return 0 if self.y is None else int(self.y.notna().sum())

    @property
    def truth(self) -> pd.Series:
        """``y`` of labelled rows. Raises ValueError where there is none."""
        if self.y is None:
            raise ValueError(f"window {self.id} has no labels here; take its labelled rows first")
        return self.y

    @property
    def in_time(self) -> Window:
        """The rows in the order of their times, which they have."""
        assert self.timestamp is not None, "asked where the holdout is by time"
        if self.timestamp.is_monotonic_increasing:
            return self
        order = self.timestamp.argsort(kind="stable").to_numpy()

        def put(column: T | None) -> T | None:
            return None if column is None else column.iloc[order].reset_index(drop=True)

        return replace(
            self,
            X=self.X.iloc[order].reset_index(drop=True),
            y=put(self.y),
            entity=put(self.entity),
            timestamp=put(self.timestamp),
            slicing=put(self.slicing),
            of=None,
        )

    def where(self, mask: np.ndarray) -> Window:
        """The rows under a boolean mask of shape (rows,)."""
        if mask.all():
            return self

        def cut(column: T | None) -> T | None:
            return None if column is None else numbered(column[mask])

        return replace(
            self,
            X=numbered(self.X[mask]),
            y=cut(self.y),
            entity=cut(self.entity),
            timestamp=cut(self.timestamp),
            slicing=cut(self.slicing),
            of=None,
        )

    def among(self, labels: tuple[str, ...]) -> Window:
        """A multiclass window with ``y`` as places among ``labels``. Raises WindowError where it has others."""
        if self.y is None or self.labels is None or self.labels == labels:
            return self
        if new := [label for label in self.labels if label not in labels]:
            problem = (
                f"label {', '.join(new)} is none of those that the model learnt, {', '.join(labels)}; for a model "
                f"that knows it give the loop a new name"
            )
            raise WindowError(self.id, [problem])
        places = self.y.map(dict(enumerate(map(labels.index, self.labels)))).astype("float64")
        return replace(self, y=places, labels=labels, of=None)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows' content, labels included, in their order."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.X, self.y, self.entity):
            if part is not None:
                digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
        return digest.hexdigest()


def numbered(rows: T) -> T:
    """The same rows with places from 0 for an index, which costs no copy as reset_index does."""
    rows.index = pd.RangeIndex(len(rows))
    return rows


def categories(column: pd.Series) -> pd.Series:
    """Values as strings, the same for a bool, its string, an integer and its float; a null is "(missing)".

    >>> categories(pd.Series([True, None, "true", 2.0, "fibre"], dtype=object)).tolist()
    ['True', '(missing)', 'True', '2', 'fibre']
    """
    if column.dtype == object and len(set(map(type, column.dropna()))) > 1:
        column = column.map(category, na_action="ignore")  # True == 1 == 1.0: factorize would take them for one
    codes, distinct = pd.factorize(column)
    names = np.array([*(category(value) for value in distinct), MISSING], dtype=object)
    return pd.Series(names[codes], index=column.index, name=column.name)  # code -1, a null, is the last name


def features(rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> pd.DataFrame:
    """The model's input: ``numeric`` as float64 and ``categorical`` as category strings, in that order.

    Raises ValueError naming the column when a numeric one holds something else, or a categorical one lists.
    """
    columns = {}
    for name in numeric:
        columns[name] = _numbers(rows[name], f"column {name}")
    for name in categorical:
        columns[name] = _words(rows[name], f"column {name}")
    return pd.DataFrame(columns, index=rows.index)


def _numbers(column: pd.Series, what: str) -> pd.Series:
    try:
        if column.dtype.kind in "mM":  # to_numeric would read dates and durations as nanoseconds
            raise ValueError("found dates or durations")
        return pd.to_numeric(column).astype("float64") + 0.0  # -0.0 becomes 0.0: the two are one value, and one hash
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: expected numbers, {error}") from None


def _words(column: pd.Series, what: str) -> pd.Series:
    try:
        return categories(column)
    except TypeError as error:
        raise ValueError(f"{what}: expected categories, found what is none ({error})") from None


def times(column: pd.Series, name: str) -> pd.Series:
    """Dates as they are, or text in ISO 8601: any other form would be guessed, and differently from month to month."""
    if pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"timestamp {name}: expected dates or ISO 8601 text, found numbers such as {column.iloc[0]}")
    try:
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise ValueError(f"timestamp {name}: expected dates or ISO 8601 text, {str(error).split(', at')[0]}") from None


def positive_label(values: pd.Series, given: Label | None) -> Label:
    """Which of a binary target's labels is the event: the given one, else true, else 1, else the later when sorted."""
    if given is not None:
        return given
    distinct = values.dropna().unique().tolist()
    for label in (True, 1):
        if any(category(value) == str(label) for value in distinct):
            return label
    return max(map(category, distinct))


def check(rows: pd.DataFrame, loop: Loop, window: str) -> Window:
    """Turn the raw rows of a window into a checked one.

    ``rows`` has the target as a column when labels are in. Raises WindowError listing everything that is wrong.
    """
    problems = _problems(rows, loop)
    if problems:
        raise WindowError(window, problems)
    try:
        X = features(rows, loop.columns.numeric, loop.columns.categorical)
        y = target(rows[loop.target], loop) if loop.target in rows else None
        labels = _labels(rows[loop.target], loop) if loop.target in rows else None
        timestamp = times(rows[loop.timestamp], loop.timestamp) if loop.timestamp else None
    except (ValueError, TypeError) as error:
        raise WindowError(window, [str(error)]) from None
    problems = _value_problems(X, y, loop)
    if problems:
        raise WindowError(window, problems)
    entity = categories(rows[loop.entity]) if loop.entity else None
    return Window(window, X, y, entity, timestamp, labels, tuple(_notes(rows, X, loop)), _slicing(rows, X, loop))


def _slicing(rows: pd.DataFrame, X: pd.DataFrame, loop: Loop) -> pd.DataFrame | None:
    def column(name: str) -> pd.Series:
        if name in X:
            return X[name]
        values = rows[name]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        return values.astype("float64").replace([np.inf, -np.inf], np.nan) if is_number else categories(values)

    names = loop.promotion.slices
    return pd.DataFrame({name: column(name) for name in names}, index=rows.index) if names else None


def target(values: pd.Series, loop: Loop) -> pd.Series:
    """The target as float64, see Window; NaN where the label is missing."""
    if loop.task == "regression":
        return _numbers(values, f"target {loop.target}")
    labels = categories(values)
    distinct = sorted(set(labels) - {MISSING})
    if not distinct:
        return pd.Series(np.nan, index=values.index)
    if loop.task == "multiclass":
        if len(distinct) > MOST_LABELS:
            raise ValueError(
                f"target {loop.target}: expected at most {MOST_LABELS} labels for task multiclass, found "
                f"{len(distinct)}: {distinct[:5]}"
            )
        return labels.map({label: place for place, label in enumerate(distinct)}).astype("float64")
    positive = category(positive_label(values, loop.positive))
    if len(distinct) > 2:
        raise ValueError(
            f"target {loop.target}: expected two labels for task binary, found {len(distinct)}: {distinct[:5]}"
        )
    if len(distinct) == 2 and positive not in distinct:
        raise ValueError(f"target {loop.target}: the positive label {positive} is not among {distinct}")
    return (labels == positive).astype("float64").where(values.notna())


def _labels(values: pd.Series, loop: Loop) -> tuple[str, ...] | None:
    distinct = sorted(set(categories(values)) - {MISSING})
    if loop.task == "multiclass":
        return tuple(distinct) or None
    if loop.task != "binary" or len(distinct) != 2:
        return None
    positive = category(positive_label(values, loop.positive))
    return (next(label for label in distinct if label != positive), positive)


def table_problems(columns: Sequence[str], rows: int, loop: Loop) -> list[str]:
    """What is wrong with a table of these columns and so many rows, whatever stands in them."""
    needed = [*loop.columns.names, *(c for c in (loop.entity, loop.timestamp) if c)]
    needed += [c for c in loop.promotion.slices if c not in needed]
    if missing := [c for c in needed if c not in columns]:
        return [absent(missing, columns, needed)]
    return [] if rows else ["it holds no rows"]


def absent(missing: Sequence[str], columns: Sequence[str], known: Collection[str]) -> str:
    """What to say of columns that a window has not.

    Its own are named where one of them is known. Else its first line may be no header but a row, and a row may tell of
    a person, of whom nothing belongs in a ledger or a log.
    """
    lacks = f"column {', '.join(missing)} is missing"
    if any(column in known for column in columns):
        return f"{lacks}; the window has {', '.join(map(str, columns))}"
    return f"{lacks}; loop.toml knows none of the window's {len(columns)} columns. Is its first line a header?"


def _problems(rows: pd.DataFrame, loop: Loop) -> list[str]:
    """What is wrong with the table itself."""
    if problems := table_problems(list(rows.columns), 0 if rows.empty else len(rows), loop):
        return problems
    if loop.entity:
        entity = rows[loop.entity]
        if nulls := int(entity.isna().sum()):
            problems.append(f"entity {loop.entity} is null in {nulls} rows")
        key = [loop.entity, loop.timestamp] if loop.timestamp else [loop.entity]
        if (twice := entity[rows.duplicated(key) & entity.notna()]).size:
            problems.append(f"{' and '.join(key)} appear more than once, e.g. {twice.iloc[0]} ({twice.size} rows)")
    if loop.timestamp and (nulls := int(rows[loop.timestamp].isna().sum())):
        problems.append(f"timestamp {loop.timestamp} is null in {nulls} rows")
    problems += [f"column {c} is empty in all {len(rows)} rows" for c in loop.columns.names if rows[c].isna().all()]
    return problems


def _value_problems(X: pd.DataFrame, y: pd.Series | None, loop: Loop) -> list[str]:
    problems = [
        f"column {c} holds {n} infinite values" for c in loop.columns.numeric if (n := int(np.isinf(X[c]).sum()))
    ]
    if y is None:
        return problems
    if np.isinf(y).any():
        problems.append(f"target {loop.target} holds infinite values")
    if loop.task == "binary" and y.notna().any() and y.dropna().nunique() == 1:
        problems.append(f"target {loop.target} holds one class only in {int(y.notna().sum())} labelled rows")
    return problems


def unseen(window: Window, seen: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Notes on categories that earlier windows did not have: not refused, for they are what drift looks for."""
    new = {name: sorted(set(window.X[name]) - set(earlier)) for name, earlier in seen.items()}
    return tuple(f"column {name} has unseen categories: {', '.join(c[:5])}" for name, c in new.items() if c)


def _notes(rows: pd.DataFrame, X: pd.DataFrame, loop: Loop) -> list[str]:
    known = {*loop.columns.names, *loop.promotion.slices, loop.target, loop.entity, loop.timestamp}
    notes = []
    if extra := [str(c) for c in rows.columns if c not in known]:
        notes.append(f"columns not in loop.toml, unused: {', '.join(extra)}")
    if constant := [c for c in X.columns if X[c].nunique(dropna=False) == 1]:
        notes.append(f"constant columns: {', '.join(constant)}")
    return notes
