"""schema.yaml: what the rows of a window must look like, learnt from windows and then edited by hand."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from driftloop.category import category
from driftloop.contract import Loop, Share, written
from driftloop.errors import ContractError

FILE = "schema.yaml"
MARGIN = 0.1  # of the span between the least and the greatest value seen
HEAD = """\
# It is yours to edit. Rows that break an error are dealt with as validation.on_bad_rows in loop.toml says; a warning
# is noted. A check may go, or become a list with one of each level. All keys: docs/validation.md
"""
MANY = 100  # more categories than this are not listed: such a list is nothing to read or edit

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
            f"rows that break {FILE}, and there is none. Write one with `driftloop init {folder} --schema`."
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


class Seen:
    """What one column held in the windows learnt from."""

    def __init__(self, kind: Kind, *, named: bool = True) -> None:
        self.kind = kind
        self.named = named  # whether its names are to be listed: an owner's are not
        self.nulls = 0.0  # the greatest share in a window
        self.low, self.high, self.whole = math.inf, -math.inf, True
        self.names: set[str] = set()
        self.wrong = False

    def add(self, column: pd.Series) -> None:
        if not self.named:
            self.nulls = max(self.nulls, float(column.isna().mean()))
            return
        values, wrong = typed(column, self.kind)
        self.wrong |= bool(wrong.any())
        self.nulls = max(self.nulls, float(values.isna().mean()))
        present = values.dropna()
        if self.kind == "number" and len(present):
            self.low, self.high = min(self.low, float(present.min())), max(self.high, float(present.max()))
            self.whole = self.whole and bool((present % 1 == 0).all())
        elif self.kind == "category":
            self.names |= set(present.cat.categories)

    def column(self, *, role: Literal["feature", "key", "label"], level: Level) -> Column:
        """The check that all of it passes, with room to spare."""
        spare = min(1.0, math.ceil(self.nulls * 150) / 100)
        nulls = [] if role == "label" else [Nulls(max=spare, level="error" if role == "key" else "warning")]
        ranges = [Range(**_widened(self.low, self.high, self.whole), whole=self.whole)] if self.low <= self.high else []
        few = 0 < len(self.names) <= MANY
        listed = [Categories(one_of=tuple(sorted(self.names)), level=level)] if few else []
        return Column(type=self.kind, nulls=tuple(nulls), range=tuple(ranges), categories=tuple(listed))

    @property
    def told(self) -> str:
        """For the comment above it."""
        nulls = f"{self.nulls:.1%} null at most" if self.nulls else "never null"
        if self.kind == "number" and self.low <= self.high:
            return f"seen {self.low:.6g} to {self.high:.6g}, {nulls}"
        if len(self.names) > MANY:
            return f"{len(self.names):,} different values, {nulls}"
        return nulls


def _widened(low: float, high: float, whole: bool) -> dict[str, float]:
    """The range seen with a margin on both sides, in round numbers; never across zero."""
    span = high - low
    least, most = low - MARGIN * span, high + MARGIN * span
    if not span or not math.isfinite(most - least):
        return {"min": low, "max": high}
    digits = 2 - math.floor(math.log10(span))
    least, most = round(least, digits), round(most, digits)
    if whole and abs(least) < 2**53 and abs(most) < 2**53:
        least, most = math.floor(least), math.ceil(most)
    least = 0.0 if least < 0 <= low else min(least, low)
    most = 0.0 if high <= 0 < most else max(most, high)
    return {"min": least, "max": most}


class Reference:
    """What the windows held that a schema is learnt from, added one after the other, oldest first."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.windows: list[str] = []
        self.counts: list[int] = []
        self.newest: list[pd.Timestamp] = []
        self.seen: dict[str, Seen] = {}
        self.key = tuple(name for name in (loop.entity, loop.timestamp) if name) if loop.entity else ()

    def add(self, window: str, rows: pd.DataFrame) -> None:
        """Take in the raw rows of a window that can be used."""
        self.windows.append(window)
        self.counts.append(len(rows))
        known = kinds(self.loop)
        for name in (c for c in known if c in rows):
            plain_number = pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name])
            kind = known[name] or ("number" if plain_number else "category")
            self.seen.setdefault(name, Seen(kind, named=name != self.loop.entity)).add(rows[name])
        if self.loop.timestamp:
            self.newest.append(typed(rows[self.loop.timestamp], "time")[0].max())

    @property
    def schema(self) -> Schema:
        """What every window taken in passes."""
        loop = self.loop
        order = [loop.entity, loop.timestamp, *loop.columns.names, *loop.promotion.slices, loop.target]
        names = dict.fromkeys(name for name in order if name in self.seen and not self.seen[name].wrong)
        rising = all(a < b for a, b in zip(self.newest, self.newest[1:], strict=False))
        # one window cannot tell whether the next one's times will lie after its own
        level: Level = "error" if len(self.newest) > 1 else "warning"
        return Schema(
            rows=(Rows(min=min(self.counts) // 2, max=max(self.counts) * 2),),
            fresh=(Fresh(after_previous=True, level=level),) if self.newest and rising else (),
            unique=(Unique(columns=self.key),) if self.key else (),
            columns={str(name): self._column(str(name)) for name in names},
        )

    def _column(self, name: str) -> Column:
        loop = self.loop
        role: Literal["feature", "key", "label"] = (
            "label" if name == loop.target else "key" if name in (loop.entity, loop.timestamp) else "feature"
        )
        # a third label of two is no news but a mistake
        return self.seen[name].column(
            role=role, level="error" if role == "label" and loop.task == "binary" else "warning"
        )

    @property
    def text(self) -> str:
        """A commented schema.yaml."""
        schema, windows = self.schema, self.windows
        span = " ".join((windows[0] if len(windows) == 1 else f"{windows[0]} to {windows[-1]}").split())
        parts = [
            f"# What the rows of a window must look like, learnt from {span} ({sum(self.counts):,} rows).\n{HEAD}",
            "# from half the fewest rows seen to twice the most\n" + _yaml({"rows": _dumped(schema.rows[0])}),
        ]
        if schema.fresh:
            comment = "# the newest time lies after that of the window before; max_age_days: before its period ends\n"
            parts.append(comment + _yaml({"fresh": _dumped(schema.fresh[0])}))
        if schema.unique:
            parts.append(_yaml({"unique": _dumped(schema.unique[0])}))
        columns = "".join(
            indent(f"# {self.seen[name].told}\n{_yaml({name: _dumped(column)})}", "  ")
            for name, column in schema.columns.items()
        )
        parts.append(f"# ranges are those seen, {MARGIN:.0%} of their span wider on each side\ncolumns:\n{columns}")
        return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def learn(windows: Iterable[tuple[str, pd.DataFrame]], loop: Loop) -> Reference:
    """What the raw rows of usable windows, oldest first, have in common."""
    reference = Reference(loop)
    for window, rows in windows:
        reference.add(window, rows)
    return reference


def _dumped(part: Part) -> dict[str, Any]:
    """A part as it is written by hand: one check without a list around it, whole numbers without a fraction."""
    found: dict[str, Any] = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, tuple) and value and isinstance(value[0], Part):
            value = _dumped(value[0])
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if value is not None and value is not False and value != []:
            found[name] = value
    return found


def _yaml(value: object) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=None, sort_keys=False, allow_unicode=True, width=110)
    return text
