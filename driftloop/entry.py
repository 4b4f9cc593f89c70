"""A row of the ledger, what it may record, and the hash that ties it to the row before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

NEVER = datetime.fromtimestamp(0, UTC)


class Kind(StrEnum):
    """What a row records. Only a promotion, an adoption and a rollback change the champion.

    After ``ask`` a candidate waits for a human: a promotion, a rejection, an expiry or the next ask ends that.
    """

    VERDICT = "verdict"
    QUARANTINE = "quarantine"
    PROMOTION = "promotion"
    KEEP = "keep"
    ASK = "ask"
    REJECTION = "rejection"
    EXPIRY = "expiry"
    ROLLBACK = "rollback"
    ADOPTION = "adoption"


REIGNS = (Kind.PROMOTION, Kind.ROLLBACK, Kind.ADOPTION)


@dataclass(frozen=True)
class Entry:
    """One row. ``seq`` counts from 1 within the loop; ``time`` is UTC.

    ``hash`` is made of all other columns, ``previous`` among them: the hash of the row before, empty in the first.
    """

    loop: str
    seq: int
    time: datetime
    kind: Kind
    window: str
    version: str | None
    actor: str
    reason: str
    details: Mapping[str, Any]
    previous: str = ""
    hash: str = ""

    @property
    def training(self) -> dict[str, Any]:
        """What the version of a decision, an adoption or a rollback was trained on, and its metrics."""
        return dict(self.details.get("training") or self.details["report"]["training"])

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Its windows, oldest first."""
        return tuple(self.training["windows"])

    @property
    def report(self) -> dict[str, Any] | None:
        """What the window came to, where this row says so; a human's word says nothing of it."""
        return self.details.get("report")


def row_hash(entry: Entry) -> str:
    """BLAKE2b of all that a row says, the hash of the row before included."""
    said = {**entry.__dict__, "kind": str(entry.kind), "time": entry.time.isoformat()}
    del said["hash"]
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def altered(entries: Sequence[Entry]) -> list[str]:
    """What does not hold in a loop's rows, a sentence each: a row changed, removed or slipped in behind our back.

    Rows removed from the end leave no trace here; a hash noted down elsewhere shows them.
    """
    found, previous = [], Entry("", 0, NEVER, Kind.VERDICT, "", None, "", "", {})
    for entry in entries:
        if entry.seq != previous.seq + 1:
            found.append(f"row {previous.seq + 1} is missing before row {entry.seq}")
        elif entry.previous != previous.hash:
            found.append(f"row {entry.seq} does not follow row {previous.seq} as it stands")
        if entry.hash != row_hash(entry):
            found.append(f"row {entry.seq} is not what was written")
        previous = entry
    return found
