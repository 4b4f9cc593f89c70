"""Parts of the holdout: how they are cut, when one is worse, and how seldom one is called so by chance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.metrics import METRICS, Predictions
from driftloop.paired import paired_gain
from driftloop.slices import NO_SLICES, SlicePolicy, Slices, compare_slices, holm, quartiles

PLAN = SlicePolicy(("plan",), max_drop=0.0, min_rows=1)
p_values = st.lists(st.floats(0, 1), max_size=12)


def compare(
    X: pd.DataFrame,
    y: np.ndarray,
    candidate: np.ndarray,
    champion: np.ndarray,
    policy: SlicePolicy = PLAN,
    *,
    metric: str = "accuracy",
    confidence: float = 0.95,
    cuts: dict[str, tuple[float, ...]] | None = None,
) -> Slices:
    both = Predictions(candidate), Predictions(champion)
    return compare_slices(metric, X, y, *both, cuts or {}, policy, confidence)


def cut(X: pd.DataFrame, column: str, cuts: dict[str, tuple[float, ...]] | None = None) -> dict[str, int]:
    """The slices of a column, with their rows."""
    y = np.arange(len(X)) % 2.0
    found = compare(X, y, y, y, SlicePolicy((column,), 0.0, 1), cuts=cuts)
    return {s.name: s.rows for s in found.judged}


def wrong_in(plan: str, wrong: int, rows: int = 64) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Two plans of so many rows; the champion is right everywhere, the candidate not in ``wrong`` rows of one plan."""
    X = pd.DataFrame({"plan": np.repeat(["basic", "family"], rows)})
    y = np.arange(2 * rows) % 2.0
    mistaken = (X["plan"] == plan).to_numpy() & (np.arange(2 * rows) % rows < wrong)
    return X, y, np.where(mistaken, 1 - y, y), y


# Holm


def test_holms_adjustment_is_the_one_worked_by_hand() -> None:
    # in order: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04, which is below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_p_value_alone_stays_as_it_is() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_an_adjusted_p_value_is_at_most_one() -> None:
    assert holm([0.6, 0.7, 0.04]) == [1.0, 1.0, pytest.approx(0.12)]


@given(p_values=p_values)
def test_holm_is_its_definition(p_values: list[float]) -> None:
    """The largest over all p-values up to this one of p times those not smaller."""
    m, in_order = len(p_values), sorted(p_values)
    expected = [max(min(1.0, (m - k) * q) for k, q in enumerate(in_order) if q <= p) for p in p_values]
    assert holm(p_values) == pytest.approx(expected)


@given(p_values=p_values)
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(raw <= new <= 1 for raw, new in zip(p_values, adjusted, strict=True))
    by_raw = [new for _, new in sorted(zip(p_values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


# how rows are cut


def test_a_category_is_a_slice_each_and_a_missing_one_too() -> None:
    X = pd.DataFrame({"plan": ["family", "basic", "(missing)", "basic"]})
    assert cut(X, "plan") == {"plan = (missing)": 1, "plan = basic": 2, "plan = family": 1}


def test_a_numeric_column_is_cut_from_each_edge_on() -> None:
    X = pd.DataFrame({"fee": [-1.0, 0.9, 1.0, 1.9, 2.0, 2.5, 3.0, 9.0, 10.0]})
    assert cut(X, "fee", {"fee": (1.0, 2.0, 3.0)}) == {
        "fee < 1": 2,
        "1 <= fee < 2": 2,
        "2 <= fee < 3": 2,
        "fee >= 3": 3,
    }


def test_rows_without_a_number_are_a_slice_of_their_own() -> None:
    X = pd.DataFrame({"fee": [np.nan, 0.0, 5.0, np.nan]})
    assert cut(X, "fee", {"fee": (1.0,)}) == {"fee < 1": 1, "fee >= 1": 1, "fee is missing": 2}


def test_a_slice_without_rows_is_none() -> None:
    assert cut(pd.DataFrame({"fee": [0.0, 0.5]}), "fee", {"fee": (1.0, 2.0)}) == {"fee < 1": 2}


def test_quartiles_are_those_worked_by_hand_with_nulls_aside() -> None:
    X = pd.DataFrame({"fee": [4.0, 0.0, np.nan, 2.0, 3.0, 1.0], "age": [0.0, 0.0, 0.0, np.nan, 1.0, np.nan]})
    assert quartiles(X) == {"fee": (1.0, 2.0, 3.0), "age": (0.0, 0.25)}  # of 0, 0, 0, 1: 0, 0, 1/4


def test_a_constant_column_is_one_slice_and_an_empty_one_has_no_quartiles() -> None:
    X = pd.DataFrame({"fee": [7.0] * 4, "age": [np.nan] * 4})
    cuts = quartiles(X)
    assert cuts == {"fee": (7.0,)}
    assert cut(X, "fee", cuts) == {"fee >= 7": 4}


def test_categories_have_no_quartiles_and_are_not_cut_at_those_of_an_earlier_number() -> None:
    X = pd.DataFrame({"plan": ["basic", "7", "basic"]})
    assert quartiles(X) == {}
    assert cut(X, "plan", {"plan": (5.0,)}) == {"plan = 7": 1, "plan = basic": 2}


@given(fees=st.lists(st.none() | st.floats(-100, 100), min_size=1, max_size=40))
def test_every_row_is_in_exactly_one_slice_of_a_column(fees: list[float | None]) -> None:
    X = pd.DataFrame({"fee": pd.Series(fees, dtype=float)})
    cuts = quartiles(X) or {"fee": (0.0,)}
    found = cut(X, "fee", cuts)
    assert sum(found.values()) == len(X)
    assert len(found) <= 5


def test_no_column_means_no_slices() -> None:
    assert compare(*wrong_in("basic", 64), SlicePolicy((), 0.0, 1)) == NO_SLICES


def test_every_column_named_is_cut() -> None:
    X, y, candidate, champion = wrong_in("basic", 0)
    X["fee"] = y
    found = compare(X, y, candidate, champion, SlicePolicy(("fee", "plan"), 0.0, 1), cuts={"fee": (0.5,)})
    assert [s.name for s in found.judged] == ["fee < 0.5", "fee >= 0.5", "plan = basic", "plan = family"]


# which are judged


def test_a_slice_is_judged_from_min_rows_on() -> None:
    X = pd.DataFrame({"plan": ["basic"] * 10 + ["family"] * 9})
    y = np.arange(19) % 2.0
    found = compare(X, y, y, y, SlicePolicy(("plan",), 0.0, min_rows=10))
    assert [s.name for s in found.judged] == ["plan = basic"]
    assert found.unjudged == ("plan = family (9 rows)",)


def test_a_slice_without_a_value_of_the_metric_is_named_with_the_reason() -> None:
    X = pd.DataFrame({"plan": np.repeat(["basic", "family"], 20)})
    y, scores = np.repeat([0.0, 1, 0, 1], [10, 10, 11, 9]), np.arange(40.0)
    found = compare(X, y, scores, scores, metric="auc")
    assert [s.name for s in found.judged] == ["plan = basic"]
    assert found.unjudged == ("plan = family (9 rows of one class)",)


def test_slices_that_are_not_judged_do_not_count_among_those_that_are() -> None:
    X, y, candidate, champion = wrong_in("basic", 8)
    X.loc[64:, "plan"] = [f"p{n}" for n in range(64)]
    found = compare(X, y, candidate, champion, SlicePolicy(("plan",), 0.0, min_rows=2))
    assert len(found.unjudged) == 64
    assert found.judged[0].adjusted == found.judged[0].p


def test_a_slice_says_both_scores_on_its_own_rows() -> None:
    X, y, candidate, champion = wrong_in("basic", 16)
    basic, family = compare(X, y, candidate, champion).judged
    assert (basic.name, basic.rows, basic.candidate, basic.champion) == ("plan = basic", 64, 0.75, 1.0)
    assert (family.name, family.rows, family.candidate, family.champion) == ("plan = family", 64, 1.0, 1.0)


def test_a_slices_p_value_is_that_of_the_paired_gain_on_its_rows() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"plan": rng.choice(["basic", "family"], 80)})
    y, candidate, champion = (rng.random(80) < 0.5).astype(float), rng.random(80), rng.random(80)
    for found in compare(X, y, candidate, champion, metric="brier").judged:
        rows = (X["plan"] == found.name.removeprefix("plan = ")).to_numpy()
        both = Predictions(candidate[rows]), Predictions(champion[rows])
        assert found.p == paired_gain("brier", y[rows], *both, 0.95).p_worse
        assert found.candidate == METRICS["brier"](y[rows], both[0])


def test_each_model_keeps_its_threshold_on_a_slice() -> None:
    X, y = pd.DataFrame({"plan": ["basic"] * 4}), np.array([0.0, 0.0, 1.0, 1.0])
    scores = np.array([0.1, 0.3, 0.4, 0.9])
    both = Predictions(scores, 0.4), Predictions(scores, 0.5)
    (found,) = compare_slices("accuracy", X, y, *both, {}, PLAN, 0.95).judged
    assert (found.candidate, found.champion) == (1.0, 0.75)


# which are worse


def test_a_slice_that_got_worse_is_found_though_the_other_is_as_it_was() -> None:
    found = compare(*wrong_in("family", 16))
    assert [s.name for s in found.worse] == ["plan = family"]
    assert found.close == ()


def test_a_slice_that_got_better_is_not_worse() -> None:
    X, y, candidate, champion = wrong_in("family", 16)
    found = compare(X, y, champion, candidate)
    assert (found.worse, found.close) == ((), ())


@pytest.mark.parametrize(("max_drop", "worse"), [(0.25, 0), (0.25 - 1e-9, 1), (0.0, 1), (1.0, 0)])
def test_a_loss_of_exactly_max_drop_is_put_up_with(max_drop: float, worse: int) -> None:
    found = compare(*wrong_in("family", 16), SlicePolicy(("plan",), max_drop, 1))  # 16 of 64, a quarter
    assert len(found.worse) == worse
    assert not found.close


@pytest.mark.parametrize(("metric", "loss"), [("rmse", 2.0), ("mse", 4.0), ("mae", 2.0)])
def test_a_higher_error_is_a_loss(metric: str, loss: float) -> None:
    X, y = pd.DataFrame({"plan": ["basic"] * 20}), np.arange(20.0)
    for max_drop, worse in ((loss, 0), (loss - 1e-9, 1)):
        found = compare(X, y, y + 2, y, SlicePolicy(("plan",), max_drop, 1), metric=metric)
        assert len(found.worse) == worse


def test_a_slice_is_close_where_it_would_be_worse_were_it_the_only_one() -> None:
    data = wrong_in("family", 4)
    p = compare(*data).judged[1].p
    assert 0 < p < 0.1  # four of 64 rows are all left out of a resample with a chance of e^-4, 0.018
    alone, together = (compare(*data, confidence=1 - factor * p) for factor in (1.5, 2.5))  # 2p after Holm
    assert [s.name for s in alone.close] == ["plan = family"]
    assert alone.worse == ()
    assert [s.name for s in together.worse] == ["plan = family"]
    assert together.close == ()
    assert compare(*data, confidence=1 - 0.5 * p).close == ()


def test_a_loss_that_is_put_up_with_is_not_close_either() -> None:
    data = wrong_in("family", 4)
    p = compare(*data).judged[1].p
    found = compare(*data, SlicePolicy(("plan",), max_drop=0.0625, min_rows=1), confidence=1 - 1.5 * p)  # 4 of 64
    assert (found.worse, found.close) == ((), ())


def test_without_confidence_slices_are_judged_at_five_percent() -> None:
    for wrong in (2, 4, 16):
        data = wrong_in("family", wrong)
        assert compare(*data, confidence=0) == compare(*data, confidence=0.95)
    assert compare(*wrong_in("family", 16), confidence=0).worse


@pytest.mark.long
def test_where_nothing_changed_some_slice_is_called_worse_one_time_in_twenty() -> None:
    rng, n, holdouts = np.random.default_rng(2), 600, 250
    policy, some_worse = SlicePolicy(("plan", "fee"), 0.0, 30), 0
    for _ in range(holdouts):
        X = pd.DataFrame({"plan": rng.choice(list("abcdef"), n), "fee": rng.normal(size=n)})
        signal, shared, *own = rng.normal(size=(4, n))
        y = (signal + rng.normal(size=n) > 0).astype(float)
        candidate, champion = (signal + 0.7 * shared + 0.7 * noise for noise in own)  # drawn alike, so equally good
        found = compare(X, y, candidate, champion, policy, metric="auc", cuts={"fee": (-0.67, 0.0, 0.67)})
        assert len(found.judged) == 10
        some_worse += bool(found.worse)
    assert some_worse / holdouts <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / holdouts)  # three deviations of the sampling
