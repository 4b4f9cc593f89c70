"""The dashboard's script, run by Streamlit's own test harness on a real ledger."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import services.dashboard
from driftloop.entry import Kind
from driftloop.ledger import Ledger
from flows import server
from tests.integration.conftest import LOOP

SCRIPT = Path(services.dashboard.__file__).parent / "app.py"
COLUMN = {"name": "fee", "method": "ks", "score": 0.0, "threshold": 0.05, "drifted": True}
MOVED = {"name": "usage", "nulls": 0.1, "reference_nulls": 0.0, "unseen": None, "outside": 0.0, "moved": True}


def report(window, *, champion=None, **parts):
    return {
        "window": window, "drift": None, "retrain": {"retrain": False, "reason": "quiet"}, "training": None,
        "decision": None, "champion": {"version": champion} if champion else None,
    } | parts  # fmt: skip


@pytest.fixture
def home(home, tmp_path, monkeypatch):
    """With a loop, as `driftloop up` hands both to the dashboard."""
    (tmp_path / "windows").mkdir()
    (tmp_path / "loop.toml").write_text(LOOP.format(name="churn"))
    monkeypatch.setenv("DRIFTLOOP_LOOP_DIR", str(tmp_path))
    monkeypatch.delenv("DRIFTLOOP_API_URL", raising=False)
    return home


@pytest.fixture
def told(home):
    """Two windows: a first champion, and one that drifted and was promoted over it."""
    ledger = Ledger(f"sqlite:///{home / 'ledger.db'}", "churn")
    decision = {"outcome": "promote", "reason": "no champion", "candidate": 0.71, "champion": None}
    first = report("2024-01", champion="1", retrain={"retrain": True, "reason": "first champion"}, decision=decision)
    ledger.promote("1", expected=None, window="2024-01", reason="no champion", actor="test", details={"report": first})
    second = report(
        "2024-02",
        champion="2",
        drift={"share": 2 / 3, "threshold": 0.3, "drifted": 1, "columns": [COLUMN]},
        quality={"columns": [MOVED, MOVED | {"name": "fee", "moved": False}], "moved": 1},
        retrain={"retrain": True, "reason": "drift above threshold"},
        decision={"outcome": "promote", "reason": "beats the margin", "candidate": 0.65, "champion": 0.49},
    )
    ledger.promote(
        "2", expected="1", window="2024-02", reason="beats the margin", actor="test", details={"report": second}
    )
    quarantine = report("2024-03", champion="2", retrain={"retrain": False, "reason": "quarantined"})
    ledger.append(
        Kind.QUARANTINE, window="2024-03", version="2", reason="no rows", actor="test", details={"report": quarantine}
    )


def opened() -> AppTest:
    page = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
    assert not page.exception
    return page


def metrics(page):
    return {m.label: m.value for m in page.metric}


def captions(page):
    return [caption.value for caption in page.caption]


@pytest.mark.usefixtures("told")
def test_the_page_shows_title_champion_last_window_and_a_row_a_window():
    page = opened()
    assert page.title[0].value == "driftloop · churn"
    assert metrics(page) == {"Champion in the ledger": "v2", "Served by the API": "–", "Last window": "2024-03"}
    table = page.dataframe[0].value
    assert list(table.index) == ["2024-01", "2024-02", "2024-03"]
    assert list(table["serving"]) == ["v1", "v2", "v2"]
    assert table.loc["2024-02", "decision"] == "promote: beats the margin"
    assert table.loc["2024-03", "verdict"] == "quarantined"
    assert not page.error


@pytest.mark.usefixtures("told")
def test_the_page_shows_drift_by_column_and_what_moved_of_the_newest_window_that_has_them():
    page = opened()
    assert page.selectbox[0].value == "2024-02"
    columns, moved = (table.value for table in page.dataframe[-2:])
    assert columns.to_dict("records") == [COLUMN]
    assert list(moved["name"]) == ["usage"]
    assert list(moved["nulls"]) == [0.1]


def test_one_score_stands_in_the_middle_of_an_axis_and_what_was_not_measured_is_a_dash(home):
    decision = {"outcome": "promote", "reason": "no champion", "candidate": 21771.498988, "champion": None}
    first = report("2024-01", champion="1", decision=decision)
    Ledger(f"sqlite:///{home / 'ledger.db'}", "churn").promote(
        "1", expected=None, window="2024-01", reason="no champion", actor="test", details={"report": first}
    )
    page = opened()
    scores = json.loads(page.get("vega_lite_chart")[1].proto.spec)
    assert scores["encoding"]["y"]["scale"]["domain"] == pytest.approx([19594.349, 23948.649])
    assert page.dataframe[0].value[["drift share", "target", "champion"]].isna().all(axis=None)
    assert [table.proto.placeholder for table in page.dataframe[:2]] == ["–", "–"]


@pytest.mark.usefixtures("home")
def test_a_loop_without_a_run_says_how_to_start():
    page = opened()
    assert "Start with `driftloop replay" in page.info[0].value
    assert metrics(page)["Champion in the ledger"] == "–"


@pytest.mark.usefixtures("home")
def test_a_missing_loop_is_told_in_a_paragraph(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_LOOP_DIR", str(tmp_path / "nowhere"))
    page = opened()
    assert "nowhere/loop.toml does not exist" in page.error[0].value
    assert not page.metric


@pytest.mark.usefixtures("home")
def test_a_dead_ledger_is_told_in_a_paragraph_without_its_password(monkeypatch):
    address = f"127.0.0.1:{server.free_port()}"
    monkeypatch.setenv("DRIFTLOOP_LEDGER_URL", f"postgresql+psycopg://loop:s3cret@{address}/ledger")
    page = opened()
    assert f"loop:***@{address}/ledger does not answer" in page.error[0].value


@pytest.mark.usefixtures("told")
def test_a_dead_api_is_told_beside_what_the_ledger_knows(monkeypatch):
    url = f"http://127.0.0.1:{server.free_port()}"
    monkeypatch.setenv("DRIFTLOOP_API_URL", url)
    page = opened()
    assert metrics(page)["Champion in the ledger"] == "v2"
    assert captions(page) == ["quarantined", f"the API at {url} does not answer"]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("status", "shown", "caption"),
    [(200, "v2", None), (503, "–", "the API answers 503: no model is loaded yet")],
)
def test_the_version_that_the_api_serves_is_shown(monkeypatch, status, shown, caption):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"version": "2"}).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setenv("DRIFTLOOP_API_URL", f"http://127.0.0.1:{http.server_port}")
        page = opened()
        http.shutdown()
    assert metrics(page)["Served by the API"] == shown
    assert captions(page) == ["quarantined", *([caption] if caption else [])]


DECISION = {
    "outcome": "ask", "reason": "needs approval", "metric": "auc", "candidate": 0.68, "champion": 0.65,
    "holdout_rows": 1234, "slices": {"judged": [{"name": "plan = basic", "rows": 600}], "unjudged": []},
}  # fmt: skip


@pytest.fixture
def asked(home, told):
    """Version 3 waits."""
    third = report("2024-04", champion="2", decision=DECISION)
    Ledger(f"sqlite:///{home / 'ledger.db'}", "churn").append(
        Kind.ASK, window="2024-04", version="3", reason="needs approval", actor="test",
        details={"report": third, "card": "# churn, a card", "compared_with": "2"},
    )  # fmt: skip


@contextmanager
def approvals(status, answer):
    """A service that gives every answer the same reply; yields its address and what it was asked."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", seen
        http.shutdown()


def answered(page, button, by="ada", why="seen on staging"):
    page.text_input[0].set_value(by)
    page.text_input[1].set_value(why)
    next(b for b in page.button if b.label == button).click()
    page.run()
    assert not page.exception
    return page


@pytest.mark.usefixtures("asked")
def test_a_candidate_that_waits_is_shown_with_its_evidence_and_a_form():
    page = opened()
    assert "Version 3 waits for approval" in [s.value for s in page.subheader]
    assert any(
        "from 2024-04: needs approval; auc 0.680 against 0.650 on 1,234 holdout rows." in m.value for m in page.markdown
    )
    assert "# churn, a card" in [m.value for m in page.markdown]
    assert page.dataframe[0].value["name"].tolist() == ["plan = basic"]
    assert [b.label for b in page.button] == ["Approve", "Reject"]


@pytest.mark.usefixtures("told")
def test_where_nobody_waits_there_is_no_form():
    page = opened()
    assert not page.button
    assert not page.text_input


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("button", "path", "kind"), [("Approve", "approve", "promotion"), ("Reject", "reject", "rejection")]
)
def test_a_button_asks_the_approvals_service_for_the_version_that_was_shown(monkeypatch, button, path, kind):
    with approvals(200, {"kind": kind, "version": "3", "row": 5}) as (url, seen):
        monkeypatch.setenv("DRIFTLOOP_APPROVALS_URL", url)
        monkeypatch.setenv("DRIFTLOOP_APPROVAL_TOKEN", "s3same")
        page = answered(opened(), button)
    assert seen == [
        (f"/challenger/{path}", "Bearer s3same", {"by": "ada", "why": "seen on staging", "version": "3"}),
    ]  # fmt: skip
    assert page.success[0].value == f"{kind.capitalize()} of version 3 is ledger row 5."
    assert not page.error


@pytest.mark.usefixtures("asked")
def test_what_the_approvals_service_refuses_is_told_in_its_words(monkeypatch):
    with approvals(409, {"detail": "version 3 does not wait for approval; version 4 does."}) as (url, _):
        monkeypatch.setenv("DRIFTLOOP_APPROVALS_URL", url)
        page = answered(opened(), "Approve")
    assert page.error[0].value == "version 3 does not wait for approval; version 4 does."
    assert not page.success


@pytest.mark.usefixtures("asked")
def test_an_answer_that_cannot_be_given_says_why(monkeypatch):
    monkeypatch.delenv("DRIFTLOOP_APPROVALS_URL", raising=False)
    page = opened()
    assert answered(page, "Approve", by=" ").error[0].value == "Say who you are; it goes into the ledger."
    said = answered(page, "Reject").error[0].value
    assert said == "DRIFTLOOP_APPROVALS_URL is not set. Answer with `driftloop reject` instead."
    url = f"http://127.0.0.1:{server.free_port()}"
    monkeypatch.setenv("DRIFTLOOP_APPROVALS_URL", url)
    assert answered(page, "Approve").error[0].value == f"the approvals service at {url} does not answer"


@pytest.mark.usefixtures("asked")
def test_a_proxy_s_error_is_no_traceback(monkeypatch):
    with approvals(502, "bad gateway") as (url, _):
        monkeypatch.setenv("DRIFTLOOP_APPROVALS_URL", url)
        page = answered(opened(), "Approve")
    assert len(page.error) == 1
