"""Calibration error against sums worked by hand, the F1 threshold against every threshold there is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from driftloop.calibration import best_f1_threshold, calibration_error
from driftloop.metrics import METRICS, Predictions

Array = NDArray[np.float64]

# few distinct values, so that many rows share one
probabilities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1)


@st.composite
def scored(draw: st.DrawFn, events: int = 0) -> tuple[Array, Array]:
    """(y, probabilities), with at least so many events."""
    n = draw(st.integers(1, 30))
    y = draw(arrays(float, n, elements=st.sampled_from([0.0, 1.0])).filter(lambda a: a.sum() >= events))
    return y, draw(arrays(float, n, elements=probabilities))


# calibration error


def test_the_calibration_error_is_the_one_worked_by_hand() -> None:
    probability = (np.arange(20) + 0.5) / 20  # ten bins of two rows, (0.025, 0.075), (0.125, 0.175), ...
    y = np.tile([0.0, 1.0], 10)  # one event in each bin
    # bin k has the mean probability (2k + 1) / 20 and the event rate 1/2: off by 9, 7, 5, 3, 1, 1, 3, 5, 7, 9 of 20
    assert calibration_error(y, probability) == pytest.approx((50 / 20) / 10)


def test_the_order_of_rows_does_not_matter() -> None:
    y, probability = np.tile([0.0, 1.0], 10), (np.arange(20) + 0.5) / 20
    order = np.random.default_rng(0).permutation(20)
    assert calibration_error(y[order], probability[order]) == pytest.approx(0.25)


def test_bins_weigh_as_many_rows_as_they_hold() -> None:
    probability = np.array([0.0] * 30 + [1.0] * 10)
    y = np.array([1.0] * 6 + [0.0] * 24 + [1.0] * 5 + [0.0] * 5)
    # of 30 rows said never 1/5 are events, of 10 said always 1/2 are: (30 * 1/5 + 10 * 1/2) / 40
    assert calibration_error(y, probability) == pytest.approx(11 / 40)


def test_rows_of_one_probability_share_a_bin() -> None:
    y = np.array([0.0] * 7 + [1.0] * 3)  # split into two bins, 0 and 1 would each be off by more
    assert calibration_error(y, np.full(10, 0.5)) == pytest.approx(0.2)
    assert calibration_error(y[::-1], np.full(10, 0.5)) == pytest.approx(0.2)


def test_probabilities_that_come_true_have_no_error() -> None:
    probability = np.repeat([0.1, 0.5, 0.9], 10)
    y = np.concatenate([np.arange(10) < events for events in (1, 5, 9)]).astype(float)
    assert calibration_error(y, probability) == pytest.approx(0, abs=1e-12)


def test_certainty_is_best_when_right_and_worst_when_wrong() -> None:
    y = np.array([0.0, 0.0, 1.0])
    assert calibration_error(y, y) == 0
    assert calibration_error(y, 1 - y) == 1


@given(data=scored())
def test_the_calibration_error_is_a_share(data: tuple[Array, Array]) -> None:
    y, probability = data
    assert 0 <= calibration_error(y, probability) <= 1


@given(data=scored())
def test_bins_show_at_least_what_is_off_on_all_rows_and_at_most_what_is_off_on_each(data: tuple[Array, Array]) -> None:
    y, probability = data
    found = calibration_error(y, probability)
    assert abs(y.mean() - probability.mean()) - 1e-12 <= found <= np.abs(y - probability).mean() + 1e-12


# threshold


def by_every_threshold(y: Array, probability: Array) -> tuple[Fraction, float]:
    """(the highest F1, the lowest threshold that has it), exactly."""

    def f1(threshold: float) -> Fraction:
        yes = probability >= threshold
        return Fraction(2 * int(y[yes].sum()), int(yes.sum()) + int(y.sum()))

    best = max(f1(t) for t in probability)
    return best, float(min(t for t in probability if f1(t) == best))


@given(data=scored(events=1))
def test_the_threshold_is_the_lowest_with_the_highest_f1_of_all(data: tuple[Array, Array]) -> None:
    y, probability = data
    best, lowest = by_every_threshold(y, probability)
    found = best_f1_threshold(y, probability)
    assert found == lowest
    assert METRICS["f1"](y, Predictions(probability, found)) == pytest.approx(float(best))


def test_the_threshold_is_the_one_worked_by_hand() -> None:
    y, probability = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    # from 0.9: 2/4; 0.8: 2/5; 0.7: 4/6; 0.6: 6/7; 0.1: 6/8
    assert best_f1_threshold(y, probability) == 0.6


def test_of_thresholds_that_do_as_well_the_lowest_is_taken() -> None:
    y, probability = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.9, 0.6, 0.4, 0.2])
    # from 0.9: 2 * 1 / (1 + 2) = 2/3; from 0.2: 2 * 2 / (4 + 2) = 2/3
    assert best_f1_threshold(y, probability) == 0.2


def test_a_threshold_takes_all_rows_of_a_probability_or_none() -> None:
    y, probability = np.array([1.0, 0.0, 0.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.5, 0.4])
    # from 0.5: 2 * 1 / (4 + 2) = 1/3; from 0.4: 4/7. Were the event at 0.5 alone in its place, 2/3 would be the best
    assert best_f1_threshold(y, probability) == 0.4


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_where_all_rows_share_a_probability_that_is_the_threshold(probability: float) -> None:
    assert best_f1_threshold(np.array([0.0, 1.0, 0.0]), np.full(3, probability)) == probability


def test_without_an_event_there_is_no_best_threshold() -> None:
    with pytest.raises(ValueError, match="no row is an event, so F1 has no best threshold"):
        best_f1_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3]))
