"""Running flows in this process: a Prefect API at hand, and everything heavy imported while it starts."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from driftloop.settings import Settings
from flows import server


@contextmanager
def prefect_at_hand(settings: Settings) -> Iterator[str]:
    """The URL of a Prefect API: the one configured, the one `driftloop up` runs, or one that ends with this block."""
    home = settings.home / "prefect"
    os.environ.setdefault("PREFECT_HOME", str(home))
    lasting = settings.prefect_api_url or running_server(home)
    with nullcontext() if lasting else server.prefect_server(home, os.environ) as local:
        if lasting:
            server.require(lasting)
        _import_everything()
        os.environ["PREFECT_API_URL"] = lasting or local.wait()  # type: ignore[union-attr]
        with _without_heartbeats():
            try:
                yield os.environ["PREFECT_API_URL"]
            finally:
                _send_what_is_queued()


def remember_server(home: Path, api_url: str) -> None:
    """Let other commands of the same state folder find the server that `driftloop up` runs."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "server.json").write_text(json.dumps({"api_url": api_url}), encoding="utf-8")


def running_server(home: Path) -> str | None:
    """The API of the server that `driftloop up` left a note of, if it still answers."""
    try:
        url = str(json.loads((home / "server.json").read_text(encoding="utf-8"))["api_url"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return url if server.answers(url) else None


def _import_everything() -> None:
    """The heavy libraries, with the garbage collector off: a tenth faster, for nothing they import is garbage."""
    gc.disable()
    import mlflow.sklearn  # noqa: F401

    import flows.monitor_flow  # noqa: F401

    gc.enable()
    gc.freeze()


@contextmanager
def _without_heartbeats() -> Iterator[None]:
    # the heartbeat tells a server that a run in another process lives; joining its thread costs a second a run
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def _send_what_is_queued() -> None:
    """Hand over logs and events while the server is still there; at exit Prefect would wait for it in vain."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)
