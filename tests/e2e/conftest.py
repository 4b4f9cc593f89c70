"""The console script as a user runs it, on a loop and a state folder of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from driftloop import serving_check
from driftloop.cli.__main__ import main
from driftloop.settings import apply_defaults
from flows.server import prefect_server
from tests.integration.conftest import Loop, month

DRIFTLOOP = Path(sys.executable).parent / "driftloop"
ADDRESSES = (
    "DRIFTLOOP_HOME",
    "DRIFTLOOP_LEDGER_URL",
    "DRIFTLOOP_MLFLOW_UI",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "PREFECT_HOME",
)


class Shell:
    """Runs commands in a folder with their state below it; what still runs at the end is killed."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if name not in ADDRESSES} | dict(env)
        apply_defaults(self.env)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(DRIFTLOOP), *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C that a test sends reaches this command's group and not pytest's
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, seconds: float = 150) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What ``run`` does in this process: for what a command says, where the process is another test's subject."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            chdir(self.folder),
            patch.dict(os.environ, self.env, clear=True),
            patch.object(sys, "argv", ["driftloop", *arguments]),
            patch.object(sys, "path", sys.path[:]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            finally:
                serving_check.stop()  # as with the process: the next one starts in a folder of its own
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Commands that start a Prefect server of their own, as on a laptop."""
    made = Shell(tmp_path, {})
    yield made
    made.end()


@pytest.fixture(scope="session")
def lasting_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the commands of all tests: starting one takes longer than what they look at."""
    env = dict(os.environ)
    apply_defaults(env)
    with prefect_server(tmp_path_factory.mktemp("prefect"), env) as server:
        yield server.wait()


@pytest.fixture
def connected_shell(tmp_path: Path, lasting_prefect: str) -> Iterator[Shell]:
    """Commands that use a server which is there already."""
    made = Shell(tmp_path, {"PREFECT_API_URL": lasting_prefect})
    yield made
    made.end()


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    """Two labelled months; the second one drifted and turned its concept around."""
    made = Loop(tmp_path / "loop", tmp_path / ".driftloop", tmp_path.name)  # Prefect knows loops by their name
    made.deliver("2024-01", month(1))
    made.deliver("2024-02", month(2, shift=1, turned=True))
    return made


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for a condition; the test fails, naming it, when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """The running processes below ``pid``, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    below, found = {pid}, True
    while found:
        found = {child for child, parent in parents.items() if parent in below} - below
        below |= found
    return {child: line for child in below - {pid} if (line := command_line(child))}


def command_line(pid: int) -> str:
    """Empty when the process is gone, or is a zombie that only waits to be reaped."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C as a terminal sends it: to the whole foreground group."""
    os.killpg(process.pid, signal.SIGINT)
