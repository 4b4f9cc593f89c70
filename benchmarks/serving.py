"""POST /predict beside other servers of the same model: ``python -m benchmarks serving``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import (
    CONNECTIONS,
    ESTIMATORS,
    MANY,
    OUR_ROUNDS,
    OUR_SECONDS,
    REQUESTS,
    ROUNDS,
    SAME,
    SECONDS,
    Figures,
    Ours,
    make,
    peer,
    us,
)
from benchmarks.naive_loop import CATEGORICAL, NUMERIC
from benchmarks.servers import BATCH, BATCH_WAIT, FASTAPI, MLFLOW, OURS, PINNED, SERVERS, Unavailable

TARGETS = {"linear": 8_000, "forest": 3_000}  # requests a second
AIMS = {"linear": 15_000, "forest": 4_500}
TIMES_MLFLOW = {"linear": 55, "forest": 70}
TIMES_BATCHING = 6
ALONE_MS = {"linear": 0.6, "forest": 1.0}  # p99 at one connection
LINEAR_MB = 150
READY_SECONDS = 2
LOG_SHARE = 0.9  # of the speed without a log
US = OURS["batch"].name

ByModel = dict[str, Figures | str]  # a sentence where there are no figures
Verdict = tuple[bool | None, str]  # None: nothing to judge it by


def section() -> str:
    load, began = os.getloadavg()[0], time.monotonic()
    found: dict[str, ByModel] = {US: {}}
    ours: dict[str, Ours] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in ESTIMATORS:
            made = make(model, Path(folder) / model)
            ours[model] = us(made)
            found[US][model] = ours[model].figures
            for server in SERVERS:
                known = found.setdefault(server.name, {})
                if known and server.one.scores is None:
                    known[model] = next(iter(known.values()))  # a constant, which has no model
                    continue
                try:
                    known[model] = peer(server, made)
                except Unavailable as error:
                    known[model] = str(error)
                    print(f"not measured: {error}", file=sys.stderr)
    return _text(
        found, ours, f"{time.monotonic() - began:.0f} s; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    )


def _text(found: dict[str, ByModel], ours: dict[str, Ours], how: str) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "fastapi", "starlette", "uvicorn"))
    pinned = ", ".join(PINNED.read_text(encoding="utf-8").replace("==", " ").splitlines())
    rows = "\n".join(_row(name, by_model, found[US]) for name, by_model in found.items())
    return f"""## POST /predict beside other servers

Measured on {datetime.now(UTC):%Y-%m-%d} with {os.cpu_count()} cores in {how}
(server and load generator make about two of it); {libraries}, {pinned}.

A row a request as JSON, {len(NUMERIC)} numeric and {len(CATEGORICAL)} categorical features, {REQUESTS} rows in turn;
one worker; the load generator is a process of its own. All serve one fitted pipeline, and nobody was timed whose score
of the first row, or of {MANY:,} rows at once, is not the pipeline's within {SAME:g}. Ours validates, counts and logs
every request. Batching peers wait {BATCH_WAIT * 1000:g} ms for at most {BATCH} requests, BentoML as it sees fit. Each
cell is logistic regression / forest of 300 trees, the median of {ROUNDS} rounds of {SECONDS:g} s, of ours
{OUR_ROUNDS} of {OUR_SECONDS:g} s. *Faster*: our requests/s in theirs. *CPU*: processor time of all the server's
processes for a request, which hardly changes with whatever else the machine does. *Alone*: at one connection, else at
{CONNECTIONS}. *Memory*: of the process that worked most, and in brackets of all, what they share counted once.
*Ready*: from the start to the first answer, ours with a version on disk. All times are ms, but *ready*: s.

| | requests/s | faster | CPU | p50 | p99 | p50 alone | p99 alone | {MANY:,} rows | memory, MB | ready |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}
{_absent(found)}
{_log(ours)}

{_judged([*_verdicts(found, ours)])}
"""


def _row(name: str, by_model: ByModel, us: ByModel) -> str:
    def cell(say: Callable[[Figures], str]) -> str:
        said = [say(figures) if isinstance(figures, Figures) else "–" for figures in by_model.values()]
        return said[0] if said[0] == said[1] else " / ".join(said)

    cells = [
        cell(lambda f: f"{f.load.per_second:,.0f}"),
        " / ".join(f"{ratio:.1f}" if (ratio := _times(us[m], by_model[m])) else "–" for m in by_model),
        cell(lambda f: f"{f.load.cpu_ms:.2f}"),
        cell(lambda f: f"{f.load.p50_ms:.2f}"),
        cell(lambda f: f"{f.load.p99_ms:.2f}"),
        cell(lambda f: f"{f.alone.p50_ms:.2f}"),
        cell(lambda f: f"{f.alone.p99_ms:.2f}"),
        cell(lambda f: f"{f.many_ms:.1f}" if f.many_ms else "–"),
        cell(lambda f: f"{f.busiest_mb:.0f} ({f.all_mb:.0f})"),
        cell(lambda f: f"{f.ready:.2f}"),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _times(us: Figures | str, them: Figures | str) -> float | None:
    """How many times theirs our requests a second are."""
    if isinstance(us, str) or isinstance(them, str):
        return None
    return us.load.per_second / them.load.per_second


def _absent(found: dict[str, ByModel]) -> str:
    sentences = [
        f"\nNot measured: {name}, {model}: {figures}.\n"
        for name, by_model in found.items()
        for model, figures in by_model.items()
        if isinstance(figures, str)
    ]
    return "".join(sentences)


def _log(ours: dict[str, Ours]) -> str:
    def speeds(variant: str) -> str:
        return " / ".join(f"{our.loads[variant].per_second:,.0f}" for our in ours.values())

    def shares(variant: str) -> str:
        return " / ".join(f"{our.shares[variant]:.2f}" for our in ours.values())

    first = " / ".join(f"{our.first_start:.1f}" for our in ours.values())
    return f"""What the log costs, in turn on the same machine, requests/s and median share of those without one: off
{speeds("off")}; batch {speeds("batch")} ({shares("batch")}); sync {speeds("sync")} ({shares("sync")}).
The very first start, which brings the version out of the registry and verifies it: {first} s."""


def _verdicts(found: dict[str, ByModel], ours: dict[str, Ours]) -> Iterator[Verdict]:
    """Each target, and what was measured for it."""
    batching = [found[server.name] for server in SERVERS if server.batching]
    for model, our in ours.items():
        mine = our.figures
        yield mine.load.per_second >= TARGETS[model], _of(model, f"{TARGETS[model]:,} requests/s", mine.load.per_second)
        yield mine.load.per_second >= AIMS[model], _of(model, f"the aim of {AIMS[model]:,}", mine.load.per_second)
        yield _at_least(model, TIMES_MLFLOW[model], MLFLOW.name, [_times(mine, found[MLFLOW.name][model])])
        yield _at_least(
            model, TIMES_BATCHING, "the best peer with batching", [_times(mine, by[model]) for by in batching]
        )
        yield (
            mine.alone.p99_ms < ALONE_MS[model],
            _of(model, f"p99 alone under {ALONE_MS[model]} ms", mine.alone.p99_ms),
        )
        yield _many(model, mine, found)
        yield mine.ready <= READY_SECONDS, _of(model, f"ready within {READY_SECONDS} s", mine.ready)
        yield (
            our.shares["batch"] >= LOG_SHARE,
            _of(model, f"with the log at batch at least {LOG_SHARE} of the speed without", our.shares["batch"]),
        )
    linear = ours["linear"].figures
    yield _at_least("linear", 1, FASTAPI.name, [_times(linear, found[FASTAPI.name]["linear"])])
    yield (
        linear.busiest_mb < LINEAR_MB,
        f"linear: under {LINEAR_MB} MB ({linear.busiest_mb:.0f}, all {linear.all_mb:.0f})",
    )


def _of(model: str, target: str, measured: float) -> str:
    return f"{model}: {target} ({measured:,.2f})" if measured < 100 else f"{model}: {target} ({measured:,.0f})"


def _at_least(model: str, times: float, whom: str, ratios: Sequence[float | None]) -> Verdict:
    """The smallest ratio is that to the best peer."""
    least = min((ratio for ratio in ratios if ratio is not None), default=None)
    target = f"{model}: {f'{times:g} times' if times > 1 else 'as fast as'} {whom}"
    if least is None:
        return None, target
    return least >= times, f"{target} ({least:.1f})"


def _many(model: str, mine: Figures, found: dict[str, ByModel]) -> Verdict:
    theirs = [
        (figures.many_ms, name)
        for name, by_model in found.items()
        if name != US and isinstance(figures := by_model[model], Figures) and figures.many_ms
    ]
    what = f"{model}: {MANY:,} rows at once not slower than the best peer"
    if not theirs or mine.many_ms is None:
        return None, what
    best, name = min(theirs)
    return mine.many_ms <= best, f"{what} ({mine.many_ms:.1f} ms, {name} {best:.1f})"


def _judged(verdicts: Sequence[Verdict]) -> str:
    said = [
        (word, [text for met, text in verdicts if met is value])
        for word, value in (("Missed", False), ("Met", True), ("Not to be judged", None))
    ]
    return "\n\n".join(f"{word}: {'; '.join(texts)}." for word, texts in said if texts)
