"""Running flows in this process: a Prefect API at hand, and everything heavy imported while it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from driftloop import drift_worker, serving_check
from driftloop.importing import uncollected
from driftloop.settings import Settings
from flows import server


class Prefect:
    """A Prefect API that is there or on its way."""

    def __init__(
        self, settings: Settings, lasting: str | None, local: server.LocalServer | None, until_end: ExitStack
    ) -> None:
        self._settings, self._lasting, self._local, self._until_end = settings, lasting, local, until_end

    def connect(self) -> str:
        """Import the flows and open MLflow while the server starts, then point Prefect's client at it.

        Returns the API's URL.

        Raises Unreachable when a configured server or MLflow's database does not answer.
        """
        if self._lasting:
            server.require(self._lasting)
        with uncollected():
            _import_everything()
            _open_registry(self._settings)
        url = self._lasting or (self._local.wait() if self._local else "")
        os.environ["PREFECT_API_URL"] = url
        self._until_end.enter_context(_without_heartbeats())
        self._until_end.callback(_send_what_is_queued)
        return url


@contextmanager
def prefect_at_hand(settings: Settings) -> Iterator[Prefect]:
    """The Prefect API that is configured, the one `driftloop up` runs, or one that ends with this block.

    What takes long starts at once, in processes of its own: the server, and the worker that imports Evidently.
    """
    home = settings.home / "prefect"
    os.environ.setdefault("PREFECT_HOME", str(home))
    lasting = settings.prefect_api_url or running_server(home)
    with nullcontext() if lasting else server.prefect_server(home, os.environ) as local:
        drift_worker.start()
        with ExitStack() as until_end:
            until_end.callback(drift_worker.stop)
            until_end.callback(serving_check.stop)
            yield Prefect(settings, lasting, local, until_end)


@contextmanager
def remember_server(home: Path, api_url: str) -> Iterator[None]:
    """Let other commands of the same state folder find the server that `driftloop up` runs, as long as it does."""
    home.mkdir(parents=True, exist_ok=True)
    note = home / "server.json"
    note.write_text(json.dumps({"api_url": api_url}), encoding="utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def running_server(home: Path) -> str | None:
    """The API of the server that `driftloop up` left a note of, if it still answers."""
    try:
        url = str(json.loads((home / "server.json").read_text(encoding="utf-8"))["api_url"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return url if server.answers(url) else None


def _import_everything() -> None:
    import git  # noqa: F401  # MLflow and skops import these two late, in the middle of a run
    import skops.io  # noqa: F401

    import flows.monitor_flow  # noqa: F401


def _open_registry(settings: Settings) -> None:
    """MLflow imports its store and looks at the database's schema when first asked: a second, spent while we wait."""
    from driftloop.registry import Registry

    Registry(settings, "").open()


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
