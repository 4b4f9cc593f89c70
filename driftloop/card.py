"""The model card of a version: what it was trained on, how it was compared, where its limits are."""

from __future__ import annotations

from collections.abc import Sequence

from driftloop.facts import Facts
from driftloop.metrics import written
from driftloop.promotion import Outcome, PromotionDecision, PromotionReason, ServingCheck
from driftloop.report import Json

WAITS = "It waits for one."
TOP_FEATURES = 5


def model_card(facts: Facts, decision: PromotionDecision, drift: Json | None, approved: Json | None = None) -> str:
    """Markdown for the version's description.

    ``drift`` is the report's drift part of the window that triggered it; ``approved`` says who let it pass, and why.
    """
    parts = [f"# {facts.loop}", _training(facts), _search(facts), _contest(facts), _trigger(drift)]
    parts += [_comparison(facts, decision), _slices(decision)]
    parts += [
        _importance(facts, decision.metric),
        _calibration(facts),
        _serving(decision),
        _compiled(facts),
        _approval(decision, approved),
        _limits(facts, decision),
    ]
    return "\n\n".join(part for part in parts if part)


def adoption_card(facts: Facts, metric: str, serving: ServingCheck, by: str, why: str, notes: Sequence[str]) -> str:
    """Markdown for the description of a version that was trained elsewhere."""
    adopted = facts.adopted
    assert adopted is not None, "this card is about an adopted version"
    scores = "\n".join(f"| val_{name} | {value:.4f} |" for name, value in sorted(facts.metrics.items()))
    measured = (
        f"On labelled rows of later windows that are held out:\n\n| metric | value |\n|---|---|\n{scores}"
        if scores
        else "No later row that is held out has a label yet: it was not scored."
    )
    origin = (
        f"**Origin.** Adopted by {by} from `{adopted.source}`{f': {why}' if why else ''}. It was trained elsewhere, "
        f"until {adopted.until}; on which rows is not known here. It became champion without a comparison, and is "
        f"compared with candidates on later rows only."
    )
    reference = (
        f"**Reference.** Drift is measured against the {facts.rows:,} rows of {_list(facts.windows)} (data fingerprint "
        f"`{facts.fingerprint}`), {len(facts.numeric)} numeric and {len(facts.categorical)} categorical features."
    )
    parts = [
        f"# {facts.loop}",
        origin,
        reference,
        f"**Score.** {measured}",
        _importance(facts, metric),
        "**Threshold.** It says yes from 0.5 on." if facts.labels else "",
        _served(serving),
        _compiled(facts),
        f"**Noted.** {'; '.join(notes)}." if notes else "",
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
    left_out = f" {facts.left_out:,} rows of these windows broke schema.yaml and were left out." * bool(facts.left_out)
    return (
        f"**Training.** {facts.rows:,} rows of {_list(facts.windows)} ({_new(facts)}data fingerprint "
        f"`{facts.fingerprint}`), "
        f"{len(facts.numeric)} numeric and {len(facts.categorical)} categorical features."
        f"{event}{_made(facts)}{again}{left_out}"
    )


def _new(facts: Facts) -> str:
    return "" if facts.new_rows is None else f"{facts.new_rows:,} new rows, their "


def _made(facts: Facts) -> str:
    """The recipe and how its rows were chosen; nothing for a version from before they were kept."""
    if facts.recipe is None:
        return ""
    parts = [f" A `{facts.recipe['estimator']}`, strategy `{facts.strategy}`."]
    if facts.tuned_from:
        parts.append(f"It is version {facts.tuned_from}, fine-tuned on those of its windows that are new.")
    if facts.effective_rows is not None:
        parts.append(f"The rows are weighted and worth {facts.effective_rows:,.0f} of equal weight.")
    if facts.note:
        parts.append(f"{facts.note[0].upper()}{facts.note[1:]}.")
    return " ".join(parts)


def _contest(facts: Facts) -> str:
    found = facts.contest
    if found is None:
        return ""
    told = f"**Contest.** {found.why[0].upper()}{found.why[1:]}."
    if not found.trials:
        return told
    rows = "\n".join(
        f"| {t.estimator} | {t.strategy} | {t.rows:,} | {_value(t.score)} | {_value(t.gain)} | {t.seconds:.1f} "
        f"| {'yes' * t.chosen} |"
        for t in found.trials
    )
    return (
        f"{told} On {found.rows:,} validation rows of {found.window}, taken off the training rows and learnt from "
        f"afterwards.\n\n| estimator | strategy | rows | {found.metric} | gain over the first | seconds | chosen |\n"
        f"|---|---|---|---|---|---|---|\n{rows}"
    )


def _value(number: float | None) -> str:
    return "–" if number is None else f"{number:.4f}"


def _search(facts: Facts) -> str:
    found = facts.search
    if found is None:
        return ""
    told = f"**Search.** {found.trials} trials in {found.seconds:.0f} s ({found.pruned} pruned, {found.failed} failed)"
    if found.best is None:
        return f"{told}: none came to its end, so the parameters are those given."
    return (
        f"{told} chose {', '.join(f'`{name} = {value}`' for name, value in found.params.items()) or 'the defaults'}. "
        f"Their {found.metric} of {found.best:.4f}, the mean over folds of the training rows, is optimistic: it is the "
        f"best of many, and no part of the comparison."
    )


def _trigger(drift: Json | None) -> str:
    if drift is None:
        return "**Trigger.** First champion, or trained by hand: no drift was measured."
    names = [column["name"] for column in drift["columns"] if column["drifted"]]
    return (
        f"**Trigger.** Drift share {drift['share']:.3f} (threshold {drift['threshold']}): "
        f"{', '.join(names) or 'no column'} drifted.{_target(drift.get('target'))}"
    )


def _target(target: Json | None) -> str:
    if target is None:
        return ""
    drifted = "drifted too" if target["drifted"] else "did not"
    return (
        f" The target {target['name']}, apart from the share, {drifted} "
        f"({target['method']} {target['score']:.4f}, threshold {target['threshold']:g})."
    )


def _comparison(facts: Facts, decision: PromotionDecision) -> str:
    known = {name: f"{value:.4f}" for name, value in facts.baseline.items()}
    scores = "\n".join(
        f"| val_{name} | {value:.4f} | {known.get(name, '–')} |" for name, value in sorted(facts.metrics.items())
    )
    seen = (
        ""
        if decision.detectable is None
        else f" These rows would show a true gain of {written(decision.detectable)} four times in five."
    )
    cases = (
        f" Known cases broken: {'; '.join(decision.broken)}."
        if decision.broken and decision.reason is not PromotionReason.KNOWN_CASE_BROKE
        else ""
    )
    return (
        f"**Comparison.** {decision.sentence[0].upper()}{decision.sentence[1:].rstrip('.')}.{seen}{cases} Holdout "
        f"rule: `{facts.holdout}`.\n\n| metric on the holdout | value | baseline |\n|---|---|---|\n{scores}"
        f"{_baseline(facts)}"
    )


def _baseline(facts: Facts) -> str:
    if not facts.baseline:
        return ""
    what = "the mean of the training targets" if facts.task == "regression" else "the classes' shares in training"
    what += " (the new rows)" * (facts.new_rows is not None)
    return f"\n\nThe baseline answers every row with {what}. evaluation.html beside the run plots the predictions."


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


def _importance(facts: Facts, metric: str) -> str:
    if not facts.importance:
        return ""
    top = list(facts.importance.items())[:TOP_FEATURES]
    rows = "\n".join(f"| {name} | {loss:.4f} |" for name, loss in top)
    return (
        f"**Features.** What {metric} loses on holdout rows when a feature's values are shuffled; all "
        f"{len(facts.importance)} are in importance.html beside the run.\n\n| feature | loss |\n|---|---|\n{rows}"
    )


def _calibration(facts: Facts) -> str:
    if facts.labels is None or facts.task == "multiclass":
        return ""
    if facts.threshold is None:
        return "**Threshold.** The training rows were too few to choose one: it says yes from 0.5 on."
    chosen = "where F1 was best on training rows, each scored by what had not learnt from it"
    return f"**Threshold.** It says yes from {facts.threshold:.3f} on, {chosen}."


def _serving(decision: PromotionDecision) -> str:
    found = decision.serving
    return "" if found is None or found.problem is not None else _served(found)


def _served(found: ServingCheck) -> str:
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
