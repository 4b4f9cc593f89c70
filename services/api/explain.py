"""POST /explain: SHAP values of one row, found by a process beside the API that holds scikit-learn and SHAP."""

from __future__ import annotations

import logging
import threading
from importlib.util import find_spec
from typing import Any, Literal, cast

from pydantic import BaseModel

from driftloop import worker
from driftloop.errors import DriftloopError
from services.api.champion import Champion
from services.api.predict import Refused
from services.api.schema import problem
from services.api.scoring import Row, Unscorable
from services.api.store import Store

IDLE_SECONDS = 300.0
START_SECONDS = 30.0  # what a new process may take on top, for its imports and for reading the version
WAITING = 8  # each holds a thread that other routes need too

log = logging.getLogger("driftloop.api")


class Explanation(BaseModel):
    """Why the version scores this row as it does: ``base`` plus all ``values`` is ``output``, but for rounding.

    ``base`` is the mean output of the version's stored sample rows, and each of ``values`` what this row's value of
    that feature moved it by, null values included. ``scale`` is what they are measured in: a linear classifier is
    additive in its log-odds, everything else in the probability or the predicted value itself. ``label`` is the one
    whose probability is explained: the positive one, of several the one that /predict answers, null for a regression.
    ``probability`` is what /predict gives for it. ``method``: values of a linear model and of
    trees are exact; ``kernel`` asks the model about subsets of the features, all of them up to nine features.
    """

    request_id: str
    version: str
    label: str | None
    scale: Literal["probability", "log-odds", "value"]
    method: Literal["linear", "tree", "kernel"]
    base: float
    output: float
    probability: float | None
    values: dict[str, float]


class Explainer:
    """Starts the process at the first question and ends it when none came for a while; one question at a time."""

    def __init__(self, store: Store, timeout_s: float) -> None:
        self._store, self._timeout = store, timeout_s
        self._lock, self._waiting = threading.Lock(), threading.BoundedSemaphore(WAITING)
        self._process: worker.Worker | None = None
        self._idle: threading.Timer | None = None

    def explain(self, champion: Champion, row: Row) -> dict[str, Any]:
        """The rest of an Explanation. Raises Refused."""
        if find_spec("shap") is None:
            raise Refused(501, "explanations need the extra: pip install 'driftloop[explain]'")
        if not self._waiting.acquire(blocking=False):
            raise Refused(503, "too many explanations at once; try again", expected=True)
        try:
            if not self._lock.acquire(timeout=self._timeout):
                raise Refused(503, "other explanations are under way; try again", expected=True)
            try:
                return self._ask(champion, row)
            finally:
                self._lock.release()
        finally:
            self._waiting.release()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if process := self._process:
            process.kill()  # who waits for its answer holds the lock
        self._end()

    def _ask(self, champion: Champion, row: Row) -> dict[str, Any]:
        folder = dict(self._store.kept()).get(champion.version)
        if folder is None:
            raise Refused(503, f"version {champion.version.number} is no longer kept on disk; try again")
        if self._idle:
            self._idle.cancel()
        seconds = self._timeout
        if self._process is None:
            self._process = worker.Worker("services.api.explaining", "explains predictions")
            seconds += START_SECONDS
        watchdog = threading.Timer(seconds, self._process.kill)  # one that hangs must not hold every later question
        watchdog.daemon = True
        watchdog.start()
        try:
            return cast("dict[str, Any]", self._process.ask((folder, champion.version, row)))
        except worker.Gone:
            self._process.end()
            self._process = None
            raise Refused(503, f"not explained within {self._timeout:g} s, or out of memory; try again") from None
        except Unscorable as error:
            raise Refused(422, [problem((), f"the model cannot explain this: {error}", "value_error")]) from None
        except DriftloopError as error:
            log.warning("explain.unreadable version=%s error=%s", champion.version.number, error)
            raise Refused(503, f"version {champion.version.number} cannot be read from disk; try again") from None
        finally:
            watchdog.cancel()
            self._idle = threading.Timer(IDLE_SECONDS, self._end)
            self._idle.daemon = True
            self._idle.start()

    def _end(self) -> None:
        with self._lock:
            if self._idle:
                self._idle.cancel()
            if self._process:
                self._process.end()
                self._process = None
