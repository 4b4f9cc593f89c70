"""The OpenAPI pages of /predict, /explain and /feedback, filled with the champion's real fields."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from driftloop.contract import Serving
from services.api.answers import answer_types
from services.api.champion import Champion
from services.api.explain import Explanation
from services.api.feedback import Feedback, Feedbacks
from services.api.schema import REFS

Json = dict[str, Any]
KEYED = {"401": "No valid key, where keys are asked for.", "403": "A key that may only predict."}
BUSY = "No model is loaded yet, or too many requests at once: try again."
BODIES = {
    "400": "The client went away before its request was whole.",
    "408": "The body did not arrive in time.",
    "422": "Wrong input; each problem names its field.",
}


def describe(openapi: Json, champion: Champion | None, limits: Serving) -> Json:
    """``openapi`` with what every route takes and answers; without a champion any object may be sent."""
    paths = openapi["paths"]
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    body, named = champion.schema.components() if champion else ({"type": "object"}, {})
    schemas.clear()
    schemas.update(named)
    large = {"413": f"More than {limits.max_rows:,} rows, or than {limits.max_body_mb:g} MiB."}
    for path, methods in paths.items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            others = {} if path in ("/health", "/ready") else KEYED
            others = others | ({"503": BUSY} if path != "/health" else {})
            if "post" in methods:
                others = others | BODIES | large | {"500": "A defect of the API; nothing of it is told."}
            operation["responses"].update(_refusals(others))
    one = {"$ref": REFS.format(model="Row")} if champion else body
    for path, sent, answer in (
        ("/predict", body, _answer(champion, schemas) if champion else {}),
        ("/explain", one, _of([Explanation], schemas)),
        ("/feedback", _of([Feedback, Feedbacks], schemas), {}),
    ):
        operation = paths[path]["post"]
        operation["requestBody"] = {"required": True, "content": _json(sent)}
        if path != "/feedback":
            done = "Explained." if path == "/explain" else "Scored."
            operation["responses"]["200"] = {"description": done, "content": _json(answer)}
    responses = paths["/feedback"]["post"]["responses"]
    del responses["200"]
    responses["202"] = {"description": "Taken; matched with the prediction when both are in the log's store."}
    responses |= _refusals({"409": "The loop keeps no prediction log."})
    paths["/explain"]["post"]["responses"] |= _refusals({"501": "The explaining extra is not installed."})
    return openapi


def _refusals(texts: dict[str, str]) -> Json:
    detail = {"type": "object", "properties": {"detail": {}}}
    return {status: {"description": text, "content": _json(detail)} for status, text in texts.items()}


def _answer(champion: Champion, schemas: Json) -> Json:
    return _of(list(answer_types(champion.facts)), schemas)


def _of(models: list[Any], schemas: Json) -> Json:
    _, definitions = models_json_schema([(one, "serialization") for one in models], ref_template=REFS)
    schemas.update(definitions["$defs"])
    refs = [{"$ref": REFS.format(model=one.__name__)} for one in models]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
