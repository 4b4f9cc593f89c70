"""The model card of a version: what it was trained on, how it was compared, where its limits are."""

from __future__ import annotations

from driftloop.facts import Facts
from driftloop.promotion import Outcome, PromotionDecision, PromotionReason
from driftloop.report import Json

WAITS = "It waits for one."
TOP_FEATURES = 5


def model_card(facts: Facts, decision: PromotionDecision, drift: Json | None, approved: Json | None = None) -> str:
    """Markdown for the version's description.

    ``drift`` is the report's drift part of the window that triggered it; ``approved`` says who let it pass, and why.
    """
    parts = [f"# {facts.loop}", _training(facts), _trigger(drift), _comparison(facts, decision), _slices(decision)]
    parts += [
        _importance(facts, decision),
        _calibration(facts),
        _serving(decision),
        _compiled(facts),
        _approval(decision, approved),
        _limits(facts, decision),
    ]
    return "\n\n".join(part for part in parts if part)


def _training(facts: Facts) -> str:
    event = ""
    if facts.labels:
        event = f" The event is `{facts.target} = {facts.labels[1]}`."
    if facts.labels and facts.task == "multiclass":
        event = f" `{facts.target}` is one of {', '.join(facts.labels)}."
    again = (
        f" Fitted again with the holdout's rows after version {facts.refit_of}, the same recipe without them, passed."
        if facts.refit_of
        else ""
    )
    return (
        f"**Training.** {facts.rows:,} rows of {_list(facts.windows)} (data fingerprint `{facts.fingerprint}`), "
        f"{len(facts.numeric)} numeric and {len(facts.categorical)} categorical features.{event}{again}"
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
    seen = (
        ""
        if decision.detectable is None
        else f" These rows would show a true gain of {decision.detectable:.3f} four times in five."
    )
    cases = (
        f" Known cases broken: {'; '.join(decision.broken)}."
        if decision.broken and decision.reason is not PromotionReason.KNOWN_CASE_BROKE
        else ""
    )
    return (
        f"**Comparison.** {decision.sentence[0].upper()}{decision.sentence[1:].rstrip('.')}.{seen}{cases} Holdout "
        f"rule: `{facts.holdout}`.\n\n| metric on the holdout | value |\n|---|---|\n{scores}"
    )


def _slices(decision: PromotionDecision) -> str:
    if not decision.slices.judged:
        return ""
    rows = "\n".join(
        f"| {s.name} | {s.rows} | {s.candidate:.4f} | {s.champion:.4f} | {s.adjusted:.3g} |"
        for s in decision.slices.judged
    )
    left = f" Not judged: {', '.join(decision.slices.unjudged)}." if decision.slices.unjudged else ""
    return (
        f"**Slices.** p is that of being no worse, after Holm.{left}\n\n"
        f"| slice | rows | candidate | champion | p |\n|---|---|---|---|---|\n{rows}"
    )


def _importance(facts: Facts, decision: PromotionDecision) -> str:
    if not facts.importance:
        return ""
    top = list(facts.importance.items())[:TOP_FEATURES]
    rows = "\n".join(f"| {name} | {loss:.4f} |" for name, loss in top)
    return (
        f"**Features.** What {decision.metric} loses on holdout rows when a feature's values are shuffled; all "
        f"{len(facts.importance)} are in importance.html beside the run.\n\n| feature | loss |\n|---|---|\n{rows}"
    )


def _calibration(facts: Facts) -> str:
    if facts.labels is None or facts.task == "multiclass":
        return ""
    if facts.threshold is None:
        return "**Threshold.** The training rows were too few to choose one: it says yes from 0.5 on."
    return f"**Threshold.** It says yes from {facts.threshold:.3f} on, where F1 was best on folds of the training rows."


def _serving(decision: PromotionDecision) -> str:
    found = decision.serving
    if found is None or found.problem is not None:
        return ""
    return (
        f"**Serving.** A clean process loaded it from the registry and scored {found.rows:,} rows as it did when made; "
        f"one row takes {found.latency_ms:.2g} ms, the model has {found.size_mb:.3g} MB."
    )


def _compiled(facts: Facts) -> str:
    found = facts.compiled
    if found is None:
        return ""
    if found.refused is not None:
        return f"**Compiled.** No, it serves natively: {found.refused}."
    return (
        f"**Compiled.** It serves as an ONNX graph, whose scores lie at most {found.difference:.2g} from those of "
        f"scikit-learn on {found.rows:,} rows, odd ones among them ({found.tolerance:g} is allowed)."
    )


def _approval(decision: PromotionDecision, approved: Json | None) -> str:
    if approved:
        why = f": {approved['why']}" if approved["why"] else ""
        return f"**Approval.** By {approved['by']}{why}."
    return f"**Approval.** {WAITS}" if decision.outcome is Outcome.ASK else ""


def _limits(facts: Facts, decision: PromotionDecision) -> str:
    unknown = "Categories not seen in training are ignored; a missing category is a category of its own." * bool(
        facts.categorical
    )
    compared = f"Compared on {_list(facts.windows[-1:])} only; later windows may differ."
    alone = "It was compared with no champion." if decision.champion is None else ""
    return " ".join(filter(None, ["**Limits.**", compared, alone, unknown]))


def _list(windows: tuple[str, ...]) -> str:
    return windows[0] if len(windows) == 1 else f"{windows[0]} … {windows[-1]} ({len(windows)} windows)"
