"""The prediction log in SQLite or PostgreSQL: two tables, the features of a row as one JSON text."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from driftloop.database import database_url
from driftloop.errors import ContractError, Unreachable
from driftloop.prediction_log import VARIABLE, Feedback, Record, as_text, nanoseconds, presented
from driftloop.settings import without_password

if TYPE_CHECKING:
    import pandas as pd

# another shape of these tables takes other names, so that two releases can share a database for a while
_metadata = sa.MetaData()
_predictions = sa.Table(
    "predictions_v1",
    _metadata,
    sa.Column("loop", sa.String(100), primary_key=True),
    sa.Column("request_id", sa.String(200), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),  # nanoseconds, which no database's own type of time keeps
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("prediction", sa.Double, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("latency_ms", sa.Double, nullable=False),
    sa.Column("features", sa.Text, nullable=False),
    sa.Index("predictions_v1_time", "loop", "time", "version"),
)
_feedback = sa.Table(
    "feedback_v1",
    _metadata,
    sa.Column("loop", sa.String(100), primary_key=True),
    sa.Column("request_id", sa.String(200), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Index("feedback_v1_received", "loop", "received"),
)
_KEY = ("loop", "request_id", "row")
_DAY = 86_400 * 10**9
_same = sa.and_(*(_predictions.c[c] == _feedback.c[c] for c in _KEY))
_joined = _predictions.outerjoin(_feedback, _same)
_labelled = _feedback.outerjoin(_predictions, _same)


class SqlStore:
    """The log of one loop in the database at ``url``; tables are made when it is first asked for something."""

    def __init__(self, url: str, loop: str) -> None:
        self.url, self.loop = url, loop
        location = database_url(url, VARIABLE)
        self._sqlite = location.get_backend_name() == "sqlite"
        self._file = Path(location.database) if self._sqlite and location.database else None
        self._engine = sa.create_engine(url, connect_args={"timeout": 30} if self._sqlite else {}, pool_pre_ping=True)
        self._insert: Any = sqlite.insert if self._sqlite else postgresql.insert
        self._made, self._making = False, threading.Lock()

    def append(self, records: Sequence[Record]) -> None:
        if not records:
            return
        rows = [
            {
                "loop": self.loop,
                "request_id": r.request_id,
                "row": r.row,
                "time": r.time,
                "version": r.version,
                "prediction": r.prediction,
                "label": r.label,
                "latency_ms": r.latency_ms,
                "features": json.dumps(r.features, separators=(",", ":")),
            }
            for r in records
        ]
        with self._begin() as connection:
            connection.execute(self._insert(_predictions).on_conflict_do_nothing(), rows)

    def label(self, labels: Sequence[Feedback]) -> int:
        if not labels:
            return 0
        received = time.time_ns()
        rows = {
            (request, row): {
                "loop": self.loop,
                "request_id": request,
                "row": row,
                "label": as_text(label),
                "received": received,
            }
            for request, row, label in labels
        }
        add = self._insert(_feedback)
        newer = {name: add.excluded[name] for name in ("label", "received")}
        unknown = (
            sa.select(sa.func.count())
            .select_from(_labelled)
            .where(_feedback.c.loop == self.loop, _feedback.c.received == received, _predictions.c.request_id.is_(None))
        )
        with self._begin() as connection:
            connection.execute(add.on_conflict_do_update(index_elements=_KEY, set_=newer), list(rows.values()))
            return int(connection.execute(unknown).scalar_one())

    def read(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        version: str | None = None,
        last: int | None = None,
        labelled: bool = False,
        features: bool = True,
    ) -> pd.DataFrame:
        import pandas as pd

        table = _predictions.c
        columns = [table[c] for c in ("request_id", "row", "time", "version", "prediction", "label", "latency_ms")]
        query = sa.select(*columns, _feedback.c.label.label("feedback"), *([table.features] if features else []))
        query = query.where(*_between(since, until))
        newest = [table.time.desc(), table.request_id.desc(), table.row.desc()]
        if labelled:
            # from the labels to the rows, which coalesce keeps SQLite from turning round: few of millions have one
            served = sa.func.coalesce(table.version, "")
            query = query.select_from(_labelled).where(_feedback.c.loop == self.loop)
            query = query.where(served != "" if version is None else served == version)
            newest = [_feedback.c.received.desc(), *newest]
        else:
            query = query.select_from(_joined).where(table.loop == self.loop)
            query = query if version is None else query.where(table.version == version)
        with self._begin() as connection:
            result = connection.execute(query.order_by(*newest).limit(last))
            found = pd.DataFrame(result.all(), columns=list(result.keys()))
        return presented(found.sort_values(["time", "request_id", "row"], ignore_index=True))

    def counts(self) -> dict[str, tuple[int, int]]:
        version = _predictions.c.version
        query = sa.select(version, sa.func.count()).where(_predictions.c.loop == self.loop).group_by(version)
        of_labels = sa.select(version, sa.func.count()).select_from(_labelled)
        of_labels = of_labels.where(_feedback.c.loop == self.loop, version.is_not(None)).group_by(version)
        with self._begin() as connection:
            labelled = {name: int(rows) for name, rows in connection.execute(of_labels)}
            return {name: (int(rows), labelled.get(name, 0)) for name, rows in connection.execute(query)}

    def days(self) -> list[date]:
        # one look into the index for each day, where DISTINCT would read all of it
        first = sa.func.min(_predictions.c.time)
        days: list[date] = []
        beginning = -_DAY * 10**5
        with self._begin() as connection:
            while True:
                query = sa.select(first).where(_predictions.c.loop == self.loop, _predictions.c.time >= beginning)
                found = connection.execute(query).scalar()
                if found is None:
                    return days
                days.append(datetime.fromtimestamp(0, UTC).date() + timedelta(days=int(found) // _DAY))
                beginning = (int(found) // _DAY + 1) * _DAY

    def state(self, since: datetime, until: datetime) -> tuple[int, int, int]:
        here = (_predictions.c.loop == self.loop, *_between(since, until))
        rows = sa.select(sa.func.count()).where(*here)
        labels = sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(_feedback.c.received), 0))
        labels = labels.select_from(_joined).where(*here, _feedback.c.label.is_not(None))
        with self._begin() as connection:
            labelled, newest = connection.execute(labels).one()
            return int(connection.execute(rows).scalar_one()), int(labelled), int(newest)

    def prune(self, before: datetime) -> int:
        limit = nanoseconds(before)
        gone = sa.delete(_predictions).where(_predictions.c.loop == self.loop, _predictions.c.time < limit)
        # labels of rows that are gone go with them, those that came before their row not before their time
        stray = sa.delete(_feedback).where(
            _feedback.c.loop == self.loop, _feedback.c.received < limit, ~sa.exists().where(_same)
        )
        with self._begin() as connection:
            count = int(connection.execute(gone).rowcount)
            connection.execute(stray)
        if self._sqlite and count:
            with self._reachable(), self._engine.connect() as connection:
                database = connection.connection.driver_connection
                assert database is not None, "it is connected for this block"
                database.executescript("PRAGMA incremental_vacuum")  # a statement would be left after the first page
        return count

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with self._reachable():
            if not self._made:
                self._make()
            with self._engine.begin() as connection:
                yield connection

    def _make(self) -> None:
        with self._making:
            if self._file:
                self._make_file(self._file)
            with self._engine.begin() as connection:
                if not self._sqlite:
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7264312)")  # one process makes the tables
                _metadata.create_all(connection)
            self._made = True

    def _make_file(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ContractError(
                f"{file.parent} cannot be made ({error.strerror}); name a folder to keep state in with DRIFTLOOP_HOME."
            ) from None
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")  # counts only before the first table
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # who reads does not wait for who writes

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            cure = "Restore the file, or correct" if self._sqlite else "Start it or correct"
            self._made = False  # whoever mends it may begin anew, and a connection may remember what was wrong
            self._engine.dispose()
            raise Unreachable(
                f"the prediction log at {without_password(self.url)} does not answer: "
                f"{' '.join(str(error.orig).split())}. {cure} {VARIABLE}, then run again."
            ) from None


def _between(since: datetime | None, until: datetime | None) -> list[Any]:
    column = _predictions.c.time
    return [
        *([column >= nanoseconds(since)] if since else []),
        *([column < nanoseconds(until)] if until else []),
    ]
