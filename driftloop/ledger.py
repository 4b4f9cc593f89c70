"""The append-only record of verdicts and decisions: the truth about who was champion when, and why."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from driftloop.database import database_url
from driftloop.errors import ChampionMoved, ContractError, Unreachable
from driftloop.settings import without_password


class Kind(StrEnum):
    """What a row records. Only a promotion changes the champion."""

    VERDICT = "verdict"
    QUARANTINE = "quarantine"
    PROMOTION = "promotion"
    KEEP = "keep"


@dataclass(frozen=True)
class Entry:
    """One row. ``seq`` counts from 1 within the loop; ``time`` is UTC."""

    loop: str
    seq: int
    time: datetime
    kind: Kind
    window: str
    version: str | None
    actor: str
    reason: str
    details: Mapping[str, Any]


_metadata = sa.MetaData()
_table = sa.Table(
    "ledger",
    _metadata,
    sa.Column("loop", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("window", sa.String(200), nullable=False),
    sa.Column("version", sa.String(50)),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
)
_ATTEMPTS = 50  # racing writers each lose at most once to every other


class Ledger:
    """The ledger of one loop in the database at ``url``. There is no way to change or remove a row."""

    def __init__(self, url: str, loop: str) -> None:
        self.url, self.loop = url, loop
        location = database_url(url, "DRIFTLOOP_LEDGER_URL")
        self._sqlite = location.get_backend_name() == "sqlite"
        if self._sqlite and location.database:
            _make_folder(Path(location.database).parent)
        self._engine = sa.create_engine(url, connect_args={"timeout": 30} if self._sqlite else {}, pool_pre_ping=True)
        with self._reachable():
            self._create()

    def append(
        self,
        kind: Kind,
        *,
        window: str,
        version: str | None,
        reason: str,
        actor: str,
        details: Mapping[str, Any],
    ) -> Entry:
        """Record something that does not change the champion."""
        assert kind is not Kind.PROMOTION, "a promotion states which champion it replaces: use promote"
        return self._append(kind, window, version, reason, actor, details)

    def promote(
        self, version: str, *, expected: str | None, window: str, reason: str, actor: str, details: Mapping[str, Any]
    ) -> Entry:
        """Record ``version`` as champion in place of ``expected``, the champion it was compared with.

        Raises ChampionMoved when another champion came first; the caller then decides again.
        """
        return self._append(Kind.PROMOTION, window, version, reason, actor, details, expected=(expected,))

    def champion(self) -> str | None:
        """The version of the last promotion."""
        promotion = self.last_promotion()
        return promotion.version if promotion else None

    def last_promotion(self) -> Entry | None:
        """The row that made today's champion; None before the first."""
        return self.last([Kind.PROMOTION])

    def last(self, kinds: Collection[Kind]) -> Entry | None:
        """The newest row of one of these kinds."""
        return _last(self.entries(), kinds)

    def entries(self, window: str | None = None) -> list[Entry]:
        """All rows in order, or those of one window."""
        query = sa.select(_table).where(_table.c.loop == self.loop).order_by(_table.c.seq)
        if window is not None:
            query = query.where(_table.c.window == window)
        with self.connect() as connection:
            return [_entry(row) for row in connection.execute(query)]

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection to read with. Raises Unreachable."""
        with self._reachable(), self._engine.connect() as connection:
            yield connection

    def _append(
        self,
        kind: Kind,
        window: str,
        version: str | None,
        reason: str,
        actor: str,
        details: Mapping[str, Any],
        expected: tuple[str | None] | None = None,
    ) -> Entry:
        # Compare-and-set without locks: the row after the last one read can be inserted once only, so an insert
        # that succeeds proves that nothing was appended since the champion was looked up.
        for attempt in range(_ATTEMPTS):
            entries = self.entries()
            promotion = _last(entries, [Kind.PROMOTION])
            champion = promotion.version if promotion else None
            if expected is not None and champion != expected[0]:
                raise ChampionMoved(
                    f"{self.loop}: version {version} was compared with champion {expected[0] or 'none'}, "
                    f"meanwhile it is {champion or 'none'}"
                )
            seq = entries[-1].seq + 1 if entries else 1
            entry = Entry(self.loop, seq, datetime.now(UTC), kind, window, version, actor, reason, dict(details))
            if self._insert(entry):
                return entry
            time.sleep(0.01 * attempt)
        raise Unreachable(f"the ledger at {without_password(self.url)} was busy {_ATTEMPTS} times in a row; run again.")

    def _insert(self, entry: Entry) -> bool:
        """False when somebody else took this sequence number."""
        values = {**entry.__dict__, "kind": str(entry.kind)}
        try:
            with self._reachable(), self._engine.begin() as connection:
                connection.execute(sa.insert(_table).values(values))
        except IntegrityError:
            return False
        return True

    def _create(self) -> None:
        try:
            _metadata.create_all(self._engine)
        except (OperationalError, sa.exc.ProgrammingError, IntegrityError):
            if not sa.inspect(self._engine).has_table("ledger"):  # else another process created it first
                raise

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a row that somebody else was faster to insert; the database answers
        except DatabaseError as error:
            cure = "Restore the file, or correct" if self._sqlite else "Start it or correct"
            raise Unreachable(
                f"the ledger at {without_password(self.url)} does not answer: {' '.join(str(error.orig).split())}. "
                f"{cure} DRIFTLOOP_LEDGER_URL, then run again."
            ) from None


def peek(url: str, loop: str) -> list[Entry]:
    """All rows of a loop in order, without making a ledger where there is none yet."""
    location = database_url(url, "DRIFTLOOP_LEDGER_URL")
    if location.get_backend_name() == "sqlite" and location.database and not Path(location.database).exists():
        return []
    return Ledger(url, loop).entries()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContractError(
            f"{folder} cannot be made ({error.strerror}); name a folder to keep state in with DRIFTLOOP_HOME."
        ) from None


def loops(url: str) -> list[str]:
    """The names of all loops in the ledger at ``url``."""
    with Ledger(url, "").connect() as connection:
        return [str(name) for name in connection.execute(sa.select(_table.c.loop).distinct()).scalars()]


def _last(entries: list[Entry], kinds: Collection[Kind]) -> Entry | None:
    return next((e for e in reversed(entries) if e.kind in kinds), None)


def _entry(row: sa.Row[Any]) -> Entry:
    values = row._asdict()
    when = values["time"]
    values["time"] = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)  # SQLite keeps no zone
    return Entry(**{**values, "kind": Kind(values["kind"])})
