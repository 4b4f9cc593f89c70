"""POST /explain over HTTP, with the real process that holds SHAP."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from driftloop import worker
from driftloop.contract import Serving
from driftloop.facts import Version
from driftloop.registry import Registry
from services.api import explain
from services.api.app import Api, build
from services.api.gate import Gate, Keys
from tests.integration.api_fakes import ROW, SPEND_ROW, WARNINGS_ARE_ERRORS, serving, source_here, version, wait_for

pytestmark = WARNINGS_ARE_ERRORS
POLL = 0.05


@pytest.fixture(scope="module")
def explaining(api_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, httpx.Client]]:
    """The API with version 1, a naive Bayes, and one process for all tests: its start takes seconds."""
    settings = replace(api_registry.settings, home=tmp_path_factory.mktemp("home"))
    api_registry.point("champion", "1")
    api = build(settings, "churn", POLL, source_here(settings), Serving(log="off", timeout_s=30))
    with serving(Gate(api, api.predict, api.metrics, Keys())) as client:
        wait_for(lambda: version(client) == "1")
        yield api, client


@pytest.fixture
def asked(explaining: tuple[Api, httpx.Client]) -> Callable[..., httpx.Response]:
    _, client = explaining

    def ask(row: object = ROW, **headers: str) -> httpx.Response:
        return client.post("/explain", json=row, headers=headers, timeout=90)

    return ask


def process(api: Api) -> int | None:
    """The id of the process that explains."""
    found = api.explainer._process
    return found._process.pid if found else None


def gone(pid: int) -> bool:
    """Whether no process has the id; one that ended and was not waited for yet has none that runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_values_by_the_users_feature_names_add_up_to_what_predict_answers(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response]
) -> None:
    _, client = explaining
    for row in (ROW, dict.fromkeys(ROW), ROW | {"plan": "never seen"}):
        answered = asked(row, **{"X-Request-ID": "mine"})
        found = answered.json()
        assert list(found) == [
            "request_id", "version", "label", "scale", "method", "base", "output", "probability", "values",
        ]  # fmt: skip
        assert (answered.status_code, found["request_id"], found["version"]) == (200, "mine", "1")
        assert list(found["values"]) == ["fee", "monthly usage", "plan", "paperless"]
        assert (found["scale"], found["method"]) == ("probability", "kernel")
        assert found["base"] + sum(found["values"].values()) == pytest.approx(found["output"], abs=1e-6)
        assert client.post("/predict", json=row).json()["probability"] == pytest.approx(found["output"], abs=1e-6)


def test_another_champion_is_explained_by_the_same_process(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response], api_registry: Registry
) -> None:
    api, client = explaining
    asked()
    before = process(api)
    api_registry.point("champion", "4")
    wait_for(lambda: version(client) == "4")
    found = asked(SPEND_ROW).json()
    assert (found["version"], found["scale"], found["method"], found["probability"]) == ("4", "value", "linear", None)
    assert found["base"] + sum(found["values"].values()) == pytest.approx(found["output"])
    assert found["output"] == pytest.approx(client.post("/predict", json=SPEND_ROW).json()["prediction"])
    api_registry.point("champion", "1")
    wait_for(lambda: version(client) == "1")
    assert asked().json()["version"] == "1"
    assert process(api) == before


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**ROW, "fee": "much"}, "fee"),
        ({k: v for k, v in ROW.items() if k != "plan"}, "plan"),
        ({"rows": [ROW]}, "rows"),
        ({"rows": []}, "rows"),
    ],
)
def test_wrong_input_and_a_batch_are_422(asked: Callable[..., httpx.Response], row: object, field: str) -> None:
    answered = asked(row)
    assert (answered.status_code, answered.json()["detail"][0]["loc"][-1]) == (422, field)


def test_without_shap_it_is_501_and_says_what_to_install(asked: Callable[..., httpx.Response]) -> None:
    with patch.object(explain, "find_spec", return_value=None):
        answered = asked()
    assert (answered.status_code, "driftloop[explain]" in answered.json()["detail"]) == (501, True)


def test_a_version_that_is_not_on_disk_any_more_is_503(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response]
) -> None:
    api, _ = explaining
    current = api.holder.current
    assert current is not None
    with patch.object(api.holder, "current", replace(current, version=Version("77", "gone"))):
        answered = asked()
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "1")
    assert "version 77 is no longer kept on disk" in answered.json()["detail"]


def test_a_version_whose_files_are_damaged_is_503_and_the_next_question_is_answered(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response], tmp_path: Path
) -> None:
    api, _ = explaining
    current = api.holder.current
    assert current is not None
    damaged = replace(current, version=Version("9", "damaged"))
    with (
        patch.object(api.holder, "current", damaged),
        patch.object(api.explainer._store, "kept", lambda: [(api.holder.current.version, tmp_path)]),
    ):
        assert asked().status_code == 503
    assert asked().status_code == 200


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_was_killed_or_hangs_is_503_and_then_another_one_answers(
    explaining: tuple[Api, httpx.Client],
    asked: Callable[..., httpx.Response],
    how: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api, client = explaining
    assert asked().status_code == 200
    pid = process(api)
    assert pid is not None
    monkeypatch.setattr(api.explainer, "_timeout", 0.5)
    os.kill(pid, how)
    answered = asked()
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "1")
    assert client.post("/predict", json=ROW).status_code == 200
    wait_for(lambda: gone(pid))
    assert asked().status_code == 200
    assert process(api) not in (None, pid)


def test_no_more_than_a_few_may_wait(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = explaining
    monkeypatch.setattr(api.explainer, "_timeout", 0.1)
    with api.explainer._lock:
        assert "under way" in asked().json()["detail"]
        for _ in range(explain.WAITING):
            assert api.explainer._waiting.acquire(blocking=False)
        assert "too many" in asked().json()["detail"]
        api.explainer._waiting.release(explain.WAITING)
    assert asked().status_code == 200


def test_the_process_ends_with_the_api_though_it_is_at_work(api_registry: Registry, tmp_path: Path) -> None:
    settings = replace(api_registry.settings, home=tmp_path)
    api_registry.point("champion", "1")
    api = build(settings, "churn", POLL, source_here(settings), None)
    with serving(api) as client:
        wait_for(lambda: version(client) == "1")
        explainer = api.explainer
        explainer._process = worker.Worker("services.api.explaining", "explains predictions")
        pid = process(api)
        assert pid is not None
        explainer._lock.acquire()  # as a question that is under way
        began = time.monotonic()

        def ask() -> None:
            with pytest.raises(worker.Gone):
                explainer._process.ask(None)  # type: ignore[union-attr]
            explainer._lock.release()

        asking = threading.Thread(target=ask)
        os.kill(pid, signal.SIGSTOP)
        asking.start()
    asking.join(5)
    assert gone(pid)
    assert time.monotonic() - began < 15


def test_the_page_of_docs_shows_what_an_explanation_holds(explaining: tuple[Api, httpx.Client]) -> None:
    _, client = explaining
    page = client.get("/openapi.json").json()
    answer = page["paths"]["/explain"]["post"]["responses"]
    assert answer["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Explanation"}
    held = page["components"]["schemas"]["Explanation"]
    assert set(held["properties"]) == set(explain.Explanation.model_fields) == set(held["required"])
    assert {"422", "501", "503"} <= set(answer)


def test_the_process_ends_when_nobody_asks_for_a_while(
    explaining: tuple[Api, httpx.Client], asked: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = explaining
    monkeypatch.setattr(explain, "IDLE_SECONDS", 0.2)
    assert asked().status_code == 200
    wait_for(lambda: process(api) is None)
