"""When drift began and what changed: found in summaries of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from driftloop.category import MISSING
from driftloop.change import MOST, NumericChange, ShareChange, change_of, parts_of, said
from driftloop.columnar import Column, Summary
from driftloop.retrain import ColumnDrift
from driftloop.timeline import Arrival, Cell, Ids, Timeline, Track, arrivals, most_drifted_first, track

FEE, PLAN = Column("fee", numeric=True), Column("plan", numeric=False)
MONTHS = tuple(f"2024-{month:02}" for month in range(1, 13))
numbers = st.lists(st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3)), min_size=6, max_size=40)


def summary(values: Sequence[object] | np.ndarray, nulls: int = 0) -> Summary:
    distinct, counts = np.unique(np.array(values), return_counts=True)
    return Summary(distinct, counts, nulls)


def judged(score: float, threshold: float = 0.1, method: str = "Wasserstein distance (normed)") -> ColumnDrift:
    return ColumnDrift("fee", method, score, threshold, score >= threshold)


def tracked(scores: Sequence[float], changed: bool = True) -> Track:
    """A column with these scores from 2024-02 on, 2024-01 being the reference."""
    cells = [Cell(month, judged(score), newer=True) for month, score in zip(MONTHS[1:], scores, strict=False)]
    change = change_of(FEE, summary(range(50, 70)), summary(range(60, 80)), "2024-05")
    return Track("fee", True, tuple(cells), change if changed else None)


@given(numbers, st.floats(0.1, 1e3))
def test_numbers_that_all_moved_alike_changed_their_mean(values: list[float], by: float) -> None:
    assume(np.ptp(values) > 0.1)
    parts = parts_of(summary(values), summary(np.array(values) + by))
    assert parts["mean"] == pytest.approx(by**2)
    assert parts["spread"] + parts["shape"] <= 1e-6 * by**2 + 1e-6


@given(numbers, st.floats(1.5, 10))
def test_numbers_stretched_about_their_mean_changed_their_spread(values: list[float], by: float) -> None:
    assume(np.ptp(values) > 0.1)
    mean = np.mean(values)
    parts = parts_of(summary(values), summary(mean + by * (np.array(values) - mean)))
    assert max(parts, key=lambda part: parts[part]) == "spread"
    assert parts["spread"] == pytest.approx(sum(parts.values()), rel=1e-6)


def test_another_shape_of_the_same_mean_and_spread_is_told_as_that() -> None:
    normal = np.random.default_rng(0).normal(size=4000)
    two_humps = np.repeat([-1.0, 1.0], 2000)
    normal = (normal - normal.mean()) / normal.std()
    parts = parts_of(summary(normal), summary(two_humps))
    assert parts["shape"] == pytest.approx(sum(parts.values()))


@given(numbers, numbers)
def test_the_parts_add_up_to_the_squared_wasserstein_2_distance(one: list[float], other: list[float]) -> None:
    one, other = [*one, 0.5], [*other, 0.5]  # no whole numbers, which stand for what rounds to them
    parts = parts_of(summary(one), summary(other))
    long = np.lcm(len(one), len(other))
    pairs = (np.sort(np.repeat(side, long // len(side))) for side in (one, other))
    assert sum(parts.values()) == pytest.approx(np.mean(np.square(np.subtract(*pairs))), rel=1e-6, abs=1e-6)
    assert min(parts.values()) >= 0
    assert wasserstein_distance(one, other) ** 2 <= sum(parts.values()) * (1 + 1e-6) + 1e-6  # W1 is no more than W2


@given(*[st.lists(st.integers(-20, 20), min_size=6, max_size=40)] * 2)
def test_whole_numbers_stand_for_all_that_rounds_to_them(one: list[int], other: list[int]) -> None:
    spread = (np.arange(300) + 0.5) / 300 - 0.5
    rounded_to = [(np.array(side)[:, None] + spread).ravel() for side in (one, other)]
    exact = parts_of(summary(one), summary(other))
    near = parts_of(*(summary(side) for side in rounded_to))
    assert exact == pytest.approx(near, rel=1e-2, abs=1e-2)


def test_counts_that_grew_changed_their_mean_and_not_their_shape() -> None:
    rng = np.random.default_rng(3)
    parts = parts_of(summary(rng.poisson(4, 5000)), summary(rng.poisson(4.5, 5000)))
    assert parts["mean"] > 0.8 * sum(parts.values())


def test_very_many_values_are_thinned_and_say_the_same() -> None:
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=110_000), rng.normal(0.5, 1.2, 210_000)
    exact = parts_of(summary(one), summary(other))
    change = change_of(FEE, summary(one), summary(other), "2024-05")
    assert isinstance(change, NumericChange)
    assert change.parts == pytest.approx({part: size / sum(exact.values()) for part, size in exact.items()}, abs=1e-3)
    assert (change.before.mean, change.after.std) == pytest.approx((one.mean(), other.std()), rel=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([50 + i for i in range(20)], [60 + i for i in range(20)], "its mean rose from 59.5 to 69.5"),
        ([i / 7 for i in range(20)], [-i / 7 for i in range(20)], "its mean fell from 1.36 to -1.36"),
        (range(1_000_000, 1_000_021), range(1_000_003, 1_000_024), "its mean rose from 1,000,010 to 1,000,013"),
        (range(20), range(-10, 30), "its spread widened, the standard deviation going from 5.77 to 11.5"),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6] * 2, "its values are spread as in the reference"),
        ([0] * 70 + [1] * 30, [0] * 40 + [1] * 60, "the share of 0 fell from 70.0% to 40.0%, of 1 rose from 30.0% to"),
    ],
)
def test_a_numeric_change_is_told_in_the_columns_own_units(
    before: Sequence[float], after: Sequence[float], told: str
) -> None:
    assert said(change_of(FEE, summary(before), summary(after), "2024-05")).startswith(told)


def test_a_change_of_shape_names_the_quantile_that_moved_most() -> None:
    rng = np.random.default_rng(1)
    even = rng.uniform(-1, 1, 4000)
    skewed = rng.exponential(size=4000)
    skewed = (skewed - skewed.mean()) / skewed.std() * even.std() + even.mean()
    change = change_of(FEE, summary(even), summary(skewed), "2024-05")
    assert change.what == "shape"
    assert said(change).startswith("its shape changed, most the 5% quantile, from -0.904 to -0.55")


def test_more_nulls_are_told_beside_the_rest() -> None:
    change = change_of(FEE, summary(range(20), nulls=0), summary(range(5, 25), nulls=20), "2024-05")
    assert said(change).endswith("nulls went from 0.0% to 50.0%")
    assert isinstance(change, NumericChange)
    assert change.after.nulls == 0.5


def test_categories_are_told_by_how_far_they_moved_new_ones_and_nulls_as_such() -> None:
    before = summary(["fibre"] * 60 + ["dsl"] * 30 + ["no"] * 10)
    after = summary(["fibre"] * 30 + ["dsl"] * 30 + ["no"] * 10 + ["satellite"] * 20 + [MISSING] * 10)
    change = change_of(PLAN, before, after, "2024-05")
    assert isinstance(change, ShareChange)
    assert [share.name for share in change.shares[:3]] == ["fibre", "satellite", MISSING]
    assert said(change) == (
        "the share of fibre fell from 60.0% to 30.0%, of satellite (new) rose from 0.0% to 20.0%, of nulls (new) rose "
        "from 0.0% to 10.0%; 5 categories in all"
    )


def test_of_very_many_categories_those_that_moved_most_are_kept() -> None:
    before, after = summary([f"c{i:05}" for i in range(5000)]), summary([f"c{i:05}" for i in range(4000)] + ["c0"] * 9)
    change = change_of(PLAN, before, after, "2024-05")
    assert isinstance(change, ShareChange)
    assert (len(change.shares), change.categories, change.shares[0].name) == (MOST, 5001, "c0")
    for side in ("before", "after"):
        assert sum(getattr(share, side) for share in (*change.shares, change.rest)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "first", "last", "came_back", "when"),
    [
        ([0.0, 0.0, 0.3, 0.4, 0.5], "2024-04", "2024-06", False, "from 2024-04 on"),
        ([0.0, 0.3, 0.4, 0.0], "2024-03", "2024-04", True, "from 2024-03 to 2024-04 and came back"),
        ([0.0, 0.3, 0.0, 0.0], "2024-03", "2024-03", True, "in 2024-03 only"),
        ([0.0, 0.0, 0.3], "2024-04", "2024-04", False, "in 2024-04, the newest window"),
        ([0.3, 0.0, 0.3], "2024-02", "2024-04", False, "from 2024-02 on, in 2 of 3 windows"),
        ([0.3, 0.0, 0.3, 0.0], "2024-02", "2024-04", True, "from 2024-02 to 2024-04, in 2 of 3 windows, and came back"),
    ],
)
def test_when_a_drift_began_stayed_and_came_back(
    scores: list[float], first: str, last: str, came_back: bool, when: str
) -> None:
    column = tracked(scores)
    assert (column.first, column.last, column.came_back) == (first, last, came_back)
    assert str(column.sentence).startswith(f"fee drifted {when}: its mean rose from 59.5 to 69.5 (")


def test_a_sentence_ends_with_the_score_of_the_first_drifted_window() -> None:
    assert str(tracked([0.0, 0.312, 0.9]).sentence).endswith("(Wasserstein distance 0.312, threshold 0.1)")


def test_a_quiet_column_has_no_first_window_and_nothing_to_say() -> None:
    column = tracked([0.0, 0.0], changed=False)
    assert (column.first, column.last, column.came_back, column.sentence) == (None, None, False, None)


@pytest.mark.parametrize(
    ("drift", "excess"),
    [
        (judged(0.3), 3.0),
        (judged(0.05), 0.5),
        (judged(0.1), 1.0),
        (judged(0.0), 0.0),
        (judged(0.3, threshold=0.0), np.inf),
        (judged(0.0, threshold=0.0), 1.0),
        (ColumnDrift("fee", "K-S p_value", 0.01, 0.05, drifted=True), 5.0),
        (ColumnDrift("fee", "K-S p_value", 0.5, 0.05, drifted=False), 0.1),
        (ColumnDrift("fee", "K-S p_value", 0.0, 0.05, drifted=True), np.inf),
    ],
)
def test_the_excess_is_above_one_for_drift_whether_scores_are_distances_or_p_values(
    drift: ColumnDrift, excess: float
) -> None:
    assert drift.excess == pytest.approx(excess)


class Reader:
    """Summaries of windows, and how often each was asked for."""

    def __init__(self, means: Mapping[str, float]) -> None:
        self.means = means
        self.asked: list[Ids] = []

    def __call__(self, ids: Ids) -> Summary:
        self.asked.append(ids)
        return summary(np.concatenate([np.arange(20.0) + self.means[window] for window in ids]))


def compare(reference: Summary, current: Summary, column: Column) -> ColumnDrift:
    means = [float(np.average(side.values, weights=side.counts)) for side in (reference, current)]
    return judged(abs(means[1] - means[0]) / 10)


def test_a_column_is_followed_through_the_windows_and_nothing_is_read_twice() -> None:
    means = dict(zip(MONTHS[:6], (0, 0, 0, 0, 5, 5), strict=True))
    read = Reader(means)
    found = track(FEE, arrivals(MONTHS[:6], {}, lambda _: MONTHS[:2]), read, compare)
    assert found.first == "2024-05"
    assert found.change is not None
    assert found.change.window == "2024-05"
    assert [cell.newer for cell in found.cells] == [False, False, True, True, True, True]
    assert len(read.asked) == len(set(read.asked)) == 7  # the reference as one, and six windows


def test_a_window_that_is_the_next_ones_reference_is_read_once() -> None:
    read = Reader(dict(zip(MONTHS[:4], (0, 0, 5, 5), strict=True)))
    before = {later: (earlier,) for earlier, later in pairwise(MONTHS)}
    found = track(FEE, arrivals(MONTHS[:4], {}, lambda window: before.get(window, ())), read, compare)
    assert [cell.drift.drifted for cell in found.cells] == [False, True, False]
    assert (found.first, found.last, found.came_back) == ("2024-03", "2024-03", True)
    assert read.asked == [(month,) for month in MONTHS[:4]]


def test_what_differs_in_the_reference_or_before_it_did_not_begin_there() -> None:
    read = Reader(dict(zip(MONTHS[:5], (9, 0, 9, 0, 0), strict=True)))
    found = track(FEE, arrivals(MONTHS[:5], {}, lambda _: ("2024-02", "2024-04")), read, compare)
    assert [cell.drift.drifted for cell in found.cells] == [True, False, True, False, False]
    assert (found.first, found.change) == (None, None)


def test_a_quarantined_window_is_marked_and_not_measured() -> None:
    read = Reader(dict(zip(MONTHS[:3], (0, 0, 5), strict=True)))
    made = arrivals(MONTHS[:3], {"2024-02": ("column fee is missing",)}, lambda _: ("2024-01",))
    assert [arrival.state for arrival in made] == ["reference", "quarantined", "measured"]
    found = track(FEE, made, read, compare)
    assert [cell.window for cell in found.cells] == ["2024-01", "2024-03"]
    told = Timeline("homes", "training", tuple(made), (found,)).json()
    assert told["windows"][1] == {
        "window": "2024-02", "state": "quarantined", "reference": [], "problems": ["column fee is missing"],
    }  # fmt: skip


def test_json_has_a_cell_a_measured_window_and_the_change_in_numbers() -> None:
    read = Reader(dict(zip(MONTHS[:3], (0, 0, 5), strict=True)))
    made = arrivals(MONTHS[:3], {}, lambda _: ("2024-01",))
    told = Timeline("homes", "2024-01", tuple(made), (track(FEE, made, read, compare),)).json()
    assert (told["loop"], told["reference"]) == ("homes", ["2024-01"])
    [column] = told["columns"]
    assert {key: column[key] for key in ("name", "kind", "first", "last", "came_back")} == {
        "name": "fee", "kind": "numeric", "first": "2024-03", "last": "2024-03", "came_back": False,
    }  # fmt: skip
    assert column["cells"][2] == {
        "window": "2024-03", "method": "Wasserstein distance (normed)", "score": 0.5, "threshold": 0.1, "drifted": True,
    }  # fmt: skip
    change = column["change"]
    assert (change["window"], change["what"]) == ("2024-03", "mean")
    assert change["parts"] == pytest.approx({"mean": 1, "spread": 0, "shape": 0})
    assert (change["before"]["mean"], change["after"]["mean"]) == (9.5, 14.5)
    assert change["before"]["quantiles"] == {"0.05": 0, "0.25": 4, "0.5": 9, "0.75": 14, "0.95": 18}


def test_columns_that_drifted_most_come_first() -> None:
    quiet, once, twice = tracked([0.0, 0.09], changed=False), tracked([0.0, 0.9]), tracked([0.2, 0.2])
    assert most_drifted_first([quiet, once, twice]) == (twice, once, quiet)


@given(numbers, numbers)
def test_all_rows_lie_in_the_histogram(one: list[float], other: list[float]) -> None:
    change = change_of(FEE, summary([*one, *range(6)]), summary(other), "2024-05")
    assert isinstance(change, NumericChange)
    assert sum(change.histogram.before) == pytest.approx(1)
    assert sum(change.histogram.after) == pytest.approx(1)


def test_whole_numbers_have_whole_bins() -> None:
    change = change_of(FEE, summary(range(7)), summary(range(3, 10)), "2024-05")
    assert isinstance(change, NumericChange)
    assert change.histogram.edges == tuple(i - 0.5 for i in range(11))
    assert Arrival("2024-05").state == "no reference"
