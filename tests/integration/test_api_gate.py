"""Who may ask the API, how much, and what every answer bears: real requests over real connections."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from driftloop.cli.__main__ import cli
from driftloop.contract import Serving
from driftloop.errors import ContractError
from driftloop.settings import Settings
from services.api.app import Api, build, create_app
from services.api.champion import Champion
from services.api.gate import Gate, Keys
from services.api.scoring import NativeScorer
from tests.integration.api_fakes import (
    CHURN,
    ROW,
    WARNINGS_ARE_ERRORS,
    Slow,
    Switched,
    compiled_champion,
    free_port,
    running,
    serving,
    wait_for,
)

pytestmark = WARNINGS_ARE_ERRORS
PREDICT, ADMIN, STRANGER = "the-key-of-who-may-predict", "the-key-of-an-admin", "a-key-of-nobody"
SHORT = 0.2  # seconds until a request is given up that would never end
OPEN = ["/health", "/ready"]
CLOSED = ["/model", "/docs", "/openapi.json"]


def entry(role: str, key: str) -> str:
    return f"{role}:{hashlib.sha256(key.encode()).hexdigest()}"


KEYS = Keys.parse(f"{entry('predict', PREDICT)} {entry('admin', ADMIN)}")
Limited = Callable[..., tuple[Api, Gate]]


@pytest.fixture(scope="module")
def champion() -> Champion:
    return compiled_champion(CHURN, 1)


@pytest.fixture
def limited(tmp_path: Path, champion: Champion) -> Limited:
    """An app with a champion and the limits that a test is about, behind its gate."""

    def make(keys: Keys | None = None, **limits: Any) -> tuple[Api, Gate]:
        chosen = Serving(**({"log": "off"} | limits))
        api = build(Settings.from_env({}, tmp_path), "churn", 2.0, Switched(None, on=False), chosen)
        api.holder.swap(champion)
        return api, Gate(api, api.predict, api.metrics, keys or Keys())

    return make


@pytest.fixture
def guarded(limited: Limited) -> Iterator[httpx.Client]:
    with serving(limited(KEYS)[1]) as client:
        yield client


def bearing(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


@pytest.mark.parametrize("key", [None, "", STRANGER, PREDICT[:-1], PREDICT + "x", KEYS.entries[0][1].hex()])
def test_without_a_known_key_the_answer_is_401_and_says_how_to_send_one(guarded: httpx.Client, key: str | None) -> None:
    headers = {} if key is None else bearing(key)
    for answered in (
        guarded.post("/predict", json=ROW, headers=headers),
        guarded.post("/feedback", json={}, headers=headers),
        *(guarded.get(path, headers=headers) for path in (*CLOSED, "/metrics", "/made/up", "/swagger/swagger-ui.css")),
    ):
        assert answered.status_code == 401
        assert answered.headers["WWW-Authenticate"] == "Bearer"
        assert answered.json() == {"detail": "no valid key; send one as X-API-Key, or as Authorization: Bearer"}


@pytest.mark.parametrize("key", [PREDICT, ADMIN])
@pytest.mark.parametrize(
    "headers",
    [
        lambda key: {"X-API-Key": key},
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"authorization": f"bearer  {key}"},
        lambda key: {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": key},
    ],
    ids=["a header of its own", "a bearer token", "in lower case", "beside another scheme"],
)
def test_a_key_lets_in_however_it_is_sent(guarded: httpx.Client, key: str, headers: Any) -> None:
    assert guarded.post("/predict", json=ROW, headers=headers(key)).status_code == 200
    assert [guarded.get(path, headers=headers(key)).status_code for path in CLOSED] == [200] * len(CLOSED)


def test_only_an_admin_may_read_the_metrics(guarded: httpx.Client) -> None:
    refused = guarded.get("/metrics", headers=bearing(PREDICT))
    assert (refused.status_code, refused.json()) == (403, {"detail": "this key may only predict"})
    assert "driftloop_api_requests" in guarded.get("/metrics", headers=bearing(ADMIN)).text
    assert guarded.get("/metrics/", headers=bearing(PREDICT)).status_code == 403


def test_a_load_balancer_needs_no_key(guarded: httpx.Client) -> None:
    assert [guarded.get(path).status_code for path in OPEN] == [200, 200]


def test_a_key_that_is_listed_twice_may_do_the_most(limited: Limited) -> None:
    twice = Keys.parse(f"{entry('admin', PREDICT)} {entry('predict', PREDICT)}")
    with serving(limited(twice)[1]) as client:
        assert client.get("/metrics", headers=bearing(PREDICT)).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "f" * 64,
        "root:" + "f" * 64,
        "predict:" + "f" * 63,
        "predict:" + "F" * 64,
        "predict:" + "f" * 65,
        "predict:" + "g" * 64,
        "admin",
        "predict:",
    ],
)
def test_keys_that_cannot_be_read_are_told_by_their_place_and_never_shown(wrong: str) -> None:
    with pytest.raises(ContractError, match=r"entry 2 is not predict:<digest> or admin:<digest>") as caught:
        Keys.parse(f"{entry('predict', PREDICT)} {wrong}")
    assert KEYS.entries[0][1].hex() not in str(caught.value)
    assert not any(len(part) > 10 and part in str(caught.value) for part in wrong.split(":"))


def test_no_key_is_ever_logged(limited: Limited, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(limited(KEYS)[1]) as client:
        for key in (PREDICT, ADMIN, STRANGER):
            client.post("/predict", json={}, headers=bearing(key))
            client.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert "request.refused" in caplog.text
    for key in (PREDICT, ADMIN, STRANGER):
        assert key not in caplog.text
        assert hashlib.sha256(key.encode()).hexdigest() not in caplog.text


def test_a_key_that_the_command_makes_lets_in(limited: Limited) -> None:
    for role, status in (("predict", 403), ("admin", 200)):
        made = CliRunner().invoke(cli, ["key", "--role", role], catch_exceptions=False).output.split()
        entries, key = Keys.parse(made[-1]), made[made.index("X-API-Key:") + 1]
        assert key not in made[-1]
        with serving(limited(entries)[1]) as client:
            assert client.post("/predict", json=ROW, headers=bearing(key)).status_code == 200
            assert client.get("/metrics", headers=bearing(key)).status_code == status


@pytest.mark.parametrize(
    ("keys", "said"),
    [("", "no key is needed"), ("predict:" + "e" * 63, "entry 1 is not"), ("   ", "no key is needed")],
    ids=["no keys", "keys that cannot be read", "blanks"],
)
def test_an_api_beyond_this_machine_does_not_start_open_by_accident(tmp_path: Path, keys: str, said: str) -> None:
    (tmp_path / "loop.toml").write_text(CHURN)
    command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "serve", str(tmp_path), "--host", "0.0.0.0"]
    command += ["--port", str(free_port())]
    env = os.environ | {"DRIFTLOOP_API_KEYS": keys, "DRIFTLOOP_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, "one paragraph"
    assert said in done.stderr
    assert "driftloop key" in done.stderr
    assert "e" * 63 not in done.stderr


HARDENED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
KINDS: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/predict", {"json": ROW}, 200),
    ("POST", "/predict", {"json": {}}, 422),
    ("POST", "/predict", {"json": {"rows": [ROW] * 10_001}}, 413),
    ("GET", "/predict", {}, 405),
    ("OPTIONS", "/predict", {}, 405),
    ("POST", "/explain", {"json": {"rows": [ROW] * 10_001}}, 413),
    ("POST", "/feedback", {"json": {}}, 409),
    ("GET", "/health", {}, 200),
    ("GET", "/model", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/docs", {}, 200),
    ("GET", "/swagger/swagger-ui.css", {}, 200),
    ("GET", "/made/up", {}, 404),
    ("GET", "/swagger/%00", {}, 404),
]


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory, champion: Champion) -> Iterator[httpx.Client]:
    settings = Settings.from_env({}, tmp_path_factory.mktemp("home"))
    api = build(settings, "churn", 2.0, Switched(None, on=False), None)
    api.holder.swap(champion)
    with serving(Gate(api, api.predict, api.metrics, Keys())) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "sent", "status"), KINDS)
def test_every_kind_of_answer_bears_its_id_and_the_security_headers(
    open_api: httpx.Client, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    answered = open_api.request(method, path, **sent)
    assert answered.status_code == status
    assert {name: answered.headers.get(name) for name in HARDENED} == HARDENED
    assert "frame-ancestors 'none'" in answered.headers["content-security-policy"]
    assert len(answered.headers.get_list("x-request-id")) == 1
    assert not [name for name in answered.headers if name.startswith("access-control")]


def test_a_defect_is_500_on_every_route_tells_nothing_and_is_found_in_the_log_by_its_id(
    limited: Limited, champion: Champion, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    api, gate = limited()
    api.holder.swap(replace(champion, scorer=SimpleNamespace(engine="x", inline=lambda _: True, score=broken)))
    api.metrics.text = broken  # type: ignore[method-assign]
    with serving(gate) as client, caplog.at_level(logging.ERROR, logger="driftloop.api"):
        for number, (method, path) in enumerate((("POST", "/predict"), ("GET", "/metrics"))):
            answered = client.request(method, path, json=ROW, headers={"X-Request-ID": f"asked/{number}"})
            assert (answered.status_code, answered.json()) == (500, {"detail": "internal error"})
            assert answered.headers["x-request-id"] == f"asked/{number}"
            assert answered.headers["x-frame-options"] == "DENY"
            wait_for(lambda n=number, p=path: f"request.failed request_id=asked/{n} path={p} status=500" in caplog.text)
        assert caplog.text.count("RuntimeError: secret detail") == 2
        assert client.get("/health").status_code == 200


def test_a_request_id_is_the_clients_own_where_it_is_one(open_api: httpx.Client) -> None:
    given = "order-7:a@b/c+d=.e_F"
    answered = open_api.post("/predict", json=ROW, headers={"X-Request-ID": given})
    assert answered.headers["x-request-id"] == answered.json()["request_id"] == given
    assert open_api.get("/health", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    assert open_api.post("/predict", json={}, headers={"X-Request-ID": "x" * 128}).headers["x-request-id"] == "x" * 128


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb", 'a"b', "a;b"])
def test_an_id_that_is_none_is_replaced_by_one_that_is(open_api: httpx.Client, given: str) -> None:
    headers = {"X-Request-ID": given.encode("latin-1")}
    asked = [open_api.post("/predict", json=ROW, headers=headers) for _ in range(2)]
    ids = [answered.json()["request_id"] for answered in asked]
    assert [answered.headers["x-request-id"] for answered in asked] == ids
    assert given not in ids
    assert len(set(ids)) == 2


def test_scripts_of_other_pages_are_not_let_in(open_api: httpx.Client) -> None:
    preflight = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    assert open_api.options("/predict", headers=preflight).status_code == 405
    answered = open_api.post("/predict", json=ROW, headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answered.headers if name.startswith("access-control")]


def test_scripts_of_a_page_that_was_named_are_let_in_and_no_others(tmp_path: Path) -> None:
    settings, ours = Settings.from_env({}, tmp_path), "https://pages.example"
    app = create_app(settings, "churn", 2.0, Switched(None, on=False), keys=KEYS, origins=(ours,))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    with serving(app) as client:
        asked = client.options("/predict", headers=preflight | {"Origin": ours})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, ours)
        refused = client.options("/predict", headers=preflight | {"Origin": "https://elsewhere.example"})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        answered = client.post("/predict", json=ROW, headers={"Origin": ours})
        assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (401, ours)
        assert "X-Request-ID" in answered.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in client.get("/health").headers


def test_more_rows_than_allowed_are_413_and_as_many_are_scored(tmp_path: Path, champion: Champion) -> None:
    few = replace(champion, schema=type(champion.schema).of(champion.facts, 3))
    api = build(Settings.from_env({}, tmp_path), "churn", 2.0, Switched(None, on=False), Serving(log="off", max_rows=3))
    api.holder.swap(few)
    with serving(Gate(api, api.predict, api.metrics, Keys())) as client:
        assert len(client.post("/predict", json={"rows": [ROW] * 3}).json()["predictions"]) == 3
        for path in ("/predict", "/explain"):
            refused = client.post(path, json={"rows": [ROW] * 4})
            assert (refused.status_code, refused.json()["detail"]) == (413, "4 rows in one request; send at most 3")


@pytest.mark.parametrize("path", ["/predict", "/explain", "/feedback"])
@pytest.mark.parametrize("pieces", [1, 50], ids=["at once", "in pieces without a length"])
def test_a_body_above_the_limit_is_413_however_it_comes(limited: Limited, path: str, pieces: int) -> None:
    body = b" " * 2200
    sent = body if pieces == 1 else (body[i : i + 44] for i in range(0, len(body), 44))
    with serving(limited(max_body_mb=0.002, log="sqlite")[1]) as client:
        refused = client.post(path, content=sent)
        assert refused.status_code == 413
        assert "larger than 0.002 MiB" in refused.json()["detail"]
        assert client.post("/predict", json=ROW).status_code == 200, "the next request on the connection is its own"


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("path", ["/predict", "/explain", "/feedback"])
@pytest.mark.parametrize("begun", [b"", b'{"fee": '], ids=["never begins", "never ends"])
def test_a_body_that_does_not_arrive_is_408_and_the_connection_ends(limited: Limited, path: str, begun: bytes) -> None:
    with serving(limited(timeout_s=SHORT, log="sqlite")[1]) as client, connected(client) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n%s" % (path.encode(), begun))
        head, _, body = everything(connection).partition(b"\r\n\r\n")  # returns because the server closes
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == {"detail": "the body did not arrive within 0.2 s"}


def test_a_client_that_goes_away_in_the_middle_harms_nobody(limited: Limited) -> None:
    api, gate = limited()
    with serving(gate) as client:
        for begun in (b"", b'{"fee": '):
            with connected(client) as connection:
                connection.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n" + begun)
        wait_for(lambda: b'requests_total{path="/predict",status="400"} 2.0' in api.metrics.text())
        assert client.post("/predict", json=ROW).status_code == 200


def test_a_model_that_takes_too_long_is_503_and_others_go_on(limited: Limited, champion: Champion) -> None:
    api, gate = limited(timeout_s=SHORT)
    slow = Slow()
    api.holder.swap(replace(champion, scorer=slow))
    with serving(gate) as client:
        refused = client.post("/predict", json=ROW)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["detail"] == "not scored within 0.2 s; send fewer rows at once"
        api.holder.swap(champion)
        assert client.post("/predict", json=ROW).status_code == 200
        slow.let_go.set()


def test_under_overload_the_rest_is_503_at_once_while_health_answers_and_nothing_accepted_is_lost(
    limited: Limited, champion: Champion
) -> None:
    api, gate = limited(queue=3)
    slow = Slow()
    api.holder.swap(replace(champion, scorer=slow))
    statuses: list[int] = []
    with serving(gate) as client:

        def ask() -> None:
            statuses.append(httpx.post(f"{client.base_url}/predict", json=ROW, timeout=30).status_code)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: slow.asked == 3)
        for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/metrics")):
            refused = client.request(method, path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"detail": "too many requests at once; try again"}
        assert [client.get(path).status_code for path in OPEN] == [200, 200]
        slow.let_go.set()
        for thread in threads:
            thread.join(30)
        assert statuses == [200] * 3
        assert client.post("/predict", json=ROW).status_code == 200


def test_a_server_that_is_asked_to_end_finishes_and_records_what_it_accepted(
    limited: Limited, champion: Champion, tmp_path: Path
) -> None:
    api, gate = limited(log="sqlite")
    slow = Slow()
    api.holder.swap(replace(champion, scorer=slow))
    answers: list[httpx.Response] = []
    with running(gate) as (server, client):
        address = str(client.base_url)

        def ask() -> None:
            answers.append(httpx.post(f"{address}/predict", json=ROW, headers={"X-Request-ID": "last"}, timeout=30))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: slow.asked)
        server.should_exit = True
        wait_for(lambda: not accepts(client))
        assert answers == [], "it is still being scored"
        slow.let_go.set()
        asking.join(30)
    assert [(one.status_code, one.json()["request_id"]) for one in answers] == [(200, "last")]
    spooled = "".join(file.read_text() for file in tmp_path.rglob("*.jsonl"))
    assert '"id":"last"' in spooled


def accepts(client: httpx.Client) -> bool:
    try:
        with connected(client):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("engine", ["onnx", "native"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_422_and_names_the_row(
    limited: Limited, champion: Champion, engine: str, number: float
) -> None:
    def score(*given: Any) -> np.ndarray:
        scores = np.full(len(given[0]), 0.5)
        scores[-1] = number
        return scores

    api, gate = limited()
    if engine == "native":
        artifact: Any = SimpleNamespace(facts=champion.facts, score=score)
        changed: Any = NativeScorer(artifact, threading.Lock())
    else:
        changed = compiled_champion(CHURN, 1).scorer
        changed._model = changed._wide = SimpleNamespace(score=score)
    api.holder.swap(replace(champion, scorer=changed))
    with serving(gate) as client:
        refused = client.post("/predict", json={"rows": [ROW] * 3})
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        [
            {
                "loc": ["body"],
                "msg": "the model cannot score this: a value of row 2 is too large for it",
                "type": "value_error",
            }
        ],
    )
