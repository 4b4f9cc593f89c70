"""The prediction log on real SQLite, real PostgreSQL and Parquet, and what is spooled by a process that is killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from driftloop.errors import ContractError, Unreachable
from driftloop.log_files import PARTS, ParquetStore
from driftloop.log_tables import SqlStore
from driftloop.prediction_log import (
    Record,
    Store,
    lines_of,
    nanoseconds,
    open_spool,
    open_store,
    rows_of,
    ship,
    spool_folder,
    standing_by_version,
)
from driftloop.settings import Settings
from driftloop.spool import Spool, SpoolWriter
from tests.fakes import a_loop
from tests.integration.spooling import line

pytest_plugins = ["tests.integration.postgres"]
NOON = datetime(2025, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql", "parquet"])
def place(request, tmp_path):
    """Where a log of the test's own lies: a database's address, or a folder."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'predictions.db'}" if request.param == "sqlite" else str(tmp_path / "predictions")


@pytest.fixture
def opened(place):
    """Open the log of a loop, as often as the test likes; all are closed after it."""
    stores = []

    def open_log(loop: str = "churn") -> Store:
        stores.append(SqlStore(place, loop) if "://" in place else ParquetStore(Path(place) / loop))
        return stores[-1]

    yield open_log
    for store in stores:
        if isinstance(store, SqlStore):
            store._engine.dispose()


@pytest.fixture
def store(opened) -> Store:
    return opened()


def record(number: int = 0, *, row: int = 0, time: datetime = NOON, version: str = "1", **changes) -> Record:
    features = {"fee": number / 7, "plan": "basic", "age": None}
    at = nanoseconds(time) + number
    made = Record(f"r{number}", row, at, version, features, 0.1 + number / 1e6, "no", 0.25)
    return replace(made, **changes)


def ids(found) -> list[tuple[str, int]]:
    return list(zip(found["request_id"], found["row"], strict=True))


# what is kept


def test_a_record_comes_back_as_it_was(store):
    kept = record(3, row=2, features={"fee": 1 / 3, "plan": 'é "x" \n', "age": None, "on": "True"}, label=None)
    store.append([kept])
    found = store.read()
    assert list(found.columns) == [
        "request_id", "row", "time", "version", "prediction", "label", "latency_ms", "feedback", "values",
    ]  # fmt: skip
    row = found.iloc[0]
    assert str(found["time"].dtype) == "datetime64[ns, UTC]"
    assert row["time"].value == kept.time
    assert row["values"] == kept.features
    assert (row["request_id"], row["row"], row["version"]) == ("r3", 2, "1")
    assert (row["prediction"], row["label"], row["latency_ms"]) == (kept.prediction, None, 0.25)
    assert row["feedback"] is None


def test_an_empty_log_is_read_as_no_rows(store):
    for found in (store.read(), store.read(last=5), store.read(NOON, NOON), store.read(version="9", labelled=True)):
        assert len(found) == 0
        assert {"request_id", "time", "prediction", "feedback", "values"} <= set(found.columns)
    assert (store.counts(), store.days()) == ({}, [])
    assert store.state(NOON, NOON + timedelta(days=1)) == (0, 0, 0)
    assert store.prune(NOON) == 0


def test_the_same_record_twice_is_there_once(store):
    store.append([record(1), record(2)])
    store.append([record(2), record(3), record(3)])
    assert ids(store.read()) == [("r1", 0), ("r2", 0), ("r3", 0)]
    assert store.counts() == {"1": (3, 0)}


def test_rows_are_read_oldest_first_by_time_version_and_number(store):
    days = [NOON + timedelta(days=n) for n in (1, 0, 2)]
    store.append([record(n, time=day, version=str(n % 2)) for n, day in enumerate(days)])
    assert ids(store.read()) == [("r1", 0), ("r0", 0), ("r2", 0)]
    assert ids(store.read(last=2)) == [("r0", 0), ("r2", 0)]
    assert ids(store.read(version="0")) == [("r0", 0), ("r2", 0)]
    assert ids(store.read(version="0", last=1)) == [("r2", 0)]
    assert ids(store.read(since=NOON + timedelta(days=1))) == [("r0", 0), ("r2", 0)]
    assert ids(store.read(until=NOON + timedelta(days=1))) == [("r1", 0)]
    assert store.days() == [date(2025, 11, 30), date(2025, 12, 1), date(2025, 12, 2)]


def test_a_span_holds_its_beginning_and_not_its_end(store):
    midnight = datetime(2025, 12, 1, tzinfo=UTC)
    edges = [nanoseconds(midnight) + n for n in (-1, 0, 1)]
    store.append([record(n, time=NOON, request_id=f"e{n}") for n in range(3)])
    store.append([replace(record(), request_id=f"t{n}", time=at) for n, at in enumerate(edges)])
    day = timedelta(days=1)
    assert [i for i, _ in ids(store.read(midnight, midnight + day))] == ["t1", "t2"]
    assert [i for i, _ in ids(store.read(midnight - day, midnight))][-1] == "t0"
    assert store.state(midnight, midnight + day)[0] == 2


def test_two_loops_share_a_place_and_see_nothing_of_each_other(opened):
    one, other = opened("one"), opened("other")
    one.append([record(1)])
    other.append([record(1), record(2)])
    other.label([("r1", 0, True)])
    assert (one.counts(), other.counts()) == ({"1": (1, 0)}, {"1": (2, 1)})
    other.prune(NOON + timedelta(days=9))
    assert ids(one.read()) == [("r1", 0)]


# labels


def test_a_label_is_found_beside_its_row_as_it_was_given(store):
    store.append([record(n) for n in range(5)])
    given = [True, "yes", 1, 2.5]
    assert store.label([(f"r{n}", 0, label) for n, label in enumerate(given)]) == 0
    found = store.read()["feedback"].tolist()
    assert found == [*given, None]
    assert [type(label) for label in found] == [bool, str, int, float, type(None)]


def test_a_label_may_come_before_its_row(store):
    assert store.label([("r1", 0, True), ("r2", 0, False)]) == 2
    store.append([record(1)])
    assert store.read()["feedback"].tolist() == [True]
    assert store.label([("r2", 0, True), ("r1", 0, True)]) == 1


def test_a_row_of_a_batch_has_a_label_of_its_own(store):
    store.append([record(1, row=row) for row in range(3)])
    assert store.label([("r1", 2, True), ("r1", 3, True)]) == 1
    assert store.read()["feedback"].tolist() == [None, None, True]


def test_the_newest_label_of_a_row_counts(store):
    store.append([record(1)])
    span = NOON - timedelta(days=1), NOON + timedelta(days=1)
    store.label([("r1", 0, False)])
    before = store.state(*span)
    store.label([("r1", 0, False), ("r1", 0, True)])
    assert store.read()["feedback"].tolist() == [True]
    assert before[:2] == store.state(*span)[:2] == (1, 1)
    assert before != store.state(*span)


def test_only_labelled_rows_are_read_where_they_are_asked_for(store):
    store.append([record(n) for n in range(9)])
    store.label([(f"r{n}", 0, n % 2) for n in (1, 4, 7)])
    assert [i for i, _ in ids(store.read(labelled=True))] == ["r1", "r4", "r7"]
    assert [i for i, _ in ids(store.read(labelled=True, last=2, features=False))] == ["r4", "r7"]
    assert "values" not in store.read(features=False)


def test_each_version_s_standing_is_told_from_its_labels(store):
    store.append([record(n, version=str(1 + n // 10), prediction=n % 10 / 10) for n in range(20)])
    store.label([(f"r{n}", 0, n >= 5) for n in range(8)])
    store.label([("r11", 0, True)])
    one, two = standing_by_version(store, a_loop(), 100)
    assert (one.version, one.rows, one.labelled, one.metric, one.value) == ("1", 10, 8, "auc", 1.0)
    assert (two.version, two.rows, two.labelled, two.value) == ("2", 10, 1, None)


# retention


def test_rows_before_the_limit_are_forgotten_with_their_labels(store):
    days = [NOON + timedelta(days=n) for n in range(4)]
    store.append([record(n, time=day) for n, day in enumerate(days)])
    store.label([(f"r{n}", 0, True) for n in range(4)])
    limit = datetime(2025, 12, 2, tzinfo=UTC)
    assert store.prune(limit) == 2
    assert store.prune(limit) == 0
    assert ids(store.read()) == [("r2", 0), ("r3", 0)]
    assert store.read()["feedback"].tolist() == [True, True]
    assert store.days() == [date(2025, 12, 2), date(2025, 12, 3)]


def test_forgotten_rows_give_their_space_back(tmp_path):
    file = tmp_path / "predictions.db"
    store = SqlStore(f"sqlite:///{file}", "churn")
    store.append([record(n) for n in range(20_000)])
    checkpoint(file)
    full = file.stat().st_size
    assert store.prune(NOON + timedelta(days=1)) == 20_000
    store._engine.dispose()
    checkpoint(file)
    assert file.stat().st_size < full / 10


def checkpoint(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def test_a_label_whose_row_is_not_shipped_yet_outlives_a_pruning(store):
    store.label([("r1", 0, True)])
    store.prune(NOON)
    store.append([record(1)])
    assert store.read()["feedback"].tolist() == [True]


def test_parts_are_merged_as_they_grow_in_number_and_when_their_day_is_over(tmp_path):
    store = ParquetStore(tmp_path)
    for n in range(PARTS + 3):
        store.append([record(n), record(0)])
        store.label([(f"r{n}", 0, n)])
    day = tmp_path / "date=2025-11-30"
    assert len(list(day.glob("*.parquet"))) == len(list((tmp_path / "feedback").glob("*.parquet"))) == 4
    assert store.prune(NOON - timedelta(days=2)) == 0
    assert len(list(day.glob("*.parquet"))) == 1
    assert store.read()["feedback"].tolist() == list(range(PARTS + 3))
    assert not list(tmp_path.rglob(".part-*"))


def test_who_reads_while_parts_are_merged_misses_no_row(tmp_path):
    store = ParquetStore(tmp_path)
    store.append([record(n) for n in range(500)])

    def write():
        for n in range(3 * PARTS):
            store.append([record(1000 + n)])

    with ThreadPoolExecutor(1) as pool:
        writing, seen = pool.submit(write), [0]
        while not writing.done():
            seen.append(len(store.read(features=False)))
        writing.result()
    assert seen[1:] == sorted(seen[1:])
    assert min(seen[1:]) >= 500
    assert len(store.read()) == 500 + 3 * PARTS


# the way there


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "spool", 10)


def put(spool: Spool, *lines: bytes) -> None:
    writer = SpoolWriter(spool.folder, "sync", 200, 10)
    for each in lines:
        writer.put(each)
    writer.close()


def test_what_was_spooled_is_shipped_once_and_leaves_the_spool(spool, store):
    put(spool, line(1), line(2, rows=3))
    put(spool, line(3))
    report = ship(spool, store)
    assert (report.shipped, report.damaged, report.dropped, report.waiting_bytes) == (5, 0, 0, 0)
    assert (report.lag_seconds, report.trouble) == (0.0, None)
    found = rows_of(store.read(), ["fee", "plan", "age", "new"])
    assert ids(found) == [("r1", 0), ("r2", 0), ("r2", 1), ("r2", 2), ("r3", 0)]
    assert found["fee"].tolist() == [1, 2, 2, 2, 3]
    assert found["new"].isna().all()
    assert ship(spool, store).shipped == 0


def test_labels_and_failed_requests_come_the_same_way(spool, store):
    label = b'{"id": "r1", "t": 5, "row": 0, "label": %s}'
    failed = b'{"id": "r9", "t": 5, "v": "1", "ms": 3.0, "rows": [], "p": [], "l": [], "status": 503}'
    put(spool, label % b"false", line(1), failed, label % b"true", label.replace(b"r1", b"r8") % b'"yes"')
    report = ship(spool, store)
    assert (report.shipped, report.labels, report.unknown, report.damaged) == (1, 3, 1, 0)
    assert store.read()["feedback"].tolist() == [True]


@pytest.mark.parametrize(
    "wrong", [b'"label": null', b'"label": []', b'"label": NaN', b'"label": 1, "row": -1', b'"label": 1, "row": "0"']
)
def test_a_label_that_is_none_is_passed_over_and_counted(tmp_path, spool, wrong):
    put(spool, b'{"id": "r1", %s}' % wrong)
    report = ship(spool, ParquetStore(tmp_path / "log"))
    assert (report.labels, report.damaged) == (0, 1)


def test_what_was_shipped_before_a_crash_is_not_there_twice(spool, store):
    put(spool, line(1), line(2))
    segment = spool.segments()[0]
    content = segment.read_bytes()
    ship(spool, store)
    segment.write_bytes(content)  # killed after the rows were in and before the segment was gone
    assert ship(spool, store).shipped == 2
    assert ids(store.read()) == [("r1", 0), ("r2", 0)]


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"{",
        line(2)[:-1],
        b"[]",
        b'{"id": "x"}',
        b"\xff\xfe",
        b"null",
        b'{"id": "x", "t": 5, "rows": [], "p": [], "l": [], "v": "1", "ms": 1, "status": null}',
    ],
)
def test_a_line_that_was_cut_off_is_passed_over_and_counted(tmp_path, spool, torn):
    store = ParquetStore(tmp_path / "log")
    spool.folder.mkdir()
    (spool.folder / "1-1-1.jsonl").write_bytes(line(1) + b"\n" + torn)
    report = ship(spool, store)
    assert (report.shipped, report.damaged) == (1, int(bool(torn)))
    assert spool.segments() == []


@pytest.mark.parametrize(
    "wrong",
    [
        b'"p": [0.1, 0.2]',
        b'"p": [null]',
        b'"p": [NaN]',
        b'"l": []',
        b'"rows": [{}, {}]',
        b'"id": "a\\u0000b"',
        b'"id": "\\ud800"',
        b'"id": "%s"' % (b"x" * 201),
        b'"id": 5',
        b'"t": "now"',
        b'"ms": Infinity',
    ],
)
def test_a_line_that_is_no_request_is_damaged(wrong):
    key = wrong.split(b":")[0]
    start = line(1).index(key)
    tail = line(1).index(b', "', start) if b', "' in line(1)[start:] else len(line(1)) - 1
    assert lines_of(line(1)[:start] + wrong + line(1)[tail:] + b"\n" + line(2)).damaged == 1


@pytest.fixture
def taken_away(place):
    """Take the log's place away for the length of a block, whichever it is, and give it back as it was."""

    @contextmanager
    def down():
        if place.startswith("postgresql"):
            address, _, name = place.replace("+psycopg", "").rpartition("/")
            with psycopg.connect(f"{address}/postgres", autocommit=True) as admin:
                admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                yield
                admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            return
        file = Path(place.removeprefix("sqlite:///"))
        aside = file.with_name("aside")
        if file.is_dir():
            file.rename(aside)
            file.write_text("in the way")
            yield
            file.unlink()
            aside.rename(file)
            return
        checkpoint(file)
        content = file.read_bytes()
        file.write_bytes(b"no database " * 100)
        yield
        file.write_bytes(content)

    return down


def test_a_store_that_is_down_loses_nothing_once_it_is_up_again(place, opened, spool, taken_away):
    store = opened()
    put(spool, line(1))
    assert ship(spool, store).shipped == 1
    with taken_away():
        put(spool, line(2))
        put(spool, line(3))
        report = ship(spool, store)
        assert report.shipped == 0
        assert report.waiting_bytes > 0
        assert report.lag_seconds > 0
        assert "prediction log" in str(report.trouble)
        assert "s3cret" not in str(report.trouble)
        with pytest.raises(Unreachable):
            store.label([("r1", 0, True)])
    report = ship(spool, store)
    assert (report.shipped, report.waiting_bytes, report.trouble) == (2, 0, None)
    assert [i for i, _ in ids(store.read())] == ["r1", "r2", "r3"]


def test_beyond_its_bound_the_spool_drops_the_oldest_and_says_how_many(tmp_path):
    spool = Spool(tmp_path / "spool", 3 * (len(line(1)) + 1) / 2**20)
    (tmp_path / "file").write_text("no folder")
    store = ParquetStore(tmp_path / "file")
    for number in range(5):
        spool.folder.mkdir(exist_ok=True)
        (spool.folder / f"1-{number}-1.jsonl").write_bytes(line(number) + b"\n")
    report = ship(spool, store)
    assert (report.dropped, report.shipped) == (2, 0)
    assert ship(spool, store).dropped == 0
    ship(spool, good := ParquetStore(tmp_path / "log"))
    assert [i for i, _ in ids(good.read())] == ["r2", "r3", "r4"]


@pytest.mark.parametrize("durability", ["sync", "batch"])
def test_of_a_writer_that_is_killed_all_that_sync_acknowledged_is_shipped(tmp_path, spool, durability):
    store = SqlStore(f"sqlite:///{tmp_path / 'log.db'}", "churn")
    arguments = [sys.executable, "-m", "tests.integration.spooling", str(spool.folder), durability]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = [int(writer.stdout.readline()) for _ in range(2000)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(said) for said in writer.stdout.read().splitlines(keepends=True) if said.endswith("\n")]
    ship(spool, store)
    found = {i for i, _ in ids(store.read(features=False))}
    store._engine.dispose()
    missing = [n for n in acknowledged if f"r{n}" not in found]
    assert missing == [] if durability == "sync" else len(missing) == len(acknowledged)  # nobody called flush


# where it lies


def settings(tmp_path, **env) -> Settings:
    return Settings.from_env({"DRIFTLOOP_HOME": str(tmp_path), **env}, tmp_path)


def test_the_log_lies_where_loop_toml_and_the_environment_say(tmp_path):
    def opened(log, **env):
        return open_store(a_loop(serving={"log": log}), settings(tmp_path, **env))

    postgres = "postgresql+psycopg://u:s3cret@db/log"
    assert opened("off") is None
    assert opened("sqlite").url == f"sqlite:///{tmp_path}/predictions.db"
    assert opened("sqlite", DRIFTLOOP_LOG_URL="sqlite:////x/y.db").url == "sqlite:////x/y.db"
    assert opened("parquet").folder == tmp_path / "predictions" / "churn"
    assert opened("postgresql", DRIFTLOOP_LOG_URL=postgres).url == postgres
    assert opened("postgresql", DRIFTLOOP_LEDGER_URL=postgres).url == postgres
    with pytest.raises(ContractError, match="needs a database: set DRIFTLOOP_LOG_URL"):
        opened("postgresql")
    with pytest.raises(ContractError, match=r'DRIFTLOOP_LOG_URL = .*u:\*\*\*@db/log, but .*serving.log = "sqlite"'):
        opened("sqlite", DRIFTLOOP_LOG_URL=postgres)
    assert spool_folder(a_loop(), settings(tmp_path)) == tmp_path / "serving" / "churn" / "spool"
    assert open_spool(a_loop(), settings(tmp_path)).folder == tmp_path / "serving" / "churn" / "spool"


def test_to_open_a_log_touches_nothing(tmp_path):
    home = tmp_path / "home"
    for log in ("sqlite", "parquet", "postgresql"):
        open_store(
            a_loop(serving={"log": log}), settings(home, DRIFTLOOP_LEDGER_URL="postgresql+psycopg://x@127.0.0.1:1/y")
        )
    assert not home.exists()
