"""Performance estimated without labels, beside nannyml's estimates on the data that nannyml bundles.

nannyml runs in an environment of its own, ``.venv-nannyml``, made at the first use of ``requirements/nannyml.txt``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from driftloop import error_model, estimation, evidence
from driftloop.contract import Loop
from driftloop.metrics import METRICS, Predictions
from driftloop.retrain import Estimate

ROOT = Path(__file__).parents[1]
PEER = ROOT / "benchmarks" / "peers" / "estimates.py"
PINNED = ROOT / "requirements" / "nannyml.txt"
HOME = ROOT / ".venv-nannyml"
SHOWN = (("car_loan", "auc"), ("car_price", "mae"))  # chunk by chunk


@dataclass(frozen=True)
class Chunk:
    """A metric of one chunk: as its labels have it, and as nannyml and we say without them."""

    real: float
    nannyml: float
    ours: Estimate


def section() -> str:
    if trouble := _installed():
        return f"## Estimated performance beside nannyml's\n\nNot measured: {trouble}\n"
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder))
        found = {
            (name, metric): chunks
            for name, told in json.loads((Path(folder) / "chunks.json").read_text(encoding="utf-8")).items()
            for metric, chunks in _chunks(Path(folder), name, told).items()
        }
    tables = "\n\n".join(_table(*which, found[which]) for which in SHOWN)
    lines = "\n".join(_line(*which, chunks) for which, chunks in found.items())
    return f"""## Estimated performance beside nannyml's

The data that nannyml {_version()} bundles: what a model said of reference rows with their labels, and of later rows in
chunks. Both estimate each chunk's metric without its labels: nannyml by its defaults (CBPE, DLE) from all reference
rows, ours from the {evidence.MOST_ROWS:,} that a version keeps at most. *Real* is what the labels say.

{tables}

Mean absolute error of the estimates over all chunks; ratio ours to nannyml's, below 1 where ours are nearer. *Inside*:
chunks whose real metric lies in our 95 % interval. Neither can see that labels mean something else than before, which
some of these sets were made to show.

| set | metric | chunks | nannyml | ours | ratio | inside |
|---|---|---|---|---|---|---|
{lines}
"""


def _chunks(folder: Path, name: str, told: Sequence[dict[str, float]]) -> dict[str, list[Chunk]]:
    """By metric, each chunk's."""
    reference, later = (pd.read_parquet(folder / f"{name}_{part}.parquet") for part in ("reference", "analysis"))
    metrics = [key for key in told[0] if key not in ("first", "last")]
    kept = evidence.keep(reference["y"].to_numpy(), reference["score"].to_numpy())
    found: dict[str, list[Chunk]] = {metric: [] for metric in metrics}
    for metric in metrics:
        errors = None
        if "mae" in metrics:
            X = reference.iloc[evidence.drawn(len(reference))].drop(columns=["y", "score"]).reset_index(drop=True)
            errors = error_model.learn(_loop(X, metric), X, kept)
        for chunk in told:
            rows = later.iloc[int(chunk["first"]) : int(chunk["last"]) + 1]
            said, y = Predictions(rows["score"].to_numpy()), rows["y"].to_numpy()
            if errors is None:
                ours = estimation.estimate(metric, kept, said, None, 0.95)
            else:
                X = rows.drop(columns=["y", "score"])
                ours = error_model.estimate(metric, replace(kept, errors=errors), X, said.scores, None, 0.95)
            found[metric].append(Chunk(METRICS[metric](y, said), chunk[metric], ours))
    return found


def _loop(X: pd.DataFrame, metric: str) -> Loop:
    numeric = [name for name in X if X[name].dtype.kind == "f"]
    return Loop.model_validate(
        {
            "name": "bench",
            "task": "regression",
            "target": "y",
            "features": {"numeric": numeric, "categorical": [name for name in X if name not in numeric]},
            "model": {"estimator": "sklearn.linear_model.Ridge"},
            "promotion": {"metric": metric},
        }
    )


def _table(name: str, metric: str, chunks: Sequence[Chunk]) -> str:
    digits = 4 if METRICS[metric].higher_is_better else 1
    lines = "\n".join(
        f"| {place} | {c.real:.{digits}f} | {c.nannyml:.{digits}f} | {c.ours.value:.{digits}f} "
        f"({c.ours.low:.{digits}f} to {c.ours.high:.{digits}f}) |"
        for place, c in enumerate(chunks, 1)
    )
    return f"| {name} chunk | real {metric} | nannyml | ours (95 %) |\n|---|---|---|---|\n{lines}"


def _line(name: str, metric: str, chunks: Sequence[Chunk]) -> str:
    theirs = statistics.fmean(abs(c.nannyml - c.real) for c in chunks)
    ours = statistics.fmean(abs(c.ours.value - c.real) for c in chunks)
    inside = sum(c.ours.low <= c.real <= c.ours.high for c in chunks)
    digits = 4 if METRICS[metric].higher_is_better else 1
    return (
        f"| {name} | {metric} | {len(chunks)} | {theirs:.{digits}f} | {ours:.{digits}f} | {ours / theirs:.2f} "
        f"| {inside} |"
    )


def _installed() -> str | None:
    """Make nannyml's environment where it is not there; why that did not come about."""
    told = PINNED.read_text(encoding="utf-8")
    complete = HOME / ".complete"
    if complete.exists() and complete.read_text(encoding="utf-8") == told:
        return None
    print("installing nannyml (once) …", file=sys.stderr)
    python = str(HOME / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(PINNED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1][:200]
        return (
            f"nannyml cannot be installed from {PINNED.relative_to(ROOT)} ({said}). "
            f"It takes Linux on x86-64 or ARM, CPython 3.11 and a package index that has those versions."
        )
    complete.write_text(told, encoding="utf-8")
    return None


def _run(folder: Path) -> None:
    quiet = {"NML_DISABLE_USAGE_LOGGING": "1", "OMP_NUM_THREADS": "1"}
    command = [str(HOME / "bin" / "python"), "-W", "ignore", str(PEER), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **quiet})
    if done.returncode:
        sys.exit(f"nannyml failed:\n{done.stderr[-3000:]}")


def _version() -> str:
    return next(line.partition("==")[2].split()[0] for line in PINNED.read_text().splitlines() if "nannyml==" in line)


if __name__ == "__main__":
    print(section())
