"""What GET /model says of a version: enough to make a form of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from driftloop.facts import Version
from services.api.answers import Signature
from services.api.champion import Champion
from services.api.schema import RequestSchema
from tests.fakes import some_facts


class NoScorer:
    engine: Any = "onnx"


def described(**facts):
    made = some_facts(**facts)
    scorer: Any = NoScorer()
    champion = Champion(Version("3", "run"), made, RequestSchema.of(made, 50), scorer, datetime.now(UTC), "registry")
    return champion.describe()


def inputs(about):
    Signature.model_validate(about["signature"])
    return {
        one["name"]: (one["low"], one["default"], one["high"], one["categories"])
        for one in about["signature"]["inputs"]
    }


def test_inputs_come_with_what_training_held_of_them():
    about = described(
        categories={"plan": ("(missing)", "basic", "family")}, ranges={"fee": (0.5, 2.0, 9.5)}, modes={"plan": "family"}
    )
    assert inputs(about) == {"fee": (0.5, 2.0, 9.5, None), "plan": (None, "family", None, ["basic", "family"])}
    assert about["max_rows"] == 50


def test_a_usual_null_is_null():
    assert inputs(described(modes={"plan": "(missing)"}))["plan"][1] is None


def test_a_version_from_before_it_told_is_described_without():
    assert inputs(described()) == {"fee": (None, None, None, None), "plan": (None, None, None, ["basic", "family"])}
