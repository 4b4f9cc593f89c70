"""What each training strategy is worth: on streams made for it, and on public ones, next window by next window.

The public streams are those of DRIFTLOOP_REAL_DATA (default ../shared/data): ``python -m benchmarks.strategies``.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.gate_cost import Stream, is_there, loop_of, windows_of
from driftloop import contest
from driftloop.artifact import score
from driftloop.contract import Loop
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import METRICS, Array, Predictions
from driftloop.strategy import Base, TrainingSet, training_set
from driftloop.training import fit_set, fitted, split_parts

PUBLIC = (
    Stream("bike_hour", "auto", "timestamp", 1.0),
    Stream("bank_marketing", "auto", "called", 0.01),
    Stream("car_loan", "auto", "timestamp", 0.01),
)
ON_PUBLIC = ("all", "rolling:3", "latest")
SEEDS = 5


# The streams made for a strategy


@dataclass(frozen=True)
class World:
    """A stream made so that ``strategy`` should win on its last window, and why."""

    strategy: str
    why: str
    estimator: str
    draw: Callable[[np.random.Generator], list[tuple[Array, Array]]]
    params: tuple[tuple[str, float | str], ...] = ()

    def loop(self, strategy: str) -> Loop:
        """A loop over the world's features."""
        tuned = {"epochs": 5, "learning_rate": 0.01} if strategy == "fine_tune" else {}
        return Loop.model_validate(
            {
                "name": "made",
                "task": "regression",
                "target": "y",
                "features": {"numeric": [f"x{n}" for n in range(self.draw(np.random.default_rng(0))[0][0].shape[1])]},
                "model": {"estimator": self.estimator, "params": dict(self.params)},
                "training": {"strategy": strategy, **tuned},
            }
        )

    def windows(self, seed: int) -> list[Window]:
        """Oldest first; the last one is only predicted."""
        made = self.draw(np.random.default_rng(seed))
        return [
            Window(f"w{n:02}", pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]), pd.Series(y), None, None)
            for n, (X, y) in enumerate(made)
        ]


def _linear(rng: np.random.Generator, rows: int, slopes: Array, noise: float = 1.0) -> tuple[Array, Array]:
    X = rng.normal(size=(rows, len(slopes)))
    return X, X @ slopes + rng.normal(0, noise, rows)


def _abrupt(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    slopes = np.array([1.0, -1.0, 2.0])
    return [_linear(rng, 200, slopes if n < 5 else -slopes) for n in range(7)]


def _growing(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    return [_linear(rng, 200, np.full(80, 0.06 * n), 2.0) for n in range(13)]


def _steady(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    return [_linear(rng, 20, np.ones(10), 2.0) for _ in range(10)]


def _returning(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """x0 < 0 are customers who stay away from the newest window and come back; the others have changed by then."""

    def window(n: int, changed: bool, both: bool) -> tuple[Array, Array]:
        X = np.column_stack([rng.uniform(-1 if both else 0, 1, n), rng.uniform(-1, 1, n)])
        return X, np.where(X[:, 0] < 0, -3.0, -1.0 if changed else 3.0) + rng.normal(0, 0.5, n)

    return [*(window(200, False, True) for _ in range(8)), window(200, True, False), window(200, True, True)]


def _moved_a_little(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Much is known of a world that has moved a little, and little of where to."""
    old = np.ones(20)
    new = old + rng.normal(0, 0.3, 20)
    return [*(_linear(rng, 400, old) for _ in range(5)), _linear(rng, 30, new), _linear(rng, 400, new)]


def _elsewhere(rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """One curve throughout, a straight line to fit it with, and windows that move along it."""

    def window(n: int, low: float, high: float) -> tuple[Array, Array]:
        X = np.column_stack([rng.uniform(low, high, n), rng.normal(size=(n, 9))])
        return X, X[:, 0] ** 2 + X[:, 1:].sum(axis=1) + rng.normal(0, 2.0, n)

    return [*(window(400, -3, 3) for _ in range(5)), window(30, 1.5, 3), window(400, 1.5, 3)]


RIDGE = "sklearn.linear_model.Ridge"
WORLDS = (
    World("latest", "the relation turned round in the newest window", RIDGE, _abrupt),
    World("rolling:3", "it grows, and a window alone is too small", RIDGE, _growing),
    World("all", "nothing changes, and windows are small", RIDGE, _steady),
    World(
        "mix:0.7", "some changed, others were away and come back", "sklearn.tree.DecisionTreeRegressor", _returning,
        (("max_depth", 3), ("random_state", 0)),
    ),
    World(
        "fine_tune", "a small window of a world that moved a little", "sklearn.linear_model.SGDRegressor",
        _moved_a_little, (("random_state", 0),),
    ),
    World("reweight", "rows move along a curve, the model is a line", RIDGE, _elsewhere),
    World("reweight:segments", "the same", RIDGE, _elsewhere),
)  # fmt: skip


def last_error(world: World, strategy: str, seed: int) -> float:
    """RMSE on the world's last window of a model made with those before by the strategy."""
    loop, (*known, last) = world.loop(strategy), world.windows(seed)
    base = None
    if strategy == "fine_tune":
        champion = fit_set(loop, loop.model.recipes[0], _set(loop, "all", known[:-1], None), "none")
        base = Base("1", champion.estimator, champion.facts)
    chosen = strategy
    if strategy == "auto":
        chosen = contest.hold(loop, loop.model.recipes, contest.set_aside(loop, known), base).strategy
    return _value(loop, fitted(loop, loop.model.recipes[0], _set(loop, chosen, known, base)), last)


def _set(loop: Loop, strategy: str, parts: Sequence[Window], base: Base | None) -> TrainingSet:
    return training_set(strategy, parts, recipe=loop.model.recipes[0], base=base, seed=loop.name)


def _value(loop: Loop, model: object, window: Window) -> float:
    assert window.y is not None, "only labelled windows come here"
    predicted = Predictions(score(model, window.X, loop.task, window.labels))
    return METRICS[loop.promotion.metric](window.y.to_numpy(), predicted)


# The public streams


@dataclass(frozen=True)
class Next:
    """By strategy the score on the window after the newest, and which strategy auto took."""

    scores: dict[str, float]
    auto: str


def next_windows(stream: Stream) -> list[Next]:
    """Trained anew on every window from the first fifth on."""
    loop = loop_of(stream, 0.95)
    windows, newest = windows_of(stream, loop)
    found = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for one in pool.map(partial(next_window, loop, windows), newest):
            found.append(one)
            print(f"{stream}: {len(found)} of {len(newest)} windows", file=sys.stderr)
    return found


def next_window(loop: Loop, windows: Sequence[Window], newest: int) -> Next:
    """The scores of what is made on the window at ``newest`` and before."""
    known, following = windows[: newest + 1], windows[newest + 1]
    parts, _ = split_parts(known, HoldoutRule.of(loop))
    recipes = loop.model.recipes
    with threadpool_limits(1):  # a process a core: the trees' threads would only get in each other's way
        auto = contest.hold(loop, recipes, contest.set_aside(loop, parts), None).strategy
        models = {name: fitted(loop, recipes[0], _set(loop, name, known, None)) for name in ON_PUBLIC}
        scores = {name: _value(loop, model, following) for name, model in models.items()}
    return Next({**scores, "auto": scores[auto]}, auto)


def loss_of_auto(stream: Stream, found: Sequence[Next]) -> float:
    """Auto's mean against the better of the means of ``all`` and ``rolling:3``, above 1 where it is worse."""
    metric, auto = METRICS[loop_of(stream, 0.95).promotion.metric], _mean(found, "auto")
    sides = [_mean(found, name) for name in ("all", "rolling:3")]
    return max(sides) / auto if metric.higher_is_better else auto / min(sides)


def _mean(found: Sequence[Next], name: str) -> float:
    return statistics.fmean(one.scores[name] for one in found)


# The tables


def section() -> str:
    there = [stream for stream in PUBLIC if is_there(stream)]
    absent = sorted(stream.folder for stream in PUBLIC if stream not in there)
    skipped = f"\nSkipped: {', '.join(absent)}, not found in DRIFTLOOP_REAL_DATA.\n" if absent else ""
    made = "\n".join(_made_line(world) for world in WORLDS)
    return f"""## Strategies on streams made for them

The model is made with all windows but the last, and scored on that: RMSE, mean of {SEEDS} draws; the best in bold.
`auto` chooses among `all`, `rolling:3` and `latest` on validation rows.

| made for | because | {" | ".join(_COLUMNS)} |
|---|---|{"---|" * len(_COLUMNS)}
{made}

## Strategies on public streams

Trained anew on every window from the first fifth on (`HistGradientBoosting`, fixed seed, all rows of its windows),
scored on the next one; the mean. `auto` takes what its contest chose, on validation rows off the training rows.
Ratio: `auto` against the better of `all` and `rolling:3`, above 1 where it is worse.

| stream, metric | {" | ".join(ON_PUBLIC)} | auto | ratio | auto took |
|---|{"---|" * (len(ON_PUBLIC) + 3)}
{_public_lines(there)}
{skipped}"""


_COLUMNS = ("all", "rolling:3", "latest", "mix:0.7", "fine_tune", "reweight", "reweight:segments", "auto")


def _made_line(world: World) -> str:
    able = [name for name in _COLUMNS if name != "fine_tune" or world.strategy == "fine_tune"]
    found = {name: statistics.fmean(last_error(world, name, seed) for seed in range(SEEDS)) for name in able}
    best = min(value for name, value in found.items() if name != "auto")
    cells = (
        "" if n not in found else f"**{found[n]:.2f}**" if found[n] <= best else f"{found[n]:.2f}" for n in _COLUMNS
    )
    return f"| `{world.strategy}` | {world.why} | {' | '.join(cells)} |"


def _public_lines(streams: Sequence[Stream]) -> str:
    return "\n".join(_public_line(stream) for stream in streams)


def _public_line(stream: Stream) -> str:
    found, metric = next_windows(stream), METRICS[loop_of(stream, 0.95).promotion.metric]
    digits = 4 if metric.higher_is_better else 1
    took = ", ".join(
        f"{name} {n}" for name in ("all", "rolling:3", "latest") if (n := [o.auto for o in found].count(name))
    )
    cells = " | ".join(f"{_mean(found, name):.{digits}f}" for name in (*ON_PUBLIC, "auto"))
    return f"| {stream.folder}, {metric.name} | {cells} | {loss_of_auto(stream, found):.3f} | {took} |"


if __name__ == "__main__":
    print(section())
