"""Data quality beside the reference: what moves a column, and what chance and the margin let pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.category import MISSING
from driftloop.columnar import Column, Summary
from driftloop.live import FALSE_ALARM
from driftloop.quality import MARGIN, TAILS, chance, column_quality
from driftloop.retrain import ColumnQuality

FEE, PLAN = Column("fee", numeric=True), Column("plan", numeric=False)
NUMBERS = st.lists(st.none() | st.integers(-5, 5).map(float), min_size=1, max_size=60)
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", MISSING]), min_size=1, max_size=60)


def numbers(values: list[float | None]) -> Summary:
    held, counts = np.unique(np.array([v for v in values if v is not None], dtype=float), return_counts=True)
    return Summary(held, counts, sum(v is None for v in values))


def words(values: list[str]) -> Summary:
    held, counts = np.unique(np.array(values, dtype=object), return_counts=True)
    return Summary(held, counts, 0)


def fees(reference: list[float | None], current: list[float | None], columns: int = 1) -> ColumnQuality:
    return column_quality(numbers(reference), numbers(current), FEE, columns)


def plans(reference: list[str], current: list[str], columns: int = 1) -> ColumnQuality:
    return column_quality(words(reference), words(current), PLAN, columns)


def spread(rows: int, nulls: int = 0) -> list[float | None]:
    return [None] * nulls + [float(n % 100) for n in range(rows - nulls)]


def test_nulls_that_rose_have_moved() -> None:
    found = fees(spread(1000, nulls=10), spread(1000, nulls=100))
    assert found == ColumnQuality("fee", 0.1, 0.01, unseen=None, outside=0.0, moved=True)


def test_nulls_that_fell_have_moved_too() -> None:
    assert fees(spread(1000, nulls=300), spread(1000, nulls=0)).moved


def test_a_null_category_is_a_null_and_not_unseen() -> None:
    found = plans(["a", "b"] * 500, ["a", "b"] * 400 + [MISSING] * 200)
    assert found == ColumnQuality("plan", 0.2, 0.0, unseen=0.0, outside=None, moved=True)


def test_unseen_categories_have_moved() -> None:
    found = plans(["a", "b"] * 500, ["a", "b"] * 450 + ["c"] * 60 + ["d"] * 40)
    assert found == ColumnQuality("plan", 0.0, 0.0, unseen=0.1, outside=None, moved=True)


def test_a_category_that_is_gone_is_no_matter_of_quality() -> None:
    assert not plans(["a", "b"] * 500, ["a"] * 1000).moved


@pytest.mark.parametrize("strange", [-1.0, 100.0])
def test_numbers_below_or_above_the_range_have_moved(strange: float) -> None:
    found = fees(spread(1000), [*spread(950), *[strange] * 50])
    assert found == ColumnQuality("fee", 0.0, 0.0, unseen=None, outside=0.05, moved=True)


def test_numbers_at_the_ends_of_the_range_are_within() -> None:
    assert fees(spread(1000), [0.0, 99.0] * 500).outside == 0


def test_a_reference_without_a_number_has_no_range() -> None:
    found = fees([None] * 1000, spread(1000))
    assert (found.outside, found.moved) == (1.0, True)


@pytest.mark.parametrize(("nulls", "moved"), [(1000, False), (1001, True)])
def test_a_share_beyond_the_margin_by_one_row_moves_where_rows_are_many(nulls: int, moved: bool) -> None:
    assert math.isclose(MARGIN, 1000 / 100_000)
    side = Summary(np.array([1.0]), np.array([100_000]), 0)
    current = Summary(np.array([1.0]), np.array([100_000 - nulls]), nulls)
    assert column_quality(side, current, FEE, 1).moved == moved


@pytest.mark.parametrize("base", [0.34, 0.57, 0.29])
def test_a_share_of_exactly_the_margin_more_has_not_moved(base: float) -> None:
    rows = 1_000_000

    def side(share: float) -> Summary:
        nulls = round(share * rows)
        return Summary(np.array([1.0]), np.array([rows - nulls]), nulls)

    assert not column_quality(side(base), side(base + 0.01), FEE, 1).moved


def test_what_chance_explains_has_not_moved_however_large_the_share() -> None:
    few = next(n for n in range(1, 50) if chance(n, 100, 0, 100) < FALSE_ALARM / TAILS)
    assert not fees(spread(100), spread(100, nulls=few - 1)).moved
    assert (few - 1) / 100 > MARGIN
    assert fees(spread(100), spread(100, nulls=few)).moved


def test_more_columns_ask_for_more_evidence() -> None:
    few = next(n for n in range(1, 50) if chance(n, 100, 0, 100) < FALSE_ALARM / TAILS)
    assert not fees(spread(100), spread(100, nulls=few), columns=300).moved


def test_a_long_tail_of_categories_is_always_partly_unseen_and_has_not_moved() -> None:
    rng = np.random.default_rng(0)
    before, now = ([f"street {n}" for n in rng.zipf(1.3, 2000)] for _ in range(2))
    found = plans(before, now)
    assert found.unseen is not None
    assert found.unseen > 0.1, "its own singletons say as much"
    assert not found.moved


def test_one_number_beyond_a_long_reference_has_not_moved() -> None:
    reference = [float(n) for n in range(100_000)]
    assert not fees(reference, [*spread(49), -1.0], columns=20).moved


@pytest.mark.parametrize("reference", [[], [1.0]])
def test_a_side_without_rows_is_refused(reference: list[Any]) -> None:
    with pytest.raises(ValueError, match="column fee: a side without rows has no shares"):
        fees(reference, [] if reference else [1.0])


def test_nothing_of_nothing_is_what_chance_always_explains() -> None:
    assert chance(0, 100, 5, 100) == 1


@pytest.mark.parametrize(("count", "other"), [(5, 0), (30, 20), (60, 45), (99, 90), (99, 190)])
def test_chance_is_never_below_that_of_the_exact_test(count: int, other: int) -> None:
    total = count + other
    ways = sum(math.comb(100, k) * math.comb(200, total - k) for k in range(count, min(100, total) + 1))
    exact = ways / math.comb(300, total)
    assert exact <= chance(count, 100, other, 200) < 1e-3 + 300 * exact


def test_unchanged_data_is_hardly_ever_called_moved() -> None:
    rng = np.random.default_rng(1)

    def side(rows: int) -> Summary:
        held, counts = np.unique(rng.normal(size=rows).round(1), return_counts=True)
        return Summary(held, counts, int(rng.binomial(rows, 0.05)))

    assert sum(column_quality(side(400), side(50), FEE, 1).moved for _ in range(1000)) <= 3


@given(NUMBERS, st.integers(1, 300))
def test_identical_sides_of_numbers_never_move(values: list[float | None], columns: int) -> None:
    assert not fees(values, values, columns).moved


@given(WORDS, st.integers(1, 300))
def test_identical_sides_of_categories_never_move(values: list[str], columns: int) -> None:
    found = plans(values, values, columns)
    assert (found.moved, found.unseen, found.nulls) == (False, 0, found.reference_nulls)


@given(NUMBERS, NUMBERS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(before: list[float | None], now: list[float | None], random: Any) -> None:
    found = fees(before, now)
    random.shuffle(before)
    random.shuffle(now)
    assert fees(before, now) == found


@given(WORDS, WORDS)
def test_the_shares_are_those_of_the_rows(before: list[str], now: list[str]) -> None:
    found = plans(before, now)
    assert found.nulls == now.count(MISSING) / len(now)
    assert found.unseen == sum(word not in before and word != MISSING for word in now) / len(now)


@given(WORDS, WORDS)
def test_more_columns_never_turn_unmoved_into_moved(before: list[str], now: list[str]) -> None:
    assert plans(before, now, 1).moved >= plans(before, now, 100).moved
