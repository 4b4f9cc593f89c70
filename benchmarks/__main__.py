"""``make bench``: measure, print the tables, and write them to benchmarks/RESULTS.md.

``python -m benchmarks SECTION …`` measures some sections only and replaces them in that file; each tells its day.
The loop is measured on the two StreamFlow months of DRIFTLOOP_REAL_DATA (default
../shared/data) where they are there, else on two generated months of the bundled loop. Ours and the peer run in turn;
ratios are taken pair by pair.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import alarms, drift, estimated, evidence, gate_cost, retrain, serving, strategies
from benchmarks.swap import alias_to_served
from driftloop import generator
from driftloop.settings import apply_defaults

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PAIRS = 3
SWAPS = 5
LIBRARIES = ("prefect", "mlflow", "evidently", "scikit-learn", "pandas", "fastapi", "skops")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    asked = parser.parse_args().sections
    if strange := set(asked) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(strange))}; there are {', '.join(SECTIONS)}")
    apply_defaults(os.environ)
    text = "\n".join(_dated(SECTIONS[name]()) for name in asked or SECTIONS)
    if asked:
        RESULTS.write_text(_replaced(RESULTS.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        RESULTS.write_text(f"{_head()}\n{text}", encoding="utf-8")
    print(text)


def _dated(section: str) -> str:
    return re.sub(r"^## .*$", rf"\g<0>\n\nMeasured on {datetime.now(UTC):%Y-%m-%d}.", section, flags=re.MULTILINE)


def _replaced(old: str, new: str) -> str:
    """The old text with those of its parts replaced, by their headings, that the new one has too; others are added."""
    fresh = _parts(new)
    return "\n".join([part.rstrip() + "\n" for part in (_parts(old) | fresh).values()])


def _parts(text: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if part}


def _head() -> str:
    return f"""# Results

Printed by `make bench`: {os.cpu_count()} cores, {platform.machine()}, CPython \
{platform.python_version()}; {", ".join(f"{name} {version(name)}" for name in LIBRARIES)}.
"""


def _loop() -> str:
    with tempfile.TemporaryDirectory() as folder:
        months, source = _months(Path(folder))
        pairs = [(_run("naive_loop", months), _run("our_loop", months)) for _ in range(PAIRS)]
        swaps = [alias_to_served(Path(folder) / f"swap{n}", pause=2 * n / SWAPS) for n in range(SWAPS)]
    help_seconds = [_help() for _ in range(7)]
    return _results(pairs, help_seconds, swaps, source)


def _months(folder: Path) -> tuple[Path, str]:
    real = Path(os.environ.get("DRIFTLOOP_REAL_DATA", ROOT.parent / "shared" / "data")) / "streamflow"
    if real.is_dir():
        return real.absolute(), "the two public StreamFlow months (7,043 customers each)"
    made = list(generator.generate(generator.load(ROOT / "data" / "streamflow")))[:2]
    for month in made:
        (folder / month.id).mkdir()
        for name, table in {**month.tables, "labels": month.labels}.items():
            table.to_csv(folder / month.id / f"{name}.csv", index=False)
    return folder, f"two generated months ({len(made[0].labels):,} customers each)"


def _run(module: str, months: Path) -> dict[str, float]:
    """Seconds by name, as the module prints them, from a process and a state folder of its own."""
    print(f"running {module} …", file=sys.stderr)
    home = Path(tempfile.mkdtemp())
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", str(months), str(home)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")},
        )
    finally:
        shutil.rmtree(home)
    if done.returncode:
        sys.exit(f"{module} failed:\n{done.stderr[-3000:]}")
    lines = (line.split() for line in done.stdout.splitlines())
    return {line[0]: float(line[1]) for line in lines if len(line) == 2 and line[0] in ("cold", "warm")}


def _help() -> float:
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).parent / "driftloop"), "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def _results(
    pairs: list[tuple[dict[str, float], dict[str, float]]], help_seconds: list[float], swaps: list[float], source: str
) -> str:
    def row(what: str, name: str) -> str:
        naive, ours = [p[0][name] for p in pairs], [p[1][name] for p in pairs]
        ratio = statistics.median(o / n for n, o in zip(naive, ours, strict=True))
        return f"| {what} | {_spread(naive)} | {_spread(ours)} | {ratio:.2f} |"

    return f"""## The loop against the same steps done the usual way

On {source}, forest of 300 trees, {PAIRS} runs of each in turn, each in a new process with empty state; seconds as
median (minimum to maximum), ratio pair by pair. *Cold*: from the command to the second month's alias: imports, Prefect
server, first champion, drift, retraining, comparison, promotion. *Warm*: one more month with a retraining in the same
process. The peer is `benchmarks/naive_loop.py`: `DataDriftPreset`, `log_model` with inference, Prefect's own
temporary server.

| | usual way | driftloop | ratio |
|---|---|---|---|
{row("cold", "cold")}
{row("warm", "warm")}

## Other times

| | seconds, median (minimum to maximum) |
|---|---|
| `driftloop --help` | {_spread(help_seconds)} |
| alias set → served, default poll of 2 s | {_spread(swaps)} |
"""


def _spread(values: list[float]) -> str:
    digits: Callable[[float], str] = lambda v: f"{v:.2f}"  # noqa: E731
    return f"{digits(statistics.median(values))} ({digits(min(values))} to {digits(max(values))})"


SECTIONS = {
    "loop": _loop,
    "evidence": evidence.section,
    "gate_cost": gate_cost.section,
    "strategies": strategies.section,
    "retrain": retrain.section,
    "serving": serving.section,
    "drift": drift.section,
    "alarms": alarms.section,
    "estimated": estimated.section,
}


if __name__ == "__main__":
    main()
