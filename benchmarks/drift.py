"""Drift of large windows: the columnar engine beside Evidently's DriftedColumnsCount, on the same Parquet files.

``python -m benchmarks.drift KIND REFERENCE CURRENT STATE`` measures one kind once, in a process of its own, and prints
what it took as JSON. DRIFTLOOP_BENCH_ROWS is the largest case's number of rows (default 100 million, which takes some
11 GB of disk for a while), DRIFTLOOP_BENCH_RUNS how often the others are run (default 3).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
THREADS = os.cpu_count() or 1
GROUP = 1 << 20  # rows of a Parquet row group
MILLION = 1_000_000
Measured = dict[str, Any]
Grown = Sequence[dict[str, tuple[Measured, Measured]]]  # each kind at a million rows and at ten
Prepare = Callable[[tuple[Path, Path], Path], Callable[[], Measured]]


def section() -> str:
    """Measure all kinds in turn; the tables."""
    largest = int(os.environ.get("DRIFTLOOP_BENCH_ROWS", 100 * MILLION))
    runs = int(os.environ.get("DRIFTLOOP_BENCH_RUNS", "3"))
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as folder:
        wide = _written(Path(folder) / "wide", MILLION, numeric=20, categorical=5)
        rounds = [
            {
                kind: _run(kind, wide, Path(folder) / "state")
                for kind in ("evidently", "sorting", "ours", "first", "again")
            }
            for _ in range(runs)
        ]
        narrow = _written(Path(folder) / "narrow", MILLION, numeric=3, categorical=1)
        tens = []
        for files, numeric, words, times in ((wide, 20, 5, runs), (narrow, 3, 1, 3 * runs)):  # the latter are short
            ten = _written(Path(folder) / f"ten-{numeric}", 10 * MILLION, numeric=numeric, categorical=words)
            tens.append(
                [{kind: (_run(kind, files), _run(kind, ten)) for kind in ("ours", "sorting")} for _ in range(times)]
            )
            for file in (*files, *ten):
                file.unlink()
        huge = _written(Path(folder) / "huge", largest, numeric=3, categorical=1, single=2)
        last = _run("ours", huge)
    if len(counts := {found["drifted"] for one in rounds for found in one.values() if "drifted" in found}) != 1:
        sys.exit(f"the engines count different numbers of drifted columns: {counts}")
    return _table(rounds, tens, last, largest)


def _table(
    rounds: Sequence[dict[str, Measured]],
    tens: Sequence[Grown],
    last: Measured,
    rows: int,
) -> str:
    def of(kind: str, what: str) -> list[float]:
        return [float(one[kind][what]) for one in rounds]

    def times(kind: str, other: str, what: str) -> float:
        return statistics.median(a / b for a, b in zip(of(kind, what), of(other, what), strict=True))

    def row(kind: str, named: str) -> str:
        cells = [f"{statistics.median(of(kind, what)):,.{digits}f}" for what, digits in MEASURED.items()]
        ratios = [f"{times(kind, 'ours', what):.2f}" for what in ("seconds", "cpu", "peak_mb")]
        return f"| {named} | {' | '.join([*cells, *ratios])} |"

    less = [statistics.median(one["again"][w] / one["first"][w] for one in rounds) for w in ("seconds", "cpu")]

    def grown(kind: str) -> str:
        """Times the seconds and the processor time, of each shape."""
        pairs = [[one[kind] for one in each] for each in tens]
        return " and ".join(
            f"{statistics.median(b['seconds'] / a['seconds'] for a, b in each):.1f} / "
            f"{statistics.median(b['cpu'] / a['cpu'] for a, b in each):.1f}"
            for each in pairs
        )

    def sizes(each: Grown) -> list[str]:
        return [_cells([one["ours"][place] for one in each]) for place in (0, 1)]

    wide, narrow = map(sizes, tens)
    return f"""## Drift of large windows

1,000,000 rows × 25 columns (20 numeric, 5 categorical) a side, read from Parquet; {len(rounds)} runs of each in turn,
each in a process of its own on {THREADS} cores; medians, imports not counted, peak memory of the whole process; the
last three columns are times those of the columnar engine in the same round. All count {rounds[0]["ours"]["drifted"]}
drifted columns.

| | seconds | processor seconds | peak MB | × seconds | × processor | × memory |
|---|---|---|---|---|---|---|
{row("evidently", "Evidently, `DriftedColumnsCount`")}
{row("sorting", "reading the columns and sorting or counting them")}
{row("ours", "columnar engine")}
{row("first", "columnar engine, first window: it keeps the reference's summaries")}
{row("again", "columnar engine, next window: it finds them")}

The next window takes {less[0]:.2f} of the first one's seconds and {less[1]:.2f} of its processor time.

| columnar engine | seconds | processor seconds | peak MB |
|---|---|---|---|
| 1,000,000 rows × 25 columns (20 numeric, 5 categorical) | {wide[0]} |
| 10,000,000 rows × 25 columns | {wide[1]} |
| 1,000,000 rows × 4 columns (3 numeric, 1 categorical) | {narrow[0]} |
| 10,000,000 rows × 4 columns | {narrow[1]} |
| {rows:,} rows × 4 columns, of which two are float32 | {_cells([last])} |

Ten times the rows, 10,000,000 instead of 1,000,000, take {grown("ours")} times the seconds / the
processor time, of 25 and of 4 columns; reading and sorting them {grown("sorting")}.
"""


MEASURED = {"seconds": 2, "cpu": 2, "peak_mb": 0}


def _cells(found: Sequence[Measured]) -> str:
    return " | ".join(f"{statistics.median(one[w] for one in found):,.{d}f}" for w, d in MEASURED.items())


def _written(name: Path, rows: int, *, numeric: int, categorical: int, single: int = 0) -> tuple[Path, Path]:
    """A reference and a current window of so many rows, in pieces; ``single`` numeric columns have float32's digits."""
    print(f"writing {rows:,} rows × {numeric + categorical} columns, twice …", file=sys.stderr)
    sides = []
    for seed, side in enumerate(("reference", "current")):
        folder = name.with_name(f"{name.name}-{side}") / "windows"
        folder.mkdir(parents=True)
        sides.append(folder / f"2024-0{seed + 1}.parquet")
        rng, writer = np.random.default_rng(seed), None
        for start in range(0, rows, GROUP):
            piece = _piece(rng, min(GROUP, rows - start), 0.02 * seed, numeric, categorical, single)
            writer = writer or pq.ParquetWriter(sides[-1], piece.schema, compression="NONE", use_dictionary=["plain"])
            writer.write_table(piece)
        assert writer is not None, "a window has rows"
        writer.close()
    return sides[0], sides[1]


def _piece(rng: np.random.Generator, rows: int, shift: float, numeric: int, categorical: int, single: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for place in range(numeric):
        values = rng.normal(place * shift, 1, rows)
        if place % 5 == 4:
            values = values.round(2)
        columns[f"n{place}"] = pa.array(values.astype(np.float32) if place < single else values)
    names = pa.array([f"category {n}" for n in range(50)])
    for place in range(categorical):
        drawn = np.minimum(rng.exponential(5 + place * shift * 20, rows), 49).astype(np.int8)
        columns[f"c{place}"] = pa.DictionaryArray.from_arrays(drawn, names).cast(pa.string())
    return pa.table(columns)


def _run(kind: str, files: tuple[Path, Path], state: Path | None = None) -> Measured:
    print(f"running {kind} …", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.drift", kind, *map(str, (*files, state or files[0].parent))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr[-3000:]}")
    found: Measured = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr)
    return found


def _columns(file: Path) -> tuple[list[str], list[str]]:
    schema = pq.read_schema(file)
    numeric = [name for name in schema.names if pa.types.is_floating(schema.field(name).type)]
    return numeric, [name for name in schema.names if name not in numeric]


def _evidently(files: tuple[Path, Path], _: Path) -> Callable[[], Measured]:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount

    numeric, categorical = _columns(files[0])

    def measure() -> Measured:
        definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
        reference, current = (Dataset.from_pandas(pd.read_parquet(file), data_definition=definition) for file in files)
        snapshot = Report([DriftedColumnsCount()]).run(current, reference)
        return {"drifted": int(json.loads(snapshot.json())["metrics"][0]["value"]["count"])}

    return measure


def _sorting(files: tuple[Path, Path], _: Path) -> Callable[[], Measured]:
    """What any engine has to do: read each column, and sort its numbers or count its names."""
    numeric, categorical = _columns(files[0])

    def one(asked: tuple[Path, str]) -> int:
        file, name = asked
        read = pq.read_table(file, columns=[name], use_threads=False)[name]
        return len(np.sort(read.to_numpy()) if name in numeric else pc.value_counts(read))

    def measure() -> Measured:
        with ThreadPoolExecutor(THREADS) as pool:
            return {"read": sum(pool.map(one, [(file, name) for name in numeric + categorical for file in files]))}

    return measure


def _ours(files: tuple[Path, Path], state: Path | None) -> Callable[[], Measured]:
    """The engine's comparison, without data quality; summaries are kept in ``state`` where one is given."""
    import scipy.spatial.distance
    import scipy.stats  # noqa: F401  # imported late, when a test asks for it

    from driftloop import columnar
    from driftloop.columnar import Column, Side
    from driftloop.digests import Digests
    from driftloop.sides import Stored
    from driftloop.summaries import kept
    from driftloop.windows import FolderWindows

    numeric, categorical = _columns(files[0])
    columns = [Column(name, name in numeric) for name in numeric + categorical]

    def side(file: Path) -> tuple[FolderWindows, Side]:
        digests = Digests(state / "digests" if state else None)
        windows = FolderWindows(file.parent, ".", None, entity=None, target="none", digests=digests)
        return windows, Stored(windows, ((file.stem, str(file), pq.read_metadata(file).num_rows),), "binary", "none")

    def measure() -> Measured:
        (windows, reference), (_, current) = (side(file) for file in files)
        if state:
            reference = kept(reference, state / "summaries", [windows.digest(files[0].stem)])
        found = columnar.judged(reference, current, columns, columnar.compare, THREADS)
        return {"drifted": sum(column.drifted for column in found)}

    return measure


def _alone(files: tuple[Path, Path], _: Path) -> Callable[[], Measured]:
    return _ours(files, None)


def _first(files: tuple[Path, Path], state: Path) -> Callable[[], Measured]:
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    return _ours(files, state)


def _again(files: tuple[Path, Path], state: Path) -> Callable[[], Measured]:
    measure = _ours(files, state)
    measure()  # the window before
    return measure


KINDS: dict[str, Prepare] = {
    "evidently": _evidently,
    "sorting": _sorting,
    "ours": _alone,
    "first": _first,
    "again": _again,
}


def main(kind: str, reference: str, current: str, state: str) -> None:
    """Measure one kind, and print what it took."""
    measure = KINDS[kind]((Path(reference), Path(current)), Path(state))
    began, used = time.perf_counter(), time.process_time()
    found = measure()
    found |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    print(json.dumps(found | {"peak_mb": _peak()}))


def _peak() -> float:
    """The most this process has held in memory; ru_maxrss would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
