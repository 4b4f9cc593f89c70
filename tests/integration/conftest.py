"""Small real loops, and one real Prefect server for all tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop.registry import Registry
from driftloop.settings import Settings, apply_defaults
from driftloop.workspace import Workspace, open_workspace

PLACES = (  # where MLflow's database says in which folder something lies
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LOOP = """
name = "{name}"
task = "binary"
target = "churned"
entity = "customer"
[windows]
labels = "labels"
[features]
numeric = ["fee", "usage"]
categorical = ["plan"]
[model]
estimator = "sklearn.linear_model.LogisticRegression"
[drift]
threshold = 0.3
[promotion]
delta = 0.01
"""


def month(seed: int, *, shift: float = 0.0, turned: bool = False, rows: int = 600) -> pd.DataFrame:
    """Customers whose churn depends on fee and plan; ``shift`` moves the features, ``turned`` reverses the concept."""
    rng = np.random.default_rng(seed)
    fee = rng.normal(50 + 30 * shift, 10, rows)
    usage = rng.normal(20 - 15 * shift, 5, rows)
    plan = rng.choice(["basic", "full"], rows, p=[0.5, 0.5])
    signal = (fee - 50 - 30 * shift) / 10 + (plan == "basic")
    churned = rng.random(rows) < 1 / (1 + np.exp(2 * (signal if turned else -signal)))
    return pd.DataFrame(
        {"customer": [f"c{i:05d}" for i in range(rows)], "fee": fee, "usage": usage, "plan": plan, "churned": churned}
    )


class Loop:
    """A loop's folder to which windows and labels are delivered."""

    def __init__(self, folder: Path, home: Path, name: str) -> None:
        self.folder, self.home, self.name = folder, home, name
        (folder / "windows").mkdir(parents=True)
        (folder / "labels").mkdir()
        (folder / "loop.toml").write_text(LOOP.format(name=name))

    def deliver(self, window: str, rows: pd.DataFrame, *, labels: bool = True) -> None:
        rows.drop(columns="churned").to_csv(self.folder / "windows" / f"{window}.csv", index=False)
        if labels:
            self.label(window, rows)

    def label(self, window: str, rows: pd.DataFrame) -> None:
        rows[["customer", "churned"]].to_csv(self.folder / "labels" / f"{window}.csv", index=False)

    def set(self, section: str, **values: object) -> None:
        """Put keys into a section of loop.toml."""
        file = self.folder / "loop.toml"
        head, found, tail = file.read_text().partition(f"[{section}]\n")
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        file.write_text(f"{head}[{section}]\n{lines}{tail}" if found else f"{head}\n[{section}]\n{lines}")

    @property
    def settings(self) -> Settings:
        return Settings.from_env({"DRIFTLOOP_HOME": str(self.home)}, Path.cwd())

    def open(self) -> Workspace:
        return open_workspace(self.folder, self.settings)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that the process's environment names."""
    made = tmp_path / "home"
    made.mkdir()
    monkeypatch.setenv("DRIFTLOOP_HOME", str(made))
    for name in ("MLFLOW_TRACKING_URI", "DRIFTLOOP_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def loop(tmp_path: Path, home: Path) -> Loop:
    """An empty loop with a state folder of its own, which the process's environment points at."""
    return Loop(tmp_path / "loop", home, "churn")


class Inbox:
    """What was posted to an address on this machine."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.address = ""

    def titles(self) -> list[str]:
        return [post["title"] for post in self.posted]

    def messages(self) -> list[str]:
        return [post["message"] for post in self.posted]


@contextmanager
def open_inbox() -> Iterator[Inbox]:
    """A real HTTP server to which alerts can be sent; ``address`` is Apprise's for it."""
    received = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.posted.append(json.loads(body))
            received.paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        received.address = f"json://127.0.0.1:{server.server_port}/"
        yield received
        server.shutdown()


@pytest.fixture
def inbox(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """What the loop's alerts bring, sent to an address whose secret comes from the environment."""
    with open_inbox() as received:
        monkeypatch.setenv("INBOX_TOKEN", "t0ps3cret")
        loop.set("alerts", urls=[f"{received.address}${{INBOX_TOKEN}}"])
        yield received


@pytest.fixture(scope="package")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server for the tests of this folder, and the flows connected to it."""
    from flows.local import prefect_at_hand

    home = tmp_path_factory.mktemp("prefect-home")
    apply_defaults(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        patch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        # that would be two thirds of its work, and no test asks it about tasks
        patch.setenv("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED", "false")
        patch.delenv("PREFECT_API_URL", raising=False)
        with prefect_at_hand(Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd())) as prefect:
            yield prefect.connect()
    os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture
def monitor(prefect_api: str, loop: Loop) -> Callable[..., dict]:
    """Run monitor_flow on the loop, as the command does."""
    from flows.monitor_flow import monitor_flow

    return lambda window=None, force=False: monitor_flow(loop.folder, window, force)


@pytest.fixture(scope="package")
def first_month(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A loop after its first month, which made version 1 champion."""
    from flows.monitor_flow import monitor_flow

    folder = tmp_path_factory.mktemp("first-month")
    made = Loop(folder / "loop", folder / "home", "churn")
    made.deliver("2024-01", month(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRIFTLOOP_HOME", str(made.home))
        for name in ("MLFLOW_TRACKING_URI", "DRIFTLOOP_LEDGER_URL"):
            patch.delenv(name, raising=False)
        assert monitor_flow(made.folder, "2024-01")["champion"] == {"version": "1"}
    return made


@pytest.fixture
def begun(first_month: Loop, loop: Loop) -> Loop:
    """The loop with its first month behind it: a copy, for a training takes seconds."""
    for its, mine in ((first_month.folder, loop.folder), (first_month.home, loop.home)):
        shutil.copytree(its, mine, dirs_exist_ok=True)
    with closing(sqlite3.connect(loop.home / "mlflow.db")) as connection, connection:
        for table, column in PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(first_month.home), str(loop.home))
            )
    for file in loop.home.rglob("MLmodel"):
        file.write_text(file.read_text().replace(str(first_month.home), str(loop.home)))
    return loop


@pytest.fixture(scope="session")
def api_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Versions 1 to 3 of one shape, 4 a regression on other features; the alias is each test's to set."""
    from tests.integration.api_fakes import CHURN, SPEND, candidate

    home = tmp_path_factory.mktemp("api-mlflow")
    registry = Registry(Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()), "churn")
    for seed in (1, 2, 3):
        registry.register(candidate(CHURN, seed), {}, {}, None)
    registry.register(candidate(SPEND, 4), {}, {}, None)
    return registry


@pytest.fixture
def api_settings(api_registry: Registry, tmp_path: Path) -> Settings:
    """The shared registry, and a home of the test's own for what is kept on disk."""
    return replace(api_registry.settings, home=tmp_path / "home")
