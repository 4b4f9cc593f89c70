"""What is told of an uploaded file's values that no training row held."""

from __future__ import annotations

from services.dashboard.learnt import strange_columns

AREA = {"name": "area", "low": 20.0, "high": 150.0, "categories": None}
TOWN = {"name": "town", "low": None, "high": None, "categories": ["Lyon"]}
OLD = {"name": "old", "low": None, "high": None, "categories": None}  # a version from before versions told


def rows(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_numbers_are_told_by_range_and_categories_by_name():
    told = strange_columns([AREA, TOWN], rows(area=[900.0, 10.0, 20.0], town=["Paris"] * 3))
    assert told == [
        "area: 2 of 3 rows lie outside 20–150.",
        "town: 3 of 3 rows hold a value that the model never learnt (Paris).",
    ]


def test_what_training_held_nulls_and_what_no_version_tells_of_are_not_told():
    assert strange_columns([AREA, TOWN, OLD], rows(area=[20.0, None], town=["Lyon", None], old=[1.0, None])) == []


def test_of_many_categories_some_are_named_on_one_line_each_once():
    (told,) = strange_columns([TOWN], rows(town=["a", "b\n\n    b", "a", "c" * 50, "d"]))
    assert told == f"town: 5 of 5 rows hold a value that the model never learnt (a, b b, {'c' * 40}…, …)."


def test_of_many_columns_the_first_are_told_and_the_rest_are_counted():
    inputs = [AREA | {"name": f"area{i}"} for i in range(12)]
    told = strange_columns(inputs, [{one["name"]: 1.0 for one in inputs}])
    assert told[0] == "area0: 1 of 1 rows lies outside 20–150."
    assert told[10:] == ["2 more columns hold such values."]
