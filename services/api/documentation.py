"""The OpenAPI pages: what every route takes and answers, with the champion's real fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from driftloop.contract import Serving
from services.api.answers import (
    Accepted,
    Health,
    Model,
    NoModel,
    NotReady,
    Problems,
    Ready,
    Refusal,
    answer_types,
)
from services.api.champion import Champion
from services.api.explain import Explanation
from services.api.feedback import REQUEST_ID_PATTERN, Feedback, Feedbacks
from services.api.schema import REFS

Json = dict[str, Any]
Models = Sequence[type[BaseModel]]
REFUSED = [Refusal]
KEYED: dict[str, tuple[str, Models]] = {
    "401": ("No valid key, where keys are asked for.", REFUSED),
    "500": ("A defect of the API; nothing of it is told.", REFUSED),
    "503": ("Not now: no model is loaded yet, or too many ask at once. Try again.", REFUSED),
}
BODIES: dict[str, tuple[str, Models]] = {
    "400": ("The client went away before its request was whole.", REFUSED),
    "408": ("The body did not arrive in time.", REFUSED),
    "422": ("Wrong input; each problem names its field.", [Problems]),
}
SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
ANYBODY: list[Json] = [{}]
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": f"The request's id, where the client has one and it is {REQUEST_ID_PATTERN}; else one is made.",
    "schema": {"type": "string"},
}
HEADERS: Json = {"X-Request-ID": {"required": True, "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN}$"}}}
OWN_HEADERS: dict[str, Json] = {
    "401": {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    "503": {"Retry-After": {"required": True, "schema": {"type": "string"}}},
}


def describe(openapi: Json, champion: Champion | None, limits: Serving) -> Json:
    """``openapi`` with what every route takes and answers; without a champion any object may be sent."""
    body, named = champion.schema.components() if champion else ({"type": "object"}, {})
    components = openapi.setdefault("components", {})
    schemas: Json = dict(named)
    components |= {"schemas": schemas, "securitySchemes": SCHEMES}
    too_large = f"More than {limits.max_rows:,} rows, or than {limits.max_body_mb:g} MiB."
    posted = KEYED | BODIES | {"413": (too_large, REFUSED)}
    answers: dict[str, dict[str, tuple[str, Models]]] = {
        "/health": {"200": ("The process is alive.", [Health])},
        "/ready": {"200": ("A model is loaded.", [Ready]), "503": ("None is loaded yet.", [NotReady])},
        "/model": KEYED | {"200": ("What serves.", [Model]), "503": (KEYED["503"][0], [NoModel, Refusal])},
        "/metrics": KEYED | {"403": ("A key that may only predict.", REFUSED)},
        "/predict": posted | {"200": ("Scored.", list(answer_types(champion.facts)) if champion else [])},
        "/explain": posted
        | {"200": ("Explained.", [Explanation]), "501": ("The extra that explains is not installed.", REFUSED)},
        "/feedback": posted
        | {
            "202": ("Taken; matched with the prediction when both are in the log's store.", [Accepted]),
            "409": ("The loop keeps no prediction log.", REFUSED),
        },
    }
    bodies = {
        "/predict": body,
        "/explain": {"$ref": REFS.format(model="Row")} if champion else body,
        "/feedback": _of([Feedback, Feedbacks], schemas, "validation"),
    }
    if champion:
        schemas["Feedback"]["properties"]["label"] = _label(champion.facts.labels)
        schemas["Feedbacks"]["properties"]["labels"]["maxItems"] = limits.max_rows
    for path, methods in openapi["paths"].items():
        (operation,) = methods.values()
        operation["responses"] = {
            status: _answered(status, text, {"application/json": {"schema": _of(models, schemas)}})
            for status, (text, models) in sorted(answers[path].items())
        }
        operation["security"] = (
            ANYBODY if path in ("/health", "/ready") else [*ANYBODY, *({one: []} for one in SCHEMES)]
        )
        if path in bodies:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": bodies[path]}}}
            operation["parameters"] = [REQUEST_ID]
    text = {"text/plain": {"schema": {"type": "string"}}}
    openapi["paths"]["/metrics"]["get"]["responses"]["200"] = _answered("200", "Prometheus' text format.", text)
    return openapi


def _label(labels: tuple[str, ...] | None) -> Json:
    """What a label may be: a word of the loop's, or the truth value or integer that the word stands for."""
    if labels is None:
        return {"title": "Label", "type": "number"}
    bools = [word == "True" for word in labels if word in ("True", "False")]
    integers = [int(word) for word in labels if word.removeprefix("-").isdecimal()]
    return {"title": "Label", "enum": [*labels, *bools, *integers]}


def _answered(status: str, text: str, content: Json) -> Json:
    return {"description": text, "headers": HEADERS | OWN_HEADERS.get(status, {}), "content": content}


def _of(models: Models, schemas: Json, mode: Any = "serialization") -> Json:
    """One of the models, whose schemas join ``schemas``; of no model any JSON."""
    _, definitions = models_json_schema([(one, mode) for one in models], ref_template=REFS)
    schemas.update(definitions.get("$defs", {}))
    refs = [{"$ref": REFS.format(model=one.__name__)} for one in models]
    return {"anyOf": refs} if len(refs) > 1 else refs[0] if refs else {}
