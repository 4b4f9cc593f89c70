"""From a tried candidate to a decision in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driftloop.card import model_card
from driftloop.contract import Loop
from driftloop.entry import Entry, Kind
from driftloop.errors import ChampionMoved
from driftloop.facts import Facts
from driftloop.frame import Window
from driftloop.ledger import Guard
from driftloop.metrics import Score
from driftloop.promoting import Predict, Registered, TrainingData, refitted, require_comparable
from driftloop.promotion import (
    Comparison,
    Outcome,
    PromotionDecision,
    PromotionPolicy,
    ServingCheck,
    decide_promotion,
)
from driftloop.reigns import waiting
from driftloop.report import Json, decision_json, training_json
from driftloop.scores import compare
from driftloop.workspace import Champion, Workspace

ATTEMPTS = 10


def decide(
    work: Workspace,
    predict: Predict,
    facts: Facts,
    data: TrainingData,
    champion: Champion | None,
    serving: ServingCheck,
) -> PromotionDecision:
    """Compare a model with the champion on the holdout and the known cases, and decide.

    Raises as require_comparable: the champion may be another than when the training began.
    """
    loop, rows = work.loop, data.holdout
    if champion is None:
        own = Score(loop.promotion.metric, facts.metrics[loop.promotion.metric], len(rows.X), rows.fingerprint)
        return decide_promotion(own, None, None, policy_of(loop), serving)
    require_comparable(work, champion, data)
    comparison = comparison_of(work, predict, facts, champion, rows)
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy_of(loop), serving)


def comparison_of(work: Workspace, predict: Predict, facts: Facts, champion: Champion, rows: Window) -> Comparison:
    """Both models on the same rows, by slice, and on the known cases."""
    theirs = champion.artifact
    cuts = facts.quartiles | theirs.facts.quartiles  # the reference is what the champion was trained on
    broken = work.golden.broken(predict, facts.labels)
    kept_by_champion = broken.keys() - work.golden.broken(theirs.predict, theirs.facts.labels).keys() if broken else ()
    return replace(
        compare(work.loop, rows, predict(rows.X), theirs.predict(rows.X), cuts),
        broken=tuple(broken[place] for place in sorted(kept_by_champion)),
    )


def policy_of(loop: Loop) -> PromotionPolicy:
    asked = loop.promotion
    return PromotionPolicy(asked.delta, asked.confidence, asked.approval, asked.max_latency_ms, asked.max_size_mb)


def decide_and_record(
    work: Workspace, made: Registered, data: TrainingData, window: str, details: Mapping[str, Any]
) -> tuple[PromotionDecision, Entry]:
    """Decide against the champion of this moment and write it down; when another run was faster, decide again.

    Where the loop refits, what is promoted is the recipe fitted again with the holdout's rows, once it passed.
    Returns the decision and the ledger row, whose details hold the whole report and the version's model card.
    """
    successor: Registered | None = None
    for _ in range(ATTEMPTS):
        champion = work.champion()
        decision = decide(work, made.predict, made.candidate.facts, data, champion, made.serving)
        if decision.outcome is Outcome.PROMOTE and work.loop.promotion.refit:
            successor = successor or refitted(work, made, data, window)
            decision = decide(work, made.predict, made.candidate.facts, data, champion, successor.serving)
        try:
            return decision, record(work, decision, made, successor, champion, window, details)
        except ChampionMoved:
            continue
    raise ChampionMoved(
        f"the champion of {work.loop.name} changed {ATTEMPTS} times while version {made.version} was compared; "
        f"run again."
    )


def record(
    work: Workspace,
    decision: PromotionDecision,
    made: Registered,
    successor: Registered | None,
    champion: Champion | None,
    window: str,
    details: Mapping[str, Any],
    *,
    actor: str = "train_and_compare_flow",
    approved: Json | None = None,
    guard: Guard | None = None,
) -> Entry:
    """Write a decision down: a promotion in place of ``champion``, else that it was kept out or that it waits.

    ``successor`` serves in place of the judged version where there is one. A candidate that waited until now is
    superseded by one that is promoted or waits itself. Raises ChampionMoved.
    """
    promoted = decision.outcome is Outcome.PROMOTE
    served = successor if successor and promoted else made
    serving = served.version if promoted else champion.version if champion else None
    report: Json = {
        **details["report"],
        "training": training_json(served.candidate.facts, served.version),
        "decision": decision_json(decision),
        "champion": {"version": serving} if serving else None,
    }
    asked = None if decision.outcome is Outcome.KEEP else waiting(work.ledger.entries())
    told = {
        **details,
        "report": report,
        "card": model_card(served.candidate.facts, decision, report["drift"], approved),
        "judged": made.version,
        "compared_with": champion.version if champion else None,
        "supersedes": asked.version if asked and asked.version != made.version else None,
        **({"approved": approved} if approved else {}),
    }
    kept: dict[str, Any] = {
        "window": window,
        "reason": f"{decision.reason}: {approved['why']}" if approved and approved["why"] else str(decision.reason),
        "actor": actor,
        "details": told,
        "guard": guard,
    }
    if promoted:
        return work.ledger.promote(served.version, expected=champion.version if champion else None, **kept)
    kind = Kind.ASK if decision.outcome is Outcome.ASK else Kind.KEEP
    return work.ledger.append(kind, version=made.version, **kept)
