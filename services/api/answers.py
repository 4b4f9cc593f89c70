"""What a client gets back: the types that /docs shows, and the bytes that /predict sends."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from pydantic import BaseModel

from driftloop.facts import Facts
from services.api.champion import Champion

encode = msgspec.json.Encoder().encode


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


def answer_types(facts: Facts) -> tuple[type[Answered], type[Answered]]:
    """The models of the two answers, one row's and a batch's."""
    return (LabelAnswer, LabelAnswers) if facts.task == "binary" else (ValueAnswer, ValueAnswers)


def answer(
    champion: Champion, scores: np.ndarray, request_id: str, batch: bool
) -> tuple[bytes, list[float], list[str | None]]:
    """(the body, the scores, the labels) of a request's rows, in their order; labels are None for a regression."""
    values, labels = scores.tolist(), champion.facts.labels
    head: dict[str, Any] = {"request_id": request_id, "version": champion.version.number}
    if labels is None:
        words: list[str | None] = [None] * len(values)
        said: list[dict[str, Any]] = [{"prediction": value} for value in values]
    else:
        threshold = champion.threshold
        words = [labels[value >= threshold] for value in values]
        said = [{"label": word, "probability": value} for word, value in zip(words, values, strict=True)]
    return encode(head | ({"predictions": said} if batch else said[0])), values, words
