"""How the API looks at the registry without MLflow: over HTTP and in a SQLite file."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from driftloop.cli.children import answers
from driftloop.errors import Unreachable
from driftloop.facts import Version
from driftloop.registry import Registry
from driftloop.settings import Settings
from services.api import fetching
from services.api.source import Aliases, RegistrySource
from tests.integration.api_fakes import CHURN, candidate, wait_for
from tests.integration.test_api_start import free_port

MODEL = {"registered_model": {"name": "churn", "aliases": [{"alias": "champion", "version": "7"}]}}
VERSION = {"model_version": {"name": "churn", "version": "7", "run_id": "made-by"}}


@contextmanager
def server(answers: dict[str, tuple[int, object]], seen: list[tuple[str, str | None]]) -> Iterator[str]:
    """Answers by the last part of the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            status, body = answers[self.path.partition("?")[0].rpartition("mlflow/")[2]]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


def source(uri: str) -> RegistrySource:
    return RegistrySource(Settings.from_env({"MLFLOW_TRACKING_URI": uri}, Path.cwd()), "churn")


def test_a_server_is_asked_for_the_run_of_a_version_once() -> None:
    seen: list[tuple[str, str | None]] = []
    with server({"registered-models/get": (200, MODEL), "model-versions/get": (200, VERSION)}, seen) as address:
        asked = source(f"http://{address}")
        assert asked.aliases() == asked.aliases() == Aliases(champion=Version("7", "made-by"))
    assert [path.partition("?")[0].rpartition("/mlflow/")[2] for path, _ in seen] == [
        "registered-models/get", "model-versions/get", "registered-models/get",
    ]  # fmt: skip


def test_name_and_password_of_the_address_are_sent_as_mlflow_sends_them_and_never_told() -> None:
    seen: list[tuple[str, str | None]] = []
    with server({"registered-models/get": (401, b"")}, seen) as address, pytest.raises(Unreachable) as told:
        source(f"http://ada:s3cret@{address}").aliases()
    assert seen[0][1] == f"Basic {base64.b64encode(b'ada:s3cret').decode()}"
    assert "answers 401" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_only_a_model_that_is_not_registered_has_no_champion() -> None:
    missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=churn not found"}
    with server({"registered-models/get": (404, missing)}, []) as address:
        assert source(f"http://{address}").aliases() == Aliases()


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"not found"),
        (200, {}),
        (200, b"<html>"),
        (200, []),
        (500, b""),
        (200, {"registered_model": {"name": "x"}}),
    ],
    ids=["another 404", "a proxy's empty answer", "a page", "a list", "an error", "another model"],
)
def test_whatever_else_a_server_says_is_no_answer(answer: tuple[int, object]) -> None:
    with server({"registered-models/get": answer}, []) as address, pytest.raises(Unreachable):
        source(f"http://{address}").aliases()


def test_nothing_listens() -> None:
    with pytest.raises(Unreachable, match=r"MLflow at http://127\.0\.0\.1:1 does not answer"):
        source("http://127.0.0.1:1").aliases()


@pytest.mark.e2e
@pytest.mark.long
def test_a_real_mlflow_server_is_read_as_mlflow_s_own_client_reads_it(tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "mlflow.log").open("w") as log:
        running = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        wait_for(lambda: answers(f"{uri}/health"), 60)
        settings = replace(Settings.from_env({"MLFLOW_TRACKING_URI": uri}, tmp_path), home=tmp_path / "home")
        registry, asked = Registry(settings, "churn"), RegistrySource(settings, "churn", fetching.fetch_here)
        assert asked.aliases() == Aliases()
        made = registry.register(candidate(CHURN, 1), {}, {}, None)
        assert asked.aliases() == Aliases()
        registry.point("champion", made.number)
        registry.point("challenger", made.number)
        assert asked.aliases() == Aliases(made, made)
        folder = asked.download(made.number, tmp_path / "brought")
        assert {"MLmodel", "model.skops"} <= {file.name for file in folder.iterdir()}
    finally:
        running.terminate()
        running.wait(20)
