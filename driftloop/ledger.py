"""The append-only record of verdicts and decisions: the truth about who was champion when, and why."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError

from driftloop.database import database_url
from driftloop.entry import NEVER, REIGNS, Entry, Kind, altered, row_hash
from driftloop.errors import ChampionMoved, ContractError, DriftloopError, Unreachable
from driftloop.settings import without_password

Guard = Callable[[Sequence[Entry]], None]
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
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
_told = sa.Table(  # up to which row alerts were sent: rows are added, the highest counts
    "told",
    _metadata,
    sa.Column("loop", sa.String(100), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
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
        guard: Guard | None = None,
    ) -> Entry:
        """Record something that does not change the champion.

        ``guard`` sees all rows right before this one is added, and raises where they no longer allow it.
        """
        assert kind not in REIGNS, "what changes the champion states which one it replaces: use promote"
        return self._append(Entry(self.loop, 0, NEVER, kind, window, version, actor, reason, details), guard)

    def promote(
        self,
        version: str,
        *,
        expected: str | None,
        window: str,
        reason: str,
        actor: str,
        details: Mapping[str, Any],
        kind: Kind = Kind.PROMOTION,
        guard: Guard | None = None,
    ) -> Entry:
        """Record ``version`` as champion in place of ``expected``, the champion it was compared with.

        ``kind`` is a promotion, an adoption or a rollback. Raises ChampionMoved when another champion came first; the
        caller then decides again.
        """
        assert kind in REIGNS, f"a {kind} changes no champion"

        def still_expected(entries: Sequence[Entry]) -> None:
            reign = _last(entries, REIGNS)
            champion = reign.version if reign else None
            if champion != expected:
                raise ChampionMoved(
                    f"{self.loop}: version {version} was compared with champion {expected or 'none'}, "
                    f"meanwhile it is {champion or 'none'}"
                )
            if guard:
                guard(entries)

        return self._append(Entry(self.loop, 0, NEVER, kind, window, version, actor, reason, details), still_expected)

    def champion(self) -> str | None:
        """The version of the last promotion, rollback or adoption."""
        reign = self.last_reign()
        return reign.version if reign else None

    def last_reign(self) -> Entry | None:
        """The row that made today's champion; None before the first."""
        return self.last(REIGNS)

    def last(self, kinds: Collection[Kind]) -> Entry | None:
        """The newest row of one of these kinds."""
        return _last(self.entries(), kinds)

    def entries(self, window: str | None = None) -> list[Entry]:
        """All rows in order, or those of one window."""
        query = sa.select(_table).where(_table.c.loop == self.loop).order_by(_table.c.seq)
        if window is not None:
            query = query.where(_table.c.window == window)
        try:
            return [_entry(row) for row in self._read(query)]
        except ValueError as error:
            raise DriftloopError(
                f"the ledger at {without_password(self.url)} holds a row that cannot be read ({error}); `driftloop "
                f"history DIR --verify` says which. Restore it from a backup."
            ) from None

    def verified(self) -> Verified:
        """What does not hold in the rows, a sentence each; also of rows that can no longer be read."""
        query = sa.select(_table.c.seq, _table.c.hash).where(_table.c.loop == self.loop).order_by(_table.c.seq)
        hashes = {row.seq: row.hash for row in self._read(query)}
        readable: list[Entry] = []
        lost: list[int] = []
        for number in hashes:
            row = sa.select(_table).where(_table.c.loop == self.loop, _table.c.seq == number)
            try:
                readable += [_entry(found) for found in self._read(row)]
            except ValueError:
                lost.append(number)
        holes = {f"row {number} is missing" for number in lost}
        found = [said for said in altered(readable) if said.partition(" before")[0] not in holes]
        problems = (*(f"row {number} is not what was written" for number in lost), *found)
        return Verified(len(hashes), problems, list(hashes.values())[-1] if hashes else None)

    def told(self) -> int | None:
        """The row up to which alerts were sent; None when that was never begun."""
        highest = self._read(sa.select(sa.func.max(_told.c.seq)).where(_told.c.loop == self.loop))[0][0]
        return None if highest is None else int(highest)

    def mark_told(self, seq: int) -> None:
        self._insert(_told, {"loop": self.loop, "seq": seq})

    def _read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._reachable(), self._engine.connect() as connection:
            return connection.execute(query).all()

    def _append(self, wanted: Entry, guard: Guard | None) -> Entry:
        # Compare-and-set without locks: the row after the last one read can be inserted once only, so an insert
        # that succeeds proves that nothing was appended since the guard looked.
        details = json.loads(json.dumps(dict(wanted.details), allow_nan=False))
        for attempt in range(_ATTEMPTS):
            entries = self.entries()
            if guard:
                guard(entries)
            last = entries[-1] if entries else None
            entry = replace(
                wanted,
                seq=last.seq + 1 if last else 1,
                time=datetime.now(UTC),
                details=details,
                previous=last.hash if last else "",
            )
            entry = replace(entry, hash=row_hash(entry))
            if self._insert(_table, {**entry.__dict__, "kind": str(entry.kind)}):
                return entry
            time.sleep(0.01 * attempt)
        raise Unreachable(f"the ledger at {without_password(self.url)} was busy {_ATTEMPTS} times in a row; run again.")

    def _insert(self, table: sa.Table, values: Mapping[str, Any]) -> bool:
        """False when somebody else inserted a row of that key."""
        try:
            with self._reachable(), self._engine.begin() as connection:
                connection.execute(sa.insert(table).values(values))
        except IntegrityError:
            return False
        return True

    def _create(self) -> None:
        """Make the tables, or chain those of driftloop 0.1, unless that is done; one process at a time."""
        if self._complete(self._engine):
            return
        with self._engine.begin() as connection:
            alone = "BEGIN IMMEDIATE" if self._sqlite else "SELECT pg_advisory_xact_lock(7264311)"
            connection.exec_driver_sql(alone)
            _metadata.create_all(connection)
            if not self._complete(connection):  # another process may have been faster
                self._chain_old_rows(connection)

    def _complete(self, bind: sa.Engine | sa.Connection) -> bool:
        found = sa.inspect(bind)
        return found.has_table("told") and {"previous", "hash"} <= {c["name"] for c in found.get_columns("ledger")}

    def _chain_old_rows(self, connection: sa.Connection) -> None:
        """Give the rows of a ledger of driftloop 0.1 their hashes, once."""
        there = {column["name"] for column in sa.inspect(connection).get_columns("ledger")}
        for column in {"previous", "hash"} - there:
            connection.execute(sa.text(f"ALTER TABLE ledger ADD COLUMN {column} VARCHAR(64) NOT NULL DEFAULT ''"))
        rows = connection.execute(sa.select(_table).order_by(_table.c.loop, _table.c.seq)).all()
        last: Entry | None = None
        for entry in map(_entry, rows):
            before = last.hash if last and last.loop == entry.loop else ""
            last = replace(entry, previous=before)
            last = replace(last, hash=row_hash(last))
            this = (_table.c.loop == last.loop) & (_table.c.seq == last.seq)
            connection.execute(sa.update(_table).where(this).values(previous=last.previous, hash=last.hash))

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
    with _glance(url, loop) as ledger:
        return ledger.entries()


@dataclass(frozen=True)
class Verified:
    """How many rows there are, what does not hold in them, and the last one's hash, to be noted elsewhere."""

    rows: int
    problems: tuple[str, ...]
    last_hash: str | None


def verify(url: str, loop: str) -> Verified:
    """Look for rows that were changed, without bringing an old ledger up to date first. Raises DriftloopError."""
    location = database_url(url, "DRIFTLOOP_LEDGER_URL")
    if location.get_backend_name() == "sqlite" and location.database and not Path(location.database).exists():
        return Verified(0, (), None)
    engine = sa.create_engine(url)
    try:
        found = sa.inspect(engine)
        names = {column["name"] for column in found.get_columns("ledger")} if found.has_table("ledger") else None
    except DatabaseError:
        names = None  # opened below, the ledger says what is wrong with it
    finally:
        engine.dispose()
    if names is not None and not {"previous", "hash"} <= names:
        raise DriftloopError(
            f"the rows of the ledger at {without_password(url)} carry no hashes: driftloop 0.1 wrote it, or somebody "
            f"took them away. The next run ties the rows together as they stand."
        )
    with _glance(url, loop) as ledger:
        return ledger.verified()


@contextmanager
def _glance(url: str, loop: str) -> Iterator[Ledger]:
    """A ledger that keeps no connection afterwards."""
    ledger = Ledger(url, loop)
    try:
        yield ledger
    finally:
        ledger._engine.dispose()  # noqa: SLF001


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContractError(
            f"{folder} cannot be made ({error.strerror}); name a folder to keep state in with DRIFTLOOP_HOME."
        ) from None


def loops(url: str) -> list[str]:
    """The names of all loops in the ledger at ``url``."""
    with _glance(url, "") as ledger:
        return [str(name) for (name,) in ledger._read(sa.select(_table.c.loop).distinct())]  # noqa: SLF001


def _last(entries: Sequence[Entry], kinds: Collection[Kind]) -> Entry | None:
    return next((e for e in reversed(entries) if e.kind in kinds), None)


def _entry(row: sa.Row[Any]) -> Entry:
    values = row._asdict()
    when = values["time"]
    values["time"] = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)  # SQLite keeps no zone
    return Entry(**{**values, "kind": Kind(values["kind"])})
