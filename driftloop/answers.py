"""The champion's answers on a window beside its labels, beside those on its holdout, and what they let expect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from driftloop import columnar, error_model, estimation
from driftloop.columnar import Summary
from driftloop.evidence import Evidence
from driftloop.facts import Facts
from driftloop.frame import Window
from driftloop.holdout import unseen
from driftloop.metrics import METRICS, Array, Predictions
from driftloop.paired import EXACT, Spread, lower_bound, spread
from driftloop.retrain import ColumnDrift, Estimate, Performance
from driftloop.scores import comparable, evaluate
from driftloop.workspace import Champion, Workspace

if TYPE_CHECKING:
    from driftloop.contract import Loop

PREDICTION = "prediction"
EXPECTED = 5  # rows, the usual least of a chi-square test


@dataclass(frozen=True)
class Answers:
    """What the champion says of rows of a window that it never learnt from."""

    rows: Window
    predictions: Predictions


@dataclass(frozen=True)
class Findings:
    """Of the champion on a window; None is what could not be had, and ``notes`` say why."""

    performance: Performance | None = None
    prediction: ColumnDrift | None = None
    estimated: Estimate | None = None
    notes: tuple[str, ...] = ()


def findings(work: Workspace, champion: Champion, current: Window) -> Findings:
    """The champion's performance where labels are in, its answers' drift, and the performance they let expect."""
    said = answers(work, champion, current)
    if said is None:
        return Findings(notes=(f"champion {champion.version} has learnt from all rows of this window",))
    kept = champion.artifact.evidence
    if kept is None:
        told = f"champion {champion.version} kept no scores of its holdout: the drift of its answers cannot be told"
        note = f"{told}, nor its performance without labels"
        return Findings(measure_performance(work, champion, said), notes=(note,))
    estimated, why_not = estimate_performance(work.loop, champion, said)
    return Findings(
        measure_performance(work, champion, said),
        prediction_drift(champion.artifact.facts, kept, said.predictions),
        estimated,
        (why_not,) if why_not else (),
    )


def answers(work: Workspace, champion: Champion, current: Window) -> Answers | None:
    """On all rows of the window; on its labelled holdout only where the champion was trained on the others.

    None where it was refitted with those too, or where an adopted one may have seen them all.
    """
    facts, rows = champion.artifact.facts, unseen(champion.artifact.facts.adopted, current)
    if facts.adopted is None and current.id in facts.windows:
        if facts.refit_of or not current.labelled_rows:
            return None
        rows = current.labelled
        rows = rows.where(work.rule.mask(rows, newest=True))
    return None if rows.X.empty else Answers(rows, champion.artifact.predict(rows.X))


def measure_performance(work: Workspace, champion: Champion, said: Answers) -> Performance | None:
    """The champion's metric on the labelled rows, as it stands before any retraining; None while labels are not in."""
    if not said.rows.labelled_rows:
        return None
    assert said.rows.y is not None, "some of its rows are labelled"
    there = said.rows.y.notna().to_numpy()
    rows, predicted = said.rows.where(there), said.predictions[there]
    if not comparable(work.loop, rows):
        return None
    facts, metric = champion.artifact.facts, work.loop.promotion.metric
    value = evaluate(work.loop, rows, predicted)[metric]
    if facts.adopted and metric not in facts.metrics:
        return Performance(metric, value, len(rows.X), None)  # no later row had a label when it was adopted
    drop = estimation.drop_of(METRICS[metric], facts.metrics[metric], value)
    before, note = _promoted(metric, champion)
    now = spread(metric, rows.y.to_numpy(), predicted) if rows.y is not None else EXACT
    low = lower_bound(drop, now, before, work.loop.trigger.confidence)
    return Performance(metric, value, len(rows.X), drop, low, note)


def _promoted(metric: str, champion: Champion) -> tuple[Spread, str | None]:
    """How sure the score at promotion is, by the rows that are kept of those it was measured on."""
    kept, facts = champion.artifact.evidence, champion.artifact.facts
    if kept is None:
        return EXACT, "its score at promotion counts as exact: no scores of its holdout were kept"
    try:
        found = spread(metric, kept.y, kept.predictions(facts.threshold))
    except ValueError as error:
        return EXACT, f"its score at promotion counts as exact: {error}"
    return replace(found, variance=found.variance * len(kept.y) / kept.rows), None


def prediction_drift(facts: Facts, kept: Evidence, predictions: Predictions) -> ColumnDrift:
    """The answers now against those on the holdout, by the tests of a column of that size: numbers, or labels where
    there are several, of which the rare ones count as one.
    """
    column = columnar.Column(PREDICTION, numeric=facts.task != "multiclass")
    said = (_answered(facts, p) for p in (kept.predictions(facts.threshold), predictions))
    before, now = (columnar.summary(answers, column) for answers in said)
    if not column.numeric:
        before, now = _folded(before, now)
    return columnar.compare(before, now, column)


def _folded(before: Summary, now: Summary) -> tuple[Summary, Summary]:
    """Both sides with their rare labels as one: a chi-square test takes one label that is new for a proof of drift.

    A label is rare where fewer than ``EXPECTED`` of the shorter side would have it if both sides said it as often; so
    many make up that one.
    """
    rows = (before.rows, now.rows)
    counts = Counter[str]()
    for side in (before, now):
        counts.update(dict(zip(side.values.tolist(), side.counts.tolist(), strict=True)))
    expected = {label: count * min(rows) / sum(rows) for label, count in counts.items()}
    rare: list[str] = []
    for label in sorted(expected, key=lambda label: (expected[label], label)):
        if expected[label] >= EXPECTED and (not rare or sum(expected[one] for one in rare) >= EXPECTED):
            break
        rare.append(label)
    return _as_one(before, rare), _as_one(now, rare)


def _as_one(side: Summary, labels: Sequence[str]) -> Summary:
    counts = Counter[str]()
    for label, count in zip(side.values.tolist(), side.counts.tolist(), strict=True):
        counts[labels[-1] if label in labels else label] += count
    names = sorted(counts)
    return Summary(np.array(names, dtype=object), np.array([counts[name] for name in names], np.int64))


def _answered(facts: Facts, predictions: Predictions) -> Array:
    if facts.task != "multiclass":
        return predictions.scores
    said: Array = np.array(facts.labels, dtype=object)[predictions.labels.astype(int)]
    return said


def estimate_performance(loop: Loop, champion: Champion, said: Answers) -> tuple[Estimate | None, str | None]:
    """What the loop's metric would be, or the nearest that can be told; None with the reason why not."""
    facts, kept = champion.artifact.facts, champion.artifact.evidence
    assert kept is not None, "asked for where scores were kept"
    metric, confidence = estimation.estimable(loop.promotion.metric), loop.trigger.confidence
    if facts.task != "regression":
        try:
            promoted = facts.metrics.get(metric)
            return estimation.estimate(metric, kept, said.predictions, promoted, confidence), None
        except ValueError as error:
            return None, f"{metric} cannot be estimated without labels: {error}"
    if kept.errors is None:
        return None, f"{metric} cannot be estimated without labels: {len(kept.y)} holdout rows are too few for a model"
    if error_model.loss_of(metric) != kept.errors.loss:  # loop.toml has another metric since
        metric = "mae" if kept.errors.loss == "absolute" else "rmse"
    promoted = facts.metrics.get(metric)
    return error_model.estimate(metric, kept, said.rows.X, said.predictions.scores, promoted, confidence), None
