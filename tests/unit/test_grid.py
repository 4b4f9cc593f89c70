"""The area between two distribution functions, counted in cells: what summing over all sorted numbers gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from driftloop import columnar, grid, runs
from driftloop.columnar import Column, Summary, Unsorted, compare, summarise, summary
from driftloop.stattests import TESTS, Pair
from driftloop.summaries import kept

COLUMN = Column("x", numeric=True, test="wasserstein")
ROWS = (3_000, 2_001)

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
DRAWS: dict[str, Draw] = {
    "the same": lambda rng, rows, side: rng.normal(size=rows),
    "moved": lambda rng, rows, side: rng.normal(0.1 * side, 1, rows),
    "moved beyond": lambda rng, rows, side: rng.normal(50 * side, 1, rows),
    "wider": lambda rng, rows, side: rng.normal(0, 1 + side, rows),
    "a long tail": lambda rng, rows, side: np.exp(3 * rng.normal(size=rows)),
    "no mean": lambda rng, rows, side: rng.standard_cauchy(rows),
    "whole": lambda rng, rows, side: rng.poisson(3 + 0.1 * side, rows).astype(float),
    "rounded": lambda rng, rows, side: rng.normal(size=rows).round(2),
    "mostly zero": lambda rng, rows, side: np.where(rng.random(rows) < 0.99, 0, rng.normal(size=rows)),
    "two hills": lambda rng, rows, side: rng.normal(size=rows) + np.where(rng.random(rows) < 0.5 + 0.01 * side, 0, 1e6),
    "far from 0": lambda rng, rows, side: 1e9 + rng.random(rows),
    "nearly a point": lambda rng, rows, side: 1e14 + rng.random(rows),
    "tiny": lambda rng, rows, side: 1e-300 * rng.normal(size=rows),
    "an outlier": lambda rng, rows, side: np.append(rng.normal(size=rows - 1), 1e12),
    "in order": lambda rng, rows, side: np.arange(rows) + 3.3 * side,
    # cells are half as wide as such numbers are apart: where one's ends, the next one begins, but for rounding
    "half a cell": lambda rng, rows, side: 2.0**52 + np.clip(rng.integers(-40, 2089, rows), 0, 2048),
    "few": lambda rng, rows, side: rng.integers(0, 2 + side, rows).astype(float),
}


def pair(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return DRAWS[name](rng, ROWS[0], 0), DRAWS[name](rng, ROWS[1], 1)


class Pieces:
    """A side that gives its column in pieces."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def batches(self, column: Column) -> Iterator[Any]:
        yield from np.array_split(self.values, 7)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BLOCK", 256)
    monkeypatch.setattr(runs, "STEP", 16)
    monkeypatch.setattr(grid, "MANY", 1.0)  # however much has to be sorted


def unsorted(values: np.ndarray, place: Path) -> Summary:
    return summarise(Pieces(values), COLUMN)


def in_files(values: np.ndarray, place: Path) -> Summary:
    return summarise(Pieces(values), COLUMN, 500)


def ordered(values: np.ndarray, place: Path) -> Summary:
    return summary(values, COLUMN)


def from_the_store(values: np.ndarray, place: Path) -> Summary:
    for _ in range(2):  # the second one finds what the first one kept
        found = summarise(kept(Pieces(values), place, ["key"]), COLUMN)
    return found


@pytest.mark.parametrize("reference", [unsorted, in_files, ordered, from_the_store])
@pytest.mark.parametrize("current", [unsorted, in_files, ordered])
@pytest.mark.parametrize("name", DRAWS)
def test_the_area_is_that_of_the_sorted_numbers(tmp_path: Path, name: str, reference: Any, current: Any) -> None:
    values = pair(name)
    found = grid.area(reference(values[0], tmp_path), current(values[1], tmp_path))
    assert found == pytest.approx(wasserstein_distance(*values), rel=1e-9, abs=1e-12 * float(np.std(values[0])))


@pytest.mark.parametrize("apart", [0.0, 1e-9, 1.0])
def test_the_area_of_rows_that_all_moved_alike_is_how_far(tmp_path: Path, apart: float) -> None:
    values = pair("the same")[0]
    found = grid.area(unsorted(values, tmp_path), unsorted(values + apart, tmp_path))
    assert found == pytest.approx(apart, rel=1e-6, abs=1e-15)  # what apart is, once it is added to another number


@pytest.mark.parametrize(("name", "counted"), [("moved", True), ("few", False)])
def test_the_score_is_that_of_the_area_but_where_most_numbers_would_have_to_be_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counted: bool
) -> None:
    monkeypatch.setattr(grid, "MANY", 0.25)
    values = pair(name)
    sides = [unsorted(side, tmp_path) for side in values]
    found = compare(sides[0], sides[1], COLUMN)
    assert found.score == pytest.approx(wasserstein_distance(*values) / np.std(values[0]), rel=1e-9)
    assert ("_ordered" not in vars(sides[0])) == counted


@pytest.mark.parametrize(("nearly", "by_all"), [(1e-10, True), (1e-6, False)])
def test_a_score_at_the_threshold_is_told_by_all_numbers(tmp_path: Path, nearly: float, by_all: bool) -> None:
    values = pair("moved")
    exact = TESTS["wasserstein"].score(Pair(*(ordered(side, tmp_path) for side in values), exactly=True), numeric=True)
    sides = [unsorted(side, tmp_path) for side in values]
    found = compare(sides[0], sides[1], Column("x", True, "wasserstein", exact * (1 + nearly)))
    assert ("_ordered" in vars(sides[0]), found.drifted) == (by_all, False)
    assert found.score == pytest.approx(exact, rel=1e-12)


def test_only_numbers_in_cells_where_the_functions_may_cross_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    add = runs.Numbers.add

    def counted(self: runs.Numbers, values: np.ndarray) -> None:
        asked.append(len(values))
        add(self, values)

    for name, most in (("moved", 0.05), ("the same", 0.5)):
        sides = [unsorted(values, tmp_path) for values in pair(name)]
        asked.clear()
        with monkeypatch.context() as patched:
            patched.setattr(runs.Numbers, "add", counted)
            grid.area(sides[0], sides[1])
        assert 0 < sum(asked) < most * sum(ROWS)
        assert all("_ordered" not in vars(side) for side in sides)


@pytest.mark.parametrize(("name", "own"), [("moved", True), ("moved beyond", False)])
def test_both_sides_share_a_grid_that_spans_them(tmp_path: Path, name: str, own: bool) -> None:
    reference, current = (unsorted(values, tmp_path) for values in pair(name))
    sides = grid._counted(reference, current)
    assert sides is not None
    assert (sides[0].grid == reference.grid) == own
    for side, summary_ in zip(sides, (reference, current), strict=True):
        assert side.counts.sum() == summary_.rows
        assert side.counts[[0, -1]].sum() <= 2 * grid.OUTSIDE * summary_.rows


@pytest.mark.parametrize("made", [unsorted, in_files, ordered])
def test_a_look_at_some_numbers_is_a_look_at_some(tmp_path: Path, made: Any) -> None:
    assert 50 <= len(made(pair("moved")[0], tmp_path).some(50)) <= 60


def test_a_kept_reference_is_not_counted_again_and_read_where_it_may_cross(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, now = pair("moved")
    reference, current = from_the_store(before, tmp_path), unsorted(now, tmp_path)
    monkeypatch.setattr(Summary, "parts", lambda self: pytest.fail("all of the reference is read"))
    found = grid.area(reference, current)
    assert found == pytest.approx(wasserstein_distance(before, now), rel=1e-9)


def test_no_number_may_lie_in_a_cell_where_the_functions_may_cross(tmp_path: Path) -> None:
    before = np.repeat(np.arange(17.0), 4000)
    found = grid.area(unsorted(before, tmp_path), unsorted(before + 0.1, tmp_path))
    assert found == pytest.approx(0.1, rel=1e-9)


def test_a_cell_holds_more_rows_than_four_bytes_count() -> None:
    values = np.arange(2000.0)
    counts = np.where(values == 1000, 3_000_000_000, 10)
    assert grid.area(Summary(values, counts), Summary(values + 0.5, counts)) == pytest.approx(0.5, rel=1e-9)


POINTLESS = {
    "one point": np.full(600, 3.5),
    "nearer than a number tells": np.random.default_rng(0).normal(size=600) * 1e-315,
    "farther apart than a number tells": np.repeat([-1.7e308, 1.7e308], 300),
}


@pytest.mark.parametrize("name", POINTLESS)
def test_where_there_is_no_grid_it_says_so(tmp_path: Path, name: str) -> None:
    values = POINTLESS[name]
    assert grid.area(unsorted(values, tmp_path), unsorted(values[:500], tmp_path)) is None


@pytest.mark.parametrize("name", ["one point", "nearer than a number tells"])
def test_without_a_grid_the_score_is_that_of_the_sorted_numbers(tmp_path: Path, name: str) -> None:
    sides = POINTLESS[name], POINTLESS[name][:500] + 0.5
    found = compare(unsorted(sides[0], tmp_path), unsorted(sides[1], tmp_path), COLUMN)
    assert found.score == pytest.approx(wasserstein_distance(*sides) / 0.001, rel=1e-9)


def test_numbers_too_large_to_be_squared_have_an_infinite_spread(tmp_path: Path) -> None:
    values = 1e300 * pair("the same")[0]
    for made in (unsorted, ordered):
        found = made(values, tmp_path)
        assert found.variance == np.inf
        assert compare(found, made(values + 1e299, tmp_path), COLUMN).score == 0.0


@pytest.mark.parametrize("value", [0.3073783644202005, 0.7897423311848489, -1.2454289072222973, 1.1412275658560513])
@pytest.mark.parametrize("made", [unsorted, in_files, ordered])
def test_a_constant_has_no_spread(tmp_path: Path, made: Any, value: float) -> None:
    values = np.full(3159, value)
    found = made(values, tmp_path)
    assert (found.mean, found.variance) == (pytest.approx(value), 0.0)
    assert compare(found, made(values[:2000] + 1, tmp_path), COLUMN).score == pytest.approx(1000)


@pytest.mark.parametrize("made", [unsorted, in_files, ordered])
def test_the_spread_keeps_its_digits_where_the_numbers_looked_at_first_are_far_from_the_mean(
    tmp_path: Path, made: Any
) -> None:
    values = np.random.default_rng(0).normal(0, 1, 20_000)
    values[:: len(values) // columnar.SOME] = 1e6  # each of those
    exact = float(np.var(values.astype(np.longdouble)))
    assert made(values, tmp_path).variance == pytest.approx(exact, rel=1e-13)


def test_the_spread_keeps_its_digits_once_the_numbers_are_sorted(tmp_path: Path) -> None:
    values = np.append(np.zeros(200_000), np.arange(1e6, 1e6 + 9))
    found = unsorted(values, tmp_path)
    assert found.values.size == 10  # of a summary
    assert found.variance == pytest.approx(float(np.var(values.astype(np.longdouble))), rel=1e-13)


@pytest.mark.parametrize("made", [unsorted, in_files, ordered])
def test_numbers_too_large_to_be_added_up_have_an_infinite_mean(tmp_path: Path, made: Any) -> None:
    found = made(np.full(5000, 1e306), tmp_path)
    assert (found.mean, found.variance) == (np.inf, np.inf)


@pytest.mark.parametrize("made", [unsorted, in_files, ordered])
@pytest.mark.parametrize("name", ["the same", "whole", "in order"])
def test_a_summary_tells_the_same_in_any_order(tmp_path: Path, name: str, made: Any) -> None:
    values = pair(name)[0]
    found = made(values, tmp_path)
    assert found.rows == len(values)
    assert (found.mean, found.variance) == pytest.approx((values.mean(), values.var()), rel=1e-12, abs=1e-12)
    assert found.ends == (values.min(), values.max())
    assert found.occurs(values[0]) == (values == values[0]).sum()
    assert found.occurs(-77.5) == 0
    low, high = np.quantile(values, (0.1, 0.8))
    assert found.beyond(low, high) == ((values < low) | (values > high)).sum()
    assert found.more_than(5)
    assert not found.more_than(len(values))
    assert {*found.some(50)} <= {*values}
    assert found.values.tolist() == sorted({*values})  # of a summary
    assert (found.mean, found.ends) == (pytest.approx(values.mean()), (values.min(), values.max())), "sorted since"


def test_columns_in_threads_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2, timeout=30)
    numbers = runs.Numbers.sorted

    def waiting(self: runs.Numbers) -> Any:
        together.wait()  # both are here at once, or it breaks
        return numbers(self)

    monkeypatch.setattr(runs.Numbers, "sorted", waiting)
    side, columns = Pieces(pair("moved")[0]), [Column(name, numeric=True) for name in ("x", "y")]
    found = columnar.judged(side, side, columns, lambda before, now, column: len(before.values), threads=2)
    assert found == (ROWS[0], ROWS[0])


def test_what_cannot_be_sorted_is_no_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*request: Any) -> Any:
        raise OSError(28, "No space left on device")

    values, write = pair("the same")[0], runs.write
    monkeypatch.setattr(runs, "write", full)
    side = in_files(values, tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            _ = side.values  # of a summary
    monkeypatch.setattr(runs, "write", write)
    assert side.values.tolist() == sorted({*values}), "nothing was lost"


def test_numbers_of_few_values_are_known_as_such_unsorted() -> None:
    values = np.tile([1.0, 2.0, 3.0], 2000)
    assert isinstance(found := summarise(Pieces(values), columnar.Column("x", numeric=True)), Unsorted)
    assert not found.more_than(3)
    assert found.more_than(2)
