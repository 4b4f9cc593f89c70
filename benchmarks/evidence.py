"""How often the promotion rule is fooled, and how often it sees a gain that is there.

Both by simulation through the library's own ``compare`` and ``decide_promotion``: ``python -m benchmarks.evidence``.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from driftloop import contract, frame, generator
from driftloop.contract import Loop, Promotion
from driftloop.frame import Window
from driftloop.metrics import Array, Predictions
from driftloop.promotion import Comparison, Outcome, PromotionPolicy, decide_promotion
from driftloop.recipe import build
from driftloop.scores import compare

STREAMFLOW = Path(__file__).parents[1] / "data" / "streamflow"
MONTHS = 500
TREES = 50  # half the loop's, so that a thousand forests take a minute and a half
TRAINING_ROWS = 2000  # what the bundled loop's first month of 2,500 customers leaves to train on
AA_ROWS = (500, 1400, 5000)  # a fifth of the bundled loop's month, of the public StreamFlow month, of 25,000 customers
GAINS = (0.01, 0.02, 0.05)
HOLDOUTS = {500: 500, 1000: 500, 2000: 500, 5000: 500, 10_000: 500, 50_000: 200}  # rows: how many are drawn
DELTA, CONFIDENCE = 0.01, 0.95
OURS = PromotionPolicy(DELTA, CONFIDENCE)
BOUND_ONLY = PromotionPolicy(0.0, CONFIDENCE)
RULES = {
    "gain > 0": PromotionPolicy(0.0, 0),
    f"gain > {DELTA}": PromotionPolicy(DELTA, 0),
    "lower bound > 0": BOUND_ONLY,
    "ours: both": OURS,
}


def section() -> str:
    pairs = _each(_aa_month, range(MONTHS), "A/A months")
    world = _seen_in(pairs)
    rows = [_power_row(world, n, holdouts) for n, holdouts in HOLDOUTS.items()]
    return f"{_aa_section(pairs)}\n{_power_section(world, rows)}"


# Nothing changed: how often is a candidate promoted all the same?


@dataclass(frozen=True)
class Pair:
    """One A/A month: what was seen on each holdout by its rows, and what the largest says of the two models."""

    found: dict[int, Comparison]
    champion_auc: float
    event_rate: float
    correlation: float


def _aa_month(number: int) -> Pair:
    """Two models of one recipe, each with rows and a seed of its own, on a third draw of the same world."""
    seeds = [3 * number + k for k in range(3)]
    holdout = _draw(seeds[2], max(AA_ROWS))
    candidate, champion = (Predictions(_trained_score(seed, holdout)) for seed in seeds[:2])
    y, found = holdout.truth.to_numpy(), {}
    for n in AA_ROWS:
        first = np.arange(len(y)) < n
        found[n] = compare(_loop(), holdout.where(first), candidate[first], champion[first], {})
    return Pair(found, found[max(AA_ROWS)].champion.value, y.mean(), _correlation(y, candidate.scores, champion.scores))


@cache
def _loop() -> Loop:
    """The bundled loop, its promotion section the rule that is measured and no more: slices would veto some."""
    policy = Promotion(metric="auc", delta=DELTA, confidence=CONFIDENCE)
    return contract.load(STREAMFLOW).model_copy(update={"promotion": policy})


def _draw(seed: int, customers: int) -> Window:
    """The bundled loop's first month, of other customers with each seed."""
    settings = generator.load(STREAMFLOW).model_copy(update={"seed": seed, "users": customers, "months": 1})
    month = next(generator.generate(settings))
    tables = [*month.tables.values(), month.labels]
    rows = reduce(lambda left, right: left.merge(right, on="user_id"), tables)
    return frame.check(rows, _loop(), month.id).labelled


def _trained_score(seed: int, holdout: Window) -> Array:
    """The holdout's probabilities by the loop's recipe, trained on the seed's rows with the seed's randomness."""
    given, training = _loop().model, _draw(seed, TRAINING_ROWS)
    model = given.model_copy(
        update={"params": {**given.params, "n_estimators": TREES, "random_state": seed, "n_jobs": 1}}
    )
    pipeline = build(_loop().model_copy(update={"model": model}))
    return np.asarray(pipeline.fit(training.X, training.truth.astype(int)).predict_proba(holdout.X)[:, 1])


def _correlation(y: Array, candidate: Array, champion: Array) -> float:
    """Of two models' scores within a class, each class's scores brought to a normal's; the mean over the classes."""
    return statistics.fmean(
        float(np.corrcoef(_normal(candidate[y == label]), _normal(champion[y == label]))[0, 1]) for label in (0, 1)
    )


def _normal(scores: Array) -> Array:
    return np.asarray(norm.ppf((rankdata(scores) - 0.5) / len(scores)))


def _aa_section(pairs: Sequence[Pair]) -> str:
    head = " | ".join(RULES)
    lines = [f"| {n:,} | {_aa_cells([pair.found[n] for pair in pairs])} |" for n in AA_ROWS]
    return f"""## Promotions when nothing changed

{MONTHS} A/A months of the bundled loop's made-up world: candidate and champion are its forest, with {TREES} trees,
each trained on {TRAINING_ROWS:,} customers and with a seed of its own, compared on customers that neither saw. Share of
months with a promotion by each rule, ± binomial standard error. *Detectable*: the median of the smallest true gain that
the comparison says it would see four times in five. The two models differ by what they happened to learn, so that with
rows enough even a perfect judge finds one of them a little better.

| holdout rows | {head} | detectable |
|---|{"---|" * (len(RULES) + 1)}
{_joined(lines)}
"""


def _aa_cells(found: Sequence[Comparison]) -> str:
    shares = (_share([_promotes(comparison, policy) for comparison in found]) for policy in RULES.values())
    return " | ".join((*shares, f"{_detectable(found):.3f}"))


# Something changed: how often is it seen?


@dataclass(frozen=True)
class World:
    """Binormal scores: a class's are normal with variance 1, ``correlation`` is that of the two models within it."""

    champion_auc: float
    event_rate: float
    correlation: float


@dataclass(frozen=True)
class PowerRow:
    """Promotions by the true gain, false ones at no gain with delta 0, and promotions at the gain called detectable."""

    rows: int
    holdouts: int
    promoted: dict[float, list[bool]]
    false: list[bool]
    detectable: float
    promoted_at_detectable: list[bool]


def _seen_in(pairs: Sequence[Pair]) -> World:
    """The world of the A/A months, rounded to what is worth printing."""
    return World(
        round(statistics.fmean(pair.champion_auc for pair in pairs), 2),
        round(statistics.fmean(pair.event_rate for pair in pairs), 2),
        round(statistics.median(pair.correlation for pair in pairs), 2),
    )


def _power_row(world: World, n: int, holdouts: int) -> PowerRow:
    gains = (0.0, *GAINS)
    drawn = _each(partial(_holdout, world, n, gains), range(holdouts), f"holdouts of {n:,} rows")
    by_gain = dict(zip(gains, zip(*drawn, strict=True), strict=True))
    detectable = _detectable([comparison for found in drawn for comparison in found])
    again = range(holdouts, 2 * holdouts)  # fresh holdouts: the detectable gain was read off the first ones
    checked = _each(partial(_holdout, world, n, (detectable,)), again, f"the same at a gain of {detectable:.3f}")
    return PowerRow(
        rows=n,
        holdouts=holdouts,
        promoted={gain: [_promotes(c, OURS) for c in by_gain[gain]] for gain in GAINS},
        false=[_promotes(c, BOUND_ONLY) for c in by_gain[0.0]],
        detectable=detectable,
        promoted_at_detectable=[_promotes(c, OURS) for (c,) in checked],
    )


def _holdout(world: World, n: int, gains: Sequence[float], number: int) -> list[Comparison]:
    """One champion against a candidate of each true gain on the same rows."""
    rng = np.random.default_rng([n, number])
    y = (rng.random(n) < world.event_rate).astype(float)
    noise, own = rng.standard_normal(n), rng.standard_normal(n)
    shared = world.correlation * noise + math.sqrt(1 - world.correlation**2) * own
    rows = Window("simulated", pd.DataFrame({"row": range(n)}), pd.Series(y), None, None)
    champion = _scores(y, noise, world.champion_auc)
    candidates = (_scores(y, shared, world.champion_auc + gain) for gain in gains)
    return [compare(_loop(), rows, candidate, champion, {}) for candidate in candidates]


def _scores(y: Array, noise: Array, auc: float) -> Predictions:
    """Binormal scores of a true AUC, as probabilities: AUC = Φ(shift / √2), and Φ of a score leaves the order."""
    shift = math.sqrt(2) * norm.ppf(auc)
    return Predictions(norm.cdf(noise + shift * (y - 0.5)))


def _power_section(world: World, rows: Sequence[PowerRow]) -> str:
    head = " | ".join(f"true gain {gain}" for gain in GAINS)
    return f"""## Promotions when the candidate is better

Simulated binormal scores: champion's AUC {world.champion_auc}, event rate {world.event_rate}, correlation of the two
models' scores within a class {world.correlation}: means, and for the correlation the median, of the A/A pairs above.
Share of {max(HOLDOUTS.values())} holdouts ({HOLDOUTS[max(HOLDOUTS)]} of the largest) promoted by our rule, with delta
{DELTA} and confidence {CONFIDENCE}, ± binomial standard error. A true gain of exactly delta is promoted at most every
other time, by what delta means. *Detectable* is `detectable_gain` of the median standard error; beside it the share
promoted in fresh holdouts at just that gain, which should be 80 %. The last column has true gain 0 and delta 0: the
bound's own error, which should be 5 %.

| holdout rows | {head} | detectable | promoted at that | falsely, delta 0 |
|---|{"---|" * (len(GAINS) + 3)}
{_joined(_power_line(row) for row in rows)}
"""


def _power_line(row: PowerRow) -> str:
    shares = " | ".join(_share(row.promoted[gain]) for gain in GAINS)
    checked = _share(row.promoted_at_detectable)
    return f"| {row.rows:,} | {shares} | {row.detectable:.3f} | {checked} | {_share(row.false)} |"


# Shared


def _promotes(comparison: Comparison, policy: PromotionPolicy) -> bool:
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy).outcome is Outcome.PROMOTE


def _detectable(found: Iterable[Comparison]) -> float:
    """The median, which is that of the median standard error: the one rises with the other."""
    return statistics.median(c.detectable for c in found if c.detectable is not None)


def _share(promoted: Sequence[bool]) -> str:
    """In percent; where none was or all were, there is no standard error, but the rule of three's bound at 95 %."""
    n, p = len(promoted), statistics.fmean(promoted)
    if p in (0, 1):
        return f"none (< {300 / n:.1f} %)" if p == 0 else f"all (> {100 - 300 / n:.1f} %)"
    return f"{100 * p:.1f} ± {100 * math.sqrt(p * (1 - p) / n):.1f} %"


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _each(function: Callable[[int], Any], numbers: range, what: str) -> list[Any]:
    """``function`` of each number, on all cores; every number seeds its own randomness, so the order is no matter."""
    done = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(function, numbers, chunksize=5):
            done.append(result)
            if len(done) % 100 == 0:
                print(f"{what}: {len(done)} of {len(numbers)}", file=sys.stderr)
    return done


if __name__ == "__main__":
    print(section())
