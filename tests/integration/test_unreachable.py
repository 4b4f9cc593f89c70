"""A service that does not answer is named with its address, and never taken to mean that what it holds is absent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from driftloop import following
from driftloop.errors import ContractError, NotInRegistry, Unreachable
from driftloop.facts import Version
from driftloop.ledger import Ledger, loops
from driftloop.registry import Registry
from driftloop.settings import Settings, without_password
from driftloop.windows import open_windows
from driftloop.workspace import open_workspace
from flows import server
from services.api.source import RegistrySource
from tests.integration.conftest import month


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


@pytest.fixture
def dead():
    """A loopback address at which nobody listens."""
    return f"127.0.0.1:{server.free_port()}"


def settings(tracking_uri, home="/nowhere"):
    return Settings.from_env({"MLFLOW_TRACKING_URI": tracking_uri, "DRIFTLOOP_HOME": str(home)}, Path.cwd())


@contextmanager
def answering(status: int, body: str):
    """A real HTTP server that gives every request the same answer; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


# MLflow


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: Registry(s, "churn").champion(),
        lambda s: Registry(s, "churn").version("1"),
        lambda s: Registry(s, "churn").tags("1"),
        lambda s: Registry(s, "churn").point("champion", "1"),
    ],
    ids=["champion", "version", "tags", "point"],
)
def test_a_dead_registry_is_unreachable_and_not_without_champion(dead, ask):
    with pytest.raises(Unreachable, match=f"MLflow at http://{dead} does not answer .*correct MLFLOW_TRACKING_URI"):
        ask(settings(f"http://{dead}"))


def test_a_password_in_the_registry_s_address_is_not_told(dead):
    with pytest.raises(Unreachable) as told:
        Registry(settings(f"http://loop:s3cret@{dead}"), "churn").champion()
    assert f"http://loop:***@{dead}" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_healing_against_a_dead_registry_changes_nothing(loop, dead):
    loop.deliver("2024-01", month(1))
    work = loop.open()
    work = replace(work, registry=Registry(settings(f"http://{dead}"), "churn"))
    with pytest.raises(Unreachable, match=dead):
        following.heal(work)
    assert work.ledger.entries() == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_registry_that_answers_with_its_own_failure_is_unreachable(status):
    with (
        answering(status, "<html>try later</html>") as address,
        pytest.raises(Unreachable, match=f"MLflow at {address} does not answer"),
    ):
        Registry(settings(address), "churn").champion()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, "<html>not found</html>", "is no MLflow server"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "does not let us in"),
        (401, "who are you", "does not let us in"),
        (200, "<html>welcome</html>", "does not answer"),
        (200, "", "does not answer"),
        (200, "{}", "does not answer"),
    ],
    ids=["404 page", "forbidden", "unauthorised", "another site", "empty", "empty object"],
)
def test_an_address_that_is_no_registry_or_refuses_us_is_never_without_champion(status, body, told):
    with answering(status, body) as address, pytest.raises(Unreachable, match=f"MLflow at {address} {told}"):
        Registry(settings(address), "churn").champion()


def test_only_a_model_that_is_not_registered_has_no_champion():
    body = '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=churn not found"}'
    with answering(404, body) as address:
        assert Registry(settings(address), "churn").champion() is None


def test_a_registered_model_without_the_alias_has_no_champion(loop):
    registry = loop.open().registry
    assert registry.champion() is None
    registry.client.create_registered_model("churn")
    assert registry.champion() is None
    registry.client.create_model_version("churn", (loop.home / "model").as_uri())
    registry.client.set_registered_model_alias("churn", "challenger", "1")
    assert registry.champion() is None
    registry.point("champion", "1")
    assert registry.champion() == "1"
    assert registry.version("1") == Version("1", "")


def test_the_api_s_source_tells_no_database_yet_from_no_champion(loop):
    loop.open().registry.open()
    source = RegistrySource(loop.settings, "churn")
    assert source.aliases().champion is None
    (loop.home / "mlflow.db").unlink()
    with pytest.raises(Unreachable, match=r"mlflow\.db cannot be read"):
        source.aliases()
    assert not (loop.home / "mlflow.db").exists()


# The ledger


@pytest.mark.parametrize("ask", [lambda url: Ledger(url, "churn"), loops], ids=["Ledger", "loops"])
def test_a_dead_ledger_is_named_without_its_password(dead, ask):
    with pytest.raises(Unreachable) as told:
        ask(f"postgresql+psycopg://loop:s3cret@{dead}/ledger")
    assert f"the ledger at postgresql+psycopg://loop:***@{dead}/ledger does not answer" in str(told.value)
    assert "DRIFTLOOP_LEDGER_URL" in str(told.value)
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://loop:s3cret@db:5432/ledger",
        "postgresql+psycopg://loop:s3cret/with/slashes@db/ledger",
        "postgresql+psycopg://loop:s3cret:with:colons@db/ledger",
        "postgresql+psycopg://:s3cret@db/ledger",
        "postgresql+psycopg://db/ledger?user=loop&password=s3cret&connect_timeout=3",
    ],
)
def test_no_way_of_writing_a_password_gets_into_a_message(url):
    assert "s3cret" not in without_password(url)
    assert "db" in without_password(url)


@pytest.mark.parametrize(
    "url", ["sqlite:////state/ledger.db", "http://127.0.0.1:5000", "http://127.0.0.1:5000/a?b=c", "postgresql://db/x"]
)
def test_an_address_without_password_is_told_as_it_is(url):
    assert without_password(url) == url


def test_a_ledger_file_that_is_no_database_is_not_an_empty_ledger(tmp_path):
    (tmp_path / "ledger.db").write_text("this is no database, but it is long enough to be looked at as one" * 20)
    with pytest.raises(Unreachable, match=r"ledger\.db does not answer: file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", "churn")


def test_a_workspace_with_a_dead_ledger_does_not_open(loop, dead):
    loop.deliver("2024-01", month(1))
    url = f"postgresql+psycopg://loop:s3cret@{dead}/ledger"
    with pytest.raises(Unreachable, match=dead):
        open_workspace(loop.folder, replace(loop.settings, ledger_url=url))


# Windows in a database


def test_a_dead_database_of_windows_is_named_without_its_password(loop, dead):
    toml = loop.folder / "loop.toml"
    sql = f'sql = "postgresql+psycopg://loop:s3cret@{dead}/shop"\ntable = "snapshots"\nperiod = "as_of"'
    toml.write_text(toml.read_text().replace('labels = "labels"', sql))
    work = loop.open()
    for ask in (work.windows.ids, lambda: work.windows.read("2024-01"), lambda: work.windows.has_labels("2024-01")):
        with pytest.raises(Unreachable) as told:
            ask()
        assert f"the windows' database postgresql+psycopg://loop:***@{dead}/shop does not answer" in str(told.value)
        assert "s3cret" not in str(told.value)


def test_a_folder_of_windows_that_is_not_there_is_not_a_loop_without_windows(loop):
    (loop.folder / "windows").rmdir()
    work = loop.open()
    with pytest.raises(ContractError, match=r"windows\.path = .* does not exist"):
        open_windows(work.loop, loop.folder).ids()


# Prefect


def test_a_command_names_the_prefect_server_that_does_not_answer(loop, dead):
    loop.deliver("2024-01", month(1))
    done = subprocess.run(
        [Path(sys.executable).parent / "driftloop", "monitor", loop.folder],
        env=os.environ | {"PREFECT_API_URL": f"http://{dead}/api", "DRIFTLOOP_HOME": str(loop.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"Prefect at http://{dead}/api does not answer. Start it, correct PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_registry_without_what_the_ledger_names_says_that_the_two_do_not_belong_together(loop):
    work = loop.open()
    work.ledger.promote("3", expected=None, window="w", reason="r", actor="a", details={})
    with pytest.raises(NotInRegistry, match=r"MLflow at sqlite:.* does not hold what the ledger says"):
        following.heal(work)
