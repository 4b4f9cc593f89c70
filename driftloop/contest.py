"""Several ways to make a candidate, tried on validation rows set aside of the training rows; one of them makes it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from driftloop import progress
from driftloop.artifact import score
from driftloop.contract import Loop, Recipe
from driftloop.errors import DriftloopError, WindowError
from driftloop.facts import Contest, Trial
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import METRICS, Predictions
from driftloop.paired import Gain, paired_gain
from driftloop.scores import comparable
from driftloop.strategy import Base, TrainingSet, joined, other_classes, training_set
from driftloop.training import Encodings, fitted, recipe_of, threshold_of

MIN_ROWS = 30  # of fewer validation rows a bound says little, least of all the bootstrap's
Parts = Sequence[Window]  # the training rows of each labelled window, oldest first, without the holdout's


@dataclass(frozen=True)
class Aside:
    """The parts without the validation rows, and these, of the newest window; None with the reason ``why``."""

    parts: tuple[Window, ...]
    validation: Window | None
    why: str = ""


@dataclass(frozen=True)
class Chosen:
    """The way a candidate is to be made, and what the others came to; no contest where there was one way only."""

    recipe: Recipe
    strategy: str
    contest: Contest | None = None


def ways(loop: Loop, recipes: Sequence[Recipe]) -> tuple[tuple[Recipe, str], ...]:
    """Each recipe by each strategy, the preferred one first."""
    return tuple((recipe, strategy) for recipe in recipes for strategy in loop.training.names)


def set_aside(loop: Loop, parts: Parts) -> Aside:
    """Take the validation rows off the training rows: by entity or row those of every window, by time a tail."""
    holdout = HoldoutRule.of(loop)
    rule = replace(holdout, loop=f"{loop.name}/validation", share=loop.training.validation_share)
    newest = parts[-1]
    try:
        masks = [rule.mask(part, newest=part is newest) for part in parts]
    except WindowError as error:
        return Aside(tuple(parts), None, "; ".join(error.problems))
    known = tuple(part.where(~mask) for part, mask in zip(parts, masks, strict=True))
    validation = newest.where(masks[-1])
    if len(validation.X) < MIN_ROWS or not comparable(loop, validation):
        why = f"the {len(validation.X)} validation rows of {newest.id} are too few to tell models apart"
        return Aside(tuple(parts), None, why)
    return Aside(known, validation)


def hold(loop: Loop, recipes: Sequence[Recipe], aside: Aside, base: Base | None) -> Chosen:
    """Try every way on the validation rows and choose one; the preferred one where nothing speaks for another.

    Raises DriftloopError where none of them could be tried.
    """
    (recipe, strategy), *others = ways(loop, recipes)
    if not others:
        return Chosen(recipe, strategy)
    metric, newest = loop.promotion.metric, aside.parts[-1].id
    if aside.validation is None:
        return Chosen(recipe, strategy, Contest(metric=metric, window=newest, rows=0, why=aside.why, trials=()))
    trials = _Trials(loop, aside, base).all(recipes)
    failed = [tried.failure for tried in trials if tried.failure]
    if len(failed) == len(trials):
        raise DriftloopError(f"none of the {len(trials)} ways to make a candidate could be tried: {'; '.join(failed)}")
    scored = [tried for tried in trials if tried.trial.score is not None]
    winner, why = _judged(scored or [tried for tried in trials if not tried.failure], loop.promotion.confidence)
    contest = Contest(
        metric=metric,
        window=newest,
        rows=len(aside.validation.X),
        why="; left out: ".join([why, *failed]),
        trials=tuple(t.trial.model_copy(update={"chosen": t is winner}) for t in trials),
    )
    return Chosen(winner.recipe, winner.trial.strategy, contest)


@dataclass(frozen=True)
class _Tried:
    """A trial, how much better than the preferred one it is at least, and why it could not be made."""

    recipe: Recipe
    trial: Trial
    low: float | None = None
    failure: str | None = None


def _judged(trials: Sequence[_Tried], confidence: float) -> tuple[_Tried, str]:
    """The best of those that beat the preferred one as surely as a candidate has to beat a champion.

    In-window validation flatters what learnt from that window most, and few rows flatter anything; a change of the
    way rows are chosen has to be worth it too.
    """
    sure = f" with {confidence:.0%} confidence" if confidence else ""
    better = [tried for tried in trials if tried.low is not None and tried.low > 0]
    if not better:
        return trials[0], f"no other beats the first{sure}"
    winner = max(better, key=lambda tried: tried.trial.gain or 0.0)
    return winner, f"it beats the first{sure}"


class _Trials:
    """The trials of one contest; rows are put together, and preprocessing fitted, once for those that share them."""

    def __init__(self, loop: Loop, aside: Aside, base: Base | None) -> None:
        assert aside.validation is not None, "without validation rows there is no contest"
        self.loop, self.parts, self.validation, self.base = loop, aside.parts, aside.validation, base
        self.metric, self.y = METRICS[loop.promotion.metric], aside.validation.truth.to_numpy()
        self.encodings = Encodings()

    def all(self, recipes: Sequence[Recipe]) -> list[_Tried]:
        """One a way that differs from those before it, the preferred first; with a few windows several are the same."""
        entered: dict[tuple[object, ...], tuple[Recipe, TrainingSet]] = {}
        for strategy in self.loop.training.names:
            shared: TrainingSet | None = None
            for recipe in recipes:
                own = strategy == "fine_tune"
                learnt = shared if shared and not own else self._set(strategy, recipe)
                shared = learnt
                entered.setdefault((recipe.name, *_content(learnt)), (recipe, learnt))
        found, preferred = list[_Tried](), None
        for recipe, learnt in entered.values():
            predicted, tried = self._try(recipe, learnt, preferred)
            preferred = preferred or predicted  # of those that fit, where the first one does not
            found.append(tried)
        return found

    def _set(self, strategy: str, recipe: Recipe) -> TrainingSet:
        return training_set(strategy, self.parts, recipe=recipe, base=self.base, seed=self.loop.name)

    def _fair(self, learnt: TrainingSet) -> TrainingSet:
        """The set without a base that knows the validation rows' owners."""
        if learnt.base is None or self.loop.holdout.by == "time":
            return learnt
        # by entity or row the champion has learnt from older rows of the validation's owners; a stand-in has not
        known = [part for part in self.parts if part.id in learnt.base.facts.windows]
        if not known:
            return replace(learnt, base=None, note="the windows that the champion learnt from are gone")
        rows = TrainingSet("all", tuple(part.id for part in known), joined(known))
        model = fitted(self.loop, recipe_of(self.loop, learnt.base.facts), rows)
        if why := other_classes(model, learnt.rows):
            return replace(learnt, base=None, note=f"beside the champion's windows the new ones {why}")
        return replace(learnt, base=replace(learnt.base, estimator=model))

    def _try(
        self, recipe: Recipe, learnt: TrainingSet, preferred: Predictions | None
    ) -> tuple[Predictions | None, _Tried]:
        progress.tell(f"trying {recipe.name} by {learnt.strategy}")
        began, predicted, failure = time.perf_counter(), None, None
        try:
            learnt = self._fair(learnt)
            predicted = self._predicted(recipe, learnt)
        except DriftloopError as error:  # the others may do better
            failure = " ".join(str(error).split())[:500].rstrip(". ")
        value = math.nan if predicted is None else self.metric(self.y, predicted)
        gain = self._gain(predicted, preferred) if predicted and preferred else None
        trial = Trial(
            estimator=recipe.name,
            strategy=learnt.strategy,
            rows=len(learnt.rows.X),
            effective_rows=learnt.effective_rows,
            score=value if math.isfinite(value) else None,
            gain=gain.value if gain else None,
            error=gain.standard_error if gain else None,
            seconds=time.perf_counter() - began,
            chosen=False,
            note=learnt.note if predicted else failure or "its rows hold one class or one value only",
        )
        low = None if gain is None else gain.value if gain.lower is None else gain.lower
        return predicted, _Tried(recipe, trial, low, failure)

    def _predicted(self, recipe: Recipe, learnt: TrainingSet) -> Predictions | None:
        if learnt.rows.truth.nunique() < 2:
            return None
        model = fitted(self.loop, recipe, learnt, self.encodings)
        found = Predictions(score(model, self.validation.X, self.loop.task, self.validation.labels))
        threshold = threshold_of(self.loop, recipe, learnt) if self.metric.of_labels else None
        return found if threshold is None else replace(found, threshold=threshold)

    def _gain(self, predicted: Predictions, preferred: Predictions) -> Gain | None:
        try:
            return paired_gain(self.metric.name, self.y, predicted, preferred, self.loop.promotion.confidence)
        except ValueError:  # too few rows for a bound: nothing is sure
            return None


def _content(learnt: TrainingSet) -> tuple[object, ...]:
    """Equal where two sets of one contest hold the same: drawn or not, of the same windows they are as many rows."""
    return learnt.windows, len(learnt.rows.X), learnt.weights is not None and learnt.strategy, learnt.base is not None
