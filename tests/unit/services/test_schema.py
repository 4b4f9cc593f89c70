from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.facts import Facts
from services.api.schema import MAX_ROWS, RequestSchema, TooManyRows, WrongInput
from tests.wrong_bodies import Bodies

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


def outcome(body: bytes) -> list[dict[str, Any]] | WrongInput | TooManyRows:
    try:
        return SCHEMA.read(body)[0]
    except (WrongInput, TooManyRows) as refused:
        return refused


@given(JSON)
def test_whatever_json_is_sent_is_read_or_refused_with_a_place(body: Any) -> None:
    result = outcome(json.dumps(body).encode())
    assert not isinstance(result, TooManyRows)
    if isinstance(result, WrongInput):
        assert all(problem["loc"][0] == "body" and problem["msg"] for problem in result.problems)
    else:
        assert all(set(row) == {"fee", "plan"} for row in result)


@given(st.binary(max_size=40))
def test_whatever_bytes_are_sent_are_read_or_refused(body: bytes) -> None:
    assert outcome(body)


BODIES = Bodies({"fee": 70.5, "plan": "basic"}, FACTS.numeric, FACTS.categorical)


def test_what_an_oracle_calls_wrong_is_refused_and_what_it_calls_right_is_read() -> None:
    assert len(BODIES.wrong) > 5000
    assert len(BODIES.right) > 100
    assert [body for body in BODIES.wrong if not isinstance(outcome(body), (WrongInput, TooManyRows))] == []
    assert [body for body in BODIES.right if isinstance(outcome(body), (WrongInput, TooManyRows))] == []


def test_of_a_million_wrong_fields_a_few_are_named_and_none_at_length() -> None:
    strange = {f"{number:06}{'x' * 200}": 0 for number in range(1000)}
    for body in (strange, {"rows": [strange] * 50}, {"rows": [{"fee": 1, "plan": None}], **strange}):
        with pytest.raises(WrongInput) as caught:
            read(body)
        assert len(caught.value.problems) == 20
        assert max(len(problem["msg"]) for problem in caught.value.problems) < 200
        assert max(len(str(problem["loc"])) for problem in caught.value.problems) < 200


def test_a_feature_is_named_even_where_it_is_wrong_behind_a_thousand_that_are_none() -> None:
    with pytest.raises(WrongInput) as caught:
        read({f"strange {number}": 0 for number in range(1000)} | {"fee": "x", "plan": None})
    assert caught.value.problems[0]["loc"] == ["body", "fee"]


def test_a_wrong_row_far_behind_is_named_by_its_place() -> None:
    right = {"fee": 1, "plan": None}
    with pytest.raises(WrongInput, match="fee: expected a finite number or null") as caught:
        read({"rows": [right] * 5000 + [right | {"fee": "x"}]})
    assert [problem["loc"] for problem in caught.value.problems] == [["body", "rows", 5000, "fee"]]
