"""The prediction log: what the champion answered to whom, and which labels came back."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from driftloop.contract import Label, Loop
from driftloop.errors import ContractError, Unreachable
from driftloop.settings import Settings, without_password
from driftloop.spool import Spool, taken

if TYPE_CHECKING:  # the scribe ships without pandas, which is three times what else it takes
    import pandas as pd

    from driftloop.live import LiveMetrics

LONGEST_ID = 200  # bytes
BATCH_ROWS = 10_000  # rows in memory, and in one transaction, at once
MOST_ROWS = 2**31  # of a request, by what the stores take for a row's number
VARIABLE = "DRIFTLOOP_LOG_URL"

Value = float | str | None
Feedback = tuple[str, int, Label | float]  # request id, row, the true label


@dataclass(frozen=True)
class Record:
    """One answered row. ``row`` is its place in the request, ``time`` nanoseconds since the epoch (UTC).

    ``prediction`` is the probability of the event, or of the label that a multiclass model answered, or the value;
    ``label`` what a classifier answered.
    """

    request_id: str
    row: int
    time: int
    version: str
    features: Mapping[str, Value]
    prediction: float
    label: str | None
    latency_ms: float


class Store(Protocol):
    """The log of one loop. What does not answer raises Unreachable; nothing is written before the first call."""

    def append(self, records: Sequence[Record]) -> None:
        """Keep the records; those kept before, by request id and row, change nothing."""
        ...

    def label(self, labels: Sequence[Feedback]) -> int:
        """Keep the labels, the newest for each row; how many of them name a row that is not in the log (yet)."""
        ...

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
        """The rows of [since, until), oldest first, at most the newest ``last`` of them.

        ``labelled``: only those whose label came back, of which the newest labels count.

        Columns request_id, row, time (datetime64[ns, UTC]), version, prediction, label (what was answered), latency_ms
        and feedback (the true label, None while it is not known); ``values`` holds the features, a dict a row, unless
        they are not asked for.
        """
        ...

    def counts(self) -> dict[str, tuple[int, int]]:
        """(rows, labelled rows) of each version in the log."""
        ...

    def days(self) -> list[date]:
        """The days (UTC) of which there are rows, oldest first."""
        ...

    def state(self, since: datetime, until: datetime) -> tuple[int, int, int]:
        """(rows, labelled rows, when the last label came) of [since, until): changes with whatever is added."""
        ...

    def prune(self, before: datetime) -> int:
        """Forget the rows older than ``before`` and give their space back; how many there were."""
        ...


def open_store(loop: Loop, settings: Settings) -> Store | None:
    """The log that ``[serving] log`` asks for; None for "off". Raises ContractError where it has no address."""
    kind = loop.serving.log
    if kind == "off":
        return None
    if kind == "parquet":
        from driftloop.log_files import ParquetStore

        return ParquetStore(settings.home / "predictions" / loop.name)
    from driftloop.log_tables import SqlStore

    return SqlStore(_address(kind, settings), loop.name)


def require_address(loop: Loop, settings: Settings) -> None:
    """Raise ContractError where ``open_store`` would; opens nothing."""
    if loop.serving.log in ("sqlite", "postgresql"):
        _address(loop.serving.log, settings)


def _address(kind: str, settings: Settings) -> str:
    if settings.log_url:
        if not settings.log_url.startswith(kind):
            raise ContractError(
                f'{VARIABLE} = {without_password(settings.log_url)}, but loop.toml says serving.log = "{kind}"; '
                f"change one of them."
            )
        return settings.log_url
    if kind == "sqlite":
        return f"sqlite:///{settings.home / 'predictions.db'}"
    if settings.ledger_url.startswith(kind):
        return settings.ledger_url
    raise ContractError(
        f'serving.log = "postgresql" needs a database: set {VARIABLE}, e.g. postgresql+psycopg://user@host/predictions.'
    )


def open_spool(loop: Loop, settings: Settings) -> Spool:
    """Where the API's processes leave what the scribe ships."""
    return Spool(spool_folder(loop, settings), loop.serving.max_spool_mb)


def spool_folder(loop: Loop, settings: Settings) -> Path:
    return settings.home / "serving" / loop.name / "spool"


def _line(line: bytes) -> dict[str, Any]:
    """What a spool's line says. Raises ValueError for one that was cut off, or is none of ours."""
    said = json.loads(line)
    if not (isinstance(said, dict) and isinstance(said.get("id"), str)):
        raise ValueError("it names no request")  # noqa: TRY004  # whatever is wrong with a line, it is its value
    if "\0" in said["id"] or len(said["id"].encode()) > LONGEST_ID:  # a lone surrogate is refused here as well
        raise ValueError("no database takes such an id, and one line must not hold up all that follow")
    return said


def _records(said: Mapping[str, Any]) -> list[Record]:
    try:
        rows, scores, labels = said["rows"], said["p"], said["l"]
        return [
            Record(said["id"], n, int(said["t"]), str(said["v"]), row, _finite(score), label, _finite(said["ms"]))
            for n, (row, score, label) in enumerate(zip(rows, scores, labels, strict=True))
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no spooled request: {error!r}") from None


def _finite(value: Any) -> float:
    """Raises ValueError, or TypeError, for what no database keeps as a number."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no finite number")
    return number


def _feedback(said: Mapping[str, Any]) -> Feedback:
    """The label that a line of the API's POST /feedback brings: id, row and label."""
    row, label = said.get("row", 0), said["label"]
    if not isinstance(row, int) or not 0 <= row < MOST_ROWS or not isinstance(label, bool | int | float | str):
        raise ValueError("it is no spooled label")
    if not isinstance(label, str):
        _finite(label)
    return said["id"], row, label


@dataclass(frozen=True)
class Failure:
    """A request that a version did not answer though the client did nothing wrong. ``time`` as in Record."""

    request_id: str
    time: int
    version: str
    status: int


@dataclass(frozen=True)
class Lines:
    """What a segment of the spool holds; ``damaged`` lines could not be read."""

    records: list[Record]
    feedback: list[Feedback]
    failures: list[Failure]
    damaged: int


@dataclass(frozen=True)
class ShippingReport:
    """What one round of shipping came to. ``shipped`` rows and ``labels`` are in the store.

    ``unknown`` labels name no row that is there yet; ``damaged`` lines could not be read. ``dropped`` requests went
    because more than max_spool_mb waited. ``lag_seconds`` is the age of the oldest segment that still waits, 0 when
    none does. ``trouble``: why the store took no more, None when it took all.
    """

    shipped: int
    labels: int
    unknown: int
    damaged: int
    dropped: int
    waiting_bytes: int
    lag_seconds: float
    trouble: str | None


def ship(spool: Spool, store: Store, seen: Callable[[Lines], None] = lambda _: None) -> ShippingReport:
    """Move what is complete in the spool to the store, oldest first; never raises for a store that does not answer.

    ``seen`` is told of each segment that the store took.

    A segment is removed once its rows are in the store. Killed between the two, the next round appends them again,
    which changes nothing. While the store does not answer the spool grows, up to its bound.
    """
    shipped = labels = unknown = damaged = 0
    trouble = None
    try:
        for segment in spool.segments():
            with taken(segment) as content:
                if content is None:
                    continue
                lines = lines_of(content)
                for start in range(0, len(lines.records), BATCH_ROWS):
                    store.append(lines.records[start : start + BATCH_ROWS])
                missed = store.label(lines.feedback)
                segment.unlink()
            shipped, labels = shipped + len(lines.records), labels + len(lines.feedback)
            unknown, damaged = unknown + missed, damaged + lines.damaged
            seen(lines)
    except (Unreachable, ContractError) as error:  # no folder for it is trouble like no answer from it
        trouble = str(error)
    dropped = spool.trim()
    waiting = spool.waiting()
    lag = 0.0 if waiting.oldest is None else max(0.0, time.time() - waiting.oldest)
    return ShippingReport(shipped, labels, unknown, damaged, dropped, waiting.bytes, lag, trouble)


def lines_of(content: bytes) -> Lines:
    """A segment's content; the last line of a process killed while it wrote is cut off."""
    lines = Lines([], [], [], 0)
    damaged = 0
    for line in content.splitlines():
        try:
            said = _line(line)
            if "label" in said:
                lines.feedback.append(_feedback(said))
                continue
            lines.records.extend(_records(said))
            if "status" in said:
                lines.failures.append(Failure(said["id"], int(said["t"]), str(said["v"]), int(said["status"])))
        except (ValueError, TypeError, KeyError, OverflowError):
            damaged += 1
    return replace(lines, damaged=damaged)


def rows_of(found: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """What ``Store.read`` found with the named features as columns beside the log's own; absent values are None.

    A feature that bears the name of one of the log's columns takes its place.
    """
    import pandas as pd

    kept = found.drop(columns=["values", *(name for name in names if name in found)])
    columns = {name: [values.get(name) for values in found["values"]] for name in names}
    return pd.concat([kept, pd.DataFrame(columns, index=found.index)], axis=1)


def standing_by_version(
    store: Store, loop: Loop, limit: int = 10_000, labels: tuple[str, ...] | None = None
) -> list[LiveMetrics]:
    """Rows, labelled rows and live metric of each version in the log; the metric is of its newest ``limit`` labels.

    ``labels`` are the champion's, see Facts. Raises Unreachable.
    """
    from driftloop.live import live_metrics

    standing = []
    for version, (rows, labelled) in sorted(store.counts().items()):
        newest = store.read(version=version, last=limit, labelled=True, features=False)
        standing.append(live_metrics(newest, loop, version=version, rows=rows, labelled=labelled, labels=labels))
    return standing


def nanoseconds(moment: datetime) -> int:
    """Since the epoch; exact, as a float's 53 bits are not."""
    since = moment.astimezone(UTC) - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def as_text(label: Label | float) -> str:
    """A label as the stores keep it. Raises ValueError for what is none."""
    return json.dumps(label, allow_nan=False)


def presented(stored: pd.DataFrame) -> pd.DataFrame:
    """Stored columns in the form that ``Store.read`` promises: time in UTC, labels and features out of their texts."""
    import pandas as pd

    time_of = pd.to_datetime(stored["time"].astype("int64"), unit="ns", utc=True)
    labels = [None if pd.isna(text) else json.loads(text) for text in stored["feedback"]]
    found = stored.assign(time=time_of, feedback=pd.Series(labels, index=stored.index, dtype=object))
    if "features" not in found:
        return found
    values = json.loads(f"[{','.join(found['features'])}]")
    return found.drop(columns="features").assign(values=pd.Series(values, index=found.index, dtype=object))
