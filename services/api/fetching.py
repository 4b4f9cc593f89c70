"""A version brought out of the registry and verified whole, by a process beside the one that answers.

MLflow, scikit-learn and skops are more than twice what the API itself takes, and are wanted for seconds at a swap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from driftloop import worker
from driftloop.errors import ArtifactError
from driftloop.importing import uncollected
from driftloop.settings import Settings

IDLE_SECONDS = 60.0  # swaps come in bursts, when somebody goes back and forth


@dataclass(frozen=True)
class Request:
    """Which version to bring, and the folder below which to put it."""

    settings: Settings
    loop: str
    version: str
    folder: Path


class _Fetcher:
    """The process, started at the first request and ended when none came for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: worker.Worker | None = None
        self._end: threading.Timer | None = None

    def fetch(self, request: Request) -> Path:
        with self._lock:
            if self._end:
                self._end.cancel()
            if self._process is None:
                self._process = worker.Worker("services.api.fetching", "brings a version out of the registry")
            try:
                return cast("Path", self._process.ask(request))
            except worker.Gone:
                self._process = None
                raise
            finally:
                self._end = threading.Timer(IDLE_SECONDS, self.end)
                self._end.daemon = True
                self._end.start()

    def end(self) -> None:
        with self._lock:
            if self._process:
                self._process.end()
                self._process = None


_fetcher = _Fetcher()


def fetch(request: Request) -> Path:
    """Where the complete, verified folder lies. Raises ArtifactError, Unreachable, and Gone when the process died."""
    return _fetcher.fetch(request)


def fetch_here(request: Request) -> Path:
    """The same in this process."""
    from driftloop import artifact
    from driftloop.registry import Registry

    place = Registry(request.settings, request.loop).download(request.version, request.folder)
    try:
        artifact.load(place).verify()
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(place), f"version {request.version}")) from error
    return place


def _prepare() -> Callable[[Any], Any]:
    with uncollected():
        import skops.io  # noqa: F401  # before the first request
        from mlflow import MlflowClient  # noqa: F401

        import driftloop.artifact
        import driftloop.registry  # noqa: F401
    return fetch_here


if __name__ == "__main__":
    worker.answer(_prepare)
