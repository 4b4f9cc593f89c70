"""The dashboard's script, run by Streamlit's own test harness on a real ledger."""

from __future__ import annotations

import json
import threading
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


def report(window, *, champion=None, **parts):
    return {
        "window": window, "drift": None, "retrain": {"retrain": False, "reason": "quiet"}, "training": None,
        "decision": None, "champion": {"version": champion} if champion else None,
    } | parts  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A loop and a state folder that the environment names, as `driftloop up` hands them to the dashboard."""
    (tmp_path / "windows").mkdir()
    (tmp_path / "loop.toml").write_text(LOOP.format(name="churn"))
    monkeypatch.setenv("DRIFTLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRIFTLOOP_LOOP_DIR", str(tmp_path))
    for name in ("DRIFTLOOP_LEDGER_URL", "DRIFTLOOP_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


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
def test_the_page_shows_drift_by_column_of_the_newest_window_that_has_it():
    page = opened()
    assert page.selectbox[0].value == "2024-02"
    assert page.dataframe[1].value.to_dict("records") == [COLUMN]


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
