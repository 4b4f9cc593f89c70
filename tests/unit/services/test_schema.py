from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.facts import Facts
from services.api.schema import MAX_ROWS, RequestSchema, TooManyRows, WrongInput

FACTS = Facts(
    loop="churn",
    task="binary",
    target="churned",
    labels=("stayed", "gone"),
    numeric=("fee",),
    categorical=("plan",),
    categories={"plan": ("(missing)", "basic", "full")},
    windows=("2024-01",),
    rows=100,
    fingerprint="f",
    holdout="row",
    metrics={},
    sample=({"fee": 1.0, "plan": "basic"},),
    sample_scores=(0.5,),
)
SCHEMA = RequestSchema.of(FACTS)


def read(body: Any) -> tuple[list[dict[str, Any]], bool]:
    return SCHEMA.read(json.dumps(body).encode())


def test_one_row_is_read_with_its_category_as_training_spells_it() -> None:
    assert read({"fee": 3, "plan": True}) == ([{"fee": 3.0, "plan": "True"}], False)


def test_a_batch_is_read_in_its_order() -> None:
    rows, batch = read({"rows": [{"fee": 1, "plan": 7}, {"fee": None, "plan": None}]})
    assert batch
    assert rows == [{"fee": 1.0, "plan": "7"}, {"fee": None, "plan": None}]


def test_a_field_with_several_possible_types_is_one_problem() -> None:
    with pytest.raises(WrongInput, match="plan: expected a string, true, false, an integer or null") as caught:
        read({"fee": 1, "plan": 1.5})
    assert len(caught.value.problems) == 1


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(WrongInput) as caught:
        read({"fee": "1", "colour": "red"})
    assert {problem["loc"][-1] for problem in caught.value.problems} == {"fee", "plan", "colour"}


def test_the_most_rows_are_read_and_one_more_is_refused() -> None:
    row = {"fee": 1, "plan": None}
    assert len(read({"rows": [row] * MAX_ROWS})[0]) == MAX_ROWS
    with pytest.raises(TooManyRows, match="10,001 rows"):
        read({"rows": [row] * (MAX_ROWS + 1)})


def test_the_documented_fields_are_the_features_without_the_word_for_a_null() -> None:
    _, named = SCHEMA.components()
    row = named["Row"]
    assert row["required"] == ["fee", "plan"]
    assert row["additionalProperties"] is False
    assert row["properties"]["plan"]["examples"] == ["basic", "full"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["fee", "plan", "rows", "x"]), inner),
    max_leaves=8,
)


def outcome(body: bytes) -> list[dict[str, Any]] | WrongInput:
    try:
        return SCHEMA.read(body)[0]
    except WrongInput as refused:
        return refused


@given(JSON)
def test_whatever_json_is_sent_is_read_or_refused_with_a_place(body: Any) -> None:
    result = outcome(json.dumps(body).encode())
    if isinstance(result, WrongInput):
        assert all(problem["loc"][0] == "body" and problem["msg"] for problem in result.problems)
    else:
        assert all(set(row) == {"fee", "plan"} for row in result)


@given(st.binary(max_size=40))
def test_whatever_bytes_are_sent_are_read_or_refused(body: bytes) -> None:
    assert outcome(body)
