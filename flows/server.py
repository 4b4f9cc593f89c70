"""A Prefect server for the time of one command, where no PREFECT_API_URL names a lasting one.

Prefect would start such a server by itself, but only once everything is imported; started first, in a process of its
own, it is ready when the imports are. ``python -m flows.server PORT`` is that process: it ends when its standard
input closes, so it cannot outlive the command that started it, however that one ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from driftloop import blank
from driftloop.errors import DriftloopError, Unreachable
from driftloop.importing import uncollected

if TYPE_CHECKING:  # this module is imported before everything heavy, to start the server first
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

START_SECONDS = 120
# what a server of one command has no use for: they write to its database beside the run, which finds it locked
IDLE_SERVICES = (
    "CANCELLATION_CLEANUP",
    "EVENT_PERSISTER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "SCHEDULER",
    "TRIGGERS",
)


@contextmanager
def prefect_server(home: Path, env: Mapping[str, str]) -> Iterator[LocalServer]:
    """Start a server that keeps its database under ``home``; it ends with the block."""
    blank.provide("prefect", home / "prefect.db")
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = home / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "flows.server", str(port)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**env, **_settings(home)},
            start_new_session=True,  # Ctrl-C reaches the command, which still reports the run's end to the server
        )
    try:
        yield LocalServer(process, port, log)
    finally:
        assert process.stdin is not None, "it was opened as a pipe"
        process.stdin.close()
        process.wait()


def _settings(home: Path) -> dict[str, str]:
    idle = {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in IDLE_SERVICES}
    return {"PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0", "PREFECT_LOGGING_LEVEL": "ERROR", **idle}


class LocalServer:
    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.log = process, log
        self.api_url = f"http://127.0.0.1:{port}/api"

    def wait(self) -> str:
        """The API's URL once it answers. Raises DriftloopError when it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.api_url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DriftloopError(
                    f"the local Prefect server did not start; its log is {self.log}. If its database is damaged, "
                    f"delete {self.log.parent / 'prefect.db'}: it holds the history of runs and nothing else."
                )
            time.sleep(0.05)
        return self.api_url


def answers(api_url: str) -> bool:
    """Whether a Prefect API is healthy at this address."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def require(api_url: str) -> None:
    """Raise Unreachable unless the Prefect API answers within three tries."""
    for pause in (1, 3, 0):
        if answers(api_url):
            return
        time.sleep(pause)
    raise Unreachable(
        f"Prefect at {api_url} does not answer. Start it, correct PREFECT_API_URL, or unset it to run with a local "
        f"server."
    )


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RetrySoon:
    """ASGI: tell clients to come again at once when two writers met in SQLite, which Prefect answers with 503.

    Without the header its client waits two seconds and more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                message["headers"] = [*message["headers"], (b"retry-after", b"0.1")]
            await send(message)

        await self.app(scope, receive, answer)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(port: int) -> None:
    import fcntl

    import uvicorn

    home = Path(os.environ["PREFECT_HOME"])
    with (home / "migration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first commands at once would both create the tables
        threading.Thread(target=_end_with_parent, daemon=True).start()

        with uncollected():
            from prefect.server.api.server import create_app

        config = uvicorn.Config(RetrySoon(create_app()), host="127.0.0.1", port=port, log_level="error")
        server = uvicorn.Server(config)
        threading.Thread(target=_unlock_when_started, args=(server, lock.fileno()), daemon=True).start()
        server.run()


def _unlock_when_started(server: object, descriptor: int) -> None:
    import fcntl

    while not getattr(server, "started", False):
        time.sleep(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_UN)


if __name__ == "__main__":
    main(int(sys.argv[1]))
