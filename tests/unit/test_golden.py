"""golden.csv: how cases are read, what is refused, and which of them a model breaks."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import frame
from driftloop.contract import Loop
from driftloop.errors import ContractError
from driftloop.golden import NO_CASES, Case, Cases, parse
from driftloop.metrics import Predictions
from tests.fakes import a_loop

LOOP = a_loop()
REGRESSION = a_loop(task="regression", target="price")
LABELS = ("False", "True")


def cases(*lines: str, loop: Loop = LOOP) -> Cases:
    """The cases of a golden.csv of these lines, the header first."""
    return parse(pd.read_csv(io.StringIO("\n".join(lines)), dtype=str), loop, "golden.csv")


def by_fee(X: pd.DataFrame) -> Predictions:
    """A model that gives the fee back and says yes from 0.4 on."""
    return Predictions(X["fee"].to_numpy(), 0.4)


# reading


def test_a_right_answer_is_read_with_its_features() -> None:
    found = cases("case,fee,plan,expect", "A cheap one,0.5,basic,False")
    assert found.cases == (Case("A cheap one", "False"),)
    assert found.before.to_dict("records") == [{"fee": 0.5, "plan": "basic"}]
    assert found.after.equals(found.before)


def test_a_case_without_a_name_is_called_by_its_line() -> None:
    found = cases("case,fee,plan,expect", ",1,basic,True", "second,1,basic,True", ",1,basic,True")
    assert [case.name for case in found.cases] == ["row 2", "second", "row 4"]
    assert cases("fee,plan,expect", "1,basic,True").cases[0].name == "row 2"


@pytest.mark.parametrize("spelled", ["True", "true", "TRUE"])
def test_a_boolean_label_is_one_however_it_is_written(spelled: str) -> None:
    assert cases("fee,plan,expect", f"1,basic,{spelled}").cases[0].expect == "True"


def test_a_right_value_is_a_number_with_a_tolerance() -> None:
    found = cases("fee,plan,expect,tolerance", "1,basic,12.5,0.25", "1,basic,-3,0", loop=REGRESSION)
    assert found.cases == (Case("row 2", 12.5, 0.25), Case("row 3", -3.0, 0.0))


@pytest.mark.parametrize("expect", ["rises", "falls"])
@pytest.mark.parametrize("loop", [LOOP, REGRESSION])
def test_a_pair_differs_in_the_changed_cell_alone(loop: Loop, expect: str) -> None:
    found = cases("fee,plan,expect,change,to", f"1,basic,{expect},fee,2", f"1,basic,{expect},plan,family", loop=loop)
    assert [case.expect for case in found.cases] == [expect, expect]
    assert found.before.to_dict("records") == [{"fee": 1.0, "plan": "basic"}] * 2
    assert found.after.to_dict("records") == [{"fee": 2.0, "plan": "basic"}, {"fee": 1.0, "plan": "family"}]


def test_features_come_in_the_models_order_whatever_the_files() -> None:
    found = cases("plan,expect,fee", "basic,True,1")
    assert list(found.before.columns) == ["fee", "plan"]


def test_an_empty_cell_is_a_missing_value_as_in_windows() -> None:
    found = cases("fee,plan,expect", ",,True")
    assert found.before["fee"].isna().all()
    assert found.before["plan"].tolist() == ["(missing)"]


@given(value=st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.booleans())
def test_numbers_and_booleans_in_a_category_are_spelled_as_in_windows(value: object) -> None:
    in_window = frame.features(pd.DataFrame({"fee": [0.0], "plan": [value]}), ["fee"], ["plan"])
    assert cases("fee,plan,expect", f"0,{value},True").before["plan"].tolist() == in_window["plan"].tolist()


@pytest.mark.parametrize("plan", ["2", "2.0", "2.00"])
def test_a_category_of_whole_numbers_has_one_spelling_before_and_after(plan: str) -> None:
    found = cases("fee,plan,expect,change,to", f"0,{plan},rises,fee,1", f"0,7,rises,plan,{plan}")
    assert found.before["plan"].tolist() == ["2", "7"]
    assert found.after["plan"].tolist() == ["2", "2"]


def test_where_a_category_column_holds_text_too_its_numbers_are_text_as_in_windows() -> None:
    assert cases("fee,plan,expect", "0,007,True", "0,A1,True").before["plan"].tolist() == ["007", "A1"]


def test_a_file_without_rows_has_no_cases() -> None:
    found = cases("fee,plan,expect")
    assert found.cases == ()
    assert found.digest == NO_CASES.digest == ""
    assert found.broken(by_fee, LABELS) == NO_CASES.broken(by_fee, LABELS) == {}


# what is refused


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("fee,expect", "1,True"), "column plan is missing; it needs every feature and expect"),
        (("case", "a"), "column expect, fee, plan is missing; it needs every feature and expect"),
        (
            ("fee,plan,expect,colour,left", "1,basic,True,red,True"),
            "column colour, left is neither a feature nor case, expect, change, to, tolerance",
        ),
        (
            ("fee,plan,expect", "1,basic,True", "1,basic,"),
            ", row 3: expect is empty; expected a right answer, rises",
        ),
        (("fee,plan,expect", "1,basic,rises"), ", row 2: rises needs a feature under change and its value under to"),
        (("fee,plan,expect,change,to", "1,basic,falls,fee,"), ", row 2: falls needs a feature under change and its"),
        (("fee,plan,expect,change,to", "1,basic,falls,,2"), ", row 2: falls needs a feature under change and its"),
        (("fee,plan,expect,change,to", "1,basic,rises,left,2"), ", row 2: rises needs a feature under change and its"),
        (
            ("fee,plan,expect,change,to", "1,basic,True,fee,"),
            ", row 2: change and to are for rises and falls, expect is 'True'",
        ),
        (
            ("fee,plan,expect,change,to", "1,basic,rises,fee,2", "1,basic,False,,2"),
            ", row 3: change and to are for rises and falls, expect is 'False'",
        ),
        (("fee,plan,expect", "much,basic,True"), ": column fee: expected numbers, Unable to parse string"),
        (("fee,plan,expect,change,to", "1,basic,rises,fee,much"), ": column fee: expected numbers, Unable to parse"),
    ],
)
def test_what_is_no_case_is_refused_by_its_place(lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ContractError, match=f"^golden.csv{'' if message[0] in ',:' else ': '}{message}"):
        cases(*lines)


@pytest.mark.parametrize(
    ("expect", "tolerance", "message"),
    [
        ("high", "1", "expect is 'high'; expected a number"),
        ("inf", "1", "expect is 'inf'; expected a number"),
        ("3", "", "tolerance is nan; expected a number"),
        ("3", "some", "tolerance is 'some'; expected a number"),
        ("3", "inf", "tolerance is 'inf'; expected a number"),
    ],
)
def test_a_right_value_and_its_tolerance_are_finite_numbers(expect: str, tolerance: str, message: str) -> None:
    with pytest.raises(ContractError, match=rf"^golden.csv, row 2: {message}\.$"):
        cases("fee,plan,expect,tolerance", f"1,basic,{expect},{tolerance}", loop=REGRESSION)


def test_a_right_value_needs_a_tolerance() -> None:
    with pytest.raises(ContractError, match="row 2: tolerance is nan; expected a number"):
        cases("fee,plan,expect", "1,basic,3", loop=REGRESSION)


def test_a_right_answer_is_one_of_the_targets_labels() -> None:
    found = cases("case,fee,plan,expect,change,to", "a,1,basic,True,,", "b,1,basic,rises,fee,2", "c,1,basic,maybe,,")
    with pytest.raises(ContractError, match=r"^golden.csv, c: expect is 'maybe'; expected False or True, rises or fa"):
        found.require_labels(LABELS, "binary", "golden.csv")
    replace(found, cases=found.cases[:2]).require_labels(LABELS, "binary", "golden.csv")


# what a model breaks


def test_a_case_kept_is_not_told_of_and_one_broken_by_its_place() -> None:
    found = cases(
        "case,fee,plan,expect", "low,0.1,a,False", "wrong no,0.1,a,True", "high,0.9,a,True", "odd,0.9,a,False"
    )
    assert found.broken(by_fee, LABELS) == {
        1: "wrong no: says False, expected True",
        3: "odd: says True, expected False",
    }


def test_the_label_is_that_of_the_models_own_threshold() -> None:
    found = cases("fee,plan,expect", "0.4,a,True", "0.39,a,False")
    assert found.broken(by_fee, LABELS) == {}
    assert found.broken(lambda X: Predictions(X["fee"].to_numpy()), LABELS) == {0: "row 2: says False, expected True"}


def test_a_value_is_kept_up_to_its_tolerance() -> None:
    lines = ["1.25,a,1,0.25", "0.75,a,1,0.25", "1.375,a,1,0.25", "2,a,2,0"]
    found = cases("fee,plan,expect,tolerance", *lines, loop=REGRESSION)
    assert found.broken(by_fee, None) == {2: "row 4: says 1.375, expected 1 within 0.25"}


def test_a_prediction_rises_or_falls_when_its_feature_changes() -> None:
    found = cases(
        "case,fee,plan,expect,change,to",
        "up,0.1,a,rises,fee,0.2",
        "not down,0.1,a,falls,fee,0.2",
        "down,0.2,a,falls,fee,0.1",
        "not up,0.2,a,rises,fee,0.1",
    )
    for labels in (LABELS, None):
        assert found.broken(by_fee, labels) == {
            1: "not down: goes from 0.1 to 0.2, expected that it falls",
            3: "not up: goes from 0.2 to 0.1, expected that it rises",
        }


@pytest.mark.parametrize("expect", ["rises", "falls"])
def test_a_prediction_that_stays_neither_rises_nor_falls(expect: str) -> None:
    found = cases("fee,plan,expect,change,to", f"0.5,a,{expect},plan,b")
    assert found.broken(by_fee, LABELS) == {0: f"row 2: goes from 0.5 to 0.5, expected that it {expect}"}


def test_a_pair_is_judged_by_its_prediction_and_not_by_its_label() -> None:
    found = cases("fee,plan,expect,change,to", "0.1,a,rises,fee,0.11")  # says no both times
    assert found.broken(by_fee, LABELS) == {}


# the digest


def test_the_same_cases_have_the_same_digest_however_they_are_written() -> None:
    assert (
        cases("case,fee,plan,expect,change,to", "row 2,1.0,2.0,True,,").digest
        == cases("expect,plan,fee", "true,2,1").digest
    )


@pytest.mark.parametrize(
    "other",
    [
        "case a,1,basic,rises,fee,3",
        "case a,1,basic,falls,fee,2",
        "case a,1,family,rises,fee,2",
        "case a,0,basic,rises,fee,2",
        "case b,1,basic,rises,fee,2",
        "case a,1,basic,rises,plan,2",
    ],
)
def test_the_digest_changes_with_any_cell(other: str) -> None:
    header, line = "case,fee,plan,expect,change,to", "case a,1,basic,rises,fee,2"
    assert cases(header, line).digest != cases(header, other).digest
    assert cases(header, line).digest != cases(header, line, other).digest != cases(header, other, line).digest


def test_the_digest_changes_with_a_tolerance() -> None:
    header = "fee,plan,expect,tolerance"
    assert (
        cases(header, "1,a,3,0.5", loop=REGRESSION).digest != cases(header, "1,a,3,0.25", loop=REGRESSION).digest != ""
    )
