"""What one monitored window came to: the object `--json` prints and the ledger keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from driftloop.facts import Facts
from driftloop.promotion import PromotionDecision
from driftloop.retrain import FINDINGS, HELD_BACK, ColumnQuality, Drift, Estimate, Performance, RetrainVerdict

Json = dict[str, Any]
LEVELS = ("errors", "warnings")
NAMED = 5  # columns in a line


def window_report(
    loop: str,
    window: str,
    *,
    reference: Sequence[str] = (),
    reference_rows: int = 0,
    current_rows: int = 0,
    drift: Drift | None = None,
    threshold: float = 0.0,
    means: Sequence[Json] = (),
    quality: Sequence[ColumnQuality] = (),
    performance: Performance | None = None,
    estimated: Estimate | None = None,
    retrain: bool = False,
    reason: str,
    columns: Sequence[str] = (),
    trigger: Json | None = None,
    champion: str | None,
    validation: Json | None = None,
) -> Json:
    """The report before any training; a training replaces its last three parts.

    ``columns``: those behind the verdict. ``trigger``: as ``trigger_json`` has it, None while there is no champion.
    ``validation`` is a part of it only where there is a schema.yaml.
    """
    return {
        "loop": loop,
        "window": window,
        "reference": list(reference),
        "rows": {"reference": reference_rows, "current": current_rows},
        "drift": drift_json(drift, threshold) | {"means": list(means)} if drift else None,
        "quality": quality_json(quality) if quality else None,
        "performance": performance_json(performance) if performance else None,
        "estimated": asdict(estimated) if estimated else None,
        "retrain": {"retrain": retrain, "reason": reason, "columns": list(columns), "trigger": trigger},
        "training": None,
        "decision": None,
        "champion": {"version": champion} if champion else None,
        **({"validation": validation} if validation else {}),
    }


def drift_json(drift: Drift, threshold: float) -> Json:
    return {
        "share": drift.share,
        "threshold": threshold,
        "engine": drift.engine,
        "drifted": drift.drifted,
        "columns": [asdict(column) for column in drift.columns],
        "target": asdict(drift.target) if drift.target else None,
        "prediction": asdict(drift.prediction) if drift.prediction else None,
    }


def trigger_json(
    verdict: RetrainVerdict, consecutive: int, reference: Sequence[str], drift: Drift | None, threshold: float
) -> Json:
    """What the verdict judged: the share that counts, the findings that showed, lasted and could be told.

    ``drift``: where it was measured against another reference than the report's own, else None.
    """
    return {
        "share": verdict.share,
        "on": list(verdict.on),
        "lasted": list(verdict.lasted),
        "measured": list(verdict.measured),
        "consecutive": verdict.in_a_row,
        "needed": consecutive,
        "reference": list(reference),
        "drift": drift_json(drift, threshold) if drift else None,
    }


def said(retrain: Json) -> str:
    """The verdict in a line: its reason, how often in a row, and the first columns behind it.

    Of a training that was held back also what would have started it.
    """
    trigger, columns = retrain.get("trigger"), retrain.get("columns", [])  # reports of earlier versions have neither
    often = f" ({trigger['consecutive']} of {trigger['needed']})" if trigger and _counts(trigger) else ""
    names = [*columns[:NAMED], *(["…"] if len(columns) > NAMED else [])]
    behind = f": {', '.join(names)}" if names else ""
    lasted = trigger.get("lasted") if trigger and retrain["reason"] in HELD_BACK else None
    if lasted:
        return f"{retrain['reason']} ({FINDINGS[lasted[0]]}{behind})"
    return f"{retrain['reason']}{often}{behind}"


def _counts(trigger: Json) -> bool:
    return bool(trigger["on"]) and trigger["consecutive"] < trigger["needed"]


def quality_json(found: Sequence[ColumnQuality]) -> Json:
    return {"columns": [asdict(column) for column in found], "moved": sum(column.moved for column in found)}


def performance_json(performance: Performance) -> Json:
    return asdict(performance)


def training_json(facts: Facts, version: str) -> Json:
    """``new_rows``: of the rows, those that a fine-tuned version went on from.

    ``contest``: what else was tried, None where there was one way only. ``search``: None without one; its best score
    chose the parameters and is apart from the metrics, being optimistic.
    """
    return {
        "windows": list(facts.windows),
        "rows": facts.rows,
        "new_rows": facts.new_rows,
        "version": version,
        "metrics": metrics_json(facts),
        "estimator": facts.recipe["estimator"] if facts.recipe else None,
        "strategy": facts.strategy or None,
        "note": facts.note,
        "effective_rows": facts.effective_rows,
        "tuned_from": facts.tuned_from,
        "contest": facts.contest.model_dump(mode="json") if facts.contest else None,
        "search": facts.search.model_dump(mode="json") if facts.search else None,
    }


def metrics_json(facts: Facts) -> dict[str, float]:
    """A version's metrics and, beside each, those of the baseline, as MLflow knows them too."""
    own = {f"val_{name}": value for name, value in facts.metrics.items()}
    return own | {f"baseline_{name}": value for name, value in facts.baseline.items()}


def decision_json(decision: PromotionDecision) -> Json:
    return {name: str(value) if isinstance(value, str) else value for name, value in asdict(decision).items()}


def validated(found: Json) -> str:
    """What the checks of schema.yaml came to, in a few words."""
    said = [f"{found[level]} {level.removesuffix('s' * (found[level] == 1))}" for level in LEVELS if found[level]]
    left = found["bad_rows"] if found["kept_rows"] else 0
    return ", ".join([*said, *([f"{left:,} of {left + found['kept_rows']:,} rows left out"] if left else [])]) or "ok"


def decision_of(stored: Json) -> PromotionDecision:
    """The decision that ``decision_json`` wrote down."""
    return TypeAdapter(PromotionDecision).validate_python(stored)
