"""The steps of monitoring one window, each a plain function over a workspace; flows put them in order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from driftloop import references, timeline
from driftloop.category import category
from driftloop.contract import Loop
from driftloop.drift import DriftReport
from driftloop.engine import Compare, by_columns, by_evidently, engine_for, in_threads
from driftloop.entry import Entry, Kind
from driftloop.errors import ContractError, TooLate, WindowError
from driftloop.facts import Adopted, Facts
from driftloop.frame import Window
from driftloop.frame import unseen as unseen_categories
from driftloop.holdout import require_same_rule, unseen
from driftloop.live import MeanShift, mean_shifts, means_json, z_limit
from driftloop.reigns import TRAININGS, arrived, in_a_row
from driftloop.report import Json, window_report
from driftloop.retrain import (
    ColumnQuality,
    Drift,
    Estimate,
    History,
    Performance,
    RetrainVerdict,
    TriggerPolicy,
    decide_retrain,
)
from driftloop.scores import comparable
from driftloop.sides import Rows, Stored, stored
from driftloop.summaries import kept
from driftloop.timeline import Timeline
from driftloop.workspace import Champion, Serving, Workspace


def run_key(work: Workspace, window: str) -> str:
    """A hash of what a run over the window depends on: its rows, which windows have labels, loop.toml, known cases,
    and, where there are such, schema.yaml, the loop's own modules and the windows that it is compared with by name.
    """
    own, *schema = work.reading_key(window)
    parts = [work.loop.digest, own, work.golden.digest, *labelled_ids(work, window), *schema]
    if work.sources:
        parts.append(work.sources)
    parts += [part for name in references.named(work, window) for part in (name, work.windows.digest(name))]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def labelled_ids(work: Workspace, until: str) -> list[str]:
    """The windows up to ``until`` whose labels are in, oldest first."""
    return [window for window in work.windows.ids() if window <= until and work.windows.has_labels(window)]


def finished_run(work: Workspace, window: str, key: str) -> tuple[Entry, Json] | None:
    """The ledger row and report of an earlier run over the same data, loop.toml and champion, if it went to its end.

    A run that a crash cut short after its verdict is not finished. A champion that moved on, or labels that came in,
    make a window worth another look only where it is not older than what the champion was trained on. A rollback does
    not: the next look would promote anew what a human has just taken back.
    """
    reign, now = work.ledger.last_reign(), work.serving()
    older = now is not None and window < now.windows[-1]
    rows = [
        entry
        for entry in work.ledger.entries(window)
        if entry.details.get("key") == key or (older and entry.report and entry.kind is not Kind.QUARANTINE)
    ]
    if not rows:
        return None
    last = rows[-1]
    report: Json = last.details["report"]
    if last.kind is Kind.VERDICT and report["retrain"]["retrain"] and not older:
        return None
    then = (report["champion"] or {}).get("version")
    rolled_back = reign is not None and reign.kind is Kind.ROLLBACK and reign.seq > last.seq
    moved = now is not None and now.version != then and last.kind is not Kind.QUARANTINE and not rolled_back
    return None if moved and not older else (last, report)


def require_same_task(loop: Loop, champion: Champion) -> None:
    """Raise ContractError when loop.toml asks for something else than what the champion learnt."""
    facts = champion.artifact.facts
    event = None if loop.positive is None or facts.labels is None else (category(loop.positive), facts.labels[1])
    lost = [c for c in facts.numeric if c not in loop.columns.numeric]
    lost += [c for c in facts.categorical if c not in loop.columns.names]
    if (facts.task, facts.target) != (loop.task, loop.target):
        difference = f"predicts {facts.target} ({facts.task}), loop.toml asks for {loop.target} ({loop.task})"
    elif event and event[0] != event[1]:
        difference = f"takes {event[1]} for the event, loop.toml says positive = {event[0]}"
    elif lost:
        difference = f"needs column {', '.join(lost)}, which [features] in loop.toml no longer lists as it did"
    else:
        return
    raise ContractError(
        f"champion {champion.version} {difference}: no candidate can be compared with it. Put it back in loop.toml, or "
        f"give the loop a new name to start with a first champion."
    )


def validation(work: Workspace, window: str) -> Json | None:
    """What schema.yaml says of a window, and where the rows are that it goes on without.

    None where there is no schema.yaml, or nothing of the window can be read.
    """
    if work.schema is None:
        return None
    found = work.reading(window)
    report = found.report(work.loop)
    if report is None or found.set_aside is None or work.loop.validation.on_bad_rows != "quarantine":
        return report
    return {**report, "file": str(work.aside(window))}


def require_newer(window: str, serving: Serving | None) -> None:
    """Raise TooLate for a window older than the champion's training data."""
    if serving and window < serving.windows[-1]:
        known = f"it is older than {serving.windows[-1]}, the newest window that champion {serving.version} knows"
        raise TooLate(
            window,
            [f"{known}: too late to be monitored; trainings from now on take it in as it is"],
        )


def beside_champion(current: Window, champion: Champion) -> Window:
    """The window with what is new to the champion among its notes. Raises WindowError when its labels are."""
    facts = champion.artifact.facts
    current = _of_labels(current, facts.labels, facts.task)
    return replace(current, notes=current.notes + unseen_categories(current, facts.categories))


def measure_drift(
    work: Workspace, reference: Rows | Stored, current: Window, compare: Compare = in_threads
) -> DriftReport:
    """Drift of the current window against the reference's rows; the target's where labels are in.

    ``compare``: how the columnar engine goes through columns. Summaries of the reference are kept for the next window.
    """
    loop, now = work.loop, Rows([current], work.loop.task, work.loop.target)
    if isinstance(reference, Rows) and engine_for(loop, reference.rows + now.rows) == "evidently":
        return by_evidently(loop, reference, now)
    contents = [part for window, _ in reference.sizes for part in (window, *work.reading_key(window))]
    rules = [loop.task, loop.target, loop.validation.model_dump_json() if work.schema else ""]
    ours = kept(reference, work.settings.home / "summaries" / loop.name, [*rules, *contents])
    elsewhere = loop.compute.runner != "threads" and current.id in work.windows.ids()
    theirs = (stored(work.windows, [current.id], loop, work.schema) if elsewhere else None) or now
    with references.reading():
        return by_columns(loop, (ours, theirs), (reference, now), compare)


def drift_between(loop: Loop, reference: Sequence[Window], current: Sequence[Window]) -> DriftReport:
    """Drift of some windows' rows against others', and of the target where both sides have labels."""
    before, now = (Rows(side, loop.task, loop.target) for side in (reference, current))
    if engine_for(loop, before.rows + now.rows) == "evidently":
        return by_evidently(loop, before, now)
    return by_columns(loop, (before, now), (before, now))


def shifts_since_training(facts: Facts, current: Window) -> tuple[list[MeanShift], float]:
    """How far the means of the window's numbers lie from those the version learnt from, and the |z| that is too far."""
    known = {name: pair for name, pair in facts.statistics.items() if name in current.X}
    return mean_shifts(current.X, known, facts.rows), z_limit(len(known))


def means(champion: Champion, current: Window) -> list[Json]:
    """Those shifts as the report tells them; none where the champion's version stores no statistics."""
    return means_json(*shifts_since_training(champion.artifact.facts, current))


def history(work: Workspace, current: Window, champion: Champion | None, newest: Window | None) -> History:
    """What the verdict needs besides the findings; ``newest`` is the newest labelled window that can be read."""
    adopted = champion.artifact.facts.adopted if champion else None
    learnt = (*TRAININGS, Kind.ADOPTION)
    entries = work.ledger.entries()
    trainings = [e for e in entries if e.kind in learnt and e.window < current.id]
    trained_on = max((e.trained_on[-1] for e in trainings), default="")
    last_run = max((e.window for e in trainings), default=None)
    return History(
        champion=champion is not None,
        new_labels=newest is not None and newest.id > trained_on,
        comparable=newest is not None and comparable(work.loop, holdout_of(work, newest, adopted)),
        rows=len(current.X),
        windows_since_training=None
        if last_run is None
        else sum(last_run < window <= current.id for window in work.windows.ids()),
        in_a_row=in_a_row(entries, current.id, work.loop.trigger.min_rows),
    )


def holdout_of(work: Workspace, newest: Window, *adopted: Adopted | None) -> Window:
    """The newest window's holdout rows, without those that an adopted version may have been trained on."""
    labelled = newest.labelled
    rows = labelled.where(work.rule.mask(labelled, newest=True))
    for one in adopted:
        rows = unseen(one, rows)
    return rows


def require_rule(work: Workspace, facts: Facts, version: str) -> None:
    """Raise HoldoutMismatch unless the version kept to the loop's holdout rule; an adopted one is held to its date."""
    if facts.adopted is None:
        require_same_rule(facts.holdout, work.rule, version)


def read_labelled(
    work: Workspace, until: str, *, limit: int | None, labels: tuple[str, ...] | None
) -> tuple[list[Window], list[WindowError]]:
    """The labelled rows of the newest ``limit`` usable windows up to ``until``, and what is wrong with those passed by.

    Oldest first. ``labels`` are the champion's; without one, a binary target's are the newest window's, and those of
    a multiclass target all that the windows hold, of which each shares some with the newest.
    """
    several = work.loop.task == "multiclass" and labels is None
    good: list[Window] = []
    bad: list[WindowError] = []
    for window in reversed(labelled_ids(work, until)):
        if len(good) == limit:
            break
        try:
            read = work.read(window)
            if not read.labelled_rows:
                continue
            labels = labels or read.labels
            if several:
                require_spelled_alike(read, labels, work.loop.task)
            else:
                read = _of_labels(read, labels, work.loop.task)
            work.rule.check(read.labelled)
        except WindowError as error:
            bad.append(error)
        else:
            good.append(read.labelled)
    if several:
        every = tuple(sorted({label for window in good for label in window.labels or ()}))
        good = [window.among(every) for window in good]
    return good[::-1], bad[::-1]


def _of_labels(window: Window, labels: tuple[str, ...] | None, task: str) -> Window:
    """The window with its target in terms of ``labels``.

    Raises WindowError where a class is new, or as require_spelled_alike.
    """
    if labels and task == "multiclass":
        return window.among(labels)
    require_spelled_alike(window, labels, task)
    return window


def require_spelled_alike(window: Window, labels: tuple[str, ...] | None, task: str) -> None:
    """Raise WindowError where 0 and 1 have become no and yes: the event could be the other one.

    Of several classes a window may lack some, as long as it shares one with ``labels``, those of other windows.
    """
    if not (window.labels and labels):
        return
    alike = set(window.labels) & set(labels) if task == "multiclass" else window.labels == labels
    if not alike:
        here, there = " and ".join(window.labels), " and ".join(labels)
        raise WindowError(window.id, [f"its labels are {here}, those of the other windows {there}"])


def newest_labelled(work: Workspace, until: str, champion: Champion | None) -> Window | None:
    """The newest window up to ``until`` that has labels and can be used."""
    good, _ = read_labelled(work, until, limit=1, labels=champion.artifact.facts.labels if champion else None)
    return good[0] if good else None


def policy_of(loop: Loop) -> TriggerPolicy:
    trigger = loop.trigger
    return TriggerPolicy(
        threshold=loop.drift.threshold,
        on=trigger.on,
        max_drop=trigger.max_drop,
        cooldown=trigger.cooldown,
        min_rows=trigger.min_rows,
        confidence=trigger.confidence,
        consecutive=trigger.consecutive,
        min_importance=None if trigger.min_importance == "off" else trigger.min_importance,
    )


def judge(  # as decide_retrain
    work: Workspace,
    drift: Drift | None,
    performance: Performance | None,
    past: History,
    *,
    estimate: Estimate | None = None,
    quality: Sequence[ColumnQuality] = (),
    importance: Mapping[str, float] | None = None,
) -> RetrainVerdict:
    """``drift`` is that against ``trigger.reference``, ``importance`` the champion's."""
    return decide_retrain(
        drift, performance, past, policy_of(work.loop), estimate=estimate, quality=quality, importance=importance
    )


def record_verdict(work: Workspace, key: str, report: Json, notes: Sequence[str] = ()) -> Entry:
    champion = report["champion"]
    return work.ledger.append(
        Kind.VERDICT,
        window=report["window"],
        version=champion["version"] if champion else None,
        reason=report["retrain"]["reason"],
        actor="monitor_flow",
        details={"key": key, "report": report, "notes": list(notes)},
    )


def monitored(work: Workspace, last: int) -> Timeline:
    """The drift of the ``last`` windows as their newest reports tell it."""
    rows = arrived(work.ledger.entries())
    reports = [rows[window].details["report"] for window in sorted(rows)[-last:]]
    return timeline.monitored(work.loop.name, work.loop.columns.numeric, reports)


def record_quarantine(work: Workspace, error: WindowError, champion: str | None) -> Json:
    """Put a window aside: its report, in the ledger once per content."""
    key = run_key(work, error.window)
    report = window_report(work.loop.name, error.window, reason="quarantined", champion=champion)
    report["quarantine"] = {"problems": error.problems} | ({"late": True} if isinstance(error, TooLate) else {})
    if found := validation(work, error.window):
        report["validation"] = found
    seen = [e for e in work.ledger.entries(error.window) if e.kind is Kind.QUARANTINE]
    if not any(e.details["key"] == key for e in seen):
        work.ledger.append(
            Kind.QUARANTINE,
            window=error.window,
            version=champion,
            reason="; ".join(error.problems),
            actor="monitor_flow",
            details={"key": key, "report": report},
        )
    return report
