"""Real models in a real registry, a real server in a thread, and a registry that can be cut off."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import uvicorn
from starlette.types import ASGIApp

from driftloop import contract, frame, promoting, training
from driftloop.compiled import Compiled
from driftloop.errors import Unreachable
from driftloop.facts import Version
from driftloop.holdout import HoldoutRule
from driftloop.settings import Settings
from services.api.champion import Champion
from services.api.fetching import fetch_here
from services.api.schema import RequestSchema
from services.api.scoring import CompiledScorer
from services.api.source import Aliases, RegistrySource

# in every thread, so a warning raised while a request is answered or a model loaded fails the test
WARNINGS_ARE_ERRORS = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own, when it is imported
]
CHURN = """
name = "churn"
task = "binary"
target = "churned"
positive = "gone"
[features]
numeric = ["fee", "monthly usage"]
categorical = ["plan", "paperless"]
[model]
estimator = "sklearn.naive_bayes.GaussianNB"
"""
SPEND = """
name = "churn"
task = "regression"
target = "spend"
[features]
numeric = ["age"]
categorical = ["plan"]
[model]
estimator = "sklearn.linear_model.Ridge"
"""
ROW = {"fee": 70.5, "monthly usage": 3, "plan": "basic", "paperless": True}
SPEND_ROW = {"age": 41, "plan": None}


def rows(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    fee = rng.normal(50, 10, 200)
    return pd.DataFrame(
        {
            "fee": fee,
            "monthly usage": rng.normal(20, 5, 200),
            "age": rng.integers(18, 90, 200),
            "plan": rng.choice(["basic", "full"], 200),
            "paperless": rng.choice([True, False], 200),
            "churned": np.where(fee + rng.normal(0, 10, 200) > 50, "gone", "stayed"),
            "spend": fee * 2,
        }
    )


def candidate(text: str, seed: int, names: dict[str, str] | None = None) -> training.Candidate:
    """A fitted model; ``names`` renames columns of the rows it is fitted on."""
    loop = contract.parse(text)
    window = frame.check(rows(seed).rename(columns=names or {}), loop, f"month_{seed:03d}")
    made = training.fit(loop, [window.id], window, HoldoutRule.of(loop))
    return replace(
        made, facts=made.facts.model_copy(update={"metrics": {"score": 0.5 + seed / 100}, "baseline": {"score": 0.5}})
    )


def compiled_champion(text: str, seed: int) -> Champion:
    """What the API serves of a version that has a graph, without a registry to fetch it from."""
    made = candidate(text, seed)
    made = promoting.compiled(made, frame.check(rows(seed), contract.parse(text), "month").X)
    assert made.compiled, f"it could not be compiled: {made.facts.compiled}"
    content, facts = made.compiled, made.facts
    scorer = CompiledScorer(Compiled(content), facts, lambda threads: Compiled(content, threads))
    return Champion(Version(str(seed), "run"), facts, RequestSchema.of(facts), scorer, datetime.now(UTC), "registry")


def source_here(settings: Settings) -> RegistrySource:
    """The registry as the API sees it, its versions fetched in this process: starting one takes seconds."""
    return RegistrySource(settings, "churn", fetch_here)


@dataclass
class Switched:
    """A Source in front of a real one that answers only while ``on``."""

    real: Any
    on: bool = True
    looks: int = 0
    downloads: list[str] = field(default_factory=list)

    def aliases(self) -> Aliases:
        self.looks += 1
        if not self.on:
            raise Unreachable("MLflow at http://secret-address does not answer")
        return self.real.aliases()

    def download(self, version: str, folder: Path) -> Path:
        self.downloads.append(version)
        return self.real.download(version, folder)


class Hanging:
    """A Source that never answers until it is let go, and counts how many wait in it at once."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.waiting = 0

    def aliases(self) -> Aliases:
        self.waiting += 1
        self.let_go.wait(30)
        raise Unreachable("timed out")

    def download(self, version: str, folder: Path) -> Path:
        raise AssertionError("nothing was found to be downloaded")


class Slow:
    """A scorer that answers once it is let go, and counts who waits."""

    engine = "slow"

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self._asked: list[int] = []  # appending is one step, whatever thread does it

    def inline(self, rows: int) -> bool:
        return False

    @property
    def asked(self) -> int:
        return len(self._asked)

    def score(self, rows: Any) -> np.ndarray:
        self._asked.append(len(rows))
        self.let_go.wait(30)
        return np.full(len(rows), 0.25)


@contextmanager
def serving(app: ASGIApp) -> Iterator[httpx.Client]:
    """The app on a real socket, in a thread; a client for it."""
    with running(app) as (_, client):
        yield client


@contextmanager
def running(app: ASGIApp) -> Iterator[tuple[uvicorn.Server, httpx.Client]]:
    """As ``serving``, with the server, which ends where ``should_exit`` is set: that is what a signal does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                wait_for(lambda: server.started)
                yield server, client
        finally:
            server.should_exit = True
            thread.join(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> float:
    """Seconds until the condition held. Fails the test when it does not come to hold in time.

    It looks less often as time goes by: a look may read a whole log, and other tests have use for the processor.
    """
    started, pause = time.monotonic(), 0.01
    while not condition():
        assert time.monotonic() - started < seconds, f"still not so after {seconds} s"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.1)
    return time.monotonic() - started


def version(client: httpx.Client) -> str | None:
    return client.get("/model").json()["version"]


def error(client: httpx.Client) -> str | None:
    found = client.get("/model").json()["last_error"]
    return found["message"] if found else None
