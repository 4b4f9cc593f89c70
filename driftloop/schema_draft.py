"""A schema.yaml that the windows there are pass, for people to edit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from textwrap import indent
from typing import Any, Literal

import pandas as pd

from driftloop.contract import Loop
from driftloop.schema import (
    Categories,
    Column,
    Fresh,
    Kind,
    Level,
    Nulls,
    Part,
    Range,
    Rows,
    Schema,
    Unique,
    kinds,
    typed,
)

MARGIN = 0.1  # of the span between the least and the greatest value seen
HEAD = """\
# It is yours to edit. Rows that break an error are dealt with as validation.on_bad_rows in loop.toml says; a warning
# is noted. A check may go, or become a list with one of each level. All keys: docs/validation.md
"""
MANY = 100  # more categories than this are not listed: such a list is nothing to read or edit


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
