"""An old model on old and new rows beside what each strategy makes of the new ones; nothing is registered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from driftloop import progress
from driftloop.artifact import predictions, score
from driftloop.contract import Loop, Recipe, Training
from driftloop.errors import ContractError, LabelsNotReady
from driftloop.frame import Window
from driftloop.metrics import METRICS
from driftloop.monitoring import read_labelled
from driftloop.report import Json
from driftloop.scores import evaluate
from driftloop.strategy import Base, TrainingSet, joined, training_set
from driftloop.training import Candidate, fit_set, require_strategies, split_parts
from driftloop.workspace import Workspace

OLD = "old model"


@dataclass(frozen=True)
class Side:
    """Training rows of each labelled window up to one, and that window's holdout."""

    parts: tuple[Window, ...]
    holdout: Window


def comparison(work: Workspace, window: str | None, strategies: Sequence[str]) -> Json:
    """Each recipe as it was before the window, on its own holdout and on the window's, then by each strategy.

    ``window``: the newest with labels when left out; ``strategies``: the loop's own when left out. The old model has
    learnt from all labelled windows before. Raises ContractError and LabelsNotReady.
    """
    loop = asked(work.loop, strategies)
    require_strategies(loop)
    old, new = _sides(work, window)
    rows: list[Json] = []
    for recipe in loop.model.recipes:
        progress.tell(f"{recipe.name}, {OLD}")
        before = TrainingSet("all", tuple(part.id for part in old.parts), joined(old.parts))
        began = time.perf_counter()
        champion = fit_set(loop, recipe, before, str(work.rule))
        spent = time.perf_counter() - began
        rows += [_row(loop, OLD, recipe, champion, side.holdout, spent) for side in (old, new)]
        base = Base("the old model", champion.estimator, champion.facts)
        for strategy in loop.training.names:
            progress.tell(f"{recipe.name}, {strategy}")
            began = time.perf_counter()
            learnt = training_set(strategy, new.parts, recipe=recipe, base=base, seed=loop.name)
            candidate = fit_set(loop, recipe, learnt, str(work.rule))
            rows.append(_row(loop, strategy, recipe, candidate, new.holdout, time.perf_counter() - began))
    metric = loop.promotion.metric
    return {
        "loop": loop.name,
        "window": new.holdout.id,
        "metric": metric,
        "higher_is_better": METRICS[metric].higher_is_better,
        "models": rows,
    }


def asked(loop: Loop, strategies: Sequence[str]) -> Loop:
    """The loop with these strategies in place of its own."""
    if not strategies:
        return loop
    own = {"strategy": strategies[0]} if len(strategies) == 1 else {"strategies": list(strategies)}
    tuning = {"epochs", "learning_rate"} & loop.training.model_fields_set if "fine_tune" in strategies else set()
    try:
        training = Training.model_validate({**own, **{name: getattr(loop.training, name) for name in tuning}})
    except ValidationError as error:
        problem = error.errors()[0]
        said = f"{problem['input']} is none" if problem["loc"] else problem["msg"].removeprefix("Value error, ")
        raise ContractError(
            f"--strategies {','.join(strategies)}: {said}. There are all, latest, rolling:3, mix:0.7, fine_tune, "
            f"reweight, reweight:segments and auto."
        ) from None
    return loop.model_copy(update={"training": training})


def _sides(work: Workspace, window: str | None) -> tuple[Side, Side]:
    ids = work.windows.ids()
    if window is not None and window not in ids:
        raise ContractError(f"there is no window {window}; there are {', '.join(ids)}.")
    good, _ = read_labelled(work, window or work.newest(), limit=None, labels=None)
    if window is not None and (not good or good[-1].id != window):
        raise LabelsNotReady(f"window {window} has no usable labels, so no model can be scored on it.")
    if len(good) < 2:
        raise LabelsNotReady(
            f"{len(good)} windows of {work.loop.name} have usable labels; an old model and a new window take two."
        )
    old, new = (Side(*split_parts(windows, work.rule)) for windows in (good[:-1], good))
    return old, new


def _row(loop: Loop, model: str, recipe: Recipe, made: Candidate, holdout: Window, seconds: float) -> Json:
    predicted = predictions(score(made.estimator, holdout.X, loop.task, made.facts.labels), made.facts)
    return {
        "model": model,
        "estimator": recipe.name,
        "windows": list(made.facts.windows),
        "rows": made.facts.rows,
        "new_rows": made.facts.new_rows,
        "effective_rows": made.facts.effective_rows,
        "holdout": holdout.id,
        "holdout_rows": len(holdout.X),
        "metrics": evaluate(loop, holdout, predicted),
        "seconds": seconds,
        "note": made.facts.note,
    }
