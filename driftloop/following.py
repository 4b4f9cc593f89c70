"""What comes after a row of the ledger: the registry follows it, people are told, what waits too long ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from driftloop.alerts import addresses, alert_of, send
from driftloop.entry import REIGNS, Entry, Kind
from driftloop.errors import NotWaiting
from driftloop.ledger import Guard
from driftloop.reigns import ARRIVALS, ENDS_WAITING, TRAININGS, expired, waiting
from driftloop.workspace import Workspace


def follow(work: Workspace, entry: Entry) -> None:
    """Let the registry follow a row of the ledger: the aliases first, then what explains it."""
    work.point_aliases()  # not at this row's version by name: if yet another run promoted since, the alias is its
    assert entry.version is not None, "such a row is about a version"
    if entry.kind in TRAININGS:
        decision = entry.details["report"]["decision"]
        if (judged := entry.details.get("judged", entry.version)) != entry.version:
            work.registry.mark(
                judged, decision["outcome"], f"{decision['reason']}; refitted as version {entry.version}"
            )
        if older := entry.details.get("supersedes"):
            work.registry.mark(older, "superseded", f"version {entry.version} came while it waited for approval")
        work.registry.explain(entry.version, decision, entry.details["card"])
    elif entry.kind is Kind.ADOPTION:
        said = {"outcome": str(entry.kind), "reason": entry.reason, "by": entry.actor}
        work.registry.explain(entry.version, said | entry.details["adopted"], entry.details["card"])
    else:
        work.registry.mark(entry.version, str(entry.kind), entry.reason)


def heal(work: Workspace) -> str | None:
    """Make the registry follow the ledger, which a crash between the two can leave behind.

    Returns what was healed, as a sentence. Raises DriftloopError when the registry names a champion that this ledger
    never heard of.
    """
    begin_telling(work)
    healed = work.point_aliases()
    entry = work.ledger.last({*TRAININGS, *ENDS_WAITING, *REIGNS})
    if entry is None or entry.version is None or work.registry.marked(entry.version) == _mark(entry):
        return healed
    follow(work, entry)
    return healed or f"version {entry.version} had no decision beside it"


def _mark(entry: Entry) -> str:
    return str(entry.details["report"]["decision"]["outcome"] if entry.kind in TRAININGS else entry.kind)


def expire(work: Workspace, window: str, actor: str = "monitor_flow") -> Entry | None:
    """End the wait of a candidate that nobody approved while ``approval_expires`` windows arrived, the last one now."""
    entries = work.ledger.entries()
    asked, limit = waiting(entries), work.loop.promotion.approval_expires
    if asked is None or not expired(entries, asked, window, limit):
        return None
    try:
        entry = work.ledger.append(
            Kind.EXPIRY,
            window=window,
            version=asked.version,
            reason=f"nobody approved it while {limit} windows arrived",
            actor=actor,
            details={},
            guard=still_waits(str(asked.version)),
        )
    except NotWaiting:
        return None  # a human was faster
    follow(work, entry)
    return entry


def still_waits(version: str) -> Guard:
    """Raises NotWaiting when the version no longer waits for approval."""

    def guard(entries: Sequence[Entry]) -> None:
        asked = waiting(entries)
        if asked is None or asked.version != version:
            raise NotWaiting(f"version {version} no longer waits for approval{_what_waits(asked)}.")

    return guard


def _what_waits(asked: Entry | None) -> str:
    return f"; version {asked.version} does" if asked else "; none does"


def _told_before(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Whether a run that was cut short, or one under an edited loop.toml, came to the same about the window before."""
    if entry.kind not in ARRIVALS:
        return False
    said = (entry.kind, entry.window, entry.reason, entry.version)
    return any((e.kind, e.window, e.reason, e.version) == said for e in entries if e.seq < entry.seq)


def begin_telling(work: Workspace) -> None:
    """Where alerts were never sent, what the ledger holds already is no news."""
    if work.ledger.told() is None:
        entries = work.ledger.entries()
        work.ledger.mark_told(entries[-1].seq if entries else 0)


def tell(work: Workspace, env: Mapping[str, str]) -> int:
    """Send the alerts of the rows that were added since the last time; returns how many there were.

    Each is sent once: a row is marked when its alert went out, so only a process killed between the two sends it twice.
    An address that does not take an alert is not tried again.
    """
    begin_telling(work)
    urls, told, count = addresses(work.loop, env), work.ledger.told() or 0, 0
    entries = work.ledger.entries()
    for entry in entries:
        if entry.seq <= told:
            continue
        if (alert := alert_of(entry)) and not _told_before(entry, entries):
            send(alert, urls)
            count += 1
        work.ledger.mark_told(entry.seq)
    return count
