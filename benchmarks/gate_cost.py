"""What the promotion gate costs against a retraining every month that is always let through.

On two public streams of DRIFTLOOP_REAL_DATA (default ../shared/data): ``python -m benchmarks.gate_cost``.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from driftloop import frame
from driftloop.artifact import predictions, score
from driftloop.contract import Loop
from driftloop.deciding import policy_of
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import METRICS, Predictions
from driftloop.promotion import Outcome, decide_promotion
from driftloop.scores import comparable, compare
from driftloop.strategy import TrainingSet, joined, window_limit
from driftloop.training import Candidate, fit_set, refit, split

ROOT = Path(__file__).parents[1]
STARTING_SHARE = 5  # the first champion learns from the first fifth of the windows
CONFIDENCES = (0.95, 0.0)  # the default, and the bound turned off
AIM = 1.0  # percent


@dataclass(frozen=True)
class Stream:
    """A public set and how its loop is set up; ``timestamp`` is the loop's."""

    folder: str
    strategy: str
    timestamp: str
    delta: float

    def __str__(self) -> str:
        return f"{self.folder}, {self.strategy}"


STREAMS = (
    Stream("bike_hour", "all", "timestamp", 1.0),
    Stream("bike_hour", "rolling:3", "timestamp", 1.0),
    Stream("bank_marketing", "all", "called", 0.01),
)


@dataclass(frozen=True)
class Month:
    """What a month's labels give: a candidate and the tail it is judged on, its refit, and the window served next."""

    candidate: Candidate
    refitted: Candidate
    tail: Window
    following: Window


@dataclass(frozen=True)
class Served:
    """An arm's score on each window it served, and how often the first champion and its successors were replaced."""

    scores: tuple[float, ...]
    promoted: int


@dataclass(frozen=True)
class Arms:
    """The four arms of one stream under one policy, the windows they served and how many candidates there were."""

    stream: Stream
    loop: Loop
    windows: tuple[str, ...]
    always: Served
    gate: Served
    refit_gate: Served
    never: Served


Replaces = Callable[[Loop, Month, Candidate], bool]


def section() -> str:
    streams = [stream for stream in STREAMS if is_there(stream)]
    arms = [found for stream in streams for found in _measured(stream)]
    absent = sorted({stream.folder for stream in STREAMS} - {stream.folder for stream in streams})
    skipped = f"\nSkipped: {', '.join(absent)}, not found in DRIFTLOOP_REAL_DATA.\n" if absent else ""
    return f"""## What the gate costs

Public streams, month by month: the recipe (`HistGradientBoosting`, fixed seed) is trained on the labelled windows by
the strategy, and the champion that results is scored on the *next* window. `bike_hour`: RMSE in hires an hour, delta 1.
`bank_marketing`: AUC, delta 0.01; its `call_month` is the same in nearly all rows of a window, but the rows are
published in the order of the calls, so each row's time here is its month plus its place. The first champion learns from
the first fifth of the windows, and all arms serve the windows after it. *Always*: trained on all rows, always promoted.
*Gate*: the last 20 % of the newest window are held out, `decide_promotion` judges, the judged candidate serves.
*Gate with refit*, the default by time: the same, but what passed is fitted again with the held-out rows, and that one
serves. *Never*: the first champion stays. Mean score on the windows served; cost against *always* in % of its mean,
± standard error over the windows, pair by pair; candidates promoted after the first. Last column: the window on which
the gate with refit lost most, in the metric's units.

| stream, strategy | confidence | always | gate | gate with refit | never | costliest month |
|---|---|---|---|---|---|---|
{_lines(arms)}

{_verdict(arms)}
{skipped}"""


def is_there(stream: Stream) -> bool:
    there = (_data() / stream.folder).is_dir()
    if not there:
        print(f"skipping {stream}: there is no {_data() / stream.folder}", file=sys.stderr)
    return there


def _data() -> Path:
    return Path(os.environ.get("DRIFTLOOP_REAL_DATA", ROOT.parent / "shared" / "data"))


# The arms


def _measured(stream: Stream) -> list[Arms]:
    """The policy changes who serves, not what is trained."""
    months = _months(stream)
    return [_arms(stream, loop_of(stream, confidence), months) for confidence in CONFIDENCES]


def _arms(stream: Stream, loop: Loop, months: Sequence[Month]) -> Arms:
    return Arms(
        stream=stream,
        loop=loop,
        windows=tuple(month.following.id for month in months),
        always=_serve(loop, months, lambda *_: True, refits=True),
        gate=_serve(loop, months, _passes, refits=False),
        refit_gate=_serve(loop, months, _passes, refits=True),
        never=_serve(loop, months, lambda *_: False, refits=True),
    )


def _serve(loop: Loop, months: Sequence[Month], replaces: Replaces, *, refits: bool) -> Served:
    """Month by month: does the candidate replace the champion, and how does the champion do on the next window?"""
    champion, scores, promoted = None, [], 0
    for month in months:
        if champion is None or replaces(loop, month, champion):
            promoted += champion is not None
            champion = month.refitted if refits else month.candidate
        scores.append(_value(loop, champion, month.following))
    return Served(tuple(scores), promoted)


def _passes(loop: Loop, month: Month, champion: Candidate) -> bool:
    """The library's decision on the month's tail, which neither candidate nor champion has seen."""
    if not comparable(loop, month.tail):
        return False
    candidate, theirs = (_predict(loop, model, month.tail) for model in (month.candidate, champion))
    comparison = compare(loop, month.tail, candidate, theirs, {})
    decision = decide_promotion(comparison.candidate, comparison.champion, comparison, policy_of(loop))
    return decision.outcome is Outcome.PROMOTE


def _predict(loop: Loop, model: Candidate, window: Window) -> Predictions:
    return predictions(score(model.estimator, window.X, loop.task, model.facts.labels), model.facts)


def _value(loop: Loop, model: Candidate, window: Window) -> float:
    assert window.y is not None, "only labelled windows come here"
    return METRICS[loop.promotion.metric](window.y.to_numpy(), _predict(loop, model, window))


# What the months train


def _months(stream: Stream) -> list[Month]:
    """From the first champion's on; the last window is only served. Windows without a score are left out for all."""
    loop = loop_of(stream, CONFIDENCES[0])
    windows, newest = windows_of(stream, loop)
    found = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for month in pool.map(partial(_month, loop, windows), newest):
            print(f"{stream}: trained for {month.following.id}", file=sys.stderr)
            found.append(month)
    return found


def windows_of(stream: Stream, loop: Loop) -> tuple[list[Window], list[int]]:
    """All windows, and the places of those from the first champion's on that are followed by one with a score."""
    windows = [frame.check(rows, loop, name).labelled for name, rows in _tables(stream)]
    starting = len(windows) // STARTING_SHARE - 1
    return windows, [n for n in range(starting, len(windows) - 1) if comparable(loop, windows[n + 1])]


def _month(loop: Loop, windows: Sequence[Window], newest: int) -> Month:
    known = windows[: newest + 1]
    known = known[-(window_limit(loop.training.strategy) or len(known)) :]
    rule = HoldoutRule.of(loop)
    training, tail = split(known, rule)
    learnt = TrainingSet(loop.training.strategy, tuple(window.id for window in known), training)
    with threadpool_limits(1):  # a process a core: the trees' threads would only get in each other's way
        candidate = fit_set(loop, loop.model.recipes[0], learnt, str(rule))
        refitted = refit(loop, candidate, "judged", replace(learnt, rows=joined([training, tail])))
    return Month(candidate, refitted, tail, windows[newest + 1])


def loop_of(stream: Stream, confidence: float) -> Loop:
    about = json.loads((_data() / stream.folder / "about.json").read_text(encoding="utf-8"))
    first = next(_tables(stream))[1]
    numeric = [name for name in about["features"] if pd.api.types.is_numeric_dtype(first[name])]
    kind = "Classifier" if about["task"] == "binary" else "Regressor"
    settings: dict[str, Any] = {
        "name": stream.folder,
        "task": about["task"],
        "target": about["target"],
        "positive": about["positive"],
        "timestamp": stream.timestamp,
        "features": {"numeric": numeric, "categorical": [f for f in about["features"] if f not in numeric]},
        "model": {"estimator": f"sklearn.ensemble.HistGradientBoosting{kind}", "params": {"random_state": 0}},
        "training": {"strategy": stream.strategy},
        "promotion": {"delta": stream.delta, "confidence": confidence},
    }
    return Loop.model_validate(settings)


def _tables(stream: Stream) -> Iterator[tuple[str, pd.DataFrame]]:
    """(window, rows), oldest first; rows that have only a month are told apart by their place in it."""
    for file in sorted((_data() / stream.folder / "windows").glob("*.parquet")):
        rows = pd.read_parquet(file)
        if stream.timestamp not in rows:
            rows[stream.timestamp] = rows["call_month"] + pd.to_timedelta(np.arange(len(rows)), unit="s")
        yield file.stem, rows


# The table


def _lines(found: Sequence[Arms]) -> str:
    return "\n".join(_line(arms) for arms in found)


def _line(arms: Arms) -> str:
    confidence = arms.loop.promotion.confidence
    cells = [_cell(arms, served) for served in (arms.gate, arms.refit_gate, arms.never)]
    always = f"{_mean(arms, arms.always)}, {arms.always.promoted} promoted"
    named = f"{confidence:g}" if confidence else "0 (no bound)"
    return f"| {' | '.join((str(arms.stream), named, always, *cells, _costliest(arms)))} |"


def _cell(arms: Arms, served: Served) -> str:
    cost, error = _cost(arms, served)
    return f"{_mean(arms, served)}, {cost:+.1f} ± {error:.1f} %, {served.promoted} promoted"


def _mean(arms: Arms, served: Served) -> str:
    digits = 3 if arms.loop.task == "binary" else 1
    return f"{statistics.fmean(served.scores):.{digits}f}"


def _cost(arms: Arms, served: Served) -> tuple[float, float]:
    """(mean, standard error) of what an arm lost against *always*, in percent of the latter's mean."""
    lost, base = _lost(arms, served), statistics.fmean(arms.always.scores)
    return 100 * statistics.fmean(lost) / base, 100 * statistics.stdev(lost) / math.sqrt(len(lost)) / base


def _lost(arms: Arms, served: Served) -> list[float]:
    sign = 1 if METRICS[arms.loop.promotion.metric].higher_is_better else -1
    return [sign * (a - b) for a, b in zip(arms.always.scores, served.scores, strict=True)]


def _costliest(arms: Arms) -> str:
    lost, window = max(zip(_lost(arms, arms.refit_gate), arms.windows, strict=True))
    digits = 3 if arms.loop.task == "binary" else 1
    return f"{window}: {lost:.{digits}f}"


def _verdict(found: Sequence[Arms]) -> str:
    if not found:
        return "Nothing was measured."

    def named(cheap: bool) -> str:
        chosen = [a for a in found if (_cost(a, a.refit_gate)[0] < AIM) == cheap]
        return "; ".join(f"{a.stream} at confidence {a.loop.promotion.confidence:g}" for a in chosen) or "none"

    return (
        f"Less than {AIM:g} % is what the gate with refit costs on: {named(cheap=True)}. More on: {named(cheap=False)}."
    )


if __name__ == "__main__":
    print(section())
