"""The columnar engine beside Evidently's own tests: each column's method, score, threshold and verdict are the same."""

from __future__ import annotations

import json
import math
import os
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from driftloop import columnar, drift
from driftloop.columnar import Column, compare, summarise, summary
from driftloop.contract import ColumnTest
from driftloop.errors import DriftloopError
from driftloop.frame import features
from driftloop.stattests import TESTS, names_for

DATA = Path(os.environ.get("DRIFTLOOP_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
SIZES = (5, 30, 200, 999, 1000, 1001, 2500)  # the test changes at 1,000 rows of the reference
LARGE = 10_050  # KS is exact up to 10,000 rows
EXTREME = ("huge", "tiny", "sentinel", "greatest")  # of which some tests, and plots, make no number
KINDS = ("normal", "ties", "whole", "bool", *EXTREME, "far", "skewed", "constant", "strings", "rare strings")


def drawn(kind, rows, distinct, shift, nulls, seed):
    """A column of one kind, in canonical form."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(shift, 1, rows)
    few = (rng.integers(0, distinct, rows) + (rng.random(rows) < shift)).astype(float)
    values = {
        "normal": noise,
        "ties": np.round(noise, 1),
        "whole": few,
        "bool": few % 2,
        "huge": noise * 1e150,
        "tiny": noise * 1e-150,
        "sentinel": np.where(rng.random(rows) < 0.3, 1e306, noise),
        "greatest": np.where(np.arange(rows) % 2, np.finfo(float).max, noise),
        "far": noise + 1e3,
        "skewed": np.exp(3 * noise) * (rng.random(rows) < 0.5),
        "constant": np.full(rows, 1.0 + (shift > 0.2)),
    }.get(kind)
    if values is not None:
        values[rng.random(rows) < nulls] = np.nan
        values[:2] = 0.0 if np.isnan(values[:2]).all() else values[:2]
        return values
    spread = distinct if kind == "strings" else 10 * distinct
    names = [f"c{n}" for n in rng.zipf(1.5, rows).clip(1, spread) + (rng.random(rows) < shift / 2)]
    return np.array([None if rng.random() < nulls else name for name in names[:-1]] + names[-1:], dtype=object)


@st.composite
def sides(draw):
    """A kind, and a reference and current column of it."""
    kind, distinct = draw(st.sampled_from(KINDS)), draw(st.integers(1, 7))
    nulls, seed = draw(st.sampled_from([0.0, 0.0, 0.1])), draw(st.integers(0, 2**32))
    rows = [draw(st.sampled_from(SIZES)) for _ in range(2)]
    shifts = (0.0, draw(st.sampled_from([0.0, 0.05, 0.5])))
    return kind, [
        drawn(kind, n, distinct, s, nulls, seed + i) for i, (n, s) in enumerate(zip(rows, shifts, strict=True))
    ]


@pytest.fixture(scope="module")
def evidently():
    """What ValueDrift does to two columns: nulls go, its choice or the named test, its threshold."""
    from evidently.legacy.calculations.stattests import registry
    from evidently.legacy.core import ColumnType

    def judged(reference, current, column):
        kind = ColumnType.Numerical if column.numeric else ColumnType.Categorical
        series = [pd.Series(side).replace([-np.inf, np.inf], np.nan).dropna() for side in (reference, current)]
        test = registry.get_stattest(*series, kind, column.test)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = test(*series, kind, column.threshold)
        return column.test or test.display_name, float(found.drift_score), bool(found.drifted), found.actual_threshold

    return judged


def same(ours, theirs):
    method, score, drifted, threshold = theirs
    assert (ours.method, ours.threshold) == (method, threshold)
    assert ours.score == pytest.approx(score, rel=1e-9, abs=1e-12)
    assert ours.drifted == drifted


def is_numeric(kind):
    return "strings" not in kind


@settings(max_examples=250)
@given(sides())
@example(("whole", [drawn("whole", 1001, 5, 0, 0, 1), drawn("whole", 999, 5, 0, 0, 2)]))  # 5 values: no numbers
@example(("whole", [drawn("whole", 1000, 6, 0, 0, 1), drawn("whole", 2500, 6, 0, 0, 2)]))
@example(("constant", [drawn("constant", 1000, 1, 0, 0, 1), drawn("constant", 999, 1, 0, 0, 2)]))
@example(("sentinel", [drawn("sentinel", 1001, 1, 0, 0, 1), drawn("sentinel", 999, 1, 0.5, 0, 2)]))
@example(("greatest", [drawn("greatest", 1001, 1, 0, 0, 1), drawn("greatest", 999, 1, 0.5, 0, 2)]))
@example(("normal", [drawn("normal", 1000, 1, 0, 0, 1), drawn("normal", LARGE, 1, 0.02, 0, 2)]))
def test_evidentlys_choice_of_test_its_score_and_its_verdict(evidently, given_sides):
    kind, (reference, current) = given_sides
    column = Column("x", is_numeric(kind))
    ours = compare(summary(reference, column), summary(current, column), column)
    same(ours, evidently(reference, current, column))


@pytest.mark.parametrize("numeric", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_every_test_that_can_be_named(evidently, numeric, seed):
    kinds = [kind for kind in KINDS if is_numeric(kind) == numeric and kind not in (*EXTREME, "constant")]
    for kind in kinds:
        rows = (60, 60) if seed == 0 else (1500, 1500) if seed == 1 else (LARGE, 300) if seed == 2 else (300, 1500)
        pair = [drawn(kind, n, 2 if seed == 0 else 4, s, 0.0, seed) for n, s in zip(rows, (0.0, 0.1), strict=True)]
        for name in names_for(numeric=numeric):
            column = Column("x", numeric, name, 0.07 if seed % 2 else None)
            if name not in TESTS or (
                name == "es" and kind in ("bool", "whole")
            ):  # of so few values es has no full rank
                continue
            try:
                theirs = evidently(*pair, column)
            except ValueError:
                with pytest.raises(DriftloopError, match=rf"test {name} gives no drift score for column x: "):
                    compare(*(summary(side, column) for side in pair), column)
                continue
            if math.isnan(theirs[1]):
                with pytest.raises(DriftloopError, match="gives no drift score"):
                    compare(*(summary(side, column) for side in pair), column)
                continue
            same(compare(*(summary(side, column) for side in pair), column), theirs)


@pytest.mark.parametrize("kind", ["sentinel", "greatest"])
def test_a_spread_too_large_for_a_number_is_infinite_as_numpys(kind):
    values = drawn(kind, 2500, 1, 0, 0, 1)
    found = summary(values, Column("x", numeric=True))
    with np.errstate(over="ignore"):
        assert (found.mean, found.variance) == (values.mean(), np.var(values)) == (math.inf, math.inf)
    assert compare(found, found, Column("x", numeric=True)).score == 0.0


class Pieces:
    """A side that gives its column in pieces."""

    def __init__(self, values):
        self.values = values

    def batches(self, column):
        yield from np.array_split(self.values, 7)


@settings(max_examples=60)
@given(sides())
def test_a_column_that_is_sorted_in_files_has_the_same_summary_and_score(given_sides):
    kind, pair = given_sides
    column = Column("x", is_numeric(kind))
    whole = [summary(side, column) for side in pair]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("driftloop.runs.BLOCK", 64)
        patched.setattr("driftloop.runs.STEP", 4)
        pieces = [summarise(Pieces(side), column, 100) for side in pair]
        found = compare(*pieces, column)
    for one, other in zip(whole, pieces, strict=True):
        assert one.values.tolist() == other.values.tolist()  # noqa: PD011  # of a summary
        assert one.counts.tolist() == other.counts.tolist()
        assert one.nulls == other.nulls
    exact = compare(*whole, column)
    assert (found.method, found.drifted) == (exact.method, exact.drifted)
    assert found.score == pytest.approx(exact.score, rel=1e-9, abs=1e-12)


@settings(max_examples=200)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99), st.integers(0, 2))
def test_the_distance_of_any_numbers_of_values_is_scipys(rows, others, block, seed, repeated):
    rng = np.random.default_rng(seed)
    pair = [rng.normal(0, 1, rows), rng.normal(0.3, 2, others)]
    pair[0] = np.append(pair[0], pair[0][:1].repeat(repeated))
    column = Column("x", True, "wasserstein")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("driftloop.runs.BLOCK", block)
        patched.setattr("driftloop.runs.STEP", 1)
        found = compare(*(summary(side, column) for side in pair), column)
    expected = wasserstein_distance(*pair) / max(float(np.std(pair[0])), 0.001)
    assert found.score == pytest.approx(expected, rel=1e-9, abs=1e-12)


class Table:
    """A side in memory."""

    def __init__(self, rows):
        self.rows = rows

    def batches(self, column):
        yield self.rows[column.name].to_numpy()


def both(before, now, numeric, categorical, tests):
    """What Evidently's report says, and what the columnar engine says, by column."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the correlations that it draws
        theirs = drift.measure(before, now, numeric, categorical, tests=tests).drift
    asked = {name: (test.test, test.threshold) for name, test in tests.items()}
    columns = [Column(name, name in numeric, *asked.get(name, ())) for name in [*numeric, *categorical]]
    ours = columnar.judged(Table(before), Table(now), columns, columnar.compare, threads=2)
    return theirs, ours


def agree(theirs, ours):
    for their, our in zip(theirs.columns, ours, strict=True):
        assert our.name == their.name
        same(our, (their.method, their.score, their.drifted, their.threshold))
    assert theirs.share == sum(column.drifted for column in ours) / len(ours)


@pytest.mark.parametrize("rows", [1000, 1001])
def test_evidentlys_whole_report(rows):
    frames = [
        pd.DataFrame({kind: drawn(kind, n, 4, shift, 0.05 * is_numeric(kind), seed) for kind in KINDS})
        for seed, (n, shift) in enumerate(((rows, 0.0), (700, 0.3)))
    ]
    numeric = [kind for kind in KINDS if is_numeric(kind) and kind not in EXTREME]  # its plots overflow
    tests = {
        "normal": ColumnTest(test="psi"),
        "ties": ColumnTest(test="t_test", threshold=0.5),
        "far": ColumnTest(threshold=0.0),
        "strings": ColumnTest(test="hellinger", threshold=0.3),
    }
    agree(*both(*frames, numeric, ["strings", "rare strings"], tests))


def test_a_test_that_does_not_fit_stops_both_engines_with_what_to_do():
    before, now = (pd.DataFrame({"plan": ["a", "b"] * rows}) for rows in (30, 40))
    tests = {"plan": ColumnTest(test="fisher_exact")}
    with pytest.raises(
        DriftloopError, match=r"test fisher_exact gives no .* column plan: .*equal length.*\[drift.columns\]"
    ):
        drift.measure(before, now, [], ["plan"], tests=tests)
    with pytest.raises(DriftloopError, match=r"test fisher_exact gives no drift score for column plan: .* 60 and 80"):
        columnar.judged(Table(before), Table(now), [Column("plan", False, "fisher_exact")], columnar.compare)


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real input at {DATA}; DRIFTLOOP_REAL_DATA names its folder")
@pytest.mark.parametrize("name", ["bank_marketing", "bike_hour", "car_loan", "housing"])
def test_real_months(evidently, name):
    files = sorted((DATA / name / "windows").iterdir())
    raw = [pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file) for file in files]
    about = DATA / name / "about.json"
    names = json.loads(about.read_text())["features"] if about.exists() else list(raw[0].columns)
    numeric = [c for c in names if all(pd.api.types.is_numeric_dtype(r[c]) and r[c].dtype != bool for r in raw)]
    categorical = [
        c for c in names if c not in numeric and pd.api.types.infer_dtype(raw[0][c]) in ("string", "boolean")
    ]
    rows = [features(month, numeric, categorical) for month in raw]
    agree(*both(rows[0], rows[-1], numeric, categorical, {}))
    for before, now in pairwise(rows):
        for column in [*(Column(c, numeric=True) for c in numeric), *(Column(c, numeric=False) for c in categorical)]:
            ours = compare(*(summary(side[column.name].to_numpy(), column) for side in (before, now)), column)
            same(ours, evidently(before[column.name], now[column.name], column))


def test_where_evidentlys_own_score_is_rounding_ours_is_exact(evidently):
    """The spread of a column that lies 12 digits below its values, and Cramér-von Mises of up to 20 rows."""
    column = Column("x", numeric=True)
    reference, current = np.full(1500, 1.23456789e17), 1.23456789e17 + 16 * np.arange(6.0)
    assert compare(summary(reference, column), summary(current, column), column).score == 40 / 0.001
    assert evidently(reference, current, column)[1] == 40 / 16, "a spread of 16 that is its mean's rounding"
    few = Column("x", numeric=True, test="cramer_von_mises")
    pair = drawn("normal", 5, 1, 0, 0, 0), drawn("normal", 5, 1, 0.5, 0, 1)
    ours = compare(*(summary(side, few) for side in pair), few)
    assert ours.score == pytest.approx(evidently(*pair, few)[1], rel=1e-3)
