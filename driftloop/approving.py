"""The human's part: a candidate that waits is approved or rejected, a champion is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from driftloop.deciding import ATTEMPTS, decide, policy_of, record
from driftloop.entry import Entry, Kind
from driftloop.errors import ChampionMoved, ContractError, DriftloopError, NotWaiting
from driftloop.following import expire, follow, heal, still_waits
from driftloop.monitoring import require_same_task
from driftloop.promoting import Registered, TrainingData, check_serving, learnt_again, refitted, stored, training_data
from driftloop.promotion import Outcome, PromotionDecision, against_serving, decide_approved
from driftloop.reigns import ENDS_WAITING, expired, previous_champion, waiting
from driftloop.report import Json, decision_of, training_json
from driftloop.training import Candidate
from driftloop.workspace import Champion, Workspace

LONGEST_NAME = 200  # what the ledger's column holds


def approve(work: Workspace, version: str | None, by: str, why: str) -> Entry:
    """Promote the candidate that waits; ``version`` says which one is meant, None whichever it is.

    Where the champion is another than the one it was compared with, it is compared again first. Returns the ledger row.
    Raises NotWaiting, and DriftloopError when it lost the new comparison or cannot be served.
    """
    require_words(by, why)
    heal(work)
    asked = _asked(work, version, by)
    number = str(asked.version)
    tried = _tried(work, number)
    for _ in range(ATTEMPTS):
        still_waits(number)(work.ledger.entries())
        champion = work.champion()
        data = _data(work, asked, tried, champion)
        decision = _decision(work, asked, tried, data, champion, by)
        successor = None
        if work.loop.promotion.refit and decision.outcome is Outcome.PROMOTE:
            assert data is not None, "it was read because the loop refits"
            successor = refitted(work, tried, data, asked.window)
            decision = decide_approved(decision, successor.serving, policy_of(work.loop))
        if decision.outcome is not Outcome.PROMOTE:
            raise DriftloopError(
                f"version {number} is not promoted: {decision.reason} ({'; '.join(decision.because)}). It still waits; "
                f"mend what keeps it from serving and approve again, or reject it."
            )
        approved = {"by": by, "why": why, "asked": asked.reason, "row": asked.seq}
        try:
            entry = record(
                work, decision, tried, successor, champion, asked.window, asked.details,
                actor=by, approved=approved, guard=still_waits(number),
            )  # fmt: skip
        except ChampionMoved:
            continue
        follow(work, entry)
        return entry
    raise ChampionMoved(f"the champion changed {ATTEMPTS} times while version {number} was approved; approve again.")


def reject(work: Workspace, version: str | None, by: str, why: str) -> Entry:
    """End the wait of a candidate. Raises NotWaiting."""
    require_words(by, why)
    heal(work)
    asked = _asked(work, version, by)
    return _end(work, asked, by, why or "no reason given")


def roll_back(work: Workspace, to: str | None, by: str, why: str) -> Entry:
    """Make an earlier version champion again: ``to``, else the champion before today's.

    It passes the same serving check as a candidate. Returns the ledger row.
    """
    require_words(by, why)
    heal(work)
    entries, now = work.ledger.entries(), work.ledger.champion()
    target = to or previous_champion(entries)
    if now is None or target is None:
        raise DriftloopError(
            f"{work.loop.name} has no champion before {f'version {now}' if now else 'the first'} to go back to; name a "
            f"version with --to."
        )
    if target == now:
        raise DriftloopError(f"version {target} is the champion already.")
    if (asked := waiting(entries)) and asked.version == target:
        raise DriftloopError(f"version {target} waits for approval: approve it instead.")
    tried = _tried(work, target)
    require_same_task(work.loop, Champion(target, work.model(target)))
    if against := against_serving(tried.serving, policy_of(work.loop)):
        raise DriftloopError(f"version {target} cannot take over: {against[1]} ({tried.serving.found}).")
    entry = work.ledger.promote(
        target,
        expected=now,
        window=entries[-1].window,
        reason=f"rolled back from version {now}{f': {why}' if why else ''}",
        actor=by,
        kind=Kind.ROLLBACK,
        details={
            "training": training_json(tried.candidate.facts, target),
            "serving": asdict(tried.serving),
            "why": why,
        },
    )
    follow(work, entry)
    return entry


def _asked(work: Workspace, version: str | None, by: str) -> Entry:
    """The row of the candidate that waits. Raises NotWaiting, and ends a wait that is over."""
    entries = work.ledger.entries()
    asked = waiting(entries)
    if asked is None or version not in (None, asked.version):
        what = f"version {version} does not wait" if version else "no candidate waits"
        raise NotWaiting(f"{what} for approval{_instead(asked, entries)}.")
    newest = entries[-1].window
    if expired(entries, asked, None, work.loop.promotion.approval_expires):
        expire(work, newest, by)
        raise NotWaiting(
            f"version {asked.version} waited for longer than promotion.approval_expires = "
            f"{work.loop.promotion.approval_expires} windows. Train a new candidate."
        )
    return asked


def _instead(asked: Entry | None, entries: Sequence[Entry]) -> str:
    """Which version waits, else how the last wait ended."""
    if asked:
        return f"; version {asked.version} does"
    waited = next((e for e in reversed(entries) if e.kind is Kind.ASK), None)
    if waited is None:
        return ""
    ended = next(e for e in entries if e.seq > waited.seq and e.kind in ENDS_WAITING)
    return f"; version {waited.version} did, until ledger row {ended.seq}: {ended.kind}, {ended.reason}"


def require_words(by: str, why: str) -> None:
    """Raise ContractError for a name or a reason that the ledger cannot keep."""
    if not by.strip() or not by.isprintable() or len(by) > LONGEST_NAME:
        raise ContractError(f"by is {by[:20]!r}; say who answers, in at most {LONGEST_NAME} printable characters.")
    if "\0" in why:
        raise ContractError("why holds a NUL character, which no database takes.")


def _tried(work: Workspace, version: str) -> Registered:
    """A stored version, loaded here and in a clean process."""
    found = stored(work, version)
    return check_serving(work, Candidate(found.estimator, found.facts, evidence=found.evidence), version, found.sample)


def _data(work: Workspace, asked: Entry, tried: Registered, champion: Champion | None) -> TrainingData | None:
    """The rows the candidate was trained and compared on; None where they are not needed again."""
    moved = (champion.version if champion else None) != asked.details["compared_with"]
    if not (moved or work.loop.promotion.refit):
        return None
    facts = tried.candidate.facts
    data = training_data(work, facts.windows[-1], champion, (facts.strategy,) if facts.strategy else ())
    if learnt_again(work, facts, data.parts).rows.fingerprint != facts.fingerprint:
        raise DriftloopError(
            f"version {tried.version} cannot be compared or refitted: the windows it was trained on are not what they "
            f"were. Reject it and train a new candidate."
        )
    return data


def _decision(
    work: Workspace, asked: Entry, tried: Registered, data: TrainingData | None, champion: Champion | None, by: str
) -> PromotionDecision:
    """The human's yes on the decision that asked, made anew where the champion is another by now.

    Raises DriftloopError, and ends the wait, when the new comparison is lost.
    """
    decision = decision_of(asked.details["report"]["decision"])
    if (champion.version if champion else None) != asked.details["compared_with"]:
        assert data is not None, "it was read because the champion moved"
        facts = tried.candidate.facts
        decision = decide(work, tried.predict, facts, data, champion, tried.serving)
        if decision.outcome is Outcome.KEEP:
            against = f"compared again, with champion {champion.version if champion else 'none'}: {decision.reason}"
            _end(work, asked, by, against)
            raise DriftloopError(f"version {tried.version} is not promoted: {against}. It no longer waits.")
    return decide_approved(decision, tried.serving, policy_of(work.loop))


def _end(work: Workspace, asked: Entry, by: str, reason: str) -> Entry:
    entry = work.ledger.append(
        Kind.REJECTION,
        window=asked.window,
        version=asked.version,
        reason=reason,
        actor=by,
        details={"asked": asked.seq},
        guard=still_waits(str(asked.version)),
    )
    follow(work, entry)
    return entry


def report_of(entry: Entry) -> Json:
    """What `--json` prints of a human's word."""
    return {
        "loop": entry.loop,
        "row": entry.seq,
        "time": entry.time.isoformat(),
        "kind": str(entry.kind),
        "window": entry.window,
        "version": entry.version,
        "by": entry.actor,
        "reason": entry.reason,
    }
