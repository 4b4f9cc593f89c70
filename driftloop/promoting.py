"""The steps from labelled windows to a new champion, each a plain function over a workspace."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from driftloop.artifact import score
from driftloop.card import model_card
from driftloop.errors import ChampionMoved, ContractError, LabelsNotReady, WindowError
from driftloop.frame import Window
from driftloop.holdout import require_same_rule
from driftloop.ledger import Entry, Kind
from driftloop.metrics import Score
from driftloop.monitoring import TRAININGS, read_labelled, require_same_task
from driftloop.promotion import Outcome, PromotionDecision, PromotionPolicy, decide_promotion
from driftloop.registry import Version, library_versions
from driftloop.report import Json, decision_json, training_json, window_report
from driftloop.training import Candidate, compare, evaluate, fit, split, window_limit
from driftloop.workspace import Champion, Workspace

ATTEMPTS = 10


@dataclass(frozen=True)
class TrainingData:
    """The windows a candidate trains on, their training rows, the comparison's holdout rows, and windows left out."""

    windows: tuple[str, ...]
    training: Window
    holdout: Window
    left_out: tuple[WindowError, ...]


def training_data(work: Workspace, until: str, champion: Champion | None) -> TrainingData:
    """By the loop's strategy, from the labelled windows up to ``until``.

    Raises LabelsNotReady when there is none, ContractError when there is no such window, and as require_comparable.
    """
    if until not in (ids := work.windows.ids()):
        raise ContractError(f"there is no window {until}; there are {', '.join(ids)}.")
    labels = champion.artifact.facts.labels if champion else None
    good, bad = read_labelled(work, until, limit=window_limit(work.loop.training.strategy), labels=labels)
    if not good:
        raise LabelsNotReady(
            f"no window up to {until} has usable labels, so there is nothing to train on. Labels are read from "
            f"{work.loop.windows.labels or f'the column {work.loop.target} of each window'}."
        )
    training, holdout = split(good, work.rule)
    data = TrainingData(tuple(window.id for window in good), training, holdout, tuple(bad))
    if champion:
        require_comparable(work, champion, data)
    return data


def require_comparable(work: Workspace, champion: Champion, data: TrainingData) -> None:
    """Raise unless the champion may be scored on the data's holdout, beside a candidate trained on its other rows.

    HoldoutMismatch when the champion was trained under another rule; ContractError when it learnt another task, or
    newer windows than these.
    """
    require_same_task(work.loop, champion)
    facts = champion.artifact.facts
    require_same_rule(facts.holdout, work.rule, champion.version)
    if data.windows[-1] < facts.windows[-1]:
        raise ContractError(
            f"the newest usable labels are those of {data.windows[-1]}, older than {facts.windows[-1]}, which champion "
            f"{champion.version} was trained on: a candidate without them is no successor. Train on a newer window."
        )


def train(work: Workspace, data: TrainingData) -> Candidate:
    """A fitted candidate with its score on the holdout."""
    candidate = fit(work.loop, data.windows, data.training, work.rule)
    scores = score(candidate.estimator, data.holdout.X, work.loop.task)
    return replace(
        candidate, facts=candidate.facts.model_copy(update={"metrics": evaluate(work.loop, data.holdout, scores)})
    )


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
    params = {
        "estimator": loop.model.estimator,
        "strategy": loop.training.strategy,
        "windows": ",".join(candidate.facts.windows),
        "rows": candidate.facts.rows,
        "holdout": str(work.rule),
        **{f"model.{name}": value for name, value in loop.model.params.items()},
    }
    return work.registry.register(candidate, params, _tags(work, candidate, window), report)


def decide(work: Workspace, candidate: Candidate, data: TrainingData, champion: Champion | None) -> PromotionDecision:
    """Compare the candidate with the champion on the holdout and decide.

    Raises as require_comparable: the champion may be another than when the training began.
    """
    metric, rows = work.loop.promotion.metric, data.holdout
    policy = PromotionPolicy(work.loop.promotion.delta, work.loop.promotion.confidence)
    if champion is None:
        own = Score(metric, candidate.facts.metrics[metric], len(rows.X), rows.fingerprint)
        return decide_promotion(own, None, None, policy)
    require_comparable(work, champion, data)
    task = work.loop.task
    comparison = compare(work.loop, rows, score(candidate.estimator, rows.X, task), champion.artifact.score(rows.X))
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy)


def decide_and_record(
    work: Workspace, candidate: Candidate, data: TrainingData, version: Version, window: str, details: Mapping[str, Any]
) -> tuple[PromotionDecision, Entry]:
    """Decide against the champion of this moment and write it down; when another run was faster, decide again.

    Returns the decision and the ledger row, whose details hold the whole report and the version's model card.
    """
    for _ in range(ATTEMPTS):
        champion = work.champion()
        decision = decide(work, candidate, data, champion)
        serving = version.number if decision.outcome is Outcome.PROMOTE else champion.version if champion else None
        report: Json = {
            **details["report"],
            "training": training_json(candidate.facts, version.number),
            "decision": decision_json(decision),
            "champion": {"version": serving} if serving else None,
        }
        card = model_card(candidate.facts, decision, report["drift"])
        try:
            entry = _append(
                work, decision, version.number, champion, window, {**details, "report": report, "card": card}
            )
        except ChampionMoved:
            continue
        return decision, entry
    raise ChampionMoved(
        f"the champion of {work.loop.name} changed {ATTEMPTS} times while version {version.number} was compared; "
        f"run again."
    )


def follow(work: Workspace, entry: Entry) -> None:
    """Let the registry follow a decision's ledger row: the alias first, then what explains it."""
    work.point_alias()  # not at this row's version by name: if yet another run promoted since, the alias is its
    assert entry.version is not None, "a decision is about a version"
    work.registry.explain(entry.version, entry.details["report"]["decision"], entry.details["card"])


def heal(work: Workspace) -> str | None:
    """Make the registry follow the ledger, which a crash between the two can leave behind.

    Returns what was healed, as a sentence. Raises DriftloopError when the registry names a champion that this ledger
    never heard of.
    """
    healed = work.point_alias()
    entry = work.ledger.last(TRAININGS)
    if entry is None or entry.version is None or work.registry.explained(entry.version):
        return healed
    follow(work, entry)
    return healed or f"version {entry.version} had no decision beside it"


def _append(
    work: Workspace,
    decision: PromotionDecision,
    version: str,
    champion: Champion | None,
    window: str,
    details: Mapping[str, Any],
) -> Entry:
    reason, actor = str(decision.reason), "train_and_compare_flow"
    if decision.outcome is Outcome.PROMOTE:
        expected = champion.version if champion else None
        return work.ledger.promote(
            version, expected=expected, window=window, reason=reason, actor=actor, details=details
        )
    return work.ledger.append(Kind.KEEP, window=window, version=version, reason=reason, actor=actor, details=details)


def _tags(work: Workspace, candidate: Candidate, window: str) -> dict[str, str]:
    facts = candidate.facts
    tags = {
        "loop": work.loop.name,
        "window": window,
        "windows": ",".join(facts.windows),
        "rows": str(facts.rows),
        "fingerprint": facts.fingerprint,
        "holdout": facts.holdout,
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
