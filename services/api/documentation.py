"""The OpenAPI page of /predict, filled with the champion's real fields."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from services.api.champion import Champion
from services.api.prediction import answer_types
from services.api.schema import MAX_ROWS, REFS

Json = dict[str, Any]


def describe_predict(openapi: Json, champion: Champion | None) -> Json:
    """``openapi`` with the request and the answers of POST /predict; without a champion any object may be sent."""
    operation = openapi["paths"]["/predict"]["post"]
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    body, named = champion.schema.components() if champion else ({"type": "object"}, {})
    schemas.update(named)
    operation["requestBody"] = {"required": True, "content": _json(body)}
    operation["responses"] = _responses(champion, schemas)
    return openapi


def _responses(champion: Champion | None, schemas: Json) -> Json:
    detail = {"type": "object", "properties": {"detail": {}}}
    return {
        "200": {"description": "Scored.", "content": _json(_answer(champion, schemas) if champion else {})},
        "413": {"description": f"More than {MAX_ROWS:,} rows, or too many bytes.", "content": _json(detail)},
        "422": {"description": "Wrong input; each problem names its field.", "content": _json(detail)},
        "503": {"description": "No model is loaded yet.", "content": _json(detail)},
    }


def _answer(champion: Champion, schemas: Json) -> Json:
    one, many = answer_types(champion.artifact.facts)
    _, definitions = models_json_schema([(one, "serialization"), (many, "serialization")], ref_template=REFS)
    schemas.update(definitions["$defs"])
    return {"anyOf": [{"$ref": REFS.format(model=answered.__name__)} for answered in (one, many)]}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
