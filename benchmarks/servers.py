"""The servers that ``benchmarks.serving`` measures: how each is started, asked, and what its answer says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from driftloop.settings import Settings
from flows.server import free_port

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".bench"
PEERS = Path(__file__).parent / "peers"
PINNED = Path(__file__).parent / "peers.txt"
SHARED = ("scikit-learn", "numpy", "scipy", "pandas", "joblib")  # what has to be ours for the dump to be read alike
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
INSTALL_SECONDS = 600
BATCH, BATCH_WAIT = 16, 0.005  # of a peer's batching: as many as there are connections, at most 5 ms later

Rows = Sequence[dict[str, Any]]


class Unavailable(Exception):
    """Why a peer was not measured, in a sentence for the report."""


@dataclass(frozen=True)
class Ask:
    """A path, the body that asks it for rows' scores, and how they are read out of the answer (None: it has none)."""

    path: str
    body: Callable[[Rows], Any]
    scores: Callable[[Any], list[float]] | None


@dataclass(frozen=True)
class Made:
    """A model as everybody wants it: a registry and loop folders for us, a dump and a stored MLflow model for peers."""

    name: str
    folder: Path
    rows: Rows
    expected: list[float]

    @property
    def dump(self) -> Path:
        return self.folder / "model.joblib"

    @property
    def settings(self) -> Settings:
        """Of the registry that holds it."""
        return Settings.from_env({"DRIFTLOOP_HOME": str(self.folder / "registry")}, ROOT)

    def home_of(self, variant: str) -> Path:
        return self.folder / variant / "home"


@dataclass(frozen=True)
class Server:
    """``command`` is what starts it at a port; ``many`` is None where it takes one row a request only.

    ``packages`` are those of peers.txt that it needs and that live in an environment of its own.
    """

    name: str
    command: Callable[[Made, int, Path], list[str]]
    one: Ask
    many: Ask | None = None
    packages: tuple[str, ...] = ()
    env: Callable[[Made], dict[str, str]] = field(default=lambda _: {})
    batching: bool = False


def python_of(server: Server) -> Path:
    """The interpreter that has the server's packages, made at the first use. Raises Unavailable."""
    if not server.packages:
        return Path(sys.executable)
    folder = CACHE / server.packages[0]
    wanted = [line for line in PINNED.read_text(encoding="utf-8").split() if line.partition("==")[0] in server.packages]
    wanted += [f"{name}=={version(name)}" for name in SHARED]
    told = "\n".join(wanted)
    complete = folder / ".complete"
    if not (complete.exists() and complete.read_text(encoding="utf-8") == told):
        if trouble := _install(folder, tuple(wanted)):
            raise Unavailable(trouble)
        complete.write_text(told, encoding="utf-8")
    return folder / "bin" / "python"


@cache  # what cannot be installed is not tried again for the next model
def _install(folder: Path, wanted: tuple[str, ...]) -> str | None:
    """Why it did not come about."""
    print(f"installing {', '.join(wanted)} (once) …", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not installed within {INSTALL_SECONDS} s"
    if not done.returncode:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return f"cannot be installed ({errors[-1][7:200] if errors else 'pip failed'})"


def _by_column(rows: Rows) -> dict[str, Any]:
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def _tensors(rows: Rows) -> dict[str, Any]:
    """The Open Inference Protocol: a tensor a column."""
    inputs = []
    for name, value in rows[0].items():
        text = isinstance(value, str)
        tensor = {"name": name, "datatype": "BYTES" if text else "FP64", "shape": [len(rows), 1]}
        inputs.append(
            tensor | {"data": [row[name] for row in rows], "parameters": {"content_type": "str"} if text else {}}
        )
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}


def _second_column(answer: Any) -> list[float]:
    values: list[float] = answer["outputs"][0]["data"]
    return values[1::2]


def _write_mlserver(made: Made, port: int, *, batching: bool) -> Path:
    folder = made.folder / ("mlserver-batching" if batching else "mlserver")
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
        "debug": False, "parallel_workers": 0,  # its worker processes end at their start, with the uvloop it asks for
    }  # fmt: skip
    model = {
        "name": "bench",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(made.dump)},
    } | ({"max_batch_size": BATCH, "max_batch_time": BATCH_WAIT} if batching else {})
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return folder


def _script(name: str, *arguments: object) -> list[str]:
    return [str(PEERS / f"{name}.py"), *map(str, arguments)]


def _lit(size: int) -> Callable[[Made, int, Path], list[str]]:
    return lambda made, port, python: [str(python), *_script("lit", made.dump, port, size)]


def _bento(service: str) -> Callable[[Made, int, Path], list[str]]:
    return lambda _made, port, python: [
        str(python), "-m", "bentoml", "serve", f"bento:{service}", "--working-dir", str(PEERS),
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def _mlserver(*, batching: bool) -> Callable[[Made, int, Path], list[str]]:
    return lambda made, port, python: [
        str(python.parent / "mlserver"), "start", str(_write_mlserver(made, port, batching=batching)),
    ]  # fmt: skip


def _mlflow(made: Made, port: int, python: Path) -> list[str]:
    return [
        str(python.parent / "mlflow"), "models", "serve", "--model-uri", str(made.folder / "mlflow"),
        "--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def _constant(name: str, what: str) -> Server:
    return Server(
        f"{what}, a constant",
        lambda _made, port, python: [str(python), *_script("constant", name, port)],
        Ask("/predict", lambda rows: rows[0], None),
    )


def _ours(variant: str, serving: str) -> Server:
    """Our API with ``serving`` in that section of loop.toml, and with a state folder of its own."""

    def command(made: Made, port: int, python: Path) -> list[str]:
        loop = made.folder / variant
        loop.mkdir(exist_ok=True)
        toml = (made.folder / "loop.toml").read_text(encoding="utf-8")
        (loop / "loop.toml").write_text(f"{toml}\n[serving]\n{serving}\n", encoding="utf-8")
        return [str(python), "-W", "ignore", "-m", "driftloop.cli", "serve", str(loop), "--port", str(port)]

    def env(made: Made) -> dict[str, str]:
        registry = made.settings.tracking_uri
        given = {"DRIFTLOOP_HOME": str(made.home_of(variant)), "MLFLOW_TRACKING_URI": registry}
        return Settings.from_env(given, ROOT).environment()

    return Server(
        f"driftloop, log {variant}",
        command,
        Ask("/predict", lambda rows: rows[0], lambda answer: [answer["probability"]]),
        Ask("/predict", lambda rows: {"rows": rows}, lambda answer: [p["probability"] for p in answer["predictions"]]),
        env=env,
    )


OURS = {
    "batch": _ours("batch", 'durability = "batch"'),
    "off": _ours("off", 'log = "off"'),
    "sync": _ours("sync", 'durability = "sync"'),
}
_invocations = Ask(
    "/invocations",
    lambda rows: {"dataframe_split": _by_column(rows)},
    lambda answer: [pair[1] for pair in answer["predictions"]],
)
MLFLOW = Server("mlflow models serve", _mlflow, _invocations, _invocations)
FASTAPI = _constant("fastapi", "bare FastAPI")
_v2 = Ask("/v2/models/bench/infer", _tensors, _second_column)
_rows = Ask("/predict", lambda rows: {"rows": rows}, lambda answer: answer["scores"])
_bare_list = Ask("/predict", lambda rows: {"rows": rows}, list)
_model = lambda made: {"BENCH_MODEL": str(made.dump), "BENTOML_HOME": str(made.folder / "bentoml")}  # noqa: E731
_mlserver_packages = ("mlserver", "mlserver-sklearn")
SERVERS = (
    MLFLOW,
    Server("MLServer", _mlserver(batching=False), _v2, _v2, _mlserver_packages),
    Server("MLServer, batching", _mlserver(batching=True), _v2, None, _mlserver_packages, batching=True),
    Server("BentoML", _bento("Plain"), _bare_list, _bare_list, ("bentoml",), _model),
    Server("BentoML, batching", _bento("Batching"), _bare_list, _bare_list, ("bentoml",), _model, batching=True),
    Server("LitServe", _lit(1), _rows, _rows, ("litserve",)),
    Server("LitServe, batching", _lit(BATCH), _rows, None, ("litserve",), batching=True),
    Server(
        "FastAPI around a DataFrame",
        lambda made, port, python: [str(python), *_script("dataframe", made.dump, port)],
        Ask("/predict", lambda rows: rows[0], lambda answer: [answer["probability"]]),
        Ask("/predict-many", list, list),
    ),
    FASTAPI,
    _constant("starlette", "bare Starlette"),
    _constant("uvicorn", "bare uvicorn"),
)
