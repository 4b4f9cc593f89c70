"""Starts a server of a model, sees that its answers are the model's, and measures it under load."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from benchmarks.naive_loop import CATEGORICAL, NUMERIC
from benchmarks.servers import (
    OURS,
    QUIET,
    ROOT,
    Ask,
    Made,
    Rows,
    Server,
    Unavailable,
    python_of,
)
from driftloop import contract, frame, generator, training
from driftloop.holdout import HoldoutRule
from driftloop.promoting import compiled
from driftloop.registry import Registry
from flows.server import free_port

CONNECTIONS = 16
SECONDS, OUR_SECONDS = 2.0, 3.0  # of a load, a fifth of it to warm up
ROUNDS, OUR_ROUNDS = 2, 3
START_SECONDS = 60.0
SETTLE_SECONDS, LOG_SECONDS = 1.7, 15.0  # an answer waits a second at most before it may be moved into the store
SAME = 1e-6
REQUESTS, MANY = 500, 1000
ESTIMATORS = {
    "linear": 'estimator = "sklearn.linear_model.LogisticRegression"\nparams = { max_iter = 1000 }',
    "forest": 'estimator = "sklearn.ensemble.RandomForestClassifier"\n'
    'params = { n_estimators = 300, class_weight = "balanced", random_state = 42 }',
}
LOOP = """
name = "bench"
task = "binary"
target = "churn_label"
[features]
numeric = {numeric}
categorical = {categorical}
[model]
{estimator}
"""


@dataclass(frozen=True)
class Load:
    """What the load generator saw, and what processor time all of the server's processes took for a request.

    The last is the one that hardly changes with whatever else the machine does.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Figures:
    """Of one server with one model: at 16 connections and ``alone`` at one. Memory as Running.memory."""

    load: Load
    alone: Load
    many_ms: float | None
    busiest_mb: float
    all_mb: float
    ready: float


@dataclass(frozen=True)
class Ours:
    """Our figures with the log at batch; the very first start in seconds; each variant's speed, and its share of
    the speed without a log, round by round.
    """

    figures: Figures
    first_start: float
    loads: dict[str, Load]
    shares: dict[str, float]


def make(name: str, folder: Path) -> Made:
    """Three generated months' customers, the model fitted on four in five of them, and rows of the others."""
    print(f"fitting the {name} model …", file=sys.stderr)
    months = islice(generator.generate(generator.load(ROOT / "data" / "streamflow")), 3)
    joined = [reduce(lambda a, b: a.merge(b, on="user_id"), [*month.tables.values(), month.labels]) for month in months]
    text = LOOP.format(numeric=NUMERIC, categorical=CATEGORICAL, estimator=ESTIMATORS[name])
    loop, rule = contract.parse(text), HoldoutRule.of(contract.parse(text))
    folder.mkdir()
    (folder / "loop.toml").write_text(text, encoding="utf-8")
    known, held = training.split([frame.check(pd.concat(joined, ignore_index=True), loop, "2024-01").labelled], rule)
    candidate = compiled(training.fit(loop, ["2024-01"], known, rule), held.X)
    asked = held.X.iloc[:REQUESTS]
    made = Made(name, folder, asked.to_dict("records"), candidate.estimator.predict_proba(asked)[:, 1].tolist())
    registry = Registry(made.settings, loop.name)
    registry.point("champion", registry.register(candidate, {}, {}, None).number)
    joblib.dump(candidate.estimator, made.dump)
    _store_for_mlflow(candidate.estimator, asked, folder / "mlflow")
    return made


def _store_for_mlflow(estimator: Any, rows: pd.DataFrame, folder: Path) -> None:
    import mlflow

    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # it warns of pickle, which is its own server's way
    mlflow.sklearn.save_model(
        estimator,
        folder,
        signature=mlflow.models.infer_signature(rows, estimator.predict_proba(rows)),
        pyfunc_predict_fn="predict_proba",  # its default answers with labels
        serialization_format="cloudpickle",
        pip_requirements=[],
    )


@dataclass(frozen=True)
class Running:
    """A server that answers. ``ready`` is in seconds, from its start to its first answer."""

    server: Server
    made: Made
    port: int
    pid: int
    ready: float

    def load(self, connections: int, seconds: float, rows: Sequence[Rows] = ()) -> Load:
        """Raises Unavailable when an answer is another than 200. ``rows``: what a request asks for, default one row."""
        ask = self.server.many if rows else self.server.one
        assert ask is not None, "not asked for many rows where there is no way to"
        bodies = self.made.folder / "bodies.jsonl"
        asked = rows or [[row] for row in self.made.rows]
        bodies.write_text("\n".join(json.dumps(ask.body(some)) for some in asked), encoding="utf-8")
        before = self._cpu_seconds()
        arguments = ["127.0.0.1", self.port, ask.path, connections, seconds, bodies]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"it does not stand the load: {done.stderr.splitlines()[-1]}")
        seen = json.loads(done.stdout)
        if set(seen["statuses"]) != {"200"}:
            raise Unavailable(f"it does not stand the load: {seen['statuses']}")
        cpu = self._cpu_seconds() - before
        return Load(seen["per_second"], seen["p50_ms"], seen["p99_ms"], 1000 * cpu / seen["statuses"]["200"])

    def many(self) -> float | None:
        """Milliseconds for a request of 1,000 rows; None where it takes one at a time."""
        if self.server.many is None:
            return None
        rows = (list(self.made.rows) * (MANY // REQUESTS))[:MANY]
        expected = (self.made.expected * (MANY // REQUESTS))[:MANY]
        _require_right(self.server.many, _post(self.port, self.server.many, rows), expected)
        return self.load(1, SECONDS, [rows]).p50_ms

    def _cpu_seconds(self) -> float:
        return sum(_worked(pid) for pid in _family(self.pid)) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[float, float]:
        """MB: resident memory of the process that worked most, and of all, what they share counted once."""
        family = _family(self.pid)
        busiest = max(family, key=_worked)
        return _memory(busiest, "Rss"), sum(_memory(pid, "Pss") for pid in family)


def _family(pid: int) -> list[int]:
    """A process and all that came of it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(_stat(stat)[1])
    found = [pid]
    for known in found:  # it grows meanwhile
        found += [child for child, parent in parents.items() if parent == known]
    return found


def _stat(file: Path) -> list[str]:
    """The fields behind the program's name, which may hold blanks."""
    return file.read_text(encoding="utf-8").rpartition(")")[2].split()


def _worked(pid: int) -> int:
    """Processor time in clock ticks, 0 of a process that ended meanwhile."""
    try:
        fields = _stat(Path(f"/proc/{pid}/stat"))
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _memory(pid: int, kind: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 / 1e6


@contextmanager
def running(server: Server, made: Made) -> Iterator[Running]:
    """The server, answering with the model's scores, for the length of the block. Raises Unavailable."""
    python, port = python_of(server), free_port()
    log = made.folder / f"{server.name.replace(' ', '-')}.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")}
    env["PATH"] = f"{python.parent}:{env['PATH']}"  # where MLflow looks for uvicorn
    with log.open("w") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            server.command(made, port, python), cwd=made.folder, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env=env | QUIET | server.env(made), start_new_session=True,
        )  # fmt: skip
    try:
        seconds = _wait(process, server, made, port, began)
        yield Running(server, made, port, process.pid, seconds)
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], server: Server, made: Made, port: int, began: float) -> float:
    """Seconds until the first answer, which has to be the right one."""
    while True:
        try:
            answer = _post(port, server.one, made.rows[:1])
            break
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read()[:100]!r}"
        except OSError as error:
            last = str(error)
        if process.poll() is not None:
            raise Unavailable(f"ended while starting, exit code {process.returncode}")
        if time.perf_counter() - began > START_SECONDS:
            raise Unavailable(f"no answer within {START_SECONDS:.0f} s ({last})")
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    _require_right(server.one, answer, made.expected[:1])
    return seconds


def _require_right(ask: Ask, answer: Any, expected: Sequence[float]) -> None:
    if ask.scores is None:
        return
    try:
        scores = ask.scores(answer)
        right = len(scores) == len(expected) and all(abs(a - b) <= SAME for a, b in zip(scores, expected, strict=True))
    except (TypeError, KeyError, IndexError, ValueError):
        right = False
    if not right:
        raise Unavailable(f"its scores are not the model's: {json.dumps(answer)[:120]}")


def _post(port: int, ask: Ask, rows: Rows) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{ask.path}",
        json.dumps(ask.body(rows)).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
        return json.load(response)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what is left of its session, which it leads
    process.wait()


def peer(server: Server, made: Made) -> Figures:
    print(f"measuring {server.name}, {made.name} …", file=sys.stderr)
    try:
        with running(server, made) as up:
            return _figures(up, [up.load(CONNECTIONS, SECONDS) for _ in range(ROUNDS)])
    except OSError as error:  # it ended, or does not answer what it is asked for many rows
        raise Unavailable(f"it stopped answering ({error})") from error


def _figures(up: Running, loads: Sequence[Load]) -> Figures:
    alone, many = up.load(1, SECONDS), up.many()
    return Figures(_median(loads), alone, many, *up.memory(), up.ready)


def _median(loads: Sequence[Load]) -> Load:
    return Load(*map(statistics.median, zip(*map(astuple, loads), strict=True)))


def us(made: Made) -> Ours:
    """All three at once, idle but for the one that is asked, so that each round sees the same machine."""
    with running(OURS["batch"], made) as up:
        first = up.ready
    for variant in ("off", "sync"):  # what the first start brought in; the measured ones start from it
        shutil.copytree(made.home_of("batch") / "serving", made.home_of(variant) / "serving")
    loads: dict[str, list[Load]] = {variant: [] for variant in OURS}
    with ExitStack() as stack:
        up_by = {variant: stack.enter_context(running(server, made)) for variant, server in OURS.items()}
        for number in range(OUR_ROUNDS):
            print(f"measuring driftloop, {made.name}, round {number + 1} of {OUR_ROUNDS} …", file=sys.stderr)
            for variant, up in up_by.items():
                loads[variant].append(up.load(CONNECTIONS, OUR_SECONDS))
                if variant != "off":
                    _wait_for_the_log(up)
        figures = _figures(up_by["batch"], loads["batch"])
    shares = {
        variant: statistics.median(
            mine.per_second / none.per_second for mine, none in zip(loads[variant], loads["off"], strict=True)
        )
        for variant in ("batch", "sync")
    }
    return Ours(figures, first, {variant: _median(loads[variant]) for variant in OURS}, shares)


def _wait_for_the_log(up: Running) -> None:
    """Until all that was answered is in the log's store: what moves it there would work while the next is measured."""
    deadline = time.monotonic() + LOG_SECONDS
    time.sleep(SETTLE_SECONDS)
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{up.port}/model", timeout=10) as response:
            log = json.load(response)["log"]
        if log and not log["waiting_bytes"]:
            return
        time.sleep(0.2)
