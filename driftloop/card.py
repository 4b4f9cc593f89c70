"""The model card of a version: what it was trained on, how it was compared, where its limits are."""

from __future__ import annotations

from driftloop.facts import Facts
from driftloop.promotion import PromotionDecision
from driftloop.report import Json


def model_card(facts: Facts, decision: PromotionDecision, drift: Json | None) -> str:
    """Markdown for the version's description. ``drift`` is the report's drift part of the window that triggered it."""
    return "\n\n".join(
        [f"# {facts.loop}", _training(facts), _trigger(drift), _comparison(facts, decision), _limits(facts)]
    )


def _training(facts: Facts) -> str:
    event = f" The event is `{facts.target} = {facts.labels[1]}`." if facts.labels else ""
    return (
        f"**Training.** {facts.rows:,} rows of {_list(facts.windows)} (data fingerprint `{facts.fingerprint}`), "
        f"{len(facts.numeric)} numeric and {len(facts.categorical)} categorical features.{event}"
    )


def _trigger(drift: Json | None) -> str:
    if drift is None:
        return "**Trigger.** First champion, or trained by hand: no drift was measured."
    names = [column["name"] for column in drift["columns"] if column["drifted"]]
    return (
        f"**Trigger.** Drift share {drift['share']:.3f} (threshold {drift['threshold']}): "
        f"{', '.join(names) or 'no column'} drifted."
    )


def _comparison(facts: Facts, decision: PromotionDecision) -> str:
    scores = "\n".join(f"| val_{name} | {value:.4f} |" for name, value in sorted(facts.metrics.items()))
    return (
        f"**Comparison.** {decision.sentence[0].upper()}{decision.sentence[1:]}. Holdout rule: `{facts.holdout}`.\n\n"
        f"| metric on the holdout | value |\n|---|---|\n{scores}"
    )


def _limits(facts: Facts) -> str:
    unknown = "Categories not seen in training are ignored; a missing category is a category of its own." * bool(
        facts.categorical
    )
    return f"**Limits.** Compared on {_list(facts.windows[-1:])} only; later windows may differ. {unknown}".rstrip()


def _list(windows: tuple[str, ...]) -> str:
    return windows[0] if len(windows) == 1 else f"{windows[0]} … {windows[-1]} ({len(windows)} windows)"
