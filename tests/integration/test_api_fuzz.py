"""More than ten thousand wrong bodies, sent: each is refused with a reason, soon, and harms nobody."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import pytest

from driftloop.settings import Settings
from services.api.app import build
from services.api.gate import Gate, Keys
from tests.integration.api_fakes import CHURN, ROW, WARNINGS_ARE_ERRORS, Switched, compiled_champion, serving
from tests.wrong_bodies import Bodies

pytestmark = WARNINGS_ARE_ERRORS
CONNECTIONS = 3
BOUND_SECONDS = 2.0  # they take a millisecond; what it must catch took sixteen seconds


def names_what_is_wrong(status: int, body: bytes) -> bool:
    detail = json.loads(body)["detail"]
    if status == 413:
        return "rows in one request" in detail or "larger than" in detail
    return (
        status == 422
        and 0 < len(detail) <= 20
        and all(one["loc"][0] == "body" and one["msg"] and one["type"] for one in detail)
    )


@pytest.mark.long
def test_ten_thousand_wrong_bodies_are_each_refused_with_a_reason_and_soon(tmp_path: Path) -> None:
    champion = compiled_champion(CHURN, 1)
    bodies = Bodies(ROW, champion.facts.numeric, champion.facts.categorical)
    wrong = bodies.wrong
    assert len(wrong) >= 10_000
    assert len(set(wrong)) == len(wrong)
    app = build(Settings.from_env({}, tmp_path), "churn", 2.0, Switched(None, on=False), None)
    app.holder.swap(champion)
    statuses: Counter[int] = Counter()
    unlike: list[tuple[bytes, int, bytes]] = []
    seconds: list[float] = []

    with serving(Gate(app, app.predict, app.metrics, Keys())) as client:

        def send(mine: list[bytes]) -> None:
            connection = HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
            for body in mine:
                began = time.perf_counter()
                connection.request("POST", "/predict", body)
                answered = connection.getresponse()
                said = answered.read()
                seconds.append(time.perf_counter() - began)
                statuses[answered.status] += 1
                typed = answered.getheader("Content-Type") == "application/json"
                if not (typed and answered.getheader("X-Request-ID") and names_what_is_wrong(answered.status, said)):
                    unlike.append((body[:200], answered.status, said[:200]))
            connection.close()

        before = client.post("/predict", json=ROW).json()["probability"]
        threads = [threading.Thread(target=send, args=(wrong[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = client.post("/predict", json=ROW).json()["probability"]
    assert unlike == []
    assert sum(statuses.values()) == len(wrong), "no connection broke"
    assert set(statuses) == {413, 422}
    assert max(seconds) < BOUND_SECONDS
    assert before == after
