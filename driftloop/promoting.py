"""From labelled windows to a candidate that is a version, tried in a clean process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from driftloop import contest, error_model, evaluation, evidence, progress
from driftloop.artifact import Artifact, predictions, score
from driftloop.contract import Loop
from driftloop.entry import Kind
from driftloop.errors import ArtifactError, ContractError, LabelsNotReady, NotInRegistry, WindowError
from driftloop.evidence import Evidence
from driftloop.exporting import export
from driftloop.facts import Facts, Version
from driftloop.frame import Window
from driftloop.holdout import unseen
from driftloop.importance import permutation_importance
from driftloop.metrics import Predictions
from driftloop.monitoring import read_labelled, require_rule, require_same_task
from driftloop.promotion import ServingCheck
from driftloop.registry import library_versions
from driftloop.report import Json, window_report
from driftloop.scores import baseline, evaluate
from driftloop.serving_check import Request
from driftloop.settings import without_password
from driftloop.storage import shown
from driftloop.strategy import Base, TrainingSet, joined, training_set, window_limit
from driftloop.training import Candidate, fit_set, recipe_of, refit, split_parts
from driftloop.workspace import Champion, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from driftloop.search import Searched

Predict = Callable[["pd.DataFrame"], Predictions]


@dataclass(frozen=True)
class TrainingData:
    """The training rows of each labelled window, oldest first, the comparison's holdout rows, and windows left out."""

    parts: tuple[Window, ...]
    holdout: Window
    left_out: tuple[WindowError, ...]

    @property
    def windows(self) -> tuple[str, ...]:
        return tuple(part.id for part in self.parts)

    @cached_property
    def training(self) -> Window:
        """All training rows, named after the newest window."""
        return joined(self.parts)


@dataclass(frozen=True)
class Registered:
    """A candidate as a version, and what a clean process found that loaded it."""

    candidate: Candidate
    version: str
    serving: ServingCheck

    @property
    def predict(self) -> Predict:
        return self.candidate.predict


def training_data(
    work: Workspace, until: str, champion: Champion | None, strategies: Sequence[str] = ()
) -> TrainingData:
    """From as many labelled windows up to ``until`` as the strategies need; the loop's own when left out.

    Raises LabelsNotReady when there is none, ContractError when there is no such window, and as require_comparable.
    """
    if until not in (ids := work.windows.ids()):
        raise ContractError(f"there is no window {until}; there are {', '.join(ids)}.")
    labels = champion.artifact.facts.labels if champion else None
    limit = window_limit(*(strategies or work.loop.training.names))
    good, bad = read_labelled(work, until, limit=limit, labels=labels)
    if not good:
        raise LabelsNotReady(
            f"no window up to {until} has usable labels, so there is nothing to train on. Labels are read from "
            f"{shown(work.loop.windows.labels or f'the column {work.loop.target} of each window')}."
        )
    if good[-1].labels is not None and len(good[-1].labels) < 2:
        raise LabelsNotReady(
            f"all labels up to {until} are {good[-1].labels[0]}: there is nothing to tell apart yet. Train when others "
            f"are in."
        )
    parts, holdout = split_parts(good, work.rule)
    work.make_room(sum(len(part.X) for part in parts))
    if champion:
        holdout = unseen(champion.artifact.facts.adopted, holdout)
    data = TrainingData(parts, holdout, tuple(bad))
    if champion:
        require_comparable(work, champion, data)
    return data


def require_comparable(work: Workspace, champion: Champion, data: TrainingData) -> None:
    """Raise unless the champion may be scored on the data's holdout, beside a candidate trained on its other rows.

    HoldoutMismatch when the champion was trained under another rule; ContractError when it learnt another task or
    newer windows than these, or was adopted and may have seen some of these rows.
    """
    require_same_task(work.loop, champion)
    facts = champion.artifact.facts
    if data.holdout.labels != facts.labels:
        raise ContractError(
            f"champion {champion.version} learnt the labels {', '.join(facts.labels or ())}, the candidate "
            f"{', '.join(data.holdout.labels or ())}: their scores do not compare. Train again."
        )
    require_rule(work, facts, champion.version)
    if data.windows[-1] < facts.windows[-1]:
        raise ContractError(
            f"the newest usable labels are those of {data.windows[-1]}, older than {facts.windows[-1]}, which champion "
            f"{champion.version} was trained on: a candidate without them is no successor. Train on a newer window."
        )
    if facts.adopted and (data.holdout.X.empty or len(unseen(facts.adopted, data.holdout).X) < len(data.holdout.X)):
        raise ContractError(
            f"champion {champion.version} was adopted as trained until {facts.adopted.until}, and no labelled row is "
            f"held out in {data.windows[-1]} that is later: whichever it is scored on, it may have seen. Train again "
            f"when the labels of a newer window are in."
        )
    if facts.refit_of and data.windows[-1] == facts.windows[-1]:
        raise ContractError(
            f"champion {champion.version} was refitted with all rows of {facts.windows[-1]}, the newest usable labels "
            f"there are: none is left that it never saw. Train again when the labels of a newer window are in."
        )


def train(work: Workspace, data: TrainingData, champion: Champion | None = None) -> Candidate:
    """A fitted candidate with its score on the holdout.

    Of several recipes or strategies the one that a contest on validation rows chose. It is compiled if that makes no
    difference to it. ``champion``: what fine_tune goes on from.
    """
    work.checks.start()  # its imports are done by the time there is a version to try
    loop, recipes, base = work.loop, work.loop.model.recipes, _base(champion)
    several = len(contest.ways(loop, recipes)) > 1
    aside = contest.set_aside(loop, data.parts) if several else contest.Aside(data.parts, None)
    searched = _searched(work, aside.parts, base)
    better = {found.recipe.name: found.recipe for found in searched}
    chosen = contest.hold(loop, [better.get(recipe.name, recipe) for recipe in recipes], aside, base)
    if searched:
        progress.tell(f"fitting {chosen.recipe.name} on all training rows")
    learnt = training_set(chosen.strategy, data.parts, recipe=chosen.recipe, base=base, seed=loop.name)
    candidate = fit_set(loop, chosen.recipe, learnt, str(work.rule))
    scores = score(candidate.estimator, data.holdout.X, loop.task, candidate.facts.labels)
    predicted = predictions(scores, candidate.facts)
    found = {
        "metrics": evaluate(loop, data.holdout, predicted),
        "baseline": baseline(loop, learnt.rows, data.holdout),
        "contest": chosen.contest,
        "search": next((one.facts for one in searched if one.recipe == chosen.recipe and not learnt.base), None),
    }
    facts = candidate.facts.model_copy(update=found)
    plots = evaluation.page(facts, data.holdout.truth.to_numpy(), predicted)
    kept = kept_of(loop, data.holdout, scores)
    judged = replace(candidate, facts=facts, evaluation=plots, searched=searched, evidence=kept)
    return compiled(judged, data.holdout.X)


def _searched(work: Workspace, parts: Sequence[Window], base: Base | None) -> tuple[Searched, ...]:
    """Parameters searched for on what the preferred strategy learns from; none where the champion just learns on."""
    loop = work.loop
    if loop.model.search is None:
        return ()
    from driftloop import search

    strategy = next((name for name in loop.training.names if name != "fine_tune"), "fine_tune")
    learnt = training_set(strategy, parts, recipe=loop.model.recipes[0], base=base, seed=loop.name)
    store = work.settings.home / "searches" / f"{loop.name}.db"
    return () if learnt.base else search.tune(loop, learnt.rows, store, sources=work.sources)


def learnt_again(work: Workspace, facts: Facts, parts: Sequence[Window]) -> TrainingSet:
    """What a version learnt from, made of the parts anew."""
    base = None if facts.tuned_from is None else _base(Champion(facts.tuned_from, stored(work, facts.tuned_from)))
    strategy = facts.strategy or work.loop.training.names[0]  # from before versions said so
    learnt = training_set(strategy, parts, recipe=recipe_of(work.loop, facts), base=base, seed=work.loop.name)
    return replace(learnt, note=facts.note) if strategy == "fine_tune" else learnt  # it knows why there is no base


def _base(champion: Champion | None) -> Base | None:
    return Base(champion.version, champion.artifact.estimator, champion.artifact.facts) if champion else None


def kept_of(loop: Loop, holdout: Window, scores: np.ndarray) -> Evidence:
    """What a version keeps of the labelled holdout that it gave ``scores`` on; of a regression with its errors."""
    kept = evidence.keep(holdout.truth.to_numpy(), scores)
    if loop.task != "regression":
        return kept
    X = holdout.X.iloc[evidence.drawn(len(scores))]
    return replace(kept, errors=error_model.learn(loop, X, kept))


def compiled(candidate: Candidate, rows: pd.DataFrame) -> Candidate:
    """The candidate with its graph where that agrees on ``rows`` and odd ones; its facts say what came of it."""
    made = export(candidate.estimator, candidate.facts, rows)
    return replace(candidate, facts=candidate.facts.model_copy(update={"compiled": made.facts}), compiled=made.content)


def weighed(loop: Loop, candidate: Candidate, holdout: Window) -> Candidate:
    """The candidate with what its features matter to its score on the holdout, which is labelled."""
    facts = candidate.facts

    def predict(X: pd.DataFrame) -> Predictions:  # not by the graph, which takes longer for rows by the thousand
        return predictions(score(candidate.estimator, X, facts.task, facts.labels), facts)

    found = permutation_importance(loop.promotion.metric, holdout.X, holdout.truth.to_numpy(), predict)
    if found is None:
        return candidate
    return replace(candidate, facts=facts.model_copy(update={"importance": found.means}), importance=found)


def check_serving(work: Workspace, candidate: Candidate, version: str, rows: pd.DataFrame) -> Registered:
    """Load the version in a clean process as the API would, and see that it scores ``rows`` as the candidate did."""
    return Registered(candidate, version, work.checks.check(_question(work, candidate, version, rows)))


def _question(work: Workspace, candidate: Candidate, version: str, rows: pd.DataFrame) -> Request:
    scores = score(candidate.estimator, rows, work.loop.task, candidate.facts.labels)
    return Request(work.settings, work.loop.name, version, rows, scores)


def try_and_weigh(work: Workspace, candidate: Candidate, version: str, holdout: Window) -> Registered:
    """``check_serving``; which features the score rests on is found out meanwhile, and kept with the version."""

    def weigh() -> Candidate:
        with threadpool_limits(1):  # more threads of OpenMP's than processors left would wait for each other
            return weighed(work.loop, candidate, holdout)

    question = _question(work, candidate, version, holdout.X)
    with ThreadPoolExecutor(1) as beside:
        known = beside.submit(weigh)
        found = work.checks.check(question)
        made = Registered(known.result(), version, found)
    if made.candidate.importance:
        work.registry.keep_importance(version, made.candidate.importance)
    return made


def stored(work: Workspace, version: str) -> Artifact:
    """A version of this loop, loaded. Raises NotInRegistry, or ArtifactError for another loop's model."""
    nowhere = NotInRegistry(
        f"MLflow at {without_password(work.settings.tracking_uri)} holds no version {version} of {work.loop.name}."
    )
    if not version.isdecimal():
        raise nowhere
    try:
        found = work.model(version)
    except NotInRegistry:
        raise nowhere from None
    if found.facts.loop != work.loop.name:
        raise ArtifactError(f"version {version} belongs to the loop {found.facts.loop}, not to {work.loop.name}.")
    return found


def asked_by(work: Workspace, window: str, verdict: int | None) -> Json:
    """What a decision's ledger row carries on: the verdict row's key and report, or a report of its own without one."""
    if verdict is None:
        champion = work.ledger.champion()
        return {
            "key": None,
            "report": window_report(work.loop.name, window, retrain=True, reason="asked by hand", champion=champion),
        }
    asked = [entry for entry in work.ledger.entries(window) if entry.seq == verdict and entry.kind is Kind.VERDICT]
    if not asked:
        raise ContractError(f"verdict = {verdict}: the ledger has no such verdict on window {window}.")
    return dict(asked[0].details)


def register(work: Workspace, candidate: Candidate, window: str) -> Version:
    """Store the candidate as a version, with Evidently's page of ``window``, which asked for it, beside its run."""
    loop, page = work.loop, work.report_page(window)
    report = page.read_text(encoding="utf-8") if page.exists() else None
    facts = candidate.facts
    recipe = recipe_of(loop, facts)
    params = {
        "estimator": recipe.estimator,
        "strategy": facts.strategy,
        "windows": ",".join(facts.windows),
        "rows": facts.rows,
        "holdout": str(work.rule),
        **{f"model.{name}": value for name, value in recipe.params.items()},
    }
    return work.registry.register(candidate, params, tags_of(work, candidate, window), report)


def refitted(work: Workspace, made: Registered, data: TrainingData, window: str) -> Registered:
    """The judged recipe fitted again with the holdout's rows among its own: a version, with its own serving check."""
    work.checks.start()
    *earlier, newest = data.parts
    learnt = learnt_again(work, made.candidate.facts, [*earlier, joined([newest, data.holdout])])
    again = compiled(refit(work.loop, made.candidate, made.version, learnt), data.holdout.X)
    return check_serving(work, again, register(work, again, window).number, data.holdout.X)


def tags_of(work: Workspace, candidate: Candidate, window: str) -> dict[str, str]:
    """What a version says of itself in MLflow's lists."""
    facts = candidate.facts
    tags = {
        "loop": work.loop.name,
        "window": window,
        "windows": ",".join(facts.windows),
        "rows": str(facts.rows),
        "fingerprint": facts.fingerprint,
        "holdout": facts.holdout,
        "strategy": facts.strategy,
        **({"effective_rows": f"{facts.effective_rows:.0f}"} if facts.effective_rows is not None else {}),
        **({"tuned_from": facts.tuned_from} if facts.tuned_from else {}),
        **({"refit_of": facts.refit_of} if facts.refit_of else {}),
        **({"adopted": facts.adopted.source, "trained_until": facts.adopted.until} if facts.adopted else {}),
        **({"compiled": str(facts.compiled)} if facts.compiled else {}),
        **{name: f"{value:.6g}" for name, value in facts.search_metrics.items()},
        "libraries": ", ".join(f"{name} {version}" for name, version in library_versions().items()),
    }
    return tags | {"git_commit": _git_commit(work) or work.settings.git_commit}


def _git_commit(work: Workspace) -> str | None:
    """The commit the loop's folder is at; None outside a repository, before the first commit or without git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(work.folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
