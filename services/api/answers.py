"""What a client gets back: the types that /docs shows, and the bytes that /predict sends."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
from pydantic import BaseModel

from driftloop.facts import Facts
from services.api.champion import Champion

encode = msgspec.json.Encoder().encode


class Label(BaseModel):
    label: str
    probability: float


class Class(BaseModel):
    label: str
    probabilities: dict[str, float]


class Value(BaseModel):
    prediction: float


class Answered(BaseModel):
    request_id: str
    version: str


class LabelAnswer(Answered, Label):
    """One row of a binary loop; ``probability`` is that of the positive label."""


class ClassAnswer(Answered, Class):
    """One row of a multiclass loop: the likeliest label, and the probability of each."""


class ValueAnswer(Answered, Value):
    """One row of a regression loop."""


class LabelAnswers(Answered):
    predictions: list[Label]


class ClassAnswers(Answered):
    predictions: list[Class]


class ValueAnswers(Answered):
    predictions: list[Value]


class Accepted(BaseModel):
    accepted: int


class Health(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    ready: Literal[True]
    version: str


class NotReady(BaseModel):
    ready: Literal[False]
    detail: str


class Trouble(BaseModel):
    at: datetime
    message: str


class Live(BaseModel):
    """A version's answers in the log; ``value`` is null while labels do not tell.

    It is that ``on`` so many of the labelled rows; ``unread`` are labels that are none of the task's.
    """

    rows: int
    labelled: int
    metric: str
    value: float | None
    on: int
    unread: int


class Shadow(BaseModel):
    """The challenger beside the champion. ``agreement`` is null for a regression, both are before any row."""

    version: str
    rows: int
    skipped: int
    agreement: float | None
    difference: float | None
    trouble: str | None


class Log(BaseModel):
    """How far the log's store is behind the answers."""

    up: bool
    lag_seconds: float
    waiting_bytes: int
    dropped: int
    damaged: int
    trouble: str | None


class Standing(BaseModel):
    """``last_error`` says why what serves is not what the alias names."""

    loop: str
    last_error: Trouble | None
    live: dict[str, Live]
    shadow: Shadow | None
    log: Log | None


class NoModel(Standing):
    version: None


class Compilation(BaseModel):
    """``refused`` says why a version serves natively."""

    difference: float | None
    tolerance: float
    rows: int
    refused: str | None


class Input(BaseModel):
    """A feature, with what the training rows held of it: ``low`` and ``high``, or ``categories``, and a usual value.

    Null where the version does not tell, and a usual value also where that was a null.
    """

    name: str
    type: Literal["double", "string"]
    required: bool
    low: float | None
    high: float | None
    default: float | str | None
    categories: list[str] | None


class Output(BaseModel):
    type: Literal["long", "double"]


class Signature(BaseModel):
    inputs: list[Input]
    outputs: list[Output]


class Model(Standing):
    version: str
    since: datetime
    origin: Literal["registry", "disk"]
    engine: Literal["onnx", "native"]
    compiled: Compilation | None
    task: Literal["binary", "multiclass", "regression"]
    target: str
    labels: tuple[str, ...] | None
    threshold: float | None
    metrics: dict[str, float]
    baseline: dict[str, float]
    windows: list[str]
    rows: int
    signature: Signature
    max_rows: int


class Refusal(BaseModel):
    detail: str


class Problem(BaseModel):
    """``loc`` leads to the field from the body on: names, and a row's place."""

    loc: list[str | int]
    msg: str
    type: str


class Problems(BaseModel):
    detail: list[Problem]


def answer_types(facts: Facts) -> tuple[type[Answered], type[Answered]]:
    """The models of the two answers, one row's and a batch's."""
    kinds: dict[str, tuple[type[Answered], type[Answered]]] = {
        "binary": (LabelAnswer, LabelAnswers),
        "multiclass": (ClassAnswer, ClassAnswers),
        "regression": (ValueAnswer, ValueAnswers),
    }
    return kinds[facts.task]


def answer(
    champion: Champion, scores: np.ndarray, request_id: str, batch: bool
) -> tuple[bytes, list[float], list[str | None]]:
    """(the body, the scores, the labels) of a request's rows, in their order; labels are None for a regression.

    The score of a row of several classes is the probability of its label.
    """
    values, labels = scores.tolist(), champion.facts.labels
    head: dict[str, Any] = {"request_id": request_id, "version": champion.version.number}
    if labels is None:
        words: list[str | None] = [None] * len(values)
        said: list[dict[str, Any]] = [{"prediction": value} for value in values]
    elif champion.facts.task == "multiclass":
        words = [labels[place] for place in scores.argmax(axis=1).tolist()]
        every = [dict(zip(labels, row, strict=True)) for row in values]
        said = [{"label": word, "probabilities": row} for word, row in zip(words, every, strict=True)]
        values = scores.max(axis=1).tolist()
    else:
        threshold = champion.threshold
        words = [labels[value >= threshold] for value in values]
        said = [{"label": word, "probability": value} for word, value in zip(words, values, strict=True)]
    return encode(head | ({"predictions": said} if batch else said[0])), values, words
