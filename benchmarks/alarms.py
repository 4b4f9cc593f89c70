"""How often a window raises an alarm although nothing changed, and how soon one that did change raises it.

Both through the library's own tests and ``decide_retrain``: ``python -m benchmarks.alarms``. The public streams are
those of DRIFTLOOP_REAL_DATA (default ../shared/data); their windows are pooled and redrawn.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from benchmarks.gate_cost import Stream, is_there, loop_of, windows_of
from driftloop import columnar, contract, estimation, evidence, frame, generator
from driftloop.answers import prediction_drift
from driftloop.artifact import predictions, score
from driftloop.columnar import Column, Summary
from driftloop.contract import Loop, Trigger
from driftloop.evidence import Evidence
from driftloop.facts import Facts
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.importance import permutation_importance
from driftloop.metrics import METRICS, Array, Predictions
from driftloop.monitoring import policy_of
from driftloop.promoting import weighed
from driftloop.retrain import Drift, Estimate, History, decide_retrain
from driftloop.training import fit, split

STREAMFLOW = "streamflow"
BUNDLED = Path(__file__).parents[1] / "data" / STREAMFLOW
CUSTOMERS = 12_000
PUBLIC = {
    "bank_marketing": Stream("bank_marketing", "all", "called", 0.01),
    "car_loan": Stream("car_loan", "all", "timestamp", 0.01),
}
YEAR = 12
HOLDOUT = 5  # one row in five of the newest window is the holdout
SIZES = {100: 200, 300: 200, 1000: 200, 3000: 200, 10_000: 100}  # rows: how often they are drawn
REFERENCES = (3, 12)  # windows that the champion was trained on
WINDOW_ROWS, YEARS_DRAWN = 1000, 20
CHANGING = (STREAMFLOW, "car_loan")
IMPORTANCES = ("off", 0.0, 0.002, 0.01)
BEGINS, LAST = 4, 11  # the window of the second year in which a drift begins, and its last one
POLICIES: dict[str, dict[str, Any]] = {
    "default": {},
    "tuned": {"on": ["drift", "estimated"], "consecutive": 2, "min_rows": 300},
    "and predictions": {"on": ["drift", "estimated", "prediction"], "consecutive": 2, "min_rows": 300},
    "seasons": {"on": ["drift"], "consecutive": 2, "min_rows": 300, "reference": "year_ago"},
}


# A stream, and what its champion says


@dataclass(frozen=True)
class Pool:
    """Rows of one world, all windows together, and a champion that learnt from others of the same."""

    loop: Loop
    rows: Window
    model: Any
    facts: Facts
    importance: dict[str, float]

    @cached_property
    def columns(self) -> list[Column]:
        return [Column(name, name in self.loop.columns.numeric) for name in self.loop.columns.names]

    @cached_property
    def y(self) -> Array:
        assert self.rows.y is not None, "its windows are labelled"
        return self.rows.y.to_numpy()

    @cached_property
    def scores(self) -> Array:
        return self.score(self.rows.X)

    @cached_property
    def coded(self) -> list[tuple[Array, np.ndarray]]:
        """By column its distinct values, sorted, and each row's place among them, -1 for a null."""
        found = []
        for column in self.columns:
            whole = self.rows.X[column.name]
            distinct = columnar.summary(whole.to_numpy(), column).values  # noqa: PD011  # of a summary
            found.append((distinct, pd.Index(distinct).get_indexer(whole)))
        return found

    def score(self, X: pd.DataFrame) -> Array:
        with threadpool_limits(1):  # a process a core
            return score(self.model, X, self.facts.task, self.facts.labels)


@cache
def pool_of(name: str) -> Pool:
    """The champion learns from a third of the rows, which are not drawn again."""
    loop, window = _bundled() if name == STREAMFLOW else _public(PUBLIC[name])
    third = np.random.default_rng(0).permutation(len(window.X)) % 3 == 0
    with threadpool_limits(1):
        made = fit(loop, [window.id], window.where(third), HoldoutRule.of(loop))
    rest = window.where(~third)
    assert rest.y is not None, "its windows are labelled"

    def predict(X: pd.DataFrame) -> Predictions:
        return predictions(score(made.estimator, X, loop.task, made.facts.labels), made.facts)

    found = permutation_importance(loop.promotion.metric, rest.X, rest.y.to_numpy(), predict)
    assert found is not None, "both classes are there"
    return Pool(loop, rest, made.estimator, made.facts, found.means)


def _bundled() -> tuple[Loop, Window]:
    """The bundled loop's first month, of many more customers."""
    settings = generator.load(BUNDLED).model_copy(update={"users": CUSTOMERS, "months": 1})
    given = contract.load(BUNDLED).model_dump(exclude_unset=True)
    model = {"estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"random_state": 0}}
    loop = Loop.model_validate(given | {"model": model, "promotion": {"metric": "auc"}})
    return loop, _month(loop, next(generator.generate(settings)))


def _public(stream: Stream) -> tuple[Loop, Window]:
    loop = loop_of(stream, 0.95)
    windows, _ = windows_of(stream, loop)
    X = pd.concat([window.X for window in windows], ignore_index=True)
    y = pd.concat([window.y for window in windows if window.y is not None], ignore_index=True)
    return loop, Window(stream.folder, X, y, None, None, labels=windows[0].labels)


@dataclass(frozen=True)
class Sample:
    """Rows drawn from a pool, as all that the findings are made of."""

    columns: tuple[Summary, ...]
    y: Array
    scores: Array

    def last(self, rows: int) -> Evidence:
        """What a champion keeps of its holdout, were these rows it."""
        return evidence.keep(self.y[-rows:], self.scores[-rows:])


@dataclass(frozen=True)
class Several:
    """A column's summaries as one side of a comparison."""

    pieces: tuple[Summary, ...]

    def batches(self, column: Column) -> Iterator[Summary]:  # noqa: ARG002  # it holds one
        return iter(self.pieces)


def together(pool: Pool, samples: Sequence[Sample]) -> Sample:
    parts = zip(*(sample.columns for sample in samples), strict=True)
    columns = [columnar.summarise(Several(part), column) for part, column in zip(parts, pool.columns, strict=True)]
    return Sample(
        tuple(columns), *(np.concatenate([getattr(sample, name) for sample in samples]) for name in ("y", "scores"))
    )


# What a window shows, and what is made of it


@dataclass(frozen=True)
class Findings:
    """Of one window: its drift against a reference, and what its champion may be expected to score."""

    rows: int
    drift: Drift
    estimate: Estimate | None


def findings(pool: Pool, reference: Sample, holdout: Evidence, current: Sample) -> Findings:
    """``holdout``: what the champion was scored on at its promotion."""
    columns = tuple(
        columnar.compare(*sides, column)
        for *sides, column in zip(reference.columns, current.columns, pool.columns, strict=True)
    )
    said = predictions(current.scores, pool.facts)
    share = sum(column.drifted for column in columns) / len(columns)
    drift = Drift(share, columns, prediction=prediction_drift(pool.facts, holdout, said))
    return Findings(len(current.y), drift, _estimate(pool, holdout, said))


def _estimate(pool: Pool, holdout: Evidence, said: Predictions) -> Estimate | None:
    """None where the rows are too few to tell, as in a run."""
    metric = pool.loop.promotion.metric
    try:
        promoted = METRICS[metric](holdout.y, predictions(holdout.scores, pool.facts))
        return estimation.estimate(metric, holdout, said, promoted, Trigger().confidence)
    except ValueError:
        return None


def alarms(pool: Pool, policy: dict[str, Any], windows: Iterable[Findings]) -> list[bool]:
    """By window, whether a retraining would start there, none having started before."""
    rule = policy_of(pool.loop.model_copy(update={"trigger": Trigger.model_validate(policy)}))
    in_a_row: dict[str, int] = {}
    said = []
    for found in windows:
        past = History(True, True, True, found.rows, None, in_a_row)
        verdict = decide_retrain(found.drift, None, past, rule, estimate=found.estimate, importance=pool.importance)
        if found.rows >= rule.min_rows:
            in_a_row = {name: in_a_row.get(name, 0) + 1 for name in verdict.on}
        said.append(verdict.retrain)
    return said


# Nothing changed


def no_change(name: str, rows: int, references: int, seed: int) -> dict[str, bool]:
    """By policy, whether the last of a few windows raises an alarm; reference and windows are drawn from one pool."""
    pool, rng = pool_of(name), np.random.default_rng([seed, rows, references])
    reference = _redrawn(pool, rows * references, rng)
    holdout = reference.last(rows // HOLDOUT)
    needed = max(policy.get("consecutive", 1) for policy in POLICIES.values())
    windows = [findings(pool, reference, holdout, _redrawn(pool, rows, rng)) for _ in range(needed)]
    return {policy: alarms(pool, given, windows)[-1] for policy, given in POLICIES.items()}


def _redrawn(pool: Pool, rows: int, rng: np.random.Generator) -> Sample:
    """With replacement; columns by how often each of the pool's rows was drawn, which needs no sorting."""
    drawn = rng.integers(len(pool.y), size=rows)
    times = np.bincount(drawn, minlength=len(pool.y))
    summaries = []
    for values, codes in pool.coded:
        counts = np.bincount(codes + 1, weights=times, minlength=len(values) + 1).astype(np.int64)
        there = counts[1:] > 0
        summaries.append(Summary(values[there], counts[1:][there], int(counts[0])))
    return Sample(tuple(summaries), pool.y[drawn], pool.scores[drawn])


# Something changed


@dataclass(frozen=True)
class Scenario:
    """``shift`` by month, the first year's from -12 to -1: how many standard deviations the columns move.

    ``columns``: how many do. ``true``: it is drift, from BEGINS on; else every alarm is a false one.
    """

    name: str
    columns: Callable[[Pool], Sequence[str]]
    shift: Callable[[int], float]
    true: bool = True


def _numbers(pool: Pool) -> list[str]:
    return [name for name in pool.importance if name in pool.loop.columns.numeric]


def _one(pool: Pool) -> list[str]:
    return _numbers(pool)[:1]


def _half(pool: Pool) -> list[str]:
    return _numbers(pool)[: (len(pool.columns) + 1) // 2]


def _season(month: int) -> float:
    """The very same number every year, so that whole numbers that move meet those of the year before."""
    return round(0.7 * float(np.sin(2 * np.pi * (month % YEAR) / YEAR)), 6)


SCENARIOS = (
    Scenario("sudden, half of the columns", _half, lambda month: 0.5 * (month >= BEGINS)),
    Scenario("gradual, half of the columns", _half, lambda month: 0.5 * min(max(month - BEGINS + 1, 0), 6) / 6),
    Scenario("sudden, the column that matters most", _one, lambda month: 1.0 * (month >= BEGINS)),
    Scenario("a season, half of the columns", _half, _season, true=False),
    Scenario("a season, and a sudden drift", _half, lambda month: _season(month) + 0.5 * (month >= BEGINS)),
)


def second_year(name: str, number: int, seed: int) -> dict[str, int | None]:
    """By policy, the first month of the second year that raises an alarm; the champion is that of the whole first.

    ``number``: the scenario's.
    """
    pool, scenario, rng = pool_of(name), SCENARIOS[number], np.random.default_rng([seed, number])
    moved = scenario.columns(pool)
    first = [_shifted(pool, moved, scenario.shift(month), rng) for month in range(-YEAR, 0)]
    whole = together(pool, first)
    holdout = first[-1].last(WINDOW_ROWS // HOLDOUT)
    seen: dict[str, list[Findings]] = {"training": [], "year_ago": []}
    for month in range(LAST + 1):
        current = _shifted(pool, moved, scenario.shift(month), rng)
        for reference, rows in (("training", whole), ("year_ago", first[month])):
            seen[reference].append(findings(pool, rows, holdout, current))
    found = {}
    for policy, given in POLICIES.items():
        said = alarms(pool, given, seen[given.get("reference", "training")])
        found[policy] = said.index(True) if True in said else None
    return found


def _shifted(pool: Pool, moved: Sequence[str], by: float, rng: np.random.Generator) -> Sample:
    if not by:
        return _redrawn(pool, WINDOW_ROWS, rng)
    drawn = rng.integers(len(pool.y), size=WINDOW_ROWS)
    X = pool.rows.X.iloc[drawn].reset_index(drop=True)
    X = X.assign(**{name: X[name] + by * pool.rows.X[name].std() for name in moved})
    summaries = tuple(columnar.summary(X[column.name].to_numpy(), column) for column in pool.columns)
    return Sample(summaries, pool.y[drawn], pool.score(X))


# What min_importance changes


def bundled_year(least: float | str) -> dict[str, float]:
    """The months of the bundled loop's year that drift retrains at a ``min_importance``, and the share that counted.

    Every candidate is promoted; labels come a month late.
    """
    loop = contract.load(BUNDLED)
    rule = policy_of(loop.model_copy(update={"trigger": Trigger.model_validate({"min_importance": least})}))
    columns = [Column(name, name in loop.columns.numeric) for name in loop.columns.names]
    windows = [_month(loop, month) for month in generator.generate(generator.load(BUNDLED))]
    importance, reference, found = None, windows[:1], {}
    for number, current in enumerate(windows[1:], 1):
        sides = [
            [columnar.summary(pd.concat([w.X[c.name] for w in side]).to_numpy(), c) for c in columns]
            for side in (reference, [current])
        ]
        drifts = tuple(columnar.compare(*pair, c) for *pair, c in zip(*sides, columns, strict=True))
        drift = Drift(sum(c.drifted for c in drifts) / len(drifts), drifts)
        past = History(importance is not None, True, True, len(current.X), None)
        verdict = decide_retrain(drift, None, past, rule, importance=importance)
        if verdict.retrain:
            reference, importance = windows[:number], _importance_of(loop, windows[:number])
            if verdict.share is not None:
                found[current.id] = verdict.share
    return found


def _importance_of(loop: Loop, windows: Sequence[Window]) -> dict[str, float]:
    training, holdout = split(windows, HoldoutRule.of(loop))
    with threadpool_limits(1):
        made = fit(loop, [window.id for window in windows], training, HoldoutRule.of(loop))
    return weighed(loop, made, holdout).facts.importance


def _month(loop: Loop, month: generator.Month) -> Window:
    rows = reduce(lambda left, right: left.merge(right, on="user_id"), [*month.tables.values(), month.labels])
    return frame.check(rows, loop, month.id).labelled


# The tables


def section() -> str:
    there = [name for name in PUBLIC if is_there(PUBLIC[name])]
    streams, absent = [STREAMFLOW, *there], sorted(set(PUBLIC) - set(there))
    skipped = f"\nSkipped: {', '.join(absent)}, not found in DRIFTLOOP_REAL_DATA.\n" if absent else ""
    policies = "; ".join(f"*{name}*: {_spelled(policy)}" for name, policy in POLICIES.items())
    heads = " | ".join(POLICIES)
    quiet = [_quiet_line(name, count, rows) for name in streams for count in REFERENCES for rows in SIZES]
    changed = [_found_line(scenario, name) for scenario in SCENARIOS for name in CHANGING if name in streams]
    return f"""## False alarms

Nothing changes: reference and windows are drawn with replacement from one pool of rows (the bundled loop's first month
of {CUSTOMERS:,} customers; two public streams, all windows together), and the last of {_needed()} windows is judged.
The champion (`HistGradientBoosting`, fixed seed) learnt from other rows of the pool and keeps the scores of its newest
window's holdout, one row in {HOLDOUT}. Share of draws that raise an alarm, with its 95 % interval (Wilson). Policies:
{policies}.

| stream | rows of a window | of the reference | {heads} |
|---|---|---|{"---|" * len(POLICIES)}
{_lines(quiet)}

## Alarms on injected drifts

Windows of {WINDOW_ROWS:,} rows, two years; the champion's training data is the whole first year. Drift begins in month
{BEGINS + 1} of the second, in standard deviations of each column: half of the columns by 0.5 (at once, or over six
months), or the number that matters most by 1. A season is a sine of 0.7 over the year. Early: an alarm before the
drift began, or any where there is only a season. Found: an alarm after it began, where none was early; the delay is
the median, 0 for the very window. {YEARS_DRAWN} draws each.

| drift | stream | {heads} |
|---|---|{"---|" * len(POLICIES)}
{_lines(changed)}

## What min_importance changes

The bundled loop's year by its own recipe, *default* but for `trigger.min_importance`; labels come a month late and
every candidate is promoted.

| `min_importance` | months that retrain, with the share that counts |
|---|---|
{_lines(_importance_line(least) for least in IMPORTANCES)}
{skipped}"""


def _spelled(policy: dict[str, Any]) -> str:
    return ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in policy.items()) or "`[trigger]` left out"


def _needed() -> int:
    return max(policy.get("consecutive", 1) for policy in POLICIES.values())


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _each(what: Callable[[int], Any], name: str, count: int) -> list[Any]:
    pool = pool_of(name)
    assert len(pool.scores) == len(pool.y), "made before the processes part, so that all of them have it"
    assert len(pool.coded) == len(pool.columns), "likewise"
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(what, range(count), chunksize=max(1, count // 16)))


def _quiet_line(name: str, references: int, rows: int) -> str:
    found = _each(partial(no_change, name, rows, references), name, SIZES[rows])
    cells = " | ".join(_rate([one[policy] for one in found]) for policy in POLICIES)
    print(f"{name}, {rows} rows against {rows * references}: {cells}", file=sys.stderr)
    return f"| {name} | {rows:,} | {rows * references:,} | {cells} |"


def _rate(found: Sequence[bool]) -> str:
    bounds = binomtest(sum(found), len(found)).proportion_ci(0.95, method="wilson")
    return f"{100 * sum(found) / len(found):.1f} % ({100 * bounds.low:.1f} to {100 * bounds.high:.1f})"


def _found_line(scenario: Scenario, name: str) -> str:
    found = _each(partial(second_year, name, SCENARIOS.index(scenario)), name, YEARS_DRAWN)
    cells = " | ".join(_delays(scenario, [one[policy] for one in found]) for policy in POLICIES)
    print(f"{scenario.name}, {name}: {cells}", file=sys.stderr)
    return f"| {scenario.name} | {name} | {cells} |"


def _delays(scenario: Scenario, first: Sequence[int | None]) -> str:
    """``first``: the month of the first alarm in each draw, None where there was none."""
    early = sum(month is not None and (month < BEGINS or not scenario.true) for month in first)
    early_said = f"{100 * early / len(first):.0f} % early"
    if not scenario.true:
        return early_said
    late = [month - BEGINS for month in first if month is not None and month >= BEGINS]
    after = f", after {statistics.median(late):g}" if late else ""
    return f"{early_said}, {100 * len(late) / len(first):.0f} % found{after}"


def _importance_line(least: float | str) -> str:
    months = ", ".join(f"{month} ({share:.2f})" for month, share in bundled_year(least).items())
    return f"| `{json.dumps(least)}` | {months or 'none'} |"


if __name__ == "__main__":
    print(section())
