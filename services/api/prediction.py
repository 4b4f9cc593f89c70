"""From a request's body to its answer, with one champion throughout."""

from __future__ import annotations

from threading import Lock
from typing import Any

import pandas as pd
from pydantic import BaseModel

from driftloop.facts import Facts
from services.api.champion import Champion
from services.api.schema import WrongInput, problem


class Label(BaseModel):
    label: str
    probability: float


class Value(BaseModel):
    prediction: float


class Answered(BaseModel):
    request_id: str
    version: str


class LabelAnswer(Answered, Label):
    """One row of a binary loop; ``probability`` is that of the positive label."""


class ValueAnswer(Answered, Value):
    """One row of a regression loop."""


class LabelAnswers(Answered):
    predictions: list[Label]


class ValueAnswers(Answered):
    predictions: list[Value]


def answer(champion: Champion, body: bytes, request_id: str, scoring: Lock) -> dict[str, Any]:
    """Read, score and phrase. Raises WrongInput or TooManyRows for what the client can mend."""
    rows, batch = champion.schema.read(body)
    facts = champion.artifact.facts
    frame = pd.DataFrame(rows, columns=[*facts.numeric, *facts.categorical])
    with scoring:
        try:
            predicted = champion.artifact.predict(frame)
        except ValueError as error:  # every value was checked alone; the model can still find one out of its range
            raise WrongInput([problem((), f"the model cannot score this: {error}", "value_error")]) from None
    predictions = [_phrase(score, predicted.threshold, facts) for score in predicted.scores.tolist()]
    head = {"request_id": request_id, "version": champion.version.number}
    return head | ({"predictions": predictions} if batch else predictions[0])


def answer_types(facts: Facts) -> tuple[type[Answered], type[Answered]]:
    """The models of the two answers, one row's and a batch's."""
    return (LabelAnswer, LabelAnswers) if facts.task == "binary" else (ValueAnswer, ValueAnswers)


def _phrase(score: float, threshold: float, facts: Facts) -> dict[str, Any]:
    if facts.labels is None:
        return {"prediction": score}
    return {"label": facts.labels[score >= threshold], "probability": score}
