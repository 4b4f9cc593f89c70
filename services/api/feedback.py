"""Labels that come back: what POST /feedback takes."""

from __future__ import annotations

import math
from itertools import islice
from typing import Annotated, Any

import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from driftloop.category import category
from driftloop.facts import Facts
from services.api.schema import MAX_PROBLEMS, Place, WrongInput, excerpt, problem

REQUEST_ID_PATTERN = r"[A-Za-z0-9._:/+=@-]{1,128}"
MOST_ROWS = 100_000  # of a request, whatever serving.max_rows says


def _integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Feedback(BaseModel):
    """What happened to one row: ``label`` as training spells it, or the value of a regression."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID_PATTERN}$")]
    row: Annotated[int, Field(ge=0, lt=MOST_ROWS), BeforeValidator(_integer)] = 0
    label: str | bool | int | float


class Feedbacks(BaseModel):
    """Several at once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: Annotated[list[Feedback], Field(min_length=1)]


def read_feedback(body: bytes, facts: Facts, most: int) -> list[Feedback]:
    """The labels of a request's body. Raises WrongInput naming the field."""
    try:
        given = pydantic_core.from_json(body)
    except ValueError as error:
        raise WrongInput([problem((), f"the body is not valid JSON: {error}", "json_invalid")]) from None
    if not isinstance(given, dict):
        raise WrongInput([problem((), 'expected one label as an object, or {"labels": [...]}', "dict_type")])
    if "labels" not in given:
        return [_one(given, (), facts)]
    many = given["labels"]
    if others := list(islice((name for name in given if name != "labels"), MAX_PROBLEMS)):
        found = [problem((name,), "labels stand alone, with nothing beside them", "extra_forbidden") for name in others]
        raise WrongInput(found)
    if not isinstance(many, list) or not many:
        raise WrongInput([problem(("labels",), "labels: expected a list of one label or more", "list_type")])
    if len(many) > most:
        raise WrongInput([problem(("labels",), f"{len(many):,} labels at once; send at most {most:,}", "too_long")])
    return [_one(one, ("labels", number), facts) for number, one in enumerate(many)]


def _one(given: Any, place: Place, facts: Facts) -> Feedback:
    try:
        one = Feedback.model_validate(excerpt(given, Feedback.model_fields))
    except ValidationError as error:
        found: dict[Any, Any] = {}
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            at = (*place, *item["loc"][:1])
            name = ".".join(map(str, at)) or "the body"
            found.setdefault(at, problem(at, f"{name}: {item['msg']}", item["type"]))
        raise WrongInput(list(found.values())) from None
    return one.model_copy(update={"label": _label(one.label, (*place, "label"), facts)})


def _label(given: str | bool | float, place: Place, facts: Facts) -> str | float:
    if facts.labels is None:
        value = math.nan if isinstance(given, (str, bool)) else _float(given)
        if not math.isfinite(value):
            raise WrongInput([problem(place, "label: expected a finite number", "float_type")])
        return value
    name = category(given)
    if name not in facts.labels:
        raise WrongInput([problem(place, f"label: expected {' or '.join(facts.labels)}", "literal_error")])
    return name


def _float(given: float) -> float:
    try:
        return float(given)
    except OverflowError:  # JSON has integers that no float holds
        return math.inf
