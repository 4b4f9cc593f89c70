"""Runs the API as a process, or as several behind one port."""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop import contract, own
from driftloop.errors import ContractError
from driftloop.prediction_log import require_address
from driftloop.settings import Settings, apply_defaults
from services.api.gate import Keys

# A look at the alias that takes longer than this is no answer; the next one is never far.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SHUTDOWN_SECONDS = 10  # at least; what was accepted may take as long as serving.timeout_s lets it
WORKER = "DRIFTLOOP_API_WORKER"  # how the process that opens the port tells its workers what to serve
WARN = "serving.open host=%s: anybody who reaches this address may ask; DRIFTLOOP_API_KEYS would close it"

log = logging.getLogger("driftloop.api")


@dataclass(frozen=True)
class Address:
    """Where and how to serve. ``without_keys``: beyond this machine though nobody needs a key."""

    host: str = "127.0.0.1"
    port: int = 8000
    poll_seconds: float = 2.0
    workers: int = 1
    origins: tuple[str, ...] = ()
    without_keys: bool = False


def serve(folder: Path, settings: Settings, address: Address) -> None:
    """Serve the champion of the loop in ``folder`` until SIGTERM or Ctrl-C.

    Raises ContractError for a wrong loop.toml, wrong keys, a log without an address, and an address beyond this machine
    without any key.
    """
    loop = contract.load(folder)
    own.admit(folder, loop)
    _require_keys(address, os.environ)
    require_address(loop, settings)  # else the scribe would find out, and start and end for ever
    for key, value in PATIENCE.items():
        os.environ.setdefault(key, value)
    apply_defaults(os.environ)
    os.environ.update(settings.environment())
    _log_to_standard_error()
    import uvicorn

    shared: dict[str, Any] = {
        "host": address.host, "port": address.port, "log_config": None, "access_log": False, "server_header": False,
        "proxy_headers": False, "ws": "none", "lifespan": "on", "backlog": 4096,
        "timeout_graceful_shutdown": max(SHUTDOWN_SECONDS, math.ceil(loop.serving.timeout_s)),
    }  # fmt: skip
    if address.workers == 1:
        uvicorn.run(_app(folder, settings, address), **shared)
        return
    counters = settings.home / "serving" / loop.name / "counters"
    shutil.rmtree(counters, ignore_errors=True)  # of workers that are no more
    counters.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counters)
    told = [str(folder.absolute()), address.poll_seconds, address.workers, address.origins]
    os.environ[WORKER] = json.dumps(told)
    uvicorn.run("services.api.serving:worker", factory=True, workers=address.workers, **shared)


def worker() -> Any:
    """One of several processes behind a port; what to serve is in the environment."""
    _log_to_standard_error()
    if opener := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(opener,), daemon=True).start()
    folder, poll, workers, origins = json.loads(os.environ[WORKER])
    address = Address(poll_seconds=poll, workers=workers, origins=tuple(origins))
    return _app(Path(folder), Settings.from_env(os.environ, Path.cwd()), address)


def _end_with(opener: Any) -> None:
    """Who opened the port may be killed; a worker that went on alone would keep the port from the next start."""
    opener.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _app(folder: Path, settings: Settings, address: Address) -> Any:
    from services.api.app import create_app
    from services.api.scribe import Scribe

    loop = contract.load(folder)
    os.environ["DRIFTLOOP_ALERT_URLS"] = " ".join(
        [*os.environ.get("DRIFTLOOP_ALERT_URLS", "").split(), *loop.alerts.urls]
    )
    scribe = None
    if loop.serving.log != "off":
        scribe = Scribe(settings.home / "serving" / loop.name, [str(folder.absolute())])
    app = create_app(
        settings, loop.name, address.poll_seconds, serving=loop.serving, keys=Keys.parse(_keys(os.environ)),
        origins=address.origins, workers=address.workers, scribe=scribe,
    )  # fmt: skip
    gc.set_threshold(20_000, 50, 50)  # a request leaves no cycles behind: looking for some at every seventh is waste
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked at again while somebody waits for an answer
    return app


def _require_keys(address: Address, env: Mapping[str, str]) -> None:
    keys = Keys.parse(_keys(env))
    if keys.entries or _is_loopback(address.host):
        return
    if not address.without_keys:
        raise ContractError(
            f"--host {address.host} lets others than this machine ask, and no key is needed. Make one with "
            f"`driftloop key` and set DRIFTLOOP_API_KEYS, or say --without-keys."
        )
    print(WARN % address.host, file=sys.stderr)  # noqa: T201  # before there is a log


def _keys(env: Mapping[str, str]) -> str:
    return env.get("DRIFTLOOP_API_KEYS", "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_to_standard_error() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
