"""Judging a window's rows by its schema with pandera: what is broken, how badly, and by which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from driftloop.contract import Loop
from driftloop.frame import absent
from driftloop.schema import Column, Fresh, Level, Schema, kinds, typed

if TYPE_CHECKING:
    import pandera.pandas as pa

Json = dict[str, Any]
EXAMPLES = 3
LONGEST = 40  # characters of an example
LISTED = 8  # categories named in a sentence
EXPECTED = {"time": "dates or ISO 8601 text", "number": "numbers, none of them infinite", "category": "single values"}


@dataclass(frozen=True)
class Rule:
    """One check of a schema; ``column`` is "" for one of the window as a whole."""

    column: str
    check: str
    level: Level
    said: str


@dataclass(frozen=True)
class Finding:
    """A rule that a window broke, and the places of the rows that did; None where it is no matter of single rows."""

    rule: Rule
    rows: np.ndarray | None
    examples: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        if self.rows is None:
            return self.rule.said
        count = "1 row" if len(self.rows) == 1 else f"{len(self.rows):,} rows"
        return f"{self.rule.said}, not so in {count}" + f", e.g. {', '.join(self.examples)}" * bool(self.examples)

    @property
    def json(self) -> Json:
        return {
            "column": self.rule.column or None,
            "check": self.rule.check,
            "level": self.rule.level,
            "rows": None if self.rows is None else len(self.rows),
            "examples": list(self.examples),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Newest:
    """The newest time of a window; ``within``: of those before where the period of the window judged ends."""

    time: pd.Timestamp
    within: pd.Timestamp | None

    @classmethod
    def of(cls, times: pd.Series, ends: datetime | None) -> Newest | None:
        """Of times in UTC, None where there is none; all count as within where the id names no period."""
        if not times.notna().any():
            return None
        within = times if ends is None else times[times < ends]
        return cls(times.max(), within.max() if within.notna().any() else None)

    def after(self, before: Newest) -> bool:
        """Whether it is newer, or would be but for times that are yet to come: 2062 is a typing error."""
        if self.time > before.time:
            return True
        return self.within is not None and before.within is not None and self.within > before.within


@dataclass(frozen=True)
class Arrival:
    """What freshness is judged by: the window before with its newest time, and where the period of this one ends."""

    before: tuple[str, Newest] | None = None
    ends: datetime | None = None


@dataclass(frozen=True)
class Judgement:
    """What a schema found in ``total`` rows, errors first."""

    findings: tuple[Finding, ...]
    total: int

    @property
    def bad(self) -> np.ndarray:
        """Which rows break an error, shape (rows,)."""
        mask = np.zeros(self.total, dtype=bool)
        for finding in self._single():
            mask[finding.rows] = True
        return mask

    @property
    def reasons(self) -> list[str]:
        """Why each bad row is one, in the rows' order: ``fee: type; plan: categories``."""
        said: dict[int, list[str]] = {}
        for finding in self._single():
            for place in np.asarray(finding.rows).tolist():
                said.setdefault(place, []).append(f"{finding.rule.column}: {finding.rule.check}")
        return ["; ".join(said[place]) for place in sorted(said)]

    def problems(self, *, keep: bool, max_bad_share: float) -> list[str]:
        """Why the window cannot be used; ``keep``: without its bad rows, unless they are a larger share than this.

        An error that is no matter of single rows always tells against the window.
        """
        whole = [f.sentence for f in self.findings if f.rule.level == "error" and f.rows is None]
        single = [f.sentence for f in self._single()]
        if whole or not keep:
            return whole + single
        bad = int(self.bad.sum())
        if bad <= max_bad_share * self.total:
            return []
        share = f"{bad:,} of {self.total:,} rows break an error of schema.yaml"
        return [f"{share}, more than validation.max_bad_share = {max_bad_share:g} lets pass", *single]

    def _single(self) -> list[Finding]:
        return [f for f in self.findings if f.rule.level == "error" and f.rows is not None]


@dataclass
class Checks:
    """Pandera's checks of columns and of the table, each with the number of its rule as its error."""

    rules: list[Rule] = field(default_factory=list)
    columns: dict[str, list[pa.Check]] = field(default_factory=dict)
    table: list[pa.Check] = field(default_factory=list)
    held: dict[int, pd.Series] = field(default_factory=dict)

    def add(self, on: list[pa.Check], rule: Rule, build: Callable[..., pa.Check], *args: Any) -> None:
        on.append(build(*args, error=str(len(self.rules)), n_failure_cases=1))
        self.rules.append(rule)

    def add_told(self, on: list[pa.Check], rule: Rule, held: pd.Series) -> None:
        """A rule of which is known whether each row holds it: pandera cannot name the null of a category."""
        from pandera.pandas import Check

        self.held[len(self.rules)] = held
        self.add(on, rule, Check, _constant(held=bool(held.all())))

    def broken(self, values: pd.DataFrame) -> Iterator[tuple[Rule, np.ndarray | None]]:
        """The rules that do not hold, in order, each with the places of the rows that break it."""
        import pandera.pandas as pa

        columns = {name: pa.Column(checks=made, nullable=True) for name, made in self.columns.items()}
        try:
            # inplace: nothing is changed, so nothing has to be copied first
            pa.DataFrameSchema(columns, checks=self.table).validate(values, lazy=True, inplace=True)
        except pa.errors.SchemaErrors as found:
            failed = {int(error.check.error): error.check_output for error in found.schema_errors}
            for number in sorted(failed):
                held = self.held.get(number, failed[number])
                assert held is not None, f"the check of {self.rules[number]} itself failed"
                single = isinstance(held, pd.Series)
                yield self.rules[number], held.index[~held.astype(bool)].to_numpy() if single else None


def judge(rows: pd.DataFrame, schema: Schema, loop: Loop, arrival: Arrival) -> Judgement:
    """Every check of the schema against the raw rows of a window that holds some."""
    rows = rows.reset_index(drop=True)
    unique = [name for part in schema.unique for name in part.columns]
    times = [loop.timestamp] if schema.fresh and loop.timestamp else []
    named = dict.fromkeys([*schema.columns, *unique, *times])
    if missing := [name for name in named if name not in rows and name != loop.target]:  # labels may come later
        said = absent(missing, list(rows.columns), [*named, *kinds(loop)])
        return Judgement((Finding(Rule("", "columns", "error", said), None),), len(rows))
    checks, newest = Checks(), Newest.of(typed(rows[times[0]], "time")[0], arrival.ends) if times else None
    values: dict[str, pd.Series] = {}
    for name, column in schema.columns.items():
        if name not in rows:
            continue
        values[name], wrong = rows[name], np.zeros(len(rows), dtype=bool)
        if column.type != "category" or column.categories:  # nobody asks for the names of a million owners
            values[name], wrong = typed(rows[name], column.type)
        _add_column(checks, name, column, values[name], wrong)
    _add_table(checks, schema, rows, arrival, newest)
    table = pd.DataFrame(values, index=rows.index, copy=False)
    found = [_finding(rule, places, rows) for rule, places in checks.broken(table)]
    return Judgement(tuple(sorted(found, key=lambda finding: finding.rule.level != "error")), len(rows))


def _add_column(checks: Checks, name: str, column: Column, values: pd.Series, wrong: np.ndarray) -> None:
    from pandera.pandas import Check

    made = checks.columns.setdefault(name, [])

    def rule(check: str, level: Level, expected: str) -> Rule:
        return Rule(name, check, level, f"column {name}: expected {expected}")

    present = values.notna() | wrong
    expected = EXPECTED[column.type]
    if wrong.any() and not values.notna().any():  # no matter of single rows: it is another column
        checks.add(made, rule("type", "error", f"{expected}, found none"), Check, lambda _: False)
    else:
        checks.add_told(made, rule("type", "error", expected), pd.Series(~wrong))
    for nulls in column.nulls:
        if nulls.max == 0:
            checks.add_told(made, rule("nulls", nulls.level, "no null"), present)
        else:
            share = 1 - float(present.mean())
            said = f"at most {nulls.max:.1%} null, found {share:.1%}"
            checks.add(made, rule("nulls", nulls.level, said), Check, _constant(held=share <= nulls.max))
    for limits in column.range:
        low, high = -np.inf if limits.min is None else limits.min, np.inf if limits.max is None else limits.max
        checks.add(made, rule("range", limits.level, str(limits)), Check.in_range, low, high)
        if limits.whole:
            checks.add(made, rule("range", limits.level, "whole numbers"), Check, lambda numbers: numbers % 1 == 0)
    for listed in column.categories:
        names = ", ".join(listed.one_of[:LISTED]) + ", …" * (len(listed.one_of) > LISTED)
        checks.add(made, rule("categories", listed.level, f"one of {names}"), Check.isin, listed.one_of)


def _add_table(checks: Checks, schema: Schema, rows: pd.DataFrame, arrival: Arrival, newest: Newest | None) -> None:
    from pandera.pandas import Check

    total = len(rows)
    for count in schema.rows:
        held = count.min <= total and (count.max is None or total <= count.max)
        said = f"expected {count}, found {total:,}"
        checks.add(checks.table, Rule("", "rows", count.level, said), Check, _constant(held=held))
    for unique in schema.unique:
        if not set(unique.columns) <= set(rows):  # the target's labels are not in yet
            continue
        name = " and ".join(unique.columns)
        rule = Rule(name, "unique", unique.level, f"expected each {name} once")
        checks.add_told(checks.table, rule, _once(rows[list(unique.columns)]))
    for fresh in schema.fresh:
        stale = None if newest is None else _stale(fresh, arrival, newest)  # its column tells
        checks.add(checks.table, Rule("", "fresh", fresh.level, stale or ""), Check, _constant(held=stale is None))


def _constant(*, held: bool) -> Callable[[object], bool]:
    return lambda _: bool(held)


def _once(keys: pd.DataFrame) -> pd.Series:
    """Whether each row is the only one with its key, as it stands; a null is a matter of its own."""
    return ~keys.duplicated(keep=False) | keys.isna().any(axis=1)


def _stale(fresh: Fresh, arrival: Arrival, newest: Newest) -> str | None:
    """What is wrong with the newest time of a window, None where nothing is."""
    found = f"found {_time(newest.time)} at most"
    if fresh.after_previous and arrival.before and not newest.after(arrival.before[1]):
        window, before = arrival.before
        return f"expected times after {_time(before.time)}, the newest of window {window}, {found}"
    if fresh.max_age_days is None:
        return None
    if arrival.ends is None:
        return "max_age_days counts from the end of the window's period, and its id names no month, week or day"
    age = (pd.Timestamp(arrival.ends) - newest.time) / pd.Timedelta(days=1)
    if age <= fresh.max_age_days:
        return None
    limit = f"{fresh.max_age_days:g} days before {_time(pd.Timestamp(arrival.ends))}"
    return f"expected times up to {limit}, where its period ends, {found}"


def _time(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _spelled(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _finding(rule: Rule, places: np.ndarray | None, rows: pd.DataFrame) -> Finding:
    if places is None or rule.check == "nulls":
        return Finding(rule, places)
    column = rows[rule.column if rule.column in rows else rule.column.partition(" and ")[0]]
    distinct = column.iloc[places[:1000]].map(_spelled).drop_duplicates().head(EXAMPLES)
    return Finding(rule, places, tuple(text[:LONGEST] for text in distinct))
