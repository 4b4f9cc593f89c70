"""What a client sends and what it gets, with the model in memory and no registry."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from driftloop.artifact import Artifact
from driftloop.facts import Version
from driftloop.settings import Settings
from services.api.app import Api, build
from services.api.champion import Champion
from services.api.gate import Gate, Keys
from services.api.schema import MAX_ROWS, RequestSchema
from services.api.scoring import NativeScorer
from tests.integration.api_fakes import (
    CHURN,
    ROW,
    SPEND,
    SPEND_ROW,
    WARNINGS_ARE_ERRORS,
    Hanging,
    candidate,
    serving,
    wait_for,
)

pytestmark = WARNINGS_ARE_ERRORS


def champion(text: str, seed: int = 1, names: dict[str, str] | None = None) -> Champion:
    made = candidate(text, seed, names)
    facts = made.facts
    artifact = Artifact(facts, made.estimator, (*facts.numeric, *facts.categorical))
    artifact.verify()
    scorer = NativeScorer(artifact, threading.Lock())
    return Champion(Version(str(seed), "run"), facts, RequestSchema.of(facts), scorer, datetime.now(UTC), "registry")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, httpx.Client]]:
    source, home = Hanging(), tmp_path_factory.mktemp("home")
    app = build(Settings.from_env({}, home), "churn", 2.0, source, None)
    with serving(Gate(app, app.predict, app.metrics, Keys())) as client:
        yield app, client
        source.let_go.set()


@pytest.fixture
def churn(api: tuple[Api, httpx.Client]) -> tuple[httpx.Client, Champion]:
    app, client = api
    app.holder.swap(champion(CHURN))
    return client, app.holder.current


def test_one_row_gets_the_label_as_the_user_spells_it(churn: tuple[httpx.Client, Champion]) -> None:
    client, serving_now = churn
    for row in (ROW, ROW | {"fee": 20}):
        answered = client.post("/predict", json=row).json()
        assert list(answered) == ["request_id", "version", "label", "probability"]
        assert answered["version"] == "1"
        assert answered["label"] == ("gone" if answered["probability"] >= 0.5 else "stayed")
        assert answered["probability"] == pytest.approx(
            serving_now.scorer.score(serving_now.schema.read(json.dumps(row).encode())[0])[0]
        )
    assert client.post("/predict", json=ROW).json()["request_id"] != answered["request_id"]


def test_the_stored_sample_rows_score_as_stored(churn: tuple[httpx.Client, Champion]) -> None:
    client, serving_now = churn
    facts = serving_now.facts
    answered = client.post("/predict", json={"rows": list(facts.sample)}).json()
    assert [p["probability"] for p in answered["predictions"]] == pytest.approx(list(facts.sample_scores))
    assert all(set(p) == {"label", "probability"} for p in answered["predictions"])


def test_a_regression_answers_with_a_prediction(api: tuple[Api, httpx.Client]) -> None:
    app, client = api
    app.holder.swap(champion(SPEND))
    one = client.post("/predict", json=SPEND_ROW).json()
    assert list(one) == ["request_id", "version", "prediction"]
    batch = client.post("/predict", json={"rows": [SPEND_ROW]}).json()
    assert batch["predictions"] == [{"prediction": one["prediction"]}]


def test_every_feature_may_be_null(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    assert client.post("/predict", json=dict.fromkeys(ROW)).status_code == 200


def test_a_category_means_the_same_alone_and_beside_others(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    rows = [ROW | {"paperless": value} for value in (True, 1, "True", "1", False, 0, None)]
    together = [p["probability"] for p in client.post("/predict", json={"rows": rows}).json()["predictions"]]
    alone = [client.post("/predict", json=row).json()["probability"] for row in rows]
    assert together == pytest.approx(alone)
    assert together[0] == together[2]
    assert together[0] != together[1], "1 is no category that training knew, True is"


WRONG: list[tuple[str, Any, str]] = [
    ("an unknown field", ROW | {"colour": "red"}, "colour"),
    ("a missing field", {k: v for k, v in ROW.items() if k != "monthly usage"}, "monthly usage"),
    ("a numeric string", ROW | {"fee": "70"}, "fee"),
    ("a bool for a number", ROW | {"fee": True}, "fee"),
    ("a list for a number", ROW | {"fee": [1]}, "fee"),
    ("a number too large", ROW | {"fee": 10**400}, "fee"),
    ("a float for a category", ROW | {"plan": 1.5}, "plan"),
    ("an object for a category", ROW | {"plan": {"a": 1}}, "plan"),
    ("no rows", {"rows": []}, "rows"),
    ("rows that are no list", {"rows": 3}, "rows"),
    ("a row that is no object", {"rows": [ROW, 3]}, "rows.1"),
    ("a wrong field in the second row", {"rows": [ROW, ROW | {"fee": "x"}]}, "fee"),
    ("something beside rows", {"rows": [ROW], "version": 3}, "version"),
]


@pytest.mark.parametrize(("body", "field"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_input_is_422_and_names_the_field(churn: tuple[httpx.Client, Champion], body: Any, field: str) -> None:
    client, _ = churn
    answered = client.post("/predict", json=body)
    assert answered.status_code == 422
    assert len(problems := answered.json()["detail"]) == 1
    assert field in problems[0]["msg"]
    assert problems[0]["loc"][0] == "body"
    assert field.rsplit(".", maxsplit=1)[-1] == str(problems[0]["loc"][-1])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e308", "-3.5e38"])
def test_a_number_that_is_not_finite_is_422(churn: tuple[httpx.Client, Champion], number: str) -> None:
    client, _ = churn
    body = f'{{"fee": {number}, "monthly usage": 1, "plan": null, "paperless": null}}'
    answered = client.post("/predict", content=body)
    assert (answered.status_code, answered.json()["detail"][0]["loc"]) == (422, ["body", "fee"])


@pytest.mark.parametrize("body", ["", "{", "null", "[]", '"text"', "[" * 5000, b"\xff\xfe"])
def test_a_body_that_is_no_object_is_422(churn: tuple[httpx.Client, Champion], body: str | bytes) -> None:
    client, _ = churn
    answered = client.post("/predict", content=body)
    assert (answered.status_code, answered.json()["detail"][0]["loc"]) == (422, ["body"])


def test_the_position_of_a_wrong_row_is_named_and_the_list_of_problems_is_short(
    churn: tuple[httpx.Client, Champion],
) -> None:
    client, _ = churn
    problems = client.post("/predict", json={"rows": [ROW, *[ROW | {"fee": "x"}] * 500]}).json()["detail"]
    assert problems[0]["loc"] == ["body", "rows", 1, "fee"]
    assert len(problems) == 20


def test_ten_thousand_rows_are_scored_and_one_more_is_413(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    answered = client.post("/predict", json={"rows": [ROW] * MAX_ROWS})
    assert len(answered.json()["predictions"]) == MAX_ROWS
    refused = client.post("/predict", json={"rows": [ROW] * (MAX_ROWS + 1)})
    assert (refused.status_code, refused.json()["detail"]) == (413, "10,001 rows in one request; send at most 10,000")


def test_a_body_without_end_is_413(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    assert client.post("/predict", content=b" " * (32 * 2**20 + 1)).status_code == 413


def test_an_internal_error_tells_the_client_nothing_and_the_log_everything(
    api: tuple[Api, httpx.Client], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        engine = "broken"

        def inline(self, rows: int) -> bool:
            return True

        def score(self, rows: Any) -> np.ndarray:
            raise RuntimeError("secret detail")

    app, client = api
    app.holder.swap(replace(champion(CHURN), scorer=Broken()))
    with caplog.at_level(logging.ERROR, logger="driftloop.api"):
        answered = client.post("/predict", json=ROW)
        wait_for(lambda: "secret detail" in caplog.text)
    assert (answered.status_code, answered.json()) == (500, {"detail": "internal error"})
    assert 'driftloop_api_requests_total{path="/predict",status="500"} 1.0' in client.get("/metrics").text


def test_metrics_count_requests_by_route_and_name_the_version(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    assert client.get("/made/up").status_code == 404
    assert client.get("/predict").status_code == 405
    client.post("/predict", json=ROW)
    text = client.get("/metrics").text
    assert 'driftloop_api_model_info{engine="native",loop="churn",origin="registry",version="1"} 1.0' in text
    assert 'driftloop_api_request_seconds_count{path="/predict"}' in text
    assert "made/up" not in text


def test_a_feature_may_be_called_rows_or_like_a_python_method(api: tuple[Api, httpx.Client]) -> None:
    app, client = api
    names = {"fee": "rows", "plan": "copy"}
    text = CHURN.replace('"fee", "monthly usage"', '"rows"').replace('"plan", "paperless"', '"copy"')
    app.holder.swap(champion(text, names=names))
    row = {"rows": 3, "copy": "basic"}
    one = client.post("/predict", json=row).json()
    assert client.post("/predict", json={"rows": [row]}).json()["predictions"][0]["probability"] == one["probability"]
    assert client.get("/openapi.json").status_code == 200


def test_the_docs_page_needs_nothing_from_elsewhere(churn: tuple[httpx.Client, Champion]) -> None:
    client, _ = churn
    page = client.get("/docs").text
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert wanted
    assert [client.get(address).status_code for address in wanted] == [200] * len(wanted)
    assert "://" not in "".join(wanted)
