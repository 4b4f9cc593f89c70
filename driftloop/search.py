"""Better parameters for a recipe: Optuna's TPE on folds of the training rows, within a budget of trials and seconds."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import sqlite3
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from driftloop import progress, space
from driftloop.artifact import score
from driftloop.calibration import best_f1_threshold
from driftloop.contract import Loop, Recipe
from driftloop.errors import ContractError
from driftloop.facts import SearchFacts
from driftloop.fine_tuning import core
from driftloop.frame import Window
from driftloop.holdout import row_keys
from driftloop.metrics import METRICS, Predictions
from driftloop.recipe import build
from driftloop.training import folds

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Running
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

SEARCH_ROWS = 100_000  # more would not tell parameters apart better, only later
STARTING_TRIALS = 5  # of which none is pruned: there is too little to prune by
STATES: dict[str, Literal["complete", "pruned", "failed"]] = {"COMPLETE": "complete", "PRUNED": "pruned"}
KILLED, LATE = "the process ended", "out of time"
DRAWS = 10  # of TPE, before what it has not tried is taken in order
Clock = Callable[[], float]


@dataclass(frozen=True)
class Trial:
    """Parameters that were tried, and the metric on each fold they got to; ``why``: what a failed one failed of."""

    params: dict[str, Any]
    folds: tuple[float, ...]
    state: Literal["complete", "pruned", "failed"]
    began: datetime
    ended: datetime
    why: str | None = None

    @property
    def score(self) -> float | None:
        """The mean over the folds; None before the first."""
        return float(np.mean(self.folds)) if self.folds else None


@dataclass(frozen=True)
class Searched:
    """What became of a recipe's search. ``seconds`` are those of all its runs, where it was killed and taken up again.

    ``recipe`` has the best parameters: those given where no trial came to its end.
    """

    recipe: Recipe
    metric: str
    trials: tuple[Trial, ...]
    best: Trial | None
    seconds: float

    @property
    def facts(self) -> SearchFacts:
        states = [trial.state for trial in self.trials]
        return SearchFacts(
            metric=self.metric,
            best=self.best.score if self.best else None,
            params=self.best.params if self.best else {},
            trials=len(states),
            pruned=states.count("pruned"),
            failed=states.count("failed"),
            seconds=round(self.seconds, 3),
        )


def require(loop: Loop) -> None:
    """Raise ContractError where a space names what its estimator does not take, or a recipe would get no trial."""
    spaces, asked = [recipe for recipe in loop.model.recipes if recipe.space], loop.model.search
    if asked and asked.trials < len(spaces):
        raise ContractError(
            f"loop.toml: model.search.trials = {asked.trials}: expected at least {len(spaces)}, one for each of the "
            f"candidates with a space"
        )
    for recipe in spaces:
        for name, values in recipe.space.items():
            space.require_one_kind(recipe, name, values)
            any_value = space.plain(values.choices[0]) if values.choices else values.low
            try:
                build(loop, recipe.model_copy(update={"params": recipe.params | {name: any_value}}))
            except ContractError as error:
                raise ContractError(
                    f"loop.toml: the space of {recipe.name} has {name}, which it refuses: {error}"
                ) from None


def tune(
    loop: Loop, training: Window, store: Path, clock: Clock = time.monotonic, *, sources: str = ""
) -> tuple[Searched, ...]:
    """A search for each recipe with a space, one after another; they share the trials and the seconds of the loop.

    ``store``: the database in which trials outlive the process; searched again on the same rows, it goes on there, and
    what is complete is only read. ``sources`` tells an edited module of the loop's own apart, see own.sources. The
    parameters given in loop.toml are the first trial.
    """
    asked, recipes = loop.model.search, [recipe for recipe in loop.model.recipes if recipe.space]
    if asked is None:
        return ()
    require(loop)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    store.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a search tries what does not converge
        storage = optuna.storages.RDBStorage(f"sqlite:///{store}", {"creator": lambda: _opened(store)})
        try:
            rows = Rows(loop, training, asked.folds)
            studies = [_Study(loop, recipe, rows, storage, clock, sources) for recipe in recipes]
            for n, study in enumerate(studies):
                left = asked.timeout_s - sum(one.seconds for one in studies)
                study.run(asked.trials // len(studies) + (n < asked.trials % len(studies)), left / (len(studies) - n))
            return tuple(study.found for study in studies)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _opened(store: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(store, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing by it, and a trial writes 30 times
    return connection


@dataclass(frozen=True)
class Part:
    """One fold: which rows are learnt from, and which are scored. Places of rows, shape (rows,)."""

    learnt: np.ndarray
    held: np.ndarray


def parts(loop: Loop, training: Window, count: int) -> list[Part]:
    """``count`` folds as the holdout is: by time the next block after those learnt from, else entities or rows apart.

    Those that the loop's metric cannot be told on are left out.
    """
    in_order = loop.holdout.by == "time"
    if in_order:
        training = replace(training, entity=None)  # the holdout too has later rows of those learnt from
    elif training.entity is None:
        training = replace(training, entity=row_keys(training.X))
    fold = folds(training, in_order=in_order, count=count + in_order, most=SEARCH_ROWS)
    y, found = training.truth.to_numpy(), []
    for held in range(int(in_order), count + in_order):
        learnt = (fold >= 0) & ((fold < held) if in_order else (fold != held))
        part = Part(np.flatnonzero(learnt), np.flatnonzero(fold == held))
        classes = loop.task != "regression" and set(np.unique(y[fold >= 0])) != set(np.unique(y[part.learnt]))
        if len(part.learnt) and len(np.unique(y[part.held])) > 1 and not classes:
            found.append(part)
    return found


class Rows:
    """The folds of the training rows, encoded once for all trials that want the same preprocessing."""

    def __init__(self, loop: Loop, training: Window, count: int) -> None:
        self.loop, self.training, self.parts = loop, training, parts(loop, training, count)
        self.fingerprint = training.fingerprint
        self._encoded: dict[int, tuple[Any, Any]] = {}
        self._preprocessing: object = None

    def encoded(self, recipe: Recipe, place: int) -> tuple[Any, np.ndarray, Any, np.ndarray]:
        """(X, y) to learn from and (X, y) to be scored on, of the fold at ``place``."""
        preprocessing = build(self.loop, recipe)[:-1]
        if (named := _key(preprocessing)) != self._preprocessing:
            self._encoded, self._preprocessing = {}, named
        part, X, y = self.parts[place], self.training.X, self.training.truth
        labels = y.astype(int).to_numpy() if self.loop.task != "regression" else y.to_numpy()
        if place not in self._encoded:
            learnt = preprocessing.fit_transform(X.iloc[part.learnt], labels[part.learnt])
            self._encoded[place] = (learnt, preprocessing.transform(X.iloc[part.held]))
        learnt, held = self._encoded[place]
        return learnt, labels[part.learnt], held, labels[part.held]


class _Study:
    """The search of one recipe, as far as it has come."""

    def __init__(self, loop: Loop, recipe: Recipe, rows: Rows, storage: RDBStorage, clock: Clock, sources: str) -> None:
        import optuna

        assert loop.model.search is not None, "there is a search for each study"
        self.loop, self.recipe, self.rows, self.clock = loop, recipe, rows, clock
        self.metric = METRICS[loop.promotion.metric]
        self.space = {name: space.distribution(values) for name, values in recipe.space.items()}
        key = [loop.digest, rows.fingerprint, recipe.model_dump_json(), *([sources] if sources else [])]
        self.study: Study = optuna.create_study(
            storage=storage,
            study_name=f"{recipe.name} {_digest(*key)}",
            direction="maximize" if self.metric.higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(STARTING_TRIALS)
            if loop.model.search.pruning
            else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # its process was killed
        self.seconds, self.folds = self.study.user_attrs.get("spent", (0.0, 0))
        self.trials = self._ended()

    def _ended(self) -> tuple[Trial, ...]:
        return tuple(_trial(one) for one in self.study.get_trials(deepcopy=False) if one.state.is_finished())

    @property
    def best(self) -> Trial | None:
        """The earliest of the best."""
        sign = 1 if self.metric.higher_is_better else -1
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda trial: sign * float(np.mean(trial.folds)), default=None)

    @property
    def found(self) -> Searched:
        best = self.best
        recipe = self.recipe.model_copy(update={"params": best.params}) if best else self.recipe
        return Searched(recipe, self.metric.name, self.trials, best, self.seconds)

    def run(self, trials: int, seconds: float) -> None:
        """Go on until there are ``trials`` of them in all, or ``seconds`` more have passed."""
        until = self.clock() + seconds
        while self.rows.parts and (done := len(self.trials)) < trials and self.clock() < until:
            if self.folds and self.clock() + self.seconds / self.folds * len(self.rows.parts) > until:
                break  # it would not come to its end
            asked = self._ask(done)
            if asked is None:
                progress.tell(f"{self.recipe.name}: all of its space was tried in {done} trials")
                break
            trial, params, given = asked
            self._try(trial, params, until, may_prune=not given)
            self.trials = self._ended()
            progress.tell(self._line(trials))
            if self.trials[-1].why == LATE:
                break

    def _ask(self, done: int) -> tuple[Running, dict[str, Any], bool] | None:
        """The next trial and its parameters: those given, until they were tried to an end, then what was not tried yet.

        None where nothing is left to try.
        """
        from optuna.trial import TrialState

        first = _told(self.recipe.params)
        given = not any(_told(t.params) == first and t.why not in (KILLED, LATE) for t in self.trials)
        values = _defaults(self.loop, self.recipe) if given else self._next(done)
        if values is None:
            return None
        inside = not given or all(space.holds(one, values.get(name)) for name, one in self.recipe.space.items())
        if inside and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial({name: space.drawn(values[name]) for name in self.space})
        trial = self.study.ask(self.space if inside else None)  # TPE learns nothing of what lies outside its space
        drawn = {} if given else space.given(self.recipe, trial.params)
        return trial, self.recipe.params | drawn, given

    def _next(self, done: int) -> dict[str, Any] | None:
        """What TPE draws that no trial has had; where it insists on those, the first that none has had, if any.

        The same values would come to the same score, as the folds and the seeds are the same.
        """
        import optuna

        ended = [one for one in self.study.get_trials(deepcopy=False) if one.state.is_finished()]
        tried = [one.params for one in ended if one.user_attrs.get("why") != LATE and "folds" in one.user_attrs]
        beside = optuna.create_study(direction=self.study.direction)  # in memory: what it draws is not a trial yet
        beside.add_trials(ended)
        for again in range(DRAWS):
            # a sampler of its own for each: a search that was taken up again does not draw the same once more
            beside.sampler = optuna.samplers.TPESampler(seed=done + again * space.MANY)
            drawn = beside.ask(self.space).params
            if drawn not in tried:
                return drawn
        axes = [space.every(one) for one in self.recipe.space.values()]
        if any(axis is None for axis in axes):
            return drawn
        every = (dict(zip(self.space, one, strict=True)) for one in itertools.product(*(axis or () for axis in axes)))
        return next((one for one in every if one not in tried), None)

    def _try(self, trial: Running, params: dict[str, Any], until: float, *, may_prune: bool) -> None:
        """Fold by fold, as long as the next one would end in time, were it to take what those before did."""
        from optuna.trial import TrialState

        trial.set_user_attr("params", params)
        recipe, values = self.recipe.model_copy(update={"params": params}), list[float]()
        began, spent = self.clock(), self.seconds

        def end(state: TrialState, why: str | None = None) -> None:
            trial.set_user_attr("folds", values)
            if why:
                trial.set_user_attr("why", why[:500])
            self.study.tell(trial, float(np.mean(values)) if state == TrialState.COMPLETE else None, state)

        for place in range(len(self.rows.parts)):
            if place and self.clock() + (self.clock() - began) / place > until:
                return end(TrialState.FAIL, LATE)
            try:
                values.append(self._value(recipe, place))
            except Exception as error:  # noqa: BLE001  # an estimator may be anybody's, and refuse what was drawn
                return end(TrialState.FAIL, f"{type(error).__name__}: {error}")
            self.seconds, self.folds = spent + self.clock() - began, self.folds + 1
            self.study.set_user_attr("spent", (self.seconds, self.folds))  # at once: a killed search has spent it
            trial.report(float(np.mean(values)), place)
            if may_prune and place + 1 < len(self.rows.parts) and trial.should_prune():
                return end(TrialState.PRUNED)
        return end(TrialState.COMPLETE)

    def _value(self, recipe: Recipe, place: int) -> float:
        X, y, held, truth = self.rows.encoded(recipe, place)
        scores = score(build(self.loop, recipe)[-1].fit(X, y), held, self.loop.task, self.rows.training.labels)
        threshold = best_f1_threshold(truth, scores) if self.metric.of_labels and self.loop.task == "binary" else 0.5
        value = self.metric(truth, Predictions(scores, threshold))
        if not np.isfinite(value):
            raise ValueError(f"{self.metric.name} is {value}")
        return value

    def _line(self, trials: int) -> str:
        last, best = self.trials[-1], self.best
        came_to = f"{self.metric.name} {last.score:.4f}" if last.state == "complete" else last.why or last.state
        so_far = "" if best is None else f", best {self.metric.name} so far {best.score:.4f}"
        return f"{self.recipe.name}: trial {len(self.trials)} of at most {trials}: {came_to}{so_far}"


def _trial(frozen: FrozenTrial) -> Trial:
    assert frozen.datetime_start is not None, "it ran"
    assert frozen.datetime_complete is not None, "it ended"
    state = STATES.get(frozen.state.name, "failed")
    return Trial(
        params=dict(frozen.user_attrs.get("params", {})),
        folds=tuple(frozen.user_attrs.get("folds", ())),
        state=state,
        began=frozen.datetime_start.astimezone(UTC),
        ended=frozen.datetime_complete.astimezone(UTC),
        why=str(frozen.user_attrs.get("why", KILLED)) if state == "failed" else None,
    )


def _defaults(loop: Loop, recipe: Recipe) -> dict[str, Any]:
    """The estimator's parameters as given, and its own where none is."""
    return dict(core(build(loop, recipe)).get_params(deep=False))


def _told(params: dict[str, Any]) -> str:
    """What tells parameters apart: NaN is not equal to itself."""
    return json.dumps(params, sort_keys=True, default=str)


def _key(preprocessing: Any) -> object:
    """What tells two ways of preprocessing apart; nothing is the same as one that cannot be written down."""
    try:
        return pickle.dumps(preprocessing)
    except (pickle.PicklingError, AttributeError, TypeError):
        return object()


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()
