"""What lies between two versions: data, parameters, metrics, slices, drift."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from driftloop import references
from driftloop.deciding import comparison_of
from driftloop.errors import ContractError, HoldoutMismatch
from driftloop.facts import Facts
from driftloop.frame import Window
from driftloop.monitoring import drift_between, holdout_of, newest_labelled, require_rule, require_same_task
from driftloop.promoting import stored
from driftloop.report import Json, drift_json
from driftloop.scores import comparable
from driftloop.workspace import Champion, Workspace

DATA = (
    "windows", "rows", "strategy", "effective_rows", "tuned_from", "fingerprint", "holdout", "threshold", "refit_of",
)  # fmt: skip


def difference(work: Workspace, one: str, other: str) -> Json:
    """From version ``one`` to version ``other``.

    ``recorded`` are the metrics each was stored with, on the holdout of its time. ``compared`` scores both now on the
    newest holdout, None with ``not_compared`` saying why where there is none that neither has seen. ``drift`` is that
    of the other's training windows against the one's, None where they are the same windows.
    """
    before, after = (_version(work, number) for number in (one, other))
    recorded = [work.registry.recorded(number) for number in (one, other)]
    parameters = _pairs(recorded[0][0], recorded[1][0])
    compared, why_not = _compared(work, before, after)
    return {
        "loop": work.loop.name,
        "versions": [one, other],
        "data": [_data(champion.artifact.facts) for champion in (before, after)],
        "parameters": {n: p for n, p in parameters.items() if p[0] != p[1] and n not in DATA},
        "recorded": _pairs(recorded[0][1], recorded[1][1]),
        "compared": compared,
        "not_compared": why_not,
        "drift": _drift(work, before.artifact.facts, after.artifact.facts),
    }


def _version(work: Workspace, number: str) -> Champion:
    return Champion(number, stored(work, number))


def _data(facts: Facts) -> Json:
    return {name: value for name, value in facts.model_dump(mode="json").items() if name in DATA}


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> Json:
    return {name: [before.get(name), after.get(name)] for name in sorted({*before, *after})}


def _compared(work: Workspace, before: Champion, after: Champion) -> tuple[Json | None, str | None]:
    newest = newest_labelled(work, work.newest(), before)
    if newest is None:
        return None, "no window has usable labels"
    try:
        for version in (before, after):
            require_same_task(work.loop, version)
            require_rule(work, version.artifact.facts, version.version)
        rows = holdout_of(work, newest, *(version.artifact.facts.adopted for version in (before, after)))
    except (HoldoutMismatch, ContractError) as error:
        return None, str(error)
    seen = [v.version for v in (before, after) if v.artifact.facts.refit_of and newest.id in v.artifact.facts.windows]
    if seen:
        return None, f"version {seen[0]} has learnt from all rows of {newest.id}, the newest window with labels"
    if before.artifact.facts.labels != after.artifact.facts.labels:
        return None, "they learnt other labels"
    if not comparable(work.loop, rows):
        return None, f"the {len(rows.X)} holdout rows of {newest.id} that neither has seen cannot carry a comparison"
    return _scores(work, before, after, rows), None


def _scores(work: Workspace, before: Champion, after: Champion, rows: Window) -> Json:
    found = comparison_of(work, after.artifact.predict, after.artifact.facts, before, rows)
    return {
        "window": rows.id,
        "rows": len(rows.X),
        "metric": found.candidate.metric,
        "values": [found.champion.value, found.candidate.value],
        "gain": found.gain,
        "gain_low": found.gain_low,
        "detectable": found.detectable,
        "slices": [asdict(s) for s in found.slices.judged],
        "unjudged": list(found.slices.unjudged),
        "broken": list(found.broken),
    }


def _drift(work: Workspace, before: Facts, after: Facts) -> Json | None:
    if before.windows == after.windows:
        return None
    found = drift_between(work.loop, *(references.read(work, facts.windows) for facts in (before, after)))
    return drift_json(found.drift, work.loop.drift.threshold)
