"""Labels that come back: what POST /feedback takes."""

from __future__ import annotations

import math
import sys
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from driftloop.category import category
from driftloop.facts import Facts
from services.api.schema import WrongInput, problem


class Feedback(BaseModel):
    """What happened to one row: ``label`` as training spells it, or the value of a regression."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/+=@-]{1,128}$")]  # no other was ever given
    row: Annotated[int, Field(ge=0, lt=100_000)] = 0
    label: str | bool | int | float


class Feedbacks(BaseModel):
    """Several at once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: Annotated[list[Feedback], Field(min_length=1)]


def read_feedback(body: bytes, facts: Facts, most: int) -> list[Feedback]:
    """The labels of a request's body. Raises WrongInput naming the field."""
    try:
        many = Feedbacks.model_validate_json(body).labels if b'"labels"' in body[:64] else None
        labels = many or [Feedback.model_validate_json(body)]
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise WrongInput([problem(item["loc"][:3], item["msg"], item["type"]) for item in found[:20]]) from None
    if len(labels) > most:
        raise WrongInput([problem(("labels",), f"{len(labels):,} labels at once; send at most {most:,}", "too_long")])
    return [one.model_copy(update={"label": _label(one.label, facts)}) for one in labels]


def _label(given: str | bool | float, facts: Facts) -> str | float:
    if facts.labels is None:
        if isinstance(given, (str, bool)) or not abs(given) < math.inf or abs(given) > sys.float_info.max:
            raise WrongInput([problem(("label",), "label: expected a finite number", "float_type")])
        return float(given)
    name = category(given)
    if name not in facts.labels:
        raise WrongInput([problem(("label",), f"label: expected {' or '.join(facts.labels)}", "literal_error")])
    return name
