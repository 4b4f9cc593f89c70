"""From labelled windows to a fitted candidate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from driftloop import fine_tuning
from driftloop.artifact import predictions, score
from driftloop.calibration import best_f1_threshold
from driftloop.category import MISSING
from driftloop.contract import Loop, Recipe
from driftloop.encoding import fit_transform
from driftloop.errors import ContractError, DriftloopError
from driftloop.evidence import Evidence
from driftloop.facts import Facts
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule, row_keys
from driftloop.importance import Importance
from driftloop.metrics import Predictions
from driftloop.recipe import build, in_one_thread, require_learnt
from driftloop.slices import quartiles
from driftloop.strategy import TrainingSet, joined, pieces

if TYPE_CHECKING:
    from driftloop.search import Searched

T = TypeVar("T")
SAMPLE_ROWS = 50
DRAWN_ROWS = 500  # of which the sample is taken
FOLDS = 3
BAGGED_TREES = 100  # of which a row is scored by some 37
FOLD_ROWS = 6_000  # the folds' fits together then cost less than the model's own; one number needs no more rows


@dataclass(frozen=True)
class Candidate:
    """A fitted pipeline with the facts that go into its version, its graph where it was compiled, and what counts.

    ``searched``: the searches for parameters that went before it, of each recipe.
    ``evaluation`` is a page of plots of its predictions on the holdout, ``evidence`` what it keeps of that.
    """

    estimator: Pipeline
    facts: Facts
    compiled: bytes | None = None
    importance: Importance | None = None
    searched: tuple[Searched, ...] = ()
    evaluation: str | None = None
    evidence: Evidence | None = None

    def predict(self, X: pd.DataFrame) -> Predictions:
        """Of rows in the form of a window's ``X``."""
        return predictions(score(self.estimator, X, self.facts.task, self.facts.labels), self.facts)


def require_strategies(loop: Loop) -> None:
    """Raise ContractError unless each recipe's estimator can learn by each of the loop's strategies."""
    asked = {name.partition(":")[0] for name in loop.training.names}
    if not asked & {"fine_tune", "reweight"}:
        return
    for recipe in loop.model.recipes:
        model = build(loop, recipe).steps[-1][1]
        if "fine_tune" in asked and fine_tuning.way(model) is None:
            raise ContractError(
                f'loop.toml: training.strategy "fine_tune": {recipe.estimator} cannot learn on from new rows: it has '
                f"neither partial_fit nor a warm_start that takes other rows. SGD, MLP, GradientBoosting and forests "
                f"can; or choose another strategy."
            )
        if "reweight" in asked and not _takes_weights(model):
            raise ContractError(
                f'loop.toml: training.strategy "reweight": {recipe.estimator} takes no sample_weight when it is '
                f"fitted. Choose an estimator that does, or another strategy."
            )
        if loop.training.learning_rate is not None and fine_tuning.rate_of(model) is None:
            why = (
                "'s scales what all its stages say, those of the champion too"
                if fine_tuning.scales_all(model)
                else " has no learning rate"
            )
            raise ContractError(f"loop.toml: training.learning_rate: {recipe.estimator}{why}; leave it out.")


def _takes_weights(model: Any) -> bool:
    inner = getattr(model, "regressor", model)
    return bool(has_fit_parameter(inner, "sample_weight"))


def split(windows: Sequence[Window], rule: HoldoutRule) -> tuple[Window, Window]:
    """(training rows of all windows, holdout rows of the newest), both labelled.

    ``windows`` are labelled, oldest first. The training part is named after the newest window.
    """
    parts, holdout = split_parts(windows, rule)
    return joined(parts), holdout


def split_parts(windows: Sequence[Window], rule: HoldoutRule) -> tuple[tuple[Window, ...], Window]:
    """(training rows of each window, holdout rows of the newest), all labelled; by time in the order of their times."""
    if any(window.truth.isna().any() for window in windows):
        raise ValueError("only labelled rows are split")
    if rule.by == "time":
        windows = [window.in_time for window in windows]
    newest = windows[-1]
    masks = [rule.mask(window, newest=window is newest) for window in windows]
    parts = pieces(windows, [~mask for mask in masks])
    return parts, replace(newest.where(masks[-1]), left_out=0)  # what was left out is counted once, with the parts


def fit(loop: Loop, windows: Sequence[str], training: Window, rule: HoldoutRule) -> Candidate:
    """Fit the loop's first recipe on the training rows, all alike. Raises as fit_set."""
    return fit_set(loop, loop.model.recipes[0], TrainingSet("all", tuple(windows), training), str(rule))


def fit_set(loop: Loop, recipe: Recipe, learnt: TrainingSet, rule: str) -> Candidate:
    """Fit the recipe on a training set; a binary one's threshold is chosen on the same rows, on folds or a forest's
    out-of-bag trees.

    Raises DriftloopError when the estimator refuses them.
    """
    pipeline = fitted(loop, recipe, learnt)
    scores = out_of_bag(loop, pipeline, learnt.rows) if learnt.base is None else None
    if scores is None:
        threshold = threshold_of(loop, recipe, learnt)
    else:
        threshold = best_f1_threshold(learnt.rows.truth.to_numpy(), scores, learnt.weights)
    return described(loop, recipe, learnt, rule, threshold, pipeline)


def _candidate(loop: Loop, recipe: Recipe, learnt: TrainingSet, rule: str, threshold: float | None) -> Candidate:
    return described(loop, recipe, learnt, rule, threshold, fitted(loop, recipe, learnt))


def described(
    loop: Loop, recipe: Recipe | None, learnt: TrainingSet, rule: str, threshold: float | None, pipeline: Pipeline
) -> Candidate:
    """A fitted pipeline with its facts, not yet scored. Without a recipe it was adopted, beside these rows."""
    training, base = learnt.rows, learnt.base
    in_one_thread(pipeline)
    sample = representative(training.X, lambda X: score(pipeline, X, loop.task, training.labels))
    facts = Facts(
        loop=loop.name,
        task=loop.task,
        target=loop.target,
        labels=training.labels,
        numeric=loop.columns.numeric,
        categorical=loop.columns.categorical,
        categories=base.facts.categories  # frozen with the encoder that knows them
        if base
        else {name: tuple(sorted(training.X[name].unique())) for name in loop.columns.categorical},
        windows=learnt.windows,
        rows=len(training.X),
        fingerprint=training.fingerprint,
        holdout=rule,
        metrics={},
        sample=tuple(_json_row(row) for row in sample.to_dict("records")),
        sample_scores=score(pipeline, sample, loop.task, training.labels).tolist(),
        threshold=threshold,
        quartiles=quartiles(training.X) | ({} if training.slicing is None else quartiles(training.slicing)),
        statistics=statistics({name: training.X[name] for name in loop.columns.numeric}),
        recipe=base.facts.recipe if base else recipe and recipe.model_dump(mode="json"),
        strategy=learnt.strategy,
        note=learnt.note,
        effective_rows=learnt.effective_rows,
        tuned_from=base.version if base else None,
        ranges=ranges({name: training.X[name] for name in loop.columns.numeric}),
        modes={name: str(training.X[name].mode()[0]) for name in loop.columns.categorical},
        left_out=training.left_out,
    )
    return Candidate(pipeline, with_base(facts, base.facts) if base else facts)


def representative(X: pd.DataFrame, scored: Callable[[pd.DataFrame], np.ndarray]) -> pd.DataFrame:
    """At most SAMPLE_ROWS of the rows, evenly over their scores, so that their mean score is about that of all rows."""
    drawn = X.iloc[_evenly(len(X), DRAWN_ROWS)]
    by_score = np.argsort(scored(drawn).reshape(len(drawn), -1)[:, -1], kind="stable")
    return drawn.iloc[np.sort(by_score[_evenly(len(drawn), SAMPLE_ROWS)])]


def _evenly(total: int, most: int) -> np.ndarray:
    """The middle places of at most so many parts of equal size, shape (parts,)."""
    parts = min(total, most)
    return ((np.arange(parts) + 0.5) * total / parts).astype(int)


def with_base(new: Facts, base: Facts) -> Facts:
    """The facts of new rows with those of the rows that the base had learnt from, which are not at hand.

    Means and deviations are pooled by rows. Quartiles, medians and modes do not add up: those of more rows stand.
    """
    rows, mostly_new = base.rows + new.rows, new.rows > base.rows
    share = new.rows / rows

    def spread(old: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
        apart = now[0] - old[0]
        variance = (1 - share) * old[1] ** 2 + share * now[1] ** 2 + share * (1 - share) * apart**2
        return old[0] + share * apart, math.sqrt(variance)

    def reach(old: tuple[float, float, float], now: tuple[float, float, float]) -> tuple[float, float, float]:
        return min(old[0], now[0]), (now if mostly_new else old)[1], max(old[2], now[2])

    modes = {name: mode for name, mode in new.modes.items() if mode in base.categories[name]}  # that its encoder knows
    found = {
        "rows": rows,
        "new_rows": new.rows,
        "left_out": base.left_out + new.left_out,
        "statistics": _both(base.statistics, new.statistics, spread),
        "ranges": _both(base.ranges, new.ranges, reach),
        "quartiles": _both(base.quartiles, new.quartiles, lambda old, now: now if mostly_new else old),
        "modes": _both(base.modes, modes, lambda old, now: now if mostly_new else old),
    }
    return new.model_copy(update=found)


def _both(old: Mapping[str, T], now: Mapping[str, T], of: Callable[[T, T], T]) -> dict[str, T]:
    """By column what is made of both, or the one there is."""
    return {**old, **now, **{name: of(old[name], now[name]) for name in old if name in now}}


def statistics(numbers: Mapping[str, pd.Series] | pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (of the rows, not of a population they stand for) of each column with a value."""
    present = ((str(name), column.dropna().to_numpy()) for name, column in numbers.items())  # one column at a time
    return {name: (float(x.mean()), float(x.std())) for name, x in present if len(x)}


def ranges(numbers: Mapping[str, pd.Series] | pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Smallest, median and largest value of each column with one; the median is a value that is there."""
    present = ((str(name), column.dropna().to_numpy()) for name, column in numbers.items())
    found = {name: np.quantile(x, (0, 0.5, 1), method="lower").tolist() for name, x in present if len(x)}
    return {name: (low, middle, high) for name, (low, middle, high) in found.items()}


def refit(loop: Loop, judged: Candidate, version: str, learnt: TrainingSet) -> Candidate:
    """The recipe of a judged candidate fitted again on a set with the holdout's rows, which it was judged on, in it.

    What was measured stays that of the judged one, threshold, plots and kept scores too: nothing is left to measure
    this one's on.
    """
    again = _candidate(loop, recipe_of(loop, judged.facts), learnt, judged.facts.holdout, judged.facts.threshold)
    measured = ("metrics", "baseline", "importance", "contest", "search")
    kept = {"refit_of": version} | {name: getattr(judged.facts, name) for name in measured}
    facts = again.facts.model_copy(update=kept)
    return replace(
        again, facts=facts, importance=judged.importance, evaluation=judged.evaluation, evidence=judged.evidence
    )


def recipe_of(loop: Loop, facts: Facts) -> Recipe:
    """The recipe a version was made by; the loop's first one where it is from before versions said so."""
    return loop.model.recipes[0] if facts.recipe is None else Recipe.model_validate(facts.recipe)


class Encodings:
    """Fitted preprocessing and what it made of the rows, for the last rows asked for: models of a kind share it."""

    def __init__(self) -> None:
        self._rows: Window | None = None
        self._made: dict[str, tuple[Pipeline, Any]] = {}

    def of(self, unfitted: Pipeline, rows: Window, y: pd.Series) -> tuple[Pipeline, Any]:
        if rows is not self._rows:
            self._rows, self._made = rows, {}
        kind = repr([(name, repr(value)) for name, value in sorted(unfitted.get_params().items())])
        if kind not in self._made:
            self._made[kind] = (unfitted, fit_transform(unfitted, rows.X, y))
        return self._made[kind]


def fitted(loop: Loop, recipe: Recipe, learnt: TrainingSet, encodings: Encodings | None = None) -> Pipeline:
    """The recipe's pipeline, or the set's base, after it has learnt. Raises DriftloopError."""
    X, y = learnt.rows.X, learnt.rows.truth
    y = y if loop.task == "regression" else y.astype(int)
    try:
        if learnt.base:
            asked = loop.training
            return fine_tuning.tuned(learnt.base.estimator, X, y, asked.epochs, asked.learning_rate)
        pipeline = build(loop, recipe)
        encode = pipeline[:-1]
        if encodings is None:
            Z = fit_transform(encode, X, y)
        else:
            encode, Z = encodings.of(encode, learnt.rows, y)
        name, model = pipeline.steps[-1]
        model.fit(Z, y, **({} if learnt.weights is None else {"sample_weight": learnt.weights}))
        require_learnt(model, loop.task)
    except Exception as error:  # an estimator may be anybody's, and raise classes of its own
        raise DriftloopError(
            f"{recipe.estimator} could not be trained on {', '.join(learnt.windows)}: {error}"
        ) from error
    return Pipeline([*encode.steps, (name, model)])


def threshold_of(loop: Loop, recipe: Recipe, learnt: TrainingSet) -> float | None:
    """The F1-optimal threshold of out-of-fold probabilities; None for other tasks, and where a fold lacks a class.

    By entity that of the base, where there is one.
    """
    if loop.task != "binary":
        return None
    if learnt.base and loop.holdout.by == "entity":
        return learnt.base.facts.threshold  # it knows older rows of any owner that a fold would hold back
    rows = learnt.rows
    if loop.holdout.by == "row" and rows.entity is None:
        rows = replace(rows, entity=row_keys(rows.X))
    fold = folds(rows, in_order=loop.holdout.by == "time")
    used = learnt.where(fold >= 0)
    fold, y = fold[fold >= 0], used.rows.truth.to_numpy()
    if any(len(np.unique(y[fold != held])) < 2 or not (fold == held).any() for held in range(FOLDS)):
        return None
    scores = np.empty(len(y))
    for held in range(FOLDS):
        model = fitted(loop, recipe, used.where(fold != held))
        scores[fold == held] = score(model, used.rows.X[fold == held], loop.task)
    return best_f1_threshold(y, scores, used.weights)


def out_of_bag(loop: Loop, pipeline: Pipeline, rows: Window) -> np.ndarray | None:
    """The event's probability for each training row by the trees of a forest that did not draw it, shape (rows,).

    None where that would not be honest or is not there: the rows of one owner, or of one time, tell of each other, and
    so do duplicates; another estimator; fewer than BAGGED_TREES trees. Costs no fit, where folds cost three.
    """
    forest = pipeline["model"]
    if loop.task != "binary" or not isinstance(forest, RandomForestClassifier | ExtraTreesClassifier):
        return None
    if not forest.bootstrap or len(forest.estimators_) < BAGGED_TREES or rows.y is None or rows.y.nunique() < 2:
        return None
    if loop.holdout.by == "time" or not (row_keys(rows.X) if rows.entity is None else rows.entity).is_unique:
        return None
    encoded = np.asarray(pipeline[:-1].transform(rows.X), dtype=np.float32)
    event, total, votes = list(forest.classes_).index(1), np.zeros(len(encoded)), np.zeros(len(encoded))

    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        left = np.ones(len(encoded), dtype=bool)
        left[drawn] = False
        total[left] += tree.predict_proba(encoded[left], check_input=False)[:, event]
        votes[left] += 1
    return total / votes if votes.all() else None


def folds(training: Window, *, in_order: bool, count: int = FOLDS, most: int = FOLD_ROWS) -> np.ndarray:
    """The fold of each row, shape (rows,), from 0 to ``count``; -1 for rows left out so that ``most`` or so are in one.

    An entity's rows share a fold, else its neighbours would tell its label. Without entities, ``in_order`` makes
    folds blocks in the rows' order, of the newest rows, those of one instant in one unless it fills it; else they are
    drawn with a fixed seed.
    """
    n = len(training.X)
    if in_order and training.entity is None:
        kept = min(n, most)
        block = np.arange(kept) * count // kept
        if training.timestamp is not None:
            block = _by_instant(block, training.timestamp.iloc[n - kept :])
        return np.append(np.full(n - kept, -1), block)
    owner = np.arange(n) if training.entity is None else pd.factorize(training.entity)[0]
    owners = int(owner.max()) + 1
    place = np.random.default_rng(0).permutation(owners)[owner]
    return np.where(place < owners * min(1.0, most / n), place % count, -1)


def _by_instant(block: np.ndarray, times: pd.Series) -> np.ndarray:
    """Each row in the block of the first one of its instant, shape (rows,); as they were where one would be empty."""
    first = np.where(times.ne(times.shift()), np.arange(len(times)), 0)
    together: np.ndarray = block[np.maximum.accumulate(first)]
    return together if len(np.unique(together)) == len(np.unique(block)) else block


def _json_row(row: dict[Any, Any]) -> dict[str, float | str | None]:
    """A row as a client would send it: a missing value is null."""
    return {name: None if value != value or value == MISSING else value for name, value in row.items()}
