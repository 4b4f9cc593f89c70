"""The rule that keeps rows from every model, in every window, in every process."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.errors import HoldoutMismatch, WindowError
from driftloop.frame import Window, categories, features
from driftloop.holdout import HoldoutRule, require_same_rule
from driftloop.training import split
from tests.fakes import a_loop

BY_ENTITY = HoldoutRule("churn", "entity", "user_id", 0.2)
BY_ROW = HoldoutRule("churn", "row", "", 0.2)
BY_TIME = HoldoutRule("churn", "time", "at", 0.2)

ids = st.lists(st.text(max_size=8) | st.integers(0, 10**6).map(str), min_size=1, max_size=30, unique=True)


def window(entity: list[str], name: str = "2024-01") -> Window:
    n = len(entity)
    X = pd.DataFrame({"fee": np.arange(n, dtype=float), "plan": ["basic"] * n})
    y = pd.Series(np.arange(n) % 2, dtype=float)
    return Window(name, X, y, pd.Series(entity, dtype=object), None, ("no", "yes"))


def timed(times: list[int], name: str = "2024-01") -> Window:
    X = pd.DataFrame({"fee": np.arange(len(times), dtype=float)})
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(pd.Series(times), unit="h")
    return Window(name, X, pd.Series(np.arange(len(times)) % 2, dtype=float), None, stamps)


def held(rule: HoldoutRule, w: Window, *, newest: bool = True) -> list[bool]:
    mask: list[bool] = rule.mask(w, newest=newest).tolist()
    return mask


@given(months=st.lists(ids, min_size=1, max_size=4), share=st.floats(0.05, 0.95))
def test_no_entity_is_ever_trained_on_and_held_out(months: list[list[str]], share: float) -> None:
    rule = HoldoutRule("churn", "entity", "user_id", share)
    windows = [window(month, f"2024-0{n}") for n, month in enumerate(months, 1)]
    held_out: set[str] = set()
    trained_on: set[str] = set()
    for until in range(1, len(windows) + 1):  # every candidate of the loop's life
        _, holdout = split(windows[:until], rule)
        assert holdout.entity is not None
        held_out |= set(holdout.entity)
        for w in windows[:until]:
            assert w.entity is not None
            trained_on |= set(w.entity[~rule.mask(w, newest=False)])
    assert not held_out & trained_on


@given(month=ids)
def test_splitting_loses_and_doubles_no_row(month: list[str]) -> None:
    training, holdout = split([window(month)], BY_ENTITY)
    assert sorted([*training.X["fee"], *holdout.X["fee"]]) == list(range(len(month)))


@given(month=ids)
def test_an_owners_rows_share_a_side_whatever_else_the_window_holds(month: list[str]) -> None:
    alone = {entity: held(BY_ENTITY, window([entity]))[0] for entity in month}
    assert held(BY_ENTITY, window(month * 2)) == [alone[entity] for entity in month * 2]
    assert held(BY_ENTITY, window(month), newest=False) == held(BY_ENTITY, window(month), newest=True)


@given(month=ids, small=st.floats(0.01, 0.99), large=st.floats(0.01, 0.99))
def test_a_larger_share_only_adds_to_the_holdout(month: list[str], small: float, large: float) -> None:
    small, large = sorted((small, large))
    masks = [HoldoutRule("churn", "entity", "user_id", s).mask(window(month), newest=True) for s in (small, large)]
    assert not (masks[0] & ~masks[1]).any()


def test_these_entities_are_held_out_forever() -> None:
    # values of this very release: a change here moves rows that champions were trained on into the holdout
    month = window([f"u{i}" for i in range(30)])
    assert month.entity is not None
    assert month.entity[BY_ENTITY.mask(month, newest=True)].tolist() == ["u2", "u3", "u7", "u12", "u25"]


def test_these_rows_are_held_out_forever() -> None:
    assert np.flatnonzero(BY_ROW.mask(window([""] * 30), newest=True)).tolist() == [7, 8, 20, 26, 27, 29]


def test_an_id_written_as_number_or_text_is_one_entity() -> None:
    spellings: list[list[object]] = [[7, 8, 9], [7.0, 8.0, 9.0], ["7", "8", "9"]]
    sides = [held(BY_ENTITY, window(categories(pd.Series(s)).tolist())) for s in spellings]
    assert sides[0] == sides[1] == sides[2]


def test_another_name_of_the_loop_draws_another_holdout() -> None:
    month = window([f"u{i}" for i in range(200)])
    assert held(BY_ENTITY, month) != held(HoldoutRule("other", "entity", "user_id", 0.2), month)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("by", ["entity", "row"])
def test_about_the_share_is_held_out(by: str, share: float) -> None:
    n = 4000
    mask = HoldoutRule("churn", by, "", share).mask(window([f"u{i}" for i in range(n)]), newest=True)
    assert mask.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))


def test_another_process_with_another_hash_seed_holds_out_the_same() -> None:
    code = """
import pandas as pd
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
entity = pd.Series([f"u{i}" for i in range(30)])
rows = Window("w", pd.DataFrame({"plan": entity}), None, entity, None)
print([HoldoutRule("churn", by, "", 0.2).mask(rows, newest=True).tolist() for by in ("entity", "row")])
"""
    env = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True).stdout
    entity = pd.Series([f"u{i}" for i in range(30)])
    rows = Window("w", pd.DataFrame({"plan": entity}), None, entity, None)
    assert there.strip() == str([held(HoldoutRule("churn", by, "", 0.2), rows) for by in ("entity", "row")])


@given(values=st.lists(st.sampled_from([0.0, 1.0, 2.5, np.nan]), min_size=1, max_size=20))
def test_duplicate_rows_stay_together(values: list[float]) -> None:
    X = pd.DataFrame({"fee": values, "plan": [str(v) for v in values]})
    mask = HoldoutRule("churn", "row", "", 0.5).mask(Window("w", X, None, None, None), newest=True)
    assert pd.Series(mask).groupby(X["plan"]).nunique().eq(1).all()


def test_zero_and_minus_zero_are_duplicates() -> None:
    n = 64
    raw = pd.DataFrame({"fee": [0.0, -0.0] * n, "plan": [str(i // 2) for i in range(2 * n)]})
    X = features(raw, ["fee"], ["plan"])
    mask = HoldoutRule("churn", "row", "", 0.5).mask(Window("w", X, None, None, None), newest=True)
    assert (mask[::2] == mask[1::2]).all()


def test_by_time_the_tail_of_the_newest_window_is_held_out() -> None:
    assert held(BY_TIME, timed([5, 1, 9, 3, 7, 2, 8, 4, 6, 0])) == [i in (2, 6) for i in range(10)]


def test_by_time_older_windows_hold_nothing_out() -> None:
    assert not any(held(BY_TIME, timed([1, 2, 3]), newest=False))


def test_rows_of_one_instant_stay_on_one_side_of_the_tail() -> None:
    assert held(BY_TIME, timed([0, 1, 2, 3, 4, 5, 8, 8, 8, 9])) == [False] * 6 + [True] * 4


def test_even_a_small_share_of_a_few_rows_holds_one_out() -> None:
    assert held(HoldoutRule("churn", "time", "at", 0.01), timed([0, 1, 2])) == [False, False, True]


@pytest.mark.parametrize("times", [[4, 4, 4, 4], [0]])
def test_a_constant_timestamp_has_no_tail(times: list[int]) -> None:
    with pytest.raises(WindowError, match=r"timestamp at is 2024-01-01 .* or later in .* no tail of .*'row'"):
        BY_TIME.mask(timed(times), newest=True)


@given(times=st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(lambda t: len(set(t)) > 3))
def test_by_time_the_candidate_trains_only_on_what_lies_before(times: list[int]) -> None:
    rule = HoldoutRule("churn", "time", "at", 0.2)
    try:
        mask = rule.mask(timed(times), newest=True)
    except WindowError:
        assert times.count(min(times)) > 0.8 * len(times)
        return
    hours = np.array(times)
    assert hours[~mask].max() < hours[mask].min()
    assert mask.sum() >= 0.2 * len(times)


def test_by_time_the_holdout_is_the_newest_windows() -> None:
    windows = [timed(list(range(10)), "2024-01"), timed(list(range(5)), "2024-02")]
    training, holdout = split(windows, BY_TIME)
    assert (len(training.X), len(holdout.X), holdout.id) == (14, 1, "2024-02")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "entity(user_id) share=0.2 seed=churn"),
        ({"entity": None}, "row(9deb0ec9) share=0.2 seed=churn"),
        ({"entity": None, "features": {"numeric": ["fee"]}}, "row(0cdcbe25) share=0.2 seed=churn"),
        ({"entity": None, "timestamp": "at"}, "time(at) share=0.2 seed=churn"),
        ({"holdout": {"by": "row", "share": 0.25}}, "row(9deb0ec9) share=0.25 seed=churn"),
    ],
)
def test_the_rule_is_the_loops(changes: dict[str, object], expected: str) -> None:
    assert str(HoldoutRule.of(a_loop(**changes))) == expected


def test_a_version_of_the_same_rule_compares() -> None:
    require_same_rule("entity(user_id) share=0.2 seed=churn", BY_ENTITY, "3")


@pytest.mark.parametrize(
    "stored",
    [
        "entity(user_id) share=0.3 seed=churn",
        "entity(user_id) share=0.2 seed=other",
        "entity(account) share=0.2 seed=churn",
        "row() share=0.2 seed=churn",
    ],
)
def test_a_version_of_another_rule_is_not_compared(stored: str) -> None:
    with pytest.raises(HoldoutMismatch, match=r"version 3 was trained under the holdout rule .* cannot be compared"):
        require_same_rule(stored, BY_ENTITY, "3")


@pytest.mark.parametrize("stored", [None, ""])
def test_a_version_without_a_rule_is_not_compared(stored: str | None) -> None:
    with pytest.raises(HoldoutMismatch, match="version 3 carries no holdout rule, the loop's is 'entity"):
        require_same_rule(stored, BY_ENTITY, "3")
