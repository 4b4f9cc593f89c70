"""golden.csv: known cases that a candidate must not break when the champion keeps them.

A row is one case: the model's features, and what is expected of them. ``expect`` is the right label, or value
(regression, within ``tolerance``), or ``rises`` or ``falls``: what the prediction must do when the feature named by
``change`` takes the value under ``to``; a multiclass model has no one number that could. ``case`` names the row in
messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from driftloop.category import category
from driftloop.contract import Features, Loop
from driftloop.errors import ContractError
from driftloop.frame import categories, features
from driftloop.metrics import Predictions

FILE = "golden.csv"
DIRECTIONS = ("rises", "falls")
OWN_COLUMNS = ("case", "expect", "change", "to", "tolerance")


@dataclass(frozen=True)
class Case:
    """``expect`` is rises, falls, a label's spelling or a number; ``after`` is the changed row of a pair."""

    name: str
    expect: str | float
    tolerance: float = 0.0


@dataclass(frozen=True)
class Cases:
    """``before`` and ``after`` hold the features of each case; they differ in the changed cells of pairs."""

    cases: tuple[Case, ...]
    before: pd.DataFrame
    after: pd.DataFrame

    @property
    def digest(self) -> str:
        """A hash of what is expected of which rows; empty without cases."""
        said = f"{self.cases}{self.before.to_json()}{self.after.to_json()}" if self.cases else ""
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest() if said else ""

    def broken(self, predict: Callable[[pd.DataFrame], Predictions], labels: tuple[str, ...] | None) -> dict[int, str]:
        """What the model gets wrong: a sentence by the case's place. ``labels``: a classifier's, by class."""
        if not self.cases:
            return {}
        before, after = predict(self.before), predict(self.after)
        found = {}
        for place, (case, now, then) in enumerate(zip(self.cases, before.scores, after.scores, strict=True)):
            if case.expect in DIRECTIONS and before.scores.ndim == 1:
                said = _turned(case, now, then)
            elif labels is not None:
                said = _mistaken(case, labels[int(before.labels[place])])
            else:
                said = _off(case, now)
            if said:
                found[place] = said
        return found

    def unseen(self, seen: Mapping[str, set[str]]) -> list[str]:
        """Notes on categories that no window has: a model knows nothing of them."""
        notes = []
        for name, known in seen.items():
            if self.cases and (new := sorted({*self.before[name], *self.after[name]} - known)):
                notes.append(f"column {name} holds {', '.join(new)}, which no window has")
        return notes

    def require_labels(self, labels: Sequence[str], task: str, source: str) -> None:
        """Raise ContractError when a right answer is none of the target's labels."""
        directions = DIRECTIONS if task == "binary" else ()
        for case in self.cases:
            if case.expect not in (*directions, *labels):
                others = f", {' or '.join(directions)}" if directions else ""
                raise ContractError(
                    f"{source}, {case.name}: expect is {case.expect!r}; expected {' or '.join(labels)}{others}."
                )


NO_CASES = Cases((), pd.DataFrame(), pd.DataFrame())


def parse(rows: pd.DataFrame, loop: Loop, source: str) -> Cases:
    """The cases of a table whose cells are text. Raises ContractError naming the row and what was expected there."""
    named, wanted = list(rows.columns), ["expect", *loop.columns.names]
    if missing := [c for c in wanted if c not in named]:
        raise ContractError(f"{source}: column {', '.join(missing)} is missing; it needs every feature and expect.")
    if shared := [c for c in loop.columns.names if c in OWN_COLUMNS]:
        raise ContractError(
            f"{source}: feature {', '.join(shared)} bears the name of a column of its own here; rename it."
        )
    if unknown := [c for c in named if c not in (*wanted, *OWN_COLUMNS)]:
        raise ContractError(f"{source}: column {', '.join(unknown)} is neither a feature nor {', '.join(OWN_COLUMNS)}.")
    rows = rows.reset_index(drop=True).reindex(columns=[*OWN_COLUMNS, *loop.columns.names])
    cases, changed = [], rows.copy()
    for position, row in enumerate(rows.to_dict("records")):
        where = f"{source}, row {position + 2}"
        cases.append(_case(row, loop, where, position))
        if cases[-1].expect in DIRECTIONS and loop.task != "multiclass":
            name = row["change"]
            if name not in loop.columns.names or pd.isna(row["to"]):
                raise ContractError(f"{where}: {cases[-1].expect} needs a feature under change and its value under to.")
            if row["to"] == row[name]:
                raise ContractError(f"{where}: {name} is {row['to']} already, so nothing changes.")
            changed.loc[position, name] = row["to"]
        elif loop.task == "multiclass" and (pd.notna(row["change"]) or pd.notna(row["to"])):
            raise ContractError(
                f"{where}: change and to are for a prediction that rises or falls; a multiclass model's is a label. "
                f"Leave them empty and expect the right one."
            )
        elif pd.notna(row["change"]) or pd.notna(row["to"]):
            raise ContractError(f"{where}: change and to are for rises and falls, expect is {row['expect']!r}.")
    return Cases(tuple(cases), _features(rows, loop.columns, source), _features(changed, loop.columns, source))


def _case(row: Mapping[Any, Any], loop: Loop, where: str, position: int) -> Case:
    name = f"row {position + 2}" if pd.isna(row["case"]) else str(row["case"])
    expect = row["expect"].strip() if isinstance(row["expect"], str) else row["expect"]
    if pd.isna(expect):
        raise ContractError(f"{where}: expect is empty; expected a right answer, rises or falls.")
    if expect in DIRECTIONS and loop.task != "multiclass":
        return Case(name, expect)
    if loop.task != "regression":
        return Case(name, category(_unspelled(pd.Series([expect])).iloc[0]))
    tolerance = _number(row["tolerance"], "tolerance", where)
    if tolerance < 0:
        raise ContractError(f"{where}: tolerance is {tolerance:g}; expected 0 or more.")
    return Case(name, _number(expect, "expect", where), tolerance)


def _number(value: object, column: str, where: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ContractError(f"{where}: {column} is {value!r}; expected a number.")
    return number


def _features(rows: pd.DataFrame, columns: Features, source: str) -> pd.DataFrame:
    try:
        typed = rows.assign(**{name: categories(_unspelled(rows[name])) for name in columns.categorical})
        made = features(typed, columns.numeric, columns.categorical).reset_index(drop=True)
    except ValueError as error:
        raise ContractError(f"{source}: {error}.") from None
    if infinite := [c for c in columns.numeric if np.isinf(made[c]).any()]:
        raise ContractError(f"{source}: column {', '.join(infinite)} holds infinite values.")
    return made


def _unspelled(column: pd.Series) -> pd.Series:
    """A column of text as a window would hold it: where all are numbers, 2 and 2.0 are one category."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().sum() > column.isna().sum() else numbers


def _turned(case: Case, before: float, after: float) -> str | None:
    kept = after > before if case.expect == "rises" else after < before
    return None if kept else f"{case.name}: goes from {before:.4g} to {after:.4g}, expected that it {case.expect}"


def _mistaken(case: Case, label: str) -> str | None:
    return None if label == case.expect else f"{case.name}: says {label}, expected {case.expect}"


def _off(case: Case, value: float) -> str | None:
    assert isinstance(case.expect, float), "a right answer of a regression is a number"
    kept = abs(value - case.expect) <= case.tolerance
    return None if kept else f"{case.name}: says {value:.4g}, expected {case.expect:g} within {case.tolerance:g}"
