"""The bars of an explanation."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dashboard.waterfall import MOST, bars, chart, shown


def explanation(values, base=0.5):
    return {"base": base, "output": base + sum(values.values()), "values": values}


def test_bars_lead_from_the_average_to_the_output_the_largest_first():
    made = bars(explanation({"fee": 0.1, "plan": -0.3, "age": 0.0}), {"fee": 70.5, "plan": None, "age": 1.0})
    assert [bar.label for bar in made] == ["average", "plan = (missing)", "fee = 70.5", "age = 1", "this row"]
    assert [bar.kind for bar in made] == ["end", "down", "up", "up", "end"]
    assert [bar.text for bar in made] == ["0.5", "-0.300", "+0.100", "+0.000", "0.3"]
    assert [(bar.start, bar.end) for bar in made[1:3]] == [(0.5, 0.2), (0.2, pytest.approx(0.3))]


@pytest.mark.parametrize("features", [MOST, MOST + 1, MOST + 2, 40])
def test_features_beyond_the_most_important_share_a_bar(features):
    values = {f"f{i}": float(i + 1) for i in range(features)}
    made = bars(explanation(values), dict.fromkeys(values, 0.0))
    assert len(made) == min(features, MOST + 1) + 2
    if features > MOST + 1:
        assert made[-2].label == f"{features - MOST} others"
        assert made[-2].end - made[-2].start == pytest.approx(sum(range(1, features - MOST + 1)))


@settings(max_examples=30)
@given(st.dictionaries(st.text(min_size=1), st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(-1e6, 1e6))
def test_whatever_the_values_the_bars_join_and_end_at_the_output(values, base):
    why = explanation(values, base)
    made = bars(why, dict.fromkeys(values, "x"))
    assert all(a.end == b.start for a, b in pairwise(made[:-1]))
    assert made[-2].end == pytest.approx(why["output"], rel=1e-9, abs=1e-6)


def test_the_chart_names_its_scale_and_holds_labels_as_data():
    values = {'a"]; alert(1)': 0.25, "b": 0.0}
    spec = chart(bars(explanation(values), dict.fromkeys(values, 1.0)), "log-odds of yes").to_dict()
    assert spec["layer"][1]["encoding"]["x"]["title"] == "log-odds of yes"
    axis = spec["layer"][0]["encoding"]["y"]["axis"]
    assert axis["labelExpr"] == '["average", "a\\"]; alert(1) = 1", "b = 1", "this row"][datum.value]'


def test_a_row_that_nothing_moved_has_a_chart():
    assert chart(bars(explanation({"a": 0.0}), {"a": 1.0}), "spend").to_dict()


def test_amounts_have_no_exponents():
    assert [shown(value) for value in (0.123456, 412345.7, -1000.0, 0.0)] == ["0.1235", "412,346", "-1,000", "0"]
