"""The API as the processes that production runs, and clients that write down every answer they get."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pandas as pd

from driftloop.cli.children import answers as is_up
from driftloop.log_tables import SqlStore
from driftloop.settings import Settings
from flows.server import free_port
from tests.integration.api_fakes import CHURN, ROW, wait_for

COMPILABLE = CHURN.replace("naive_bayes.GaussianNB", "linear_model.LogisticRegression")


@dataclass
class Api:
    """A running ``driftloop serve``; ``child`` opens the port, and answers where there is only one worker."""

    child: subprocess.Popen[bytes]
    client: httpx.Client
    settings: Settings

    @property
    def place(self) -> Path:
        return self.settings.home / "serving" / "churn"

    def model(self) -> dict:
        return self.client.get("/model").json()

    def version(self) -> str | None:
        return self.model()["version"]

    def trouble(self) -> str:
        found = self.model()["last_error"]
        return found["message"] if found else ""

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric's value; summed where only some of its labels are given, None where there is none."""
        values = []
        for line in self.client.get("/metrics").text.splitlines():
            found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
            if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")).items() >= labels.items():
                values.append(float(found[2]))
        return sum(values) if values else None

    def log(self) -> str:
        return (self.settings.home / "api.log").read_text()

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(20)


def write_loop(settings: Settings, serving: str) -> Path:
    """The folder of a loop with this [serving]."""
    settings.home.mkdir(exist_ok=True)
    (settings.home / "loop.toml").write_text(f"{COMPILABLE}[serving]\n{serving}\n")
    return settings.home


@contextmanager
def running(folder: Path, settings: Settings, *options: str, alerts: str = "", poll: float = 0.2) -> Iterator[Api]:
    """``driftloop serve`` on the loop in ``folder``, with a champion loaded."""
    home, port = settings.home, free_port()
    command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "serve", str(folder), "--port", str(port)]
    env = os.environ | settings.environment() | {"DRIFTLOOP_ALERT_URLS": alerts}
    with (home / "api.log").open("a") as log:
        child = subprocess.Popen(
            [*command, "--poll", str(poll), *options], env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        asked = (
            40 if "--workers" in options else 1
        )  # each connection may reach another worker, with its own model or none
        wait_for(lambda: all(is_up(f"http://127.0.0.1:{port}/ready") for _ in range(asked)), 60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Api(child, client, settings)
    finally:
        child.terminate()
        child.wait(30)


def scribe_once(folder: Path, settings: Settings) -> None:
    """One round of the scribe: what the next start of the API would do first with what the last one left."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "services.api.scribing", str(folder)],
        env=os.environ | settings.environment(),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )


@dataclass(frozen=True)
class Answer:
    """What a client got; ``fee`` is what it asked with, and ``at`` when it had it (time.monotonic).

    Nobody gave the request an id, so the API did: it begins with what its worker drew by lot.
    """

    request_id: str
    version: str
    probability: float
    fee: float
    at: float

    @property
    def worker(self) -> str:
        return self.request_id[:16]


@dataclass
class Load:
    """Clients in threads of their own, each asking again as soon as it has its answer, some milliseconds apart.

    ``answers`` is a list a client, in their order. ``connections``: a new one for each request, or one for all;
    where it is to be a new one the pause leaves the machine time to start processes.
    """

    url: httpx.URL
    clients: int = 3
    connections: str = "one"
    answers: list[list[Answer]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers = [[] for _ in range(self.clients)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(place,)) for place in range(self.clients)]

    @property
    def all(self) -> list[Answer]:
        return [one for mine in self.answers for one in mine]

    @property
    def failures(self) -> list[str]:
        return self.refused + self.broken

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.see(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def see(self, more: int) -> None:
        """Wait until each client got so many more answers."""
        before = list(map(len, self.answers))
        wait_for(lambda: all(len(mine) >= n + more for mine, n in zip(self.answers, before, strict=True)), 60)

    def _ask(self, place: int) -> None:
        headers, pause = ({"Connection": "close"}, 0.02) if self.connections == "new" else ({}, 0.004)
        with httpx.Client(base_url=self.url, timeout=30, headers=headers) as client:
            number = 0
            while not self._stop.wait(pause):
                number += 1
                fee = place + number / 16
                try:
                    answered = client.post("/predict", json=ROW | {"fee": fee})
                except httpx.HTTPError as problem:
                    self.broken.append(repr(problem))
                    continue
                if answered.status_code != 200:
                    self.refused.append(f"{answered.status_code} {answered.text}")
                    continue
                said = answered.json()
                self.answers[place].append(
                    Answer(said["request_id"], said["version"], said["probability"], fee, time.monotonic())
                )


def logged(settings: Settings) -> pd.DataFrame:
    """The prediction log as it stands."""
    return store_of(settings).read()


def store_of(settings: Settings) -> SqlStore:
    return SqlStore(settings.log_url or f"sqlite:///{settings.home / 'predictions.db'}", "churn")


def require_logged(settings: Settings, answers: Sequence[Answer]) -> pd.DataFrame:
    """Wait until the log holds every answer; each is there once, as the client got it."""
    store, ids = store_of(settings), [one.request_id for one in answers]
    assert len(set(ids)) == len(ids)
    wait_for(lambda: not set(ids) - set(store.read(features=False)["request_id"]), 30)
    found = store.read().set_index("request_id")
    assert found.index.is_unique
    mine = found.loc[ids]
    assert list(mine["version"]) == [one.version for one in answers]
    assert list(mine["prediction"]) == [one.probability for one in answers]
    assert list(mine["values"]) == [features(one.fee) for one in answers]
    assert (mine["latency_ms"] > 0).all()
    return found


def features(fee: float) -> dict:
    """What ROW is to a model, as the log keeps it."""
    return {"fee": fee, "monthly usage": 3.0, "plan": "basic", "paperless": "True"}


def processes(of: int, what: str) -> list[int]:
    """The living children of a process whose command line names ``what``, by /proc."""
    return [pid for pid in _children(of) if what in _command(pid)]


def _children(of: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue  # it ended meanwhile
        state, parent = rest.rpartition(") ")[2].split()[:2]
        if int(parent) == of and state != "Z":
            found.append(int(pid))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """A process that can write to no file: the disk that is full for nobody else."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
