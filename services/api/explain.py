"""POST /explain: SHAP values of one row, found by a process beside the API that holds scikit-learn and SHAP."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any, Literal, cast

from pydantic import BaseModel

from driftloop import worker
from driftloop.errors import DriftloopError
from services.api.champion import Champion
from services.api.predict import Refused
from services.api.scoring import Row
from services.api.store import Store

IDLE_SECONDS = 300.0


class Explanation(BaseModel):
    """``base`` plus all ``values`` is ``output``.

    ``scale``: what they are measured in. A linear classifier is additive in its log-odds, everything else in the
    probability or the predicted value itself.
    """

    request_id: str
    version: str
    scale: Literal["probability", "log-odds", "value"]
    base: float
    output: float
    values: dict[str, float]


class Explainer:
    """Starts the process at the first question and ends it when none came for a while; one question at a time."""

    def __init__(self, store: Store, timeout_s: float) -> None:
        self._store, self._timeout = store, timeout_s
        self._lock = threading.Lock()
        self._process: worker.Worker | None = None
        self._idle: threading.Timer | None = None

    def explain(self, champion: Champion, row: Row) -> dict[str, Any]:
        """scale, base, output and values, as in Explanation. Raises Refused."""
        if find_spec("shap") is None:
            raise Refused(501, "explanations need the extra: pip install 'driftloop[explain]'")
        folder = dict(self._store.kept()).get(champion.version)
        if folder is None:
            raise Refused(503, f"version {champion.version.number} is no longer kept on disk")
        if not self._lock.acquire(timeout=self._timeout):
            raise Refused(503, "other explanations are under way; try again")
        try:
            if self._idle:
                self._idle.cancel()
            if self._process is None:
                self._process = worker.Worker("services.api.explaining", "explains predictions")
            # a run away explanation must not hold every later one
            watchdog = threading.Timer(self._timeout, self._process.kill)
            watchdog.start()
            try:
                return cast("dict[str, Any]", self._process.ask((folder, champion.version, row)))
            except worker.Gone:
                self._process = None
                raise Refused(503, f"not explained within {self._timeout:g} s, or out of memory") from None
            except DriftloopError as error:
                raise Refused(503, f"version {champion.version.number} cannot be explained: {error}") from None
            finally:
                watchdog.cancel()
        finally:
            self._idle = threading.Timer(IDLE_SECONDS, self.stop)
            self._idle.daemon = True
            self._idle.start()
            self._lock.release()

    def stop(self) -> None:
        if self._idle:
            self._idle.cancel()
        with self._lock:
            if self._process:
                self._process.end()
                self._process = None
