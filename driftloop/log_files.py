"""The prediction log as Parquet files: a folder a day, parts that are merged as they grow in number."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from driftloop.errors import Unreachable
from driftloop.prediction_log import Feedback, Record, as_text, nanoseconds, presented

T = TypeVar("T")
PARTS = 64  # so many small ones are merged into one: an append writes a part, and a reader opens them all
SMALL_BYTES = 32 * 2**20  # larger ones stay as they are, or a day's rows would be written again and again
TRIES = 20
_DAY = 86_400 * 10**9
_ROWS = pa.schema(
    [
        ("request_id", pa.string()),
        ("row", pa.int32()),
        ("time", pa.int64()),
        ("version", pa.string()),
        ("prediction", pa.float64()),
        ("label", pa.string()),
        ("latency_ms", pa.float64()),
        ("features", pa.string()),
    ]
)
_LABELS = pa.schema(
    [("request_id", pa.string()), ("row", pa.int32()), ("label", pa.string()), ("received", pa.int64())]
)
_KEY = ["request_id", "row"]


class ParquetStore:
    """The log of one loop below ``folder``: ``date=2026-11-21/part-….parquet``, and ``feedback/`` beside the days.

    A part appears by a rename when it is complete and on disk. Merging writes the merged part before it removes the
    others, so a crash leaves rows twice and never none: whoever reads takes each request id and row once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, records: Sequence[Record]) -> None:
        by_day: dict[int, list[Record]] = {}
        for record in records:
            by_day.setdefault(record.time // _DAY, []).append(record)
        with _Reachable(self.folder):
            for day, some in by_day.items():
                place = self._place(_date(day))
                rows = [{**r.__dict__, "features": json.dumps(r.features, separators=(",", ":"))} for r in some]
                _write(pa.Table.from_pylist(rows, schema=_ROWS), place)
                _merge(place, _ROWS, PARTS)

    def label(self, labels: Sequence[Feedback]) -> int:
        received = time.time_ns()
        newest = {(request, row): as_text(label) for request, row, label in labels}
        rows = [
            {"request_id": request, "row": row, "label": label, "received": received}
            for (request, row), label in newest.items()
        ]
        if not rows:
            return 0
        with _Reachable(self.folder):
            _write(pa.Table.from_pylist(rows, schema=_LABELS), self.folder / "feedback")
            _merge(self.folder / "feedback", _LABELS, PARTS)
            known: set[tuple[str, int]] = set()
            for day in self.days():
                ids = _read([self._place(day)], _ROWS, _KEY)
                known |= newest.keys() & set(zip(ids["request_id"], ids["row"], strict=True))
        return len(newest.keys() - known)

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
        columns = [name for name in _ROWS.names if features or name != "features"]
        wanted = _Wanted(_since(since), _since(until), version, labelled)
        with _Reachable(self.folder):
            days = self._days_of(since, until)
            if last is not None:
                days, wanted = self._newest(days, wanted, last)
            rows = self._rows(days, wanted, columns)
        rows = rows if last is None else rows.tail(last)
        return presented(rows[[*columns[:7], "feedback", *columns[7:]]].reset_index(drop=True))

    def _newest(self, days: Sequence[date], wanted: _Wanted, last: int) -> tuple[list[date], _Wanted]:
        """Where the newest ``last`` rows lie. Most of a row are its features, so they are not read for this."""
        found = 0
        for place in range(len(days) - 1, -1, -1):
            times = self._rows([days[place]], wanted, [*_KEY, "time", "version"])["time"]
            found += len(times)
            if found >= last:
                return list(days[place:]), replace(wanted, first=int(times.iloc[found - last]))
        return list(days), wanted

    def _rows(self, days: Sequence[date], wanted: _Wanted, columns: Sequence[str]) -> pd.DataFrame:
        rows = _read([self._place(day) for day in days], _ROWS, columns, wanted.first)
        rows = rows if wanted.end is None else rows[rows["time"] < wanted.end]
        rows = rows if wanted.version is None else rows[rows["version"] == wanted.version]
        rows = rows.merge(self._labels(), on=_KEY, how="inner" if wanted.labelled else "left")
        return rows.sort_values(["time", *_KEY])

    def counts(self) -> dict[str, tuple[int, int]]:
        counts: dict[str, tuple[int, int]] = {}
        with _Reachable(self.folder):
            labels = self._labels()
            for day in self.days():
                rows = _read([self._place(day)], _ROWS, [*_KEY, "version"]).merge(labels, on=_KEY, how="left")
                for version, some in rows.groupby("version"):
                    total, labelled = counts.get(str(version), (0, 0))
                    counts[str(version)] = total + len(some), labelled + int(some["feedback"].notna().sum())
        return counts

    def days(self) -> list[date]:
        with _Reachable(self.folder):
            found = [place for place in self.folder.glob("date=*") if _parts(place)]
        return sorted(date.fromisoformat(place.name.removeprefix("date=")) for place in found)

    def state(self, since: datetime, until: datetime) -> tuple[int, int, int]:
        with _Reachable(self.folder):
            rows = self._rows(self._days_of(since, until), _Wanted(_since(since), _since(until)), [*_KEY, "time"])
        labelled = rows[rows["feedback"].notna()]
        return len(rows), len(labelled), int(labelled["received"].max()) if len(labelled) else 0

    def prune(self, before: datetime) -> int:
        """As the protocol says, by whole days; the parts of a day that is over are merged into one on the way."""
        first, count = before.astimezone(UTC).date(), 0
        with _Reachable(self.folder):
            for day in self.days():
                place = self._place(day)
                if day >= first:
                    if day < datetime.now(UTC).date():
                        _merge(place, _ROWS, 2)
                    continue
                count += len(_read([place], _ROWS, _KEY))
                for file in place.iterdir():  # what a killed writer left half-written, too
                    file.unlink(missing_ok=True)
                place.rmdir()
            self._prune_labels(nanoseconds(before))
        return count

    def _prune_labels(self, before: int) -> None:
        """A part of labels goes when all of it came before the limit and none of its rows is left."""
        for part in _parts(self.folder / "feedback"):
            labels = pq.read_table(part)
            if pc.max(labels["received"]).as_py() < before:
                part.unlink(missing_ok=True)

    def _labels(self) -> pd.DataFrame:
        """The newest label of each row: columns request_id, row, feedback (text), received."""
        labels = _read([self.folder / "feedback"], _LABELS, _LABELS.names)
        return labels.rename(columns={"label": "feedback"})

    def _days_of(self, since: datetime | None, until: datetime | None) -> list[date]:
        first = since.astimezone(UTC).date() if since else date.min
        last = until.astimezone(UTC).date() if until else date.max
        return [day for day in self.days() if first <= day <= last]

    def _place(self, day: date) -> Path:
        return self.folder / f"date={day.isoformat()}"


@dataclass(frozen=True)
class _Wanted:
    """Which rows: from ``first`` to before ``end``, in nanoseconds; None where any will do."""

    first: int | None
    end: int | None
    version: str | None = None
    labelled: bool = False


class _Reachable:
    """What the disk refuses is told like a database that does not answer: the spool keeps what it holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (OSError, pa.ArrowInvalid)):
            raise Unreachable(f"the prediction log in {self._folder} cannot be used: {error}") from None


def _write(table: pa.Table, folder: Path) -> Path:
    """A new part, there from one moment to the next and on disk from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as file:
        try:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
            part = folder / f"part-{time.time_ns()}-{Path(file.name).name.removeprefix('.part-')}.parquet"
            Path(file.name).rename(part)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return part


def _merge(folder: Path, schema: pa.Schema, least: int) -> None:
    """The small parts of a folder into one, if there are ``least`` of them.

    Two processes that do it at once leave rows twice, which readers put right.
    """
    parts = _parts(folder)
    try:
        small = [part for part in parts if part.stat().st_size < SMALL_BYTES]
        if len(small) < least:
            return
        table = pa.concat_tables([pq.read_table(part, schema=schema) for part in small])
    except FileNotFoundError:
        return  # another process is at it
    rows = _once(table.to_pandas(), schema).sort_values("time" if "time" in schema.names else "received")
    _write(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), folder)
    for part in small:
        part.unlink(missing_ok=True)


def _read(folders: Sequence[Path], schema: pa.Schema, columns: Sequence[str], least: int | None = None) -> pd.DataFrame:
    """The parts' columns, each row once; ``least``: only rows from that time on, in nanoseconds."""
    newer = None if least is None else pc.field("time") >= least

    def look() -> pd.DataFrame:
        parts = [part for folder in folders for part in _parts(folder)]
        wanted = list(dict.fromkeys([*columns, *(["received"] if "received" in schema.names else [])]))
        tables = [pq.read_table(part, columns=wanted, filters=newer) for part in parts]
        if not set(parts) <= {part for folder in folders for part in _parts(folder)}:
            raise FileNotFoundError("merged meanwhile")
        table = pa.concat_tables(tables) if tables else schema.empty_table().select(wanted)
        return _once(table.to_pandas(), schema)

    return _again_while_merged(look)


def _again_while_merged(look: Callable[[], T]) -> T:
    for _ in range(TRIES - 1):
        try:
            return look()
        except FileNotFoundError:
            time.sleep(0.01)
    return look()


def _once(rows: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    """Each request id and row once: of labels the newest, of predictions any, for they are the same."""
    if "received" in schema.names:
        rows = rows.sort_values("received", kind="stable")
    return rows.drop_duplicates(_KEY, keep="last").reset_index(drop=True)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _since(moment: datetime | None) -> int | None:
    return None if moment is None else nanoseconds(moment)


def _date(day: int) -> date:
    return datetime.fromtimestamp(0, UTC).date() + timedelta(days=day)
