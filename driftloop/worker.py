"""A process beside this one that answers requests over pipes.

It ends when its input closes, so it cannot outlive the process that started it, however that one ends.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from threading import Lock
from typing import Any

from driftloop.errors import DriftloopError


class Gone(DriftloopError):
    """The process ended without an answer."""


class Worker:
    """A started ``python -m module``, whose main block calls ``answer``. ``task`` says in errors what it is for."""

    def __init__(self, module: str, task: str) -> None:
        self._task, self._one_at_a_time = task, Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command; the worker would answer it with a traceback
        )

    def ask(self, request: Any) -> Any:
        """The worker's answer; what it raised is raised here. Raises Gone when it ended."""
        to_worker, from_worker = self._process.stdin, self._process.stdout
        assert to_worker is not None, "it was opened as a pipe"
        assert from_worker is not None, "it was opened as a pipe"
        try:
            with self._one_at_a_time:
                pickle.dump(request, to_worker, protocol=5)
                to_worker.flush()
                answer = pickle.load(from_worker)  # noqa: S301  # from our own process, over our own pipe
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):  # the last: killed in the middle of an answer
            raise Gone(
                f"the process that {self._task} ended (exit code {self._process.wait()}), perhaps for want of memory."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self) -> None:
        """Whatever it is doing; who asked it gets Gone."""
        self._process.kill()

    def end(self) -> None:
        """At once, though it may still be on its way in."""
        self._process.kill()
        self._process.communicate()


def answer(prepare: Callable[[], Callable[[Any], Any]], *, forked: bool = False) -> None:
    """Answer requests until there are no more. ``prepare`` imports what takes long and returns what answers one.

    ``forked``: each by a child of its own, which has the imports and nothing of any request before it.
    """
    requests = sys.stdin.buffer
    # whatever a library prints must not get among the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    respond = prepare()
    while True:
        try:
            request = pickle.load(requests)  # noqa: S301  # from our own process, over our own pipe
        except EOFError:
            return
        answers.write(_in_a_child(respond, request) if forked else _said(respond, request))
        answers.flush()


def _said(respond: Callable[[Any], Any], request: Any) -> bytes:
    try:
        said = respond(request)
    except Exception as error:  # noqa: BLE001  # the process boundary: raised again on the other side
        said = error
    return pickle.dumps(said, protocol=5)


def _in_a_child(respond: Callable[[Any], Any], request: Any) -> bytes:
    to_us, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_us)
        with os.fdopen(to_parent, "wb") as pipe:
            pipe.write(_said(respond, request))
        os._exit(0)  # nothing of the parent's is closed or written a second time
    os.close(to_parent)
    with os.fdopen(to_us, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if said:
        return said
    code = os.waitstatus_to_exitcode(status)
    return pickle.dumps(Gone(f"the process for one answer ended (exit code {code}), perhaps for want of memory."))
