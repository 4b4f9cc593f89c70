"""The read boundary: what becomes canonical, what is refused, what is only noted."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.errors import LabelsNotReady, WindowError
from driftloop.frame import MISSING, Window, categories, check, features, positive_label, target, unseen
from tests.fakes import a_loop, a_window, some_rows

LOOP = a_loop()


def rows(**columns: Any) -> pd.DataFrame:
    """Four good rows, with some columns replaced."""
    return pd.DataFrame(
        {
            "user_id": ["a", "b", "c", "d"],
            "fee": [1.0, 2.0, 3.0, 4.0],
            "plan": ["basic", "family", "basic", "family"],
            "left": [True, False, True, False],
        }
        | columns
    )


def problems(raw: pd.DataFrame, loop: Any = LOOP) -> list[str]:
    with pytest.raises(WindowError) as caught:
        check(raw, loop, "2024-01")
    assert caught.value.window == "2024-01"
    return caught.value.problems


# canonical categories


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "True"),
        (np.True_, "True"),
        ("True", "True"),
        (2, "2"),
        (2.0, "2"),
        (np.float32(2.0), "2"),
        ("2", "2"),
        (-0.0, "0"),
        (2.5, "2.5"),
        ("fibre", "fibre"),
        (None, MISSING),
        (np.nan, MISSING),
        (pd.NA, MISSING),
        (pd.NaT, MISSING),
    ],
)
def test_a_value_has_one_name_however_it_is_typed(value: object, name: str) -> None:
    assert categories(pd.Series([value, "other"], dtype=object)).tolist() == [name, "other"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([True, None], dtype=object),
        pd.Series([True, None], dtype="boolean"),
        pd.Series(["True", None], dtype=object),
        pd.Series(["True", None], dtype="string"),
        pd.Series(["True", None], dtype="category"),
    ],
)
def test_a_null_is_its_own_category_and_never_true(column: pd.Series) -> None:
    assert categories(column).tolist() == ["True", MISSING]


def test_integers_keep_their_names_where_a_null_made_them_floats() -> None:
    assert categories(pd.Series([1, 2])).tolist() == categories(pd.Series([1, 2, None])).tolist()[:2] == ["1", "2"]


@pytest.mark.parametrize("values", [[True, 1], [1, True], [False, 0, 0.0]])
def test_a_values_name_does_not_hang_on_the_other_rows(values: list[object]) -> None:
    together = categories(pd.Series(values, dtype=object)).tolist()
    assert together == [categories(pd.Series([value], dtype=object)).iloc[0] for value in values]


@given(st.lists(st.text(max_size=5) | st.integers() | st.floats(allow_nan=True) | st.none(), max_size=20))
def test_categories_of_categories_are_the_same(values: list[object]) -> None:
    once = categories(pd.Series(values, dtype=object))
    assert categories(once).tolist() == once.tolist()
    assert all(isinstance(name, str) for name in once)


def test_features_come_in_the_loops_order_and_types_and_nothing_else() -> None:
    X = features(rows(fee=["1", "2", "3", "4.5"]), ["fee"], ["plan"])
    assert X.columns.tolist() == ["fee", "plan"]
    assert (X["fee"].dtype, X["fee"].tolist()) == (np.float64, [1, 2, 3, 4.5])


@pytest.mark.parametrize(
    "values", [[1, None], pd.array([1, None], dtype="Int64"), np.array([True, None]), [1.0, np.nan], ["1", None]]
)
def test_a_null_number_is_nan(values: Any) -> None:
    found = features(pd.DataFrame({"fee": values}), ["fee"], [])["fee"]
    assert found.dtype == np.float64
    assert found.isna().tolist() == [False, True]


def test_the_checked_rows_keep_the_index_of_the_rows_they_came_from() -> None:
    checked = check(rows(), LOOP, "2024-01")
    assert checked.y is not None
    assert checked.entity is not None
    assert checked.X.index.equals(checked.y.index)
    assert checked.entity.tolist() == ["a", "b", "c", "d"]


# what is refused


def test_a_missing_column_is_refused_with_those_there_are() -> None:
    assert problems(rows().drop(columns=["fee"])) == [
        "column fee is missing; the window has user_id, plan, left",
    ]


def test_of_a_table_without_a_header_no_row_is_quoted() -> None:
    headless = rows().set_axis(["Ada Lovelace", "58", "175.0", "67.9"], axis=1)
    (said,) = problems(headless)
    assert said.endswith(
        "user_id is missing; loop.toml knows none of the window's 4 columns. Is its first line a header?"
    )


@pytest.mark.parametrize("role", ["user_id", "at"])
def test_a_missing_entity_or_timestamp_is_refused(role: str) -> None:
    raw = rows(at=pd.date_range("2024-01-01", periods=4)).drop(columns=role)
    assert f"column {role} is missing" in problems(raw, a_loop(timestamp="at"))[0]


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "three", "4"],
        pd.date_range("2024-01-01", periods=4),
        pd.date_range("2024-01-01", periods=4, tz="UTC"),
        [dt.date(2024, 1, n) for n in range(1, 5)],
        pd.to_timedelta([1, 2, 3, 4], unit="D"),
        ["2024-01-01"] * 4,
        [[1], [2], [3], [4]],
    ],
    ids=["text", "dates", "zoned dates", "date objects", "durations", "date strings", "lists"],
)
def test_a_numeric_column_that_holds_no_numbers_is_refused(values: Any) -> None:
    (problem,) = problems(rows(fee=values))
    assert problem.startswith("column fee: expected numbers, ")


def test_a_null_entity_is_refused() -> None:
    assert problems(rows(user_id=["a", None, "c", None])) == ["entity user_id is null in 2 rows"]


def test_an_entity_met_twice_is_refused() -> None:
    assert problems(rows(user_id=["a", "b", "a", "a"])) == ["user_id appear more than once, e.g. a (2 rows)"]


def test_with_a_timestamp_an_entity_may_come_again_at_another_time() -> None:
    loop = a_loop(timestamp="at")
    raw = rows(
        user_id=["a", "a", "b", "b"], at=pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-01", "2024-01-02"])
    )
    assert len(check(raw, loop, "w").X) == 4
    assert problems(raw.assign(at=pd.Timestamp("2024-01-01")), loop)[0].startswith(
        "user_id and at appear more than once"
    )


def test_a_null_timestamp_is_refused() -> None:
    raw = rows(at=[pd.Timestamp("2024-01-01"), None, *pd.date_range("2024-01-02", periods=2)])
    assert problems(raw, a_loop(timestamp="at")) == ["timestamp at is null in 1 rows"]


def test_a_timestamp_that_is_no_time_is_refused() -> None:
    (problem,) = problems(rows(at=["2024-01-01", "soon", "2024-01-03", "2024-01-04"]), a_loop(timestamp="at"))
    assert "soon" in problem


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ([1704067200, 1704067201, 1704067202, 1704067203], "found numbers such as 1704067200"),
        (["01/02/2024", "12/02/2024", "01/03/2024", "01/04/2024"], "01/02/2024"),
    ],
    ids=["epoch", "day or month first"],
)
def test_a_timestamp_that_would_have_to_be_guessed_is_refused(at: list[object], told: str) -> None:
    (problem,) = problems(rows(at=at), a_loop(timestamp="at"))
    assert problem.startswith("timestamp at: expected dates or ISO 8601 text")
    assert told in problem


def test_an_empty_window_is_refused() -> None:
    assert problems(rows().iloc[:0]) == ["it holds no rows"]


def test_one_class_is_refused() -> None:
    assert problems(rows(left=[True, True, True, None])) == ["target left holds one class only in 3 labelled rows"]


@pytest.mark.parametrize("column", ["fee", "plan"])
def test_a_column_without_any_value_is_refused(column: str) -> None:
    assert problems(rows(**{column: [None] * 4})) == [f"column {column} is empty in all 4 rows"]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused(value: float) -> None:
    assert problems(rows(fee=[1.0, value, value, 2.0])) == ["column fee holds 2 infinite values"]


def test_three_labels_are_refused() -> None:
    (problem,) = problems(rows(left=["no", "yes", "perhaps", "no"]))
    assert problem == "target left: expected two labels for task binary, found 3: ['no', 'perhaps', 'yes']"


def test_a_positive_label_that_is_not_there_is_refused() -> None:
    (problem,) = problems(rows(left=["no", "yes", "no", "yes"]), a_loop(positive="gone"))
    assert problem == "target left: the positive label gone is not among ['no', 'yes']"


def test_all_problems_of_a_table_are_listed_at_once() -> None:
    raw = rows(user_id=["a", None, "c", "c"], fee=[None] * 4)
    assert len(problems(raw)) == 3


@pytest.mark.parametrize("values", [["a", "b", "c", "d"], pd.date_range("2024-01-01", periods=4)])
def test_a_regression_target_that_is_no_number_is_refused(values: Any) -> None:
    (problem,) = problems(rows(left=values), a_loop(task="regression"))
    assert problem.startswith("target left: expected numbers, ")


def test_an_infinite_regression_target_is_refused() -> None:
    raw = rows(left=[1.0, np.inf, 2.0, 3.0])
    assert problems(raw, a_loop(task="regression")) == ["target left holds infinite values"]


def test_a_window_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(WindowError("2024-01", ["a", "b"])))
    assert (error.window, error.problems, str(error)) == ("2024-01", ["a", "b"], "window 2024-01: a; b")


# what is noted


def test_good_rows_have_no_notes() -> None:
    checked = check(rows(), LOOP, "w")
    assert checked.notes == unseen(checked, {"plan": {"basic", "family"}}) == ()


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        ({"fee": [1.0] * 4}, "constant columns: fee"),
        ({"plan": ["basic"] * 4}, "constant columns: plan"),
        ({"colour": ["red"] * 4}, "columns not in loop.toml, unused: colour"),
        ({"plan": ["basic", "gold", None, "basic"]}, "column plan has unseen categories: (missing), gold"),
    ],
)
def test_what_is_odd_but_usable_is_noted_and_not_refused(columns: dict[str, Any], note: str) -> None:
    checked = check(rows(**columns), LOOP, "w")
    assert checked.notes + unseen(checked, {"plan": {"basic", "family"}}) == (note,)
    assert len(checked.X) == 4
    assert checked.X.columns.tolist() == ["fee", "plan"]


# the target


@pytest.mark.parametrize(
    ("labels", "positive", "expected", "spelled"),
    [
        ([True, False], None, [1, 0], ("False", "True")),
        (["True", "False"], None, [1, 0], ("False", "True")),
        ([1, 0], None, [1, 0], ("0", "1")),
        ([1.0, 0.0], None, [1, 0], ("0", "1")),
        (["yes", "no"], None, [1, 0], ("no", "yes")),
        (["yes", "no"], "no", [0, 1], ("yes", "no")),
        ([1, 2], None, [1, 0], ("2", "1")),
        ([1, 2], 2, [0, 1], ("1", "2")),
        ([True, False], False, [0, 1], ("True", "False")),
        ([5, 7], None, [0, 1], ("5", "7")),
        ([5.0, 7.0], None, [0, 1], ("5", "7")),  # as whole numbers are read where a label is missing
    ],
)
def test_the_event_is_the_given_label_else_true_else_1_else_the_later_one(
    labels: list[Any], positive: Any, expected: list[float], spelled: tuple[str, str]
) -> None:
    checked = check(rows(left=labels * 2), a_loop(positive=positive), "w")
    assert checked.y is not None
    assert checked.y.tolist() == expected * 2
    assert checked.labels == spelled


def test_a_row_without_a_label_is_nan_and_never_a_negative() -> None:
    y = target(pd.Series([True, None, False], dtype=object), LOOP)
    assert y.tolist()[::2] == [1, 0]
    assert np.isnan(y[1])


def test_a_given_label_wins_over_those_found() -> None:
    assert positive_label(pd.Series(["a", "b"]), "c") == "c"


def test_a_regression_target_is_its_numbers() -> None:
    checked = check(rows(left=["1.5", "2", None, "4"]), a_loop(task="regression"), "w")
    assert checked.y is not None
    assert checked.y.tolist()[:2] == [1.5, 2]
    assert checked.labels is None


# labelled rows, masks, fingerprints


@pytest.mark.parametrize(
    "raw", [rows().drop(columns="left"), rows(left=[None] * 4)], ids=["no target column", "no label in it"]
)
def test_a_window_without_labels_is_usable_but_not_labelled(raw: pd.DataFrame) -> None:
    checked = check(raw, LOOP, "2024-01")
    assert checked.labelled_rows == 0
    with pytest.raises(LabelsNotReady, match="window 2024-01 has no labels yet"):
        _ = checked.labelled


def test_only_rows_whose_label_is_in_are_labelled() -> None:
    checked = check(rows(left=[True, None, False, None]), LOOP, "w")
    assert checked.labelled_rows == 2
    assert checked.labelled.entity is not None
    assert checked.labelled.entity.tolist() == ["a", "c"]
    assert checked.labelled.X["fee"].tolist() == [1, 3]


@given(mask=st.lists(st.booleans(), min_size=60, max_size=60).map(np.array))
def test_a_mask_and_its_opposite_part_the_rows(mask: np.ndarray) -> None:
    whole = a_window()
    parts = [whole.where(mask), whole.where(~mask)]
    assert sorted(v for p in parts for v in p.X["fee"]) == sorted(whole.X["fee"])
    assert [len(p.X) for p in parts] == [mask.sum(), (~mask).sum()]
    assert all(p.X.index.equals(pd.RangeIndex(len(p.X))) for p in parts)


@pytest.mark.parametrize(
    "columns",
    [
        {"fee": [1.0, 2.0, 3.0, 4.5]},
        {"plan": ["basic", "family", "basic", None]},
        {"left": [True, False, True, True]},
        {"user_id": ["a", "b", "c", "e"]},
    ],
)
def test_the_fingerprint_changes_with_any_content(columns: dict[str, Any]) -> None:
    assert check(rows(), LOOP, "w").fingerprint != check(rows(**columns), LOOP, "w").fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_its_spelling() -> None:
    first: Window = check(rows(), LOOP, "w")
    again = check(rows(fee=["1", "2", "3", "4"], left=["True", "False"] * 2).assign(extra=1), LOOP, "other")
    assert first.fingerprint == again.fingerprint


def test_checking_leaves_the_raw_rows_as_they_were() -> None:
    raw = some_rows()
    before = raw.copy(deep=True)
    a_window(raw)
    pd.testing.assert_frame_equal(raw, before)
