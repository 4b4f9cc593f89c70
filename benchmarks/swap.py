"""How long after the alias moves the running API answers with the new version."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd

from driftloop import contract, frame, training
from driftloop.cli.children import Child, children
from driftloop.holdout import HoldoutRule
from driftloop.registry import Registry
from driftloop.settings import Settings
from flows.server import free_port

LOOP = """
name = "swap"
task = "binary"
target = "y"
[features]
numeric = ["x"]
[model]
estimator = "sklearn.ensemble.RandomForestClassifier"
params = { n_estimators = 300, random_state = 42 }
"""


def alias_to_served(home: Path, pause: float) -> float:
    """Seconds from setting the alias to the first answer by that version, at the API's default poll.

    The alias is set ``pause`` seconds after the API is ready: at another moment between two looks at it.
    """
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd())
    home.mkdir()
    registry = Registry(settings, "swap")
    versions = [_register(registry, seed) for seed in (1, 2)]
    registry.point("champion", versions[0])
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    (home / "loop.toml").write_text(LOOP)
    command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "serve", str(home), "--port", str(port)]
    with children() as group:
        group.start(Child("API", command, f"{base}/ready", home / "api.log", settings.environment()))
        group.wait_ready("API")
        time.sleep(pause)
        registry.point("champion", versions[1])
        began = time.monotonic()
        while _version(base) != versions[1]:
            if time.monotonic() - began > 60:
                sys.exit(f"the API did not take version {versions[1]} over; see {home / 'api.log'}")
            time.sleep(0.01)
        return time.monotonic() - began


def _register(registry: Registry, seed: int) -> str:
    loop = contract.parse(LOOP)
    rows = pd.DataFrame({"x": [float(i * seed % 97) for i in range(2000)]}).assign(y=lambda d: d["x"] > 48)
    window = frame.check(rows, loop, "2024-01").labelled
    candidate = training.fit(loop, ["2024-01"], window, HoldoutRule.of(loop))
    return registry.register(candidate, {}, {}, None).number


def _version(base: str) -> str:
    with urllib.request.urlopen(f"{base}/model", timeout=10) as response:
        return str(json.load(response)["version"])
