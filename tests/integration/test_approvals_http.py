"""The approvals service on a real loop: who may answer, and what it says."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from driftloop import approving, following
from driftloop.entry import Kind
from flows import server
from services.approvals.app import Approvals
from tests.integration.api_fakes import serving
from tests.integration.conftest import month
from tests.integration.test_approval import RISING, asking, damage, opened, train

TOKEN = {"Authorization": "Bearer s3same"}
ADA = {"by": "ada", "why": "seen on staging"}


@pytest.fixture
def service(loop):
    """Start the service of the loop on a real socket; returns a client for it."""
    with ExitStack() as until_end:
        yield lambda token="s3same", settings=None: until_end.enter_context(
            serving(Approvals(loop.folder, settings or loop.settings, token))
        )


def rows(loop):
    return [(str(e.kind), e.version) for e in loop.open().ledger.entries()]


def test_who_waits_is_told_without_a_token_and_an_approval_makes_it_champion(loop, service, inbox):
    http = service()
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/challenger").json() == {"loop": "churn", "champion": None, "challenger": None}
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    following.begin_telling(work)
    challenger = http.get("/challenger").json()["challenger"]
    assert (challenger["version"], challenger["window"]) == ("1", "2024-01")
    assert challenger["decision"]["reason"] == "needs approval"

    done = http.post("/challenger/approve", json={**ADA, "version": "1"}, headers=TOKEN)
    assert done.status_code == 200
    entry = loop.open().ledger.entries()[-1]
    assert done.json() == {
        "loop": "churn", "row": entry.seq, "time": entry.time.isoformat(), "kind": "promotion", "window": "2024-01",
        "version": "1", "by": "ada", "reason": "approved: seen on staging",
    }  # fmt: skip
    assert work.registry.aliases() == {"champion": "1"}
    assert inbox.titles() == ["churn: version 1 promoted by ada"]
    found = http.get("/challenger").json()
    assert (found["champion"]["version"], found["challenger"]) == ("1", None)

    again = http.post("/challenger/approve", json={**ADA, "version": "1"}, headers=TOKEN)
    assert again.status_code == 409
    assert again.json()["detail"].startswith("version 1 does not wait for approval; version 1 did, until ledger row")


def test_a_rejection_ends_the_wait(loop, service):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    http = service()
    wrong = http.post("/challenger/reject", json={**ADA, "version": "7"}, headers=TOKEN)
    assert (wrong.status_code, wrong.json()["detail"]) == (
        409, "version 7 does not wait for approval; version 1 does.",
    )  # fmt: skip
    done = http.post("/challenger/reject", json=ADA, headers=TOKEN).json()
    assert (done["kind"], done["version"], done["reason"]) == ("rejection", "1", "seen on staging")
    assert (work.ledger.champion(), work.registry.aliases()) == (None, {})
    again = http.post("/challenger/reject", json=ADA, headers=TOKEN)
    assert again.status_code == 409
    assert again.json()["detail"].startswith("no candidate waits for approval; version 1 did, until ledger row")


@pytest.mark.parametrize("path", ["approve", "reject"])
def test_an_answer_without_the_right_to_it_is_refused_before_anything_is_looked_at(loop, service, path):
    url = f"/challenger/{path}"
    http = service()
    for value in (None, "Bearer wrong", "Bearer s3samé", "Basic s3same", "s3same", "Bearer"):
        said = http.post(url, json=ADA, headers={"Authorization": value.encode()} if value else {})
        assert (said.status_code, said.json()["detail"]) == (401, "the token is missing or wrong")
        assert said.headers["WWW-Authenticate"] == "Bearer"
    for token in (None, ""):
        said = service(token).post(url, json=ADA, headers={"Authorization": "Bearer x"})
        assert said.status_code == 403
        assert "DRIFTLOOP_APPROVAL_TOKEN is not set" in said.json()["detail"]
    assert http.get(url).status_code == 405
    assert not (loop.home / "ledger.db").exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"by": ""}, "by"),
        ({"by": "  \n"}, "by"),
        ({}, "by"),
        ({"by": "a" * 201}, "by"),
        ({"by": "ada", "why": "w" * 2001}, "why"),
        ({"by": "ada", "version": 1}, "version"),
    ],
)
def test_an_answer_that_is_none_names_the_field(loop, service, body, field):
    said = service().post("/challenger/approve", json=body, headers=TOKEN)
    assert said.status_code == 422
    assert [error["loc"] for error in said.json()["detail"]] == [["body", field]]


def test_a_candidate_that_cannot_be_promoted_is_refused_with_the_reason_and_waits(loop, service):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    damage(work, "1")
    said = service().post("/challenger/approve", json=ADA, headers=TOKEN)
    assert said.status_code == 409
    assert "version 1 of churn cannot be used" in said.json()["detail"]
    assert rows(loop) == [("ask", "1")]


def test_what_went_wrong_inside_is_told_nobody(loop, service):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    with work.ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET details = '{}'")  # behind the ledger's back
    for said in (service().get("/challenger"), service().post("/challenger/approve", json=ADA, headers=TOKEN)):
        assert (said.status_code, said.json()) == (500, {"detail": "internal error"})


def test_a_ledger_that_does_not_answer_is_told_without_its_password(loop, service):
    address = f"127.0.0.1:{server.free_port()}"
    http = service(settings=replace(loop.settings, ledger_url=f"postgresql+psycopg://loop:s3cret@{address}/ledger"))
    for said in (http.get("/challenger"), http.post("/challenger/approve", json=ADA, headers=TOKEN)):
        assert said.status_code == 503
        assert f"loop:***@{address}/ledger does not answer" in said.json()["detail"]
        assert "s3cret" not in said.text


def test_the_decision_is_that_of_the_moment_the_service_looked(loop, service):
    work = asking(loop, dict(list(RISING.items())[:2]))
    http = service()
    assert http.get("/challenger").json()["challenger"]["version"] == "2"
    loop.deliver("2024-03", month(3))
    assert train(opened(loop), "2024-03").kind is Kind.ASK
    said = http.post("/challenger/approve", json={**ADA, "version": "2"}, headers=TOKEN)
    assert (said.status_code, said.json()["detail"]) == (
        409, "version 2 does not wait for approval; version 3 does.",
    )  # fmt: skip
    approving.reject(work, "3", "bob", "")
    assert http.get("/challenger").json()["champion"]["version"] == "1"
