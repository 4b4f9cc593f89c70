"""Drift measured in a process beside this one, so that the seconds Evidently takes to import overlap with other work.

``python -m driftloop.drift_worker`` is that process: it takes pickled requests on standard input, answers on standard
output, and ends when its input closes, so it cannot outlive the process that started it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import IO, TYPE_CHECKING

from driftloop.errors import DriftloopError
from driftloop.importing import uncollected

if TYPE_CHECKING:  # this module is imported before everything heavy, to start the worker first
    import pandas as pd

    from driftloop.drift import DriftReport


class DriftWorker:
    """A started worker. One request at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "driftloop.drift_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command; the worker would answer it with a traceback
        )

    def end(self) -> None:
        """At once, though Evidently may still be on its way in."""
        self._process.kill()
        self._process.communicate()

    def measure(
        self, reference: pd.DataFrame, current: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
    ) -> DriftReport:
        """As ``driftloop.drift.measure``, its errors included. Raises DriftloopError when the worker is gone."""
        to_worker, from_worker = self._process.stdin, self._process.stdout
        assert to_worker is not None, "it was opened as a pipe"
        assert from_worker is not None, "it was opened as a pipe"
        try:
            pickle.dump((reference, current, list(numeric), list(categorical)), to_worker, protocol=5)
            to_worker.flush()
            answer = pickle.load(from_worker)  # noqa: S301  # from our own process, over our own pipe
        except (BrokenPipeError, EOFError):
            start.cache_clear()
            raise DriftloopError(
                f"the process that measures drift ended (exit code {self._process.wait()}), perhaps for want of memory."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        report: DriftReport = answer
        return report


@cache
def start() -> DriftWorker:
    """The process's one worker, started at the first call."""
    return DriftWorker()


def stop() -> None:
    """End the worker, if there is one; the next call of ``start`` makes another."""
    if start.cache_info().currsize:
        start().end()
        start.cache_clear()


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    os.nice(19)  # the server and the run are waited for first; Evidently takes what they leave
    with uncollected():
        import evidently  # noqa: F401  # before the first request: this is what the worker is for

        from driftloop.drift import measure

    while True:
        try:
            request = pickle.load(requests)  # noqa: S301  # from our own process, over our own pipe
        except EOFError:
            return
        try:
            answer: DriftReport | Exception = measure(*request)
        except Exception as error:  # noqa: BLE001  # the process boundary: raised again on the other side
            answer = error
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    # whatever Evidently prints must not get among the answers
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _serve(sys.stdin.buffer, pipe)
