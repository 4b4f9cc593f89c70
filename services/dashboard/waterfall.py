"""An explanation as bars: from the average to this row's prediction, a feature at a time, the largest first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import altair as alt
import pandas as pd

from services.dashboard.client import Json, Row

MOST = 10  # features with a bar of their own
UP, DOWN, ENDS = "#c4473a", "#2f6fb0", "#555555"
ROW_HEIGHT, AXIS_HEIGHT = 26, 60
WIDEST = 40  # characters of a category


@dataclass(frozen=True)
class Bar:
    """``kind`` tells an end, which stands at its value, from what moves the prediction up or down to ``end``."""

    label: str
    start: float
    end: float
    kind: str
    text: str


def shown(value: float, digits: int = 4) -> str:
    """A number for people: some digits, never an exponent for what is read as an amount.

    >>> [shown(value) for value in (0.123456, 70.5, 412345.7, -0.00001234)]
    ['0.1235', '70.5', '412,346', '-1.234e-05']
    """
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def bars(explanation: Json, row: Row) -> list[Bar]:
    """From ``base`` to ``output``; every feature but the MOST that moved it most shares a bar."""
    values: Mapping[str, float] = explanation["values"]
    by_size = sorted(values, key=lambda name: -abs(values[name]))
    own = by_size if len(by_size) <= MOST + 1 else by_size[:MOST]
    steps = [(f"{name} = {_said(row[name])}", values[name]) for name in own]
    if rest := by_size[len(own) :]:
        steps.append((f"{len(rest)} others", sum(values[name] for name in rest)))
    at, made = explanation["base"], [_end("average", explanation["base"])]
    places = _places(steps)
    for label, value in steps:
        made.append(Bar(label, at, at + value, "up" if value >= 0 else "down", f"{value:+z,.{places}f}"))
        at += value
    return [*made, _end("this row", explanation["output"])]


def _places(steps: Sequence[tuple[str, float]]) -> int:
    """Decimals for three digits of the largest step."""
    largest = max((abs(value) for _, value in steps), default=0.0)
    return 2 if largest == 0 else min(9, max(0, 2 - math.floor(math.log10(largest))))


def _end(label: str, value: float) -> Bar:
    return Bar(label, value, value, "end", shown(value))


def _said(value: float | str | None) -> str:
    if value is None:
        return "(missing)"
    if isinstance(value, str):
        return value if len(value) <= WIDEST else f"{value[:WIDEST]}…"
    return shown(value, 6)


def chart(steps: list[Bar], scale: str) -> alt.LayerChart:
    """Horizontal bars on an axis named ``scale``, each beginning where the one above ended."""
    table = pd.DataFrame(asdict(step) for step in steps)
    # two rows may bear one label, which then would share a place
    table["place"] = range(len(table))
    table["next"] = table["place"].shift(-1)
    table["right"] = table[["start", "end"]].max(axis=1)
    names = f"{json.dumps([step.label for step in steps])}[datum.value]"
    axis = alt.Axis(labelExpr=names, labelLimit=260, labelFlush=False, ticks=False, domain=False)
    y = alt.Y("place:O", title=None, axis=axis)
    ends_at = [step.end for step in steps]
    wide = (max(ends_at) - min(ends_at)) or 1.0
    domain = [min(ends_at) - 0.05 * wide, max(ends_at) + 0.25 * wide]  # room for the texts on the right
    x = alt.X("start:Q", title=scale, scale=alt.Scale(domain=domain, zero=False, nice=False))
    color = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=["up", "down", "end"], range=[UP, DOWN, ENDS]))
    base = alt.Chart(table).encode(y=y)
    links = base.transform_filter("isValid(datum.next)").mark_rule(color="#bbbbbb")
    moves = base.transform_filter("datum.kind != 'end'").mark_bar(height=16, cornerRadius=2)
    ends = base.transform_filter("datum.kind == 'end'").mark_tick(thickness=3, height=18)
    texts = base.mark_text(align="left", dx=6)
    return alt.layer(
        links.encode(x=alt.X("end:Q"), y2="next:O"),
        moves.encode(x=x, x2="end:Q", color=color),
        ends.encode(x=x, color=color),
        texts.encode(x="right:Q", text="text:N", color=color),
    ).properties(height=ROW_HEIGHT * len(table) + AXIS_HEIGHT)
