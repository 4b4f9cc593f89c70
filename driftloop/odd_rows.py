"""Rows such as clients send and no training set holds: what a compiled model has to get right as well."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
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
KEPT = object()  # the base row's own value


def odd_rows(
    rows: pd.DataFrame, numeric: Sequence[str], categories: Mapping[str, Sequence[str]], edges: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Rows with ``rows``' columns, the same each time: an extreme in each numeric column, nothing but nulls, and
    MADE more in which hypothesis changes some values of real rows.

    ``edges`` holds values of numeric columns near which the model's answer jumps: each is tried with the two doubles
    next to it.
    """
    base: list[Any] = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, MADE, dtype=int))].to_dict("records")
    first, nothing = base[0], {name: np.nan if name in numeric else MISSING for name in rows.columns}
    extremes = [dict(first) | {name: value} for name in numeric for value in (LARGEST, -LARGEST)]
    made = _made(base, _choices(rows, numeric, categories, edges))
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
        found[name] = [np.nan, *EXTREMES, *near[np.abs(near) <= LARGEST].tolist()]
    for name, known in categories.items():
        altered = [change(word) for word in known[:3] for change in (str.upper, str.title, "{}\0".format, " {}".format)]
        found[name] = [MISSING, *WORDS, *known[:50], *altered]
    return found


def _made(base: Sequence[Mapping[str, Any]], choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from hypothesis.configuration import set_hypothesis_home_dir

    numbers = st.floats(-LARGEST, LARGEST)
    words = st.text(alphabet="aZ09 _-\u00e9\u4e16\U0001f600\n\t'\"\\", max_size=12)
    row = st.fixed_dictionaries(
        {
            name: st.one_of(st.just(KEPT), st.sampled_from(values), numbers if isinstance(values[0], float) else words)
            for name, values in choices.items()
        }
    )
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=MADE,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(row)
    def collect(changes: dict[str, Any]) -> None:
        kept = base[len(found) % len(base)]
        found.append({name: kept[name] if value is KEPT else value for name, value in changes.items()})

    with tempfile.TemporaryDirectory() as place:
        set_hypothesis_home_dir(Path(place))  # it keeps notes on the modules it sees, by default where one stands
        try:
            collect()
        finally:
            set_hypothesis_home_dir(None)
    return found
