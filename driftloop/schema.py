"""schema.yaml: what the rows of a window must look like, learnt from windows and then edited by hand."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from driftloop.category import category
from driftloop.contract import Loop, Share, written
from driftloop.errors import ContractError, command

FILE = "schema.yaml"

Level = Literal["error", "warning"]
Kind = Literal["number", "category", "time"]


class Part(BaseModel):
    """Its values come as text, whatever YAML would have made of ``no`` or ``007``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _one_or_more(given: object) -> object:
    return given if isinstance(given, list | tuple) else [given]


class Nulls(Part):
    """At most this share of the rows is null. With 0 each null row breaks it, else the window as a whole does."""

    max: Share = 0.0
    level: Level = "warning"


class Range(Part):
    """Numbers lie between ``min`` and ``max``, both included; ``whole``: and have no fraction."""

    min: float | None = None
    max: float | None = None
    whole: bool = False
    level: Level = "warning"

    @model_validator(mode="after")
    def _some_room(self) -> Self:
        if self.min is None and self.max is None and not self.whole:
            raise ValueError("expected min, max or whole = true")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        low, high = (None if end is None else f"{end:.12g}" for end in (self.min, self.max))
        if low is not None and high is not None:
            return f"{kind} from {low} to {high}"
        if low is None and high is None:
            return kind
        return f"{kind} from {low} on" if high is None else f"{kind} up to {high}"


class Categories(Part):
    """One of these; ``true``, ``True`` and the boolean are one, and so are 2 and 2.0."""

    one_of: Annotated[tuple[str, ...], Field(min_length=1)]
    level: Level = "warning"

    @field_validator("one_of")
    @classmethod
    def _canonical(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(category(name) for name in names)


class Column(Part):
    """What a column holds. A value of another type is always an error. Each check may be given once or as a list."""

    type: Kind
    nulls: Annotated[tuple[Nulls, ...], BeforeValidator(_one_or_more)] = ()
    range: Annotated[tuple[Range, ...], BeforeValidator(_one_or_more)] = ()
    categories: Annotated[tuple[Categories, ...], BeforeValidator(_one_or_more)] = ()

    @model_validator(mode="after")
    def _checks_fit(self) -> Self:
        if self.range and self.type != "number":
            raise ValueError(f"range is for type: number, not for {self.type}")
        if self.categories and self.type != "category":
            raise ValueError(f"categories is for type: category, not for {self.type}")
        return self


class Rows(Part):
    """How many rows a window has."""

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=1)] | None = None
    level: Level = "warning"

    @model_validator(mode="after")
    def _some_room(self) -> Self:
        if self.max is None and not self.min:
            raise ValueError("expected min or max")
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def __str__(self) -> str:
        return f"at least {self.min:,} rows" if self.max is None else f"{self.min:,} to {self.max:,} rows"


class Fresh(Part):
    """The window's newest time lies after that of the window before, and at most so many days before its period ends.

    The period is what its id names: a month, a week or a day.
    """

    after_previous: bool = False
    max_age_days: Annotated[float, Field(ge=0)] | None = None
    level: Level = "error"

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.max_age_days is None and not self.after_previous:
            raise ValueError("expected after_previous = true or max_age_days")
        return self


class Unique(Part):
    """No two rows hold the same values in these columns. Of those that do, all break it: none is known to be right."""

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    level: Level = "error"


class Schema(Part):
    """All checks of a loop's windows; an empty one checks nothing."""

    rows: Annotated[tuple[Rows, ...], BeforeValidator(_one_or_more)] = ()
    fresh: Annotated[tuple[Fresh, ...], BeforeValidator(_one_or_more)] = ()
    unique: Annotated[tuple[Unique, ...], BeforeValidator(_one_or_more)] = ()
    columns: dict[str, Column] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of what is checked; comments do not count."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()

    @property
    def compares(self) -> bool:
        """Whether a window's verdict rests on the window before it."""
        return any(fresh.after_previous for fresh in self.fresh)


PARTS: Mapping[str, type[Part]] = {
    "rows": Rows,
    "fresh": Fresh,
    "unique": Unique,
    "nulls": Nulls,
    "range": Range,
    "categories": Categories,
}


def load(folder: Path, loop: Loop) -> Schema | None:
    """The schema beside loop.toml, None where there is none.

    Raises ContractError naming file, key, value and what was expected.
    """
    file = folder / FILE
    text = written(file)
    if text is None:
        if loop.validation.on_bad_rows == "fail":
            return None
        raise ContractError(
            f'{folder / "loop.toml"}: validation.on_bad_rows = "{loop.validation.on_bad_rows}" says what becomes of '
            f"rows that break {FILE}, and there is none. Write one with "
            f"`{command('init', folder, '--schema')}`."
        )
    return parse(text, loop, str(file))


def parse(text: str, loop: Loop, source: str = FILE) -> Schema:
    """Parse the text of a schema.yaml for a loop; ``source`` names it in errors."""
    try:
        schema = Schema.model_validate(_plain(text, source))
    except ValidationError as error:
        raise ContractError(f"{source}: " + "; ".join(_sentence(e) for e in error.errors()) + ".") from None
    if problems := _misfits(schema, loop):
        raise ContractError(f"{source}: " + "; ".join(problems) + ".")
    return schema


def _plain(text: str, source: str) -> Any:
    """YAML with every scalar as the text it is; a key given twice is refused, where YAML would take the last."""
    import yaml

    class Loader(yaml.BaseLoader):  # type: ignore[misc]  # yaml is not followed
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ContractError(
                    f"{source}: line {node.start_mark.line + 1}: {twice[0]} is given more than once; keep one."
                )
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader) or {}  # noqa: S506  # BaseLoader makes nothing but text, lists and mappings
    except RecursionError:
        raise ContractError(f"{source} is nested too deeply to be a schema.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ContractError(f"{source} is not valid YAML{where}: {problem}.") from None


def _sentence(error: Any) -> str:
    loc = [part for part in error["loc"] if isinstance(part, str)]
    key = ".".join(loc)
    if error["type"] == "extra_forbidden":
        part = Schema if len(loc) == 1 else PARTS.get(loc[-2], Column)
        return f"{key} is not a known key; expected {', '.join(part.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing; it is required"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "keys with values below it", message)
    message = message.replace("a valid tuple", "a list")
    if error["type"] == "too_short":
        message = "expected at least one value"
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{key}: {message}"  # it says which of the values
    return f"{key or 'the whole'} = {error['input']!r}: {message}"


def kinds(loop: Loop) -> dict[str, Kind | None]:
    """The loop's own columns and the type each is read as; None for a slicing column, which is read as it comes."""
    found: dict[str, Kind | None] = dict.fromkeys(loop.promotion.slices)
    found.update(dict.fromkeys(loop.columns.numeric, "number"))
    found.update(dict.fromkeys(loop.columns.categorical, "category"))
    if loop.entity:
        found[loop.entity] = "category"
    if loop.timestamp:
        found[loop.timestamp] = "time"
    found[loop.target] = "number" if loop.task == "regression" else "category"
    return found


def _misfits(schema: Schema, loop: Loop) -> list[str]:
    """What the schema says against loop.toml, which alone decides what the model sees."""
    known = kinds(loop)
    named = [(f"columns.{name}", name) for name in schema.columns]
    named += [("unique.columns", name) for unique in schema.unique for name in unique.columns]
    problems = [
        f"{key} names {name}, which is no column of loop.toml; expected one of {', '.join(known)}"
        for key, name in named
        if name not in known
    ]
    problems += [
        f"columns.{name}.type = {column.type!r}: loop.toml reads it as a {known[name]}; expected {known[name]}"
        for name, column in schema.columns.items()
        if known.get(name) not in (None, column.type)
    ]
    if schema.fresh and not loop.timestamp:
        problems.append("fresh asks for the newest time, and loop.toml names no timestamp")
    return problems


def typed(column: pd.Series, kind: Kind) -> tuple[pd.Series, np.ndarray]:
    """The values as numbers, category names or UTC times, null where there is none; and which are of another type."""
    nothing = pd.Series(float("nan"), index=column.index)
    present = column.notna().to_numpy()
    try:
        if kind == "category":
            return _named(column), np.zeros(len(column), dtype=bool)
        if kind == "time":
            values = nothing if pd.api.types.is_numeric_dtype(column) else _times(column)
            return values, present & values.isna().to_numpy()
        values = nothing if column.dtype.kind in "mM" else pd.to_numeric(column, errors="coerce").astype("float64")
    except (TypeError, ValueError):
        return nothing, present
    values = values.where(values.abs() != math.inf)
    wrong = present & values.isna().to_numpy()
    return values, wrong & (column != "").to_numpy() if wrong.any() else wrong  # an empty text reads as null


def _named(column: pd.Series) -> pd.Series:
    """The column by category name, as codes: a million rows of few names are compared by name in no time."""
    if column.dtype == object and len(set(map(type, column.dropna()))) > 1:
        column = column.map(category, na_action="ignore")  # True == 1 == 1.0: factorize would take them for one
    codes, distinct = pd.factorize(column)
    names, place = np.unique(np.array([category(value) for value in distinct], dtype=object), return_inverse=True)
    named = pd.Categorical.from_codes(np.append(place, -1)[codes].tolist(), categories=pd.Index(names, dtype=object))
    return pd.Series(named, index=column.index)


def _times(column: pd.Series) -> pd.Series:
    return pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
