"""Ours: the two months through the real flows. In a process of its own: ``python -m benchmarks.our_loop DIR HOME``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()

LOOP = """
name = "bench"
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
params = {{ n_estimators = 300, class_weight = "balanced", random_state = 42 }}
[training]
strategy = "latest"
[drift]
threshold = 0.02
"""


def main(folder: Path, home: Path) -> None:
    from benchmarks.naive_loop import CATEGORICAL, NUMERIC
    from driftloop.cli.__main__ import settle
    from driftloop.cli.options import settings
    from flows.local import prefect_at_hand

    os.environ["DRIFTLOOP_HOME"] = str(home)
    settle(debug=False)
    (home / "loop").mkdir(parents=True)
    toml = LOOP.format(windows=folder, numeric=list(NUMERIC), categorical=list(CATEGORICAL)).replace("'", '"')
    (home / "loop" / "loop.toml").write_text(toml, encoding="utf-8")
    months = sorted(f.name for f in folder.iterdir() if f.is_dir())[:2]
    with prefect_at_hand(settings()):
        from flows.monitor_flow import monitor_flow

        monitor_flow(home / "loop", months[0])
        report = monitor_flow(home / "loop", months[1])
        print(f"cold {time.monotonic() - BEGAN:.3f}")
        if report["decision"] is None:
            sys.exit(f"nothing was trained on {months[1]}: {report['retrain']}")
        again = time.monotonic()
        monitor_flow(home / "loop", months[1], force=True)
        print(f"warm {time.monotonic() - again:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
