"""Ours: the two months through the real flows. In a process of its own: ``python -m benchmarks.our_loop DIR HOME``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()

LOOP = """
name = "{name}"
task = "binary"
target = "churn_label"
entity = "user_id"
[windows]
path = "{windows}"
[features]
numeric = {numeric}
categorical = {categorical}
[model]
estimator = "sklearn.ensemble.RandomForestClassifier"
params = {{ n_estimators = 300, class_weight = "balanced", random_state = 42, n_jobs = -1 }}
[training]
strategy = "latest"
[drift]
threshold = 0.02
"""


def main(folder: Path, home: Path) -> None:
    from driftloop.cli.__main__ import settle
    from driftloop.cli.options import settings
    from flows.local import prefect_at_hand

    os.environ["DRIFTLOOP_HOME"] = str(home)
    settle(debug=False)
    months = sorted(f.name for f in folder.iterdir() if f.is_dir())[:2]
    with prefect_at_hand(settings()) as prefect:
        prefect.connect()
        from flows.monitor_flow import monitor_flow

        for name in ("cold", "warm"):  # a loop each: a month that was retrained on already would have nothing to do
            loop = _loop(home / name, name, folder)
            first = BEGAN
            monitor_flow(loop, months[0])
            if name == "warm":
                first = time.monotonic()
            report = monitor_flow(loop, months[1])
            print(f"{name} {time.monotonic() - first:.3f}")
            if report["decision"] is None:
                sys.exit(f"nothing was trained on {months[1]}: {report['retrain']}")


def _loop(folder: Path, name: str, windows: Path) -> Path:
    from benchmarks.naive_loop import CATEGORICAL, NUMERIC

    folder.mkdir(parents=True)
    toml = LOOP.format(name=name, windows=windows, numeric=json.dumps(NUMERIC), categorical=json.dumps(CATEGORICAL))
    (folder / "loop.toml").write_text(toml, encoding="utf-8")
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
