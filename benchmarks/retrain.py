"""What a retraining costs beside its estimator's fit, in time and in memory: ``python -m benchmarks retrain``.

Each measurement has a process of its own: ``python -m benchmarks.retrain time|share|memory FOLDER …``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
REPEATS = 5
MILLION, SMALL, COLUMNS, WINDOWS, WORDS = 1_000_000, 1_000, 25, 4, (0, 5)
MODELS = {
    "LogisticRegression": ("sklearn.linear_model.LogisticRegression", {}),
    "HistGradientBoosting": ("sklearn.ensemble.HistGradientBoostingClassifier", {"random_state": 0}),
    "RandomForest, 100 trees, leaves of 5": (
        "sklearn.ensemble.RandomForestClassifier",
        {"min_samples_leaf": 5, "random_state": 0},
    ),
    "RandomForest, 100 trees": ("sklearn.ensemble.RandomForestClassifier", {"random_state": 0}),
    "RandomForest, 300 trees": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 300, "random_state": 0}),
}
STEPS = {  # what the table names, and the functions whose time it is
    "reading": ("promoting.training_data",),
    "fit": ("training.fitted",),
    "threshold by folds": ("training.threshold_of",),
    "threshold out of bag": ("training.out_of_bag",),
    "ONNX export": ("promoting.export",),
    "plots": ("evaluation.page",),
    "registering": ("promoting.register",),
    "serving check, importance": ("promoting.try_and_weigh",),
}
TRIALS = 12


def section() -> str:
    with tempfile.TemporaryDirectory() as folder:
        months = _customers(Path(folder))
        timed = {name: _child("time", folder, months, name) for name in MODELS}
        shared = _child("share", folder, months)
        memory = {words: _child("memory", _table(Path(folder) / f"{words}", words, MILLION), words) for words in WORDS}
    return f"""## What a retraining costs beside its fit

Of 7,043 customers ({"StreamFlow" if "streamflow" in months else "generated"}) with 19 features, of which a fifth is
held out: from the window's files to a version that a clean process has loaded and scored (`promoting.training_data`,
`train`, `register`, `try_and_weigh`), in a warm process that has not read the window. In it: reading and checking the
rows, splitting off the holdout, MLflow's writes. Not in it: drift before it, decision and promotion after it, Prefect,
the start of Python. Seconds of the middle one of {REPEATS} runs. *Fit* is preprocessing and estimator on all training
rows, *reading* `training_data`; that and the columns after it are part of *beside the fit*, which also has the steps
too small for a column. A threshold takes three more fits, on folds, or a forest's own trees: *beside all fits* is
without the folds'. What features matter is found out while the clean process tries the version.

| estimator | whole | fit | beside the fit | beside all fits | {" | ".join(name for name in STEPS if name != "fit")} |
|---|---|---|---|---|{"---|" * (len(STEPS) - 1)}
{chr(10).join(_line(name, found) for name, found in timed.items())}

Candidates, strategies and trials share the windows, the splits and the preprocessing. Seconds with that and without,
the same models: {shared["ways"]} ways in a contest {shared["contest"]:.2f} and {shared["contest_apart"]:.2f}, ratio
{shared["contest"] / shared["contest_apart"]:.2f}; {TRIALS} trials of a search {shared["search"]:.2f} and
{shared["search_apart"]:.2f}, ratio {shared["search"] / shared["search_apart"]:.2f}. The models are shallow trees and
logistic regressions, so that preprocessing is much of the work.

Memory of a training on {MILLION:,} rows of {COLUMNS} columns in {WINDOWS} windows of Parquet, HistGradientBoosting with
10 iterations (`promoting.training_data` and `train`; registering and the serving check are not in it). *Frame* is the
size of all features of all rows as they are read. *At its highest* is the most that was resident
from the first file's opening on, the frame included, above what the process had after training on a thousand rows.
Preprocessing hands over the rows' own numbers; `fit` takes a copy of the rows for early stopping, and with categories
one more before it to put their columns first.

| categorical columns | frame, MB | at its highest, MB | times the frame | seconds |
|---|---|---|---|---|
{chr(10).join(_memory_line(words, found) for words, found in memory.items())}
"""


def _line(name: str, found: dict[str, float]) -> str:
    beside = found["whole"] - found["fit"]
    steps = " | ".join(f"{found[step]:.2f}" for step in STEPS if step != "fit")
    fits = beside - found["threshold by folds"]
    return f"| {name} | {found['whole']:.2f} | {found['fit']:.2f} | **{beside:.2f}** | {fits:.2f} | {steps} |"


def _memory_line(words: int, found: dict[str, float]) -> str:
    frame, peak = found["frame_mb"], found["peak_mb"]
    return f"| {words} | {frame:.0f} | {peak:.0f} | **{peak / frame:.1f}** | {found['seconds']:.0f} |"


def _customers(folder: Path) -> str:
    from benchmarks.__main__ import _months

    return str(_months(folder)[0])


def _child(*arguments: object) -> dict[str, Any]:
    print(f"retrain: {arguments[0]} …", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.retrain", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"retrain {arguments[0]} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# Time


def _time(folder: str, months: str, name: str) -> dict[str, float]:
    """The middle one of the repeats, so that its steps add up; the first is for the imports."""
    from driftloop import promoting, serving_check

    estimator, params = MODELS[name]
    opened = _opened(Path(folder) / "time", months, {"estimator": estimator, "params": params})
    runs = []
    serving_check.start()
    for _ in range(REPEATS + 1):
        gc.collect()
        work = replace(opened, _readings=OrderedDict())  # it has read nothing yet
        with _taken() as spent:
            began = time.perf_counter()
            data = promoting.training_data(work, work.newest(), None)
            candidate = promoting.train(work, data)
            version = promoting.register(work, candidate, work.newest()).number
            made = promoting.try_and_weigh(work, candidate, version, data.holdout)
            spent["whole"] = time.perf_counter() - began
        if made.serving.problem:
            sys.exit(made.serving.problem)
        runs.append(dict(spent))
    serving_check.stop()
    middle = sorted(runs[1:], key=lambda run: run["whole"])[REPEATS // 2]
    return {step: middle.get(step, 0.0) for step in ("whole", *STEPS)}


@contextmanager
def _taken() -> Iterator[dict[str, float]]:
    """Seconds by step; a step inside another counts for the outer one alone."""
    import driftloop.evaluation
    import driftloop.promoting
    import driftloop.training  # noqa: F401

    spent: dict[str, float] = defaultdict(float)
    inside: list[str] = []

    def timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            inside.append(step)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                inside.pop()
                if not inside:
                    spent[step] += time.perf_counter() - began

        return call

    kept = []
    for step, names in STEPS.items():
        for name in names:
            module, _, attribute = name.partition(".")
            place = sys.modules[f"driftloop.{module}"]
            kept.append((place, attribute, getattr(place, attribute)))
            setattr(place, attribute, timed(step, getattr(place, attribute)))
    try:
        yield spent
    finally:
        for place, attribute, function in kept:
            setattr(place, attribute, function)


def _opened(folder: Path, months: str, model: dict[str, Any], **more: Any) -> Any:
    """A workspace of the customers' loop with that model."""
    from benchmarks.naive_loop import CATEGORICAL, NUMERIC
    from driftloop.contract import Loop
    from driftloop.ledger import Ledger
    from driftloop.registry import Registry
    from driftloop.settings import Settings
    from driftloop.windows import open_windows
    from driftloop.workspace import Workspace

    folder.mkdir(exist_ok=True)
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(Path(tempfile.mkdtemp(dir=folder)))}, folder)
    loop = Loop.model_validate(
        {
            "name": "retrain",
            "task": "binary",
            "target": "churn_label",
            "entity": "user_id",
            "windows": {"path": months},
            "features": {"numeric": NUMERIC, "categorical": CATEGORICAL},
            "model": model,
            "training": {"strategy": "latest"},
        }
        | more
    )
    windows = open_windows(loop, Path(months), settings)
    return Workspace(
        folder, settings, loop, windows, Ledger(settings.ledger_url, loop.name), Registry(settings, loop.name)
    )


# What is shared


def _share(folder: str, months: str) -> dict[str, float]:
    from driftloop import contest, promoting, search, training

    depths = {"max_depth": {"low": 1, "high": 6}}
    tree, linear = "sklearn.tree.DecisionTreeClassifier", "sklearn.linear_model.LogisticRegression"
    boosted = "sklearn.ensemble.HistGradientBoostingClassifier"
    candidates = [
        {"estimator": tree, "params": {"max_depth": 3}},
        {"estimator": linear, "params": {"C": 0.01}},
        {"estimator": boosted, "params": {"max_iter": 5}},
    ]
    strategies = ["all", "latest"]
    work = _opened(Path(folder) / "share", months, {"candidates": candidates}, training={"strategies": strategies})
    data = promoting.training_data(work, work.newest(), None)
    aside = contest.set_aside(work.loop, data.parts)

    def held() -> None:
        contest.hold(work.loop, work.loop.model.recipes, aside, None)

    model = {"estimator": tree, "space": depths, "search": {"trials": TRIALS, "pruning": False}}
    one = _opened(Path(folder) / "share", months, model)

    def searched() -> None:
        with tempfile.TemporaryDirectory() as place:
            search.tune(one.loop, data.training, Path(place) / "s.db")

    of, encoded = training.Encodings.of, search.Rows.encoded

    def of_afresh(self: Any, *args: Any) -> Any:
        self._rows = None
        return of(self, *args)

    def encoded_afresh(self: Any, *args: Any) -> Any:
        self._preprocessing = None
        return encoded(self, *args)

    found: dict[str, float] = {"ways": len(candidates) * len(strategies)}
    held(), searched()
    found["contest"], found["search"] = _median(held), _median(searched)
    training.Encodings.of = of_afresh  # type: ignore[method-assign]
    search.Rows.encoded = encoded_afresh  # type: ignore[method-assign]
    found["contest_apart"], found["search_apart"] = _median(held), _median(searched)
    return found


def _median(what: Callable[[], None]) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        what()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# Memory


def _table(folder: Path, words: int, total: int) -> Path:
    """Windows of numbers and a few categories, in files."""
    place = folder / "windows"
    place.mkdir(parents=True)
    for n in range(WINDOWS):
        rng, rows = np.random.default_rng(n), total // WINDOWS
        table = pd.DataFrame({name: rng.normal(size=rows) for name in _named(words)[0]})
        for name in _named(words)[1]:
            table[name] = pd.Categorical.from_codes(rng.integers(0, 8, rows), [f"kind {k}" for k in range(8)])
        table["y"] = table["n0"] + table["n1"] + rng.normal(size=rows) > 0
        table.to_parquet(place / f"2024-{n + 1:02}.parquet")
    return folder


def _named(words: int) -> tuple[list[str], list[str]]:
    return [f"n{i}" for i in range(COLUMNS - words)], [f"c{i}" for i in range(words)]


def _memory(folder: str, words: str) -> dict[str, float]:
    """The highest resident size from the first file's opening to a candidate, above that after a small training."""
    from driftloop import promoting

    small = _wide(_table(Path(folder) / "small", int(words), SMALL), int(words))
    promoting.train(small, promoting.training_data(small, small.newest(), None))  # imports, thread pools
    work = _wide(Path(folder), int(words))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest begins anew
    began = time.perf_counter()
    data = promoting.training_data(work, work.newest(), None)
    promoting.train(work, data)
    seconds, peak = time.perf_counter() - began, _resident("VmHWM") - before
    read = (work.read(window).X for window in work.windows.ids())  # also the rows held out of windows before the newest
    frame = sum(float(rows.memory_usage(index=False).sum()) for rows in read)
    return {"frame_mb": frame / 1e6, "peak_mb": peak / 1e6, "seconds": seconds}


def _wide(folder: Path, words: int) -> Any:
    """A workspace of such windows."""
    from driftloop.contract import Loop
    from driftloop.ledger import Ledger
    from driftloop.registry import Registry
    from driftloop.settings import Settings
    from driftloop.windows import open_windows
    from driftloop.workspace import Workspace

    numeric, categorical = _named(words)
    loop = Loop.model_validate(
        {
            "name": "million",
            "task": "binary",
            "target": "y",
            "features": {"numeric": numeric, "categorical": categorical},
            "model": {
                "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
                "params": {"max_iter": 10, "random_state": 0},
            },
        }
    )
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(folder)}, folder)
    windows = open_windows(loop, folder, settings)
    return Workspace(
        folder, settings, loop, windows, Ledger(settings.ledger_url, loop.name), Registry(settings, loop.name),
        checks=_NoChecks(),
    )  # fmt: skip


class _NoChecks:
    """A serving check is another process."""

    def start(self) -> None: ...

    def check(self, request: Any) -> Any: ...


def _resident(name: str) -> int:
    """Bytes, as Linux counts them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    from driftloop.settings import apply_defaults

    apply_defaults(os.environ)
    run = {"time": _time, "share": _share, "memory": _memory}[sys.argv[1]]
    print(json.dumps(run(*sys.argv[2:])))
