"""What the model learnt from, and which values lie outside it: they are predicted all the same, as well as it can."""

from __future__ import annotations

from collections.abc import Sequence

from services.dashboard.client import Json, Row
from services.dashboard.waterfall import shown

MOST = 10  # columns that are told
NAMED = 3  # unknown categories of a column that are named
WIDEST = 40  # characters of one


def strange(one: Json, value: float | str | None) -> bool:
    """Whether a number lies outside the training rows' range, or a category is in none of them; a null never is.

    >>> [strange({"low": 1, "high": 5, "categories": None}, value) for value in (1.0, 5.5, None)]
    [False, True, False]
    >>> [strange({"low": None, "high": None, "categories": ["a"]}, value) for value in ("a", "b", None)]
    [False, True, False]
    """
    if isinstance(value, str):
        return bool(one["categories"]) and value not in one["categories"]
    return value is not None and one["low"] is not None and not one["low"] <= value <= one["high"]


def strange_columns(inputs: Sequence[Json], rows: Sequence[Row]) -> list[str]:
    """A sentence a column that holds such values, in the inputs' order, of the first MOST of them."""
    told = []
    for one in inputs:
        learnt = one | {"categories": frozenset(one["categories"] or ())}  # a list would be searched for every row
        values = [value for row in rows if strange(learnt, value := row[one["name"]])]
        if values:
            told.append(_sentence(one, values, len(rows)))
    rest = len(told) - MOST
    return [*told[:MOST], *([f"{rest} more columns hold such values."] if rest > 0 else [])]


def _sentence(one: Json, values: Sequence[float | str | None], of: int) -> str:
    several = len(values) > 1
    count = f"{one['name']}: {len(values):,} of {of:,} rows"
    if one["low"] is not None:
        return f"{count} {'lie' if several else 'lies'} outside {shown(one['low'])}–{shown(one['high'])}."
    names = list(dict.fromkeys(str(value) for value in values))
    named = ", ".join(_short(name) for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"{count} {'hold' if several else 'holds'} a value that the model never learnt ({named})."


def _short(name: str) -> str:
    """On one line, so that it cannot begin another paragraph."""
    name = " ".join(name.split())
    return name if len(name) <= WIDEST else f"{name[:WIDEST]}…"
