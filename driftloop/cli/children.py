"""Processes that a command starts, watches and ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from driftloop.errors import DriftloopError

GRACE_SECONDS = 10


@dataclass(frozen=True)
class Child:
    """A server: what to run, where it answers once it is up (None: it has no address), where its log goes."""

    name: str
    command: Sequence[str]
    health: str | None
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)


class Children:
    """Started processes by name. They end with the block and, on Linux, with this process however it ends."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Child, subprocess.Popen[bytes]]] = {}

    def start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("w") as out:
            process = subprocess.Popen(
                list(child.command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child.env},
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # no threads yet
            )
        self._running[child.name] = (child, process)

    def wait_ready(self, name: str, seconds: float = 120) -> None:
        """Until the child answers at its health address. Raises DriftloopError when it ends or takes too long."""
        child, process = self._running[name]
        deadline = time.monotonic() + seconds
        while child.health and not answers(child.health):
            if process.poll() is not None:
                raise DriftloopError(f"{name} ended while starting (exit code {process.returncode}); see {child.log}.")
            if time.monotonic() > deadline:
                raise DriftloopError(
                    f"{name} does not answer at {child.health} after {seconds:.0f} s; see {child.log}."
                )
            time.sleep(0.1)

    def ended(self) -> Child | None:
        """The first child that is no longer running."""
        return next((child for child, process in self._running.values() if process.poll() is not None), None)

    def stop(self) -> None:
        """Ask each child's group to end, the last started first; kill what does not within the grace time.

        The first child stays until the others have ended: the schedules pause themselves in Prefect.
        """
        processes = [process for _, process in reversed(self._running.values())]
        for together in (processes[:-1], processes[-1:]):
            for process in together:
                _signal(process, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            for process in together:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _signal(process, signal.SIGKILL)
                    process.wait()


@contextmanager
def children() -> Iterator[Children]:
    """Children that end with the block; SIGTERM ends the block like Ctrl-C."""
    group = Children()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield group
    finally:
        group.stop()
        signal.signal(signal.SIGTERM, previous)


def answers(url: str) -> bool:
    """Whether an HTTP GET is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def require_free(port: int, what: str, option: str, host: str = "127.0.0.1") -> None:
    """Raise DriftloopError when something listens on the port already."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise DriftloopError(
                f"port {port} for {what} is taken; end what uses it or choose another with {option}."
            ) from None


def _interrupt(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # each child leads a session of its own, so this reaches its children too


def _end_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
