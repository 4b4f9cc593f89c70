"""Rows such as clients send and no training set holds: what a compiled model has to get right as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from driftloop.category import MISSING

MADE = 250
LARGEST = 3.4e38  # what the API accepts
EXTREMES = (LARGEST, -LARGEST, 1e30, -1e30, 1e-30, 5e-324, -5e-324, 2.2e-308, 0.0, 16777217.0, 1e16 + 2, 0.1, -1.0)
WORDS = (
    "",
    " ",
    "True",
    "False",
    "true",
    "0",
    "1",
    "1.0",
    "nan",
    "None",
    "(Missing)",
    "é",
    "e\u0301",
    "\0",
    "日本",
    "🙂" * 3,
    "x" * 5000,
)
LETTERS = np.array(list("aZ09 _-\u00e9\u4e16\U0001f600\n\t'\"\\"))
SEED = 0


def odd_rows(
    rows: pd.DataFrame, numeric: Sequence[str], categories: Mapping[str, Sequence[str]], edges: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Rows with ``rows``' columns, the same each time: an extreme in each numeric column, nothing but nulls, and
    MADE more in which some values of real rows are changed, of few columns in one and of nearly all in another.

    ``edges`` holds values of numeric columns near which the model's answer jumps: each is tried with the two doubles
    next to it.
    """
    base: list[Any] = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, MADE, dtype=int))].to_dict("records")
    first, nothing = base[0], {name: np.nan if name in numeric else MISSING for name in rows.columns}
    extremes = [dict(first) | {name: value} for name in numeric for value in (LARGEST, -LARGEST)]
    made = _made(base, _choices(rows, numeric, categories, edges), frozenset(numeric))
    return pd.DataFrame([nothing, *extremes, *made], columns=rows.columns).astype(rows.dtypes)


def _choices(
    rows: pd.DataFrame, numeric: Sequence[str], categories: Mapping[str, Sequence[str]], edges: Mapping[str, np.ndarray]
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in numeric:
        values = np.unique(rows[name].dropna().to_numpy())
        values = values[np.linspace(0, len(values) - 1, 20, dtype=int)] if len(values) else values
        points = np.concatenate([values, (values[:-1] + values[1:]) / 2, edges.get(name, np.empty(0))])
        beside = [np.nextafter(points, side) for side in (-np.inf, np.inf)]
        near = np.concatenate([points, points.astype("float32"), *beside])
        found[name] = [*EXTREMES, *near[np.abs(near) <= LARGEST].tolist()]
    for name, known in categories.items():
        altered = [change(word) for word in known[:3] for change in (str.upper, str.title, "{}\0".format, " {}".format)]
        found[name] = [*WORDS, *known[:50], *altered]
    return found


def _made(
    base: Sequence[Mapping[str, Any]], choices: Mapping[str, Sequence[Any]], numeric: frozenset[str]
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    changed = rng.random((MADE, len(choices))) < rng.random((MADE, 1))
    values = [_changes(rng, listed, number=name in numeric) for name, listed in choices.items()]
    return [
        dict(base[i % len(base)])
        | {name: column[i] for name, column, is_new in zip(choices, values, changed[i], strict=True) if is_new}
        for i in range(MADE)
    ]


def _changes(rng: np.random.Generator, listed: Sequence[Any], *, number: bool) -> list[Any]:
    """Of each six one is a null, one has any number or word, the others are listed."""
    kind, place = rng.integers(0, 6, MADE), rng.integers(0, len(listed), MADE)
    if number:
        any_bits = rng.integers(0, 2**64, MADE, dtype=np.uint64).view(float)  # of all magnitudes alike
        anything = np.where(np.abs(any_bits) <= LARGEST, any_bits, rng.normal(0, 1e3, MADE)).tolist()
    else:
        anything = ["".join(rng.choice(LETTERS, length)) for length in rng.integers(0, 13, MADE)]
    null = np.nan if number else MISSING
    return [(null, anything[i], listed[place[i]])[min(kind[i], 2)] for i in range(MADE)]
