"""Live metrics as labels come back, means against training's, and how often unchanged data is called changed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop.live import FALSE_ALARM, LiveMetrics, MeanShift, live_metrics, live_verdict, mean_shifts, z_limit
from tests.fakes import a_loop

REGRESSION = a_loop(task="regression", target="value")


def metrics(feedback: list[Any], prediction: list[float], loop: Any = None, **given: Any) -> LiveMetrics:
    found = pd.DataFrame({"prediction": prediction, "feedback": pd.Series(feedback, dtype=object)})
    return live_metrics(found, loop or a_loop(), version="1", rows=100, labelled=len(found), **given)


# metrics


def test_the_auc_is_that_of_the_labels_that_came_back() -> None:
    found = metrics([True, False, True, False], [0.8, 0.1, 0.35, 0.4])
    assert (found.metric, found.value, found.on, found.unread) == ("auc", 0.75, 4, 0)
    assert (found.version, found.rows, found.labelled) == ("1", 100, 4)


@pytest.mark.parametrize("feedback", [[], [True], [True, True], [False]])
def test_without_both_labels_there_is_no_auc_and_it_is_never_0(feedback: list[bool]) -> None:
    assert metrics(feedback, [0.5] * len(feedback)).value is None


@pytest.mark.parametrize("feedback", [["true", "False", 1, 0], [True, 0, "1", "FALSE"]])
def test_labels_count_however_they_are_spelled_when_the_champions_are_known(feedback: list[Any]) -> None:
    found = metrics(feedback, [0.9, 0.1, 0.8, 0.2], labels=("False", "True"))
    assert found.on + found.unread == 4
    assert found.value == 1.0


def test_a_label_that_is_none_of_the_champions_is_left_out_and_counted() -> None:
    found = metrics(["yes", "no", "maybe"], [0.9, 0.1, 0.5], labels=("no", "yes"))
    assert (found.value, found.on, found.unread) == (1.0, 2, 1)


def test_of_three_labels_none_is_taken_for_the_event_when_the_champions_are_not_known() -> None:
    found = metrics(["yes", "no", "maybe"], [0.9, 0.1, 0.5])
    assert (found.value, found.on, found.unread) == (None, 0, 3)


def test_the_mae_needs_one_label() -> None:
    assert metrics([], [], REGRESSION).value is None
    assert metrics([3.0], [2.5], REGRESSION).value == 0.5
    assert metrics([3, "4", 5.0], [2.0, 4.0, 5.0], REGRESSION).value == pytest.approx(1 / 3)


def test_what_is_no_number_is_left_out_of_a_mae_and_counted() -> None:
    found = metrics([3, "much", True, None, "inf"], [3.0] * 5, REGRESSION)
    assert (found.metric, found.value, found.on, found.unread) == ("mae", 0.0, 1, 4)


# means


def test_z_is_the_distance_in_standard_errors() -> None:
    current = pd.DataFrame({"fee": [12.0, np.nan, 10.0, 14.0, 12.0]})
    (shift,) = mean_shifts(current, {"fee": (10.0, 3.0)})
    assert shift == MeanShift("fee", 12.0, 10.0, pytest.approx(2.0 / (3.0 / math.sqrt(4))))
    (shift,) = mean_shifts(current, {"fee": (10.0, 3.0)}, trained_rows=4)
    assert shift.z == pytest.approx(2.0 / (3.0 * math.sqrt(1 / 4 + 1 / 4)))


def test_where_training_knew_one_value_any_other_is_infinitely_far() -> None:
    current = pd.DataFrame({"same": [5.0, 5.0], "more": [5.0, 5.1], "less": [4.0, 5.0]})
    found = mean_shifts(current, dict.fromkeys(current, (5.0, 0.0)))
    assert [shift.z for shift in found] == [0.0, math.inf, -math.inf]


def test_a_column_without_a_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="column fee holds no value"):
        mean_shifts(pd.DataFrame({"fee": [np.nan, np.nan]}), {"fee": (1.0, 1.0)})


@pytest.mark.parametrize("draw", ["normal", "exponential"])
@pytest.mark.long
def test_unchanged_data_raises_no_more_alarms_than_stated(draw: str) -> None:
    rng, looks, columns = np.random.default_rng(7), 2000, 10
    alarms = 0
    for _ in range(looks):
        training = getattr(rng, draw)(size=(3000, columns))
        current = pd.DataFrame(getattr(rng, draw)(size=(1000, columns)))
        statistics = {n: (float(training[:, n].mean()), float(training[:, n].std())) for n in range(columns)}
        shifts = mean_shifts(current, statistics, trained_rows=3000)  # type: ignore[arg-type]
        alarms += any(abs(shift.z) > z_limit(columns) for shift in shifts)
    # 2 are expected; 9 or more would happen once in 4,000 such tests at the stated rate
    assert alarms <= 4 * FALSE_ALARM * looks


def test_a_mean_that_moved_by_a_quarter_of_its_spread_is_found_in_1000_rows() -> None:
    rng = np.random.default_rng(1)
    current = pd.DataFrame({"fee": rng.normal(10.25, 1, 1000)})
    (shift,) = mean_shifts(current, {"fee": (10.0, 1.0)}, trained_rows=5000)
    assert shift.z > z_limit(20)


def test_the_limit_grows_with_the_columns() -> None:
    assert [round(z_limit(n), 2) for n in (0, 1, 10, 100)] == [3.29, 3.29, 3.89, 4.42]


# the verdict


def test_within_the_limits_it_is_quiet() -> None:
    shifts = [MeanShift("fee", 1.0, 1.1, -4.0), MeanShift("age", 1.0, 1.1, 3.9)]
    assert live_verdict(0.3, 0.3, shifts, 4.0).quiet


def test_the_share_or_one_mean_beyond_its_limit_is_reason_enough() -> None:
    shifts = [MeanShift("fee", 1.0, 1.1, -4.1), MeanShift("age", 5.0, 2.0, math.inf), MeanShift("n", 1.0, 1.0, 0.0)]
    found = live_verdict(0.5, 0.3, shifts, 4.0)
    assert not found.quiet
    assert found.reasons == (
        "drift share 0.50 is above 0.3",
        "means moved: fee 1 against 1.1 (z -4.1), age 5 against 2 (z +inf)",
    )
