"""The ledger on real SQLite and real PostgreSQL, written to by real processes at once."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from driftloop.entry import REIGNS, Entry, Kind, altered, row_hash
from driftloop.errors import ChampionMoved, DriftloopError
from driftloop.ledger import Ledger, Verified, loops, peek, verify
from tests.integration import racers

pytest_plugins = ["tests.integration.postgres"]
PROCESSES = 8


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database of the test's own."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def opened(url):
    """Open the ledger of a loop, as often as the test likes; all are closed after it."""
    with ExitStack() as stack:
        yield lambda loop="churn": stack.enter_context(racers.opened(url, loop))


@pytest.fixture
def ledger(opened) -> Ledger:
    return opened()


@pytest.fixture
def sql(url):
    """Do to the database what the ledger offers no way to do."""
    engine = sa.create_engine(url)

    def run(*statements: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement), rows or None)

    yield run
    engine.dispose()


def promote(ledger, version, expected, **more):
    return ledger.promote(version, expected=expected, window="2024-01", reason="test", actor="test", details={}, **more)


def append(ledger, window="2024-01", kind=Kind.VERDICT, guard=None, **details):
    return ledger.append(kind, window=window, version=None, reason="test", actor="test", details=details, guard=guard)


@pytest.fixture(scope="module")
def at_once():
    """Run a function in eight processes that all wait for the last one before they begin."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, spawn, racers.arm, (spawn.Barrier(PROCESSES),)) as pool:

        def run(function, url, argument=None):
            runs = [pool.submit(function, url, str(1 + n), argument) for n in range(PROCESSES)]
            return [run.result(timeout=200) for run in runs]

        yield run


def test_of_eight_processes_that_promote_at_once_exactly_one_wins(url, opened, at_once):
    winners = [won for won in at_once(racers.promote_at_once, url) if won]
    ledger = opened()
    assert len(winners) == 1
    assert ledger.champion() == winners[0]
    assert [(e.seq, e.version) for e in ledger.entries()] == [(1, winners[0])]


def test_exactly_one_replaces_a_champion_that_all_were_compared_with(url, ledger, at_once):
    promote(ledger, "0", None)
    winners = [won for won in at_once(racers.promote_at_once, url, "0") if won]
    assert len(winners) == 1
    assert [(e.seq, e.version) for e in ledger.entries()] == [(1, "0"), (2, winners[0])]


def test_all_that_eight_processes_append_lands_once_in_an_unbroken_chain_and_in_its_writer_s_order(
    url, opened, at_once
):
    at_once(racers.append_at_once, url, 5)
    entries = opened().entries()
    assert [e.seq for e in entries] == list(range(1, 5 * PROCESSES + 1))
    assert altered(entries) == []
    for writer in range(1, PROCESSES + 1):
        assert [e.details["number"] for e in entries if e.details["writer"] == str(writer)] == [0, 1, 2, 3, 4]


def test_a_promotion_over_a_champion_that_moved_names_both_and_writes_nothing(ledger):
    promote(ledger, "1", None)
    with pytest.raises(ChampionMoved, match="version 3 was compared with champion 2, meanwhile it is 1"):
        promote(ledger, "3", "2")
    with pytest.raises(ChampionMoved, match="version 3 was compared with champion none, meanwhile it is 1"):
        promote(ledger, "3", None)
    assert len(ledger.entries()) == 1


def test_rows_that_change_no_champion_do_not_get_in_a_promotion_s_way(ledger):
    promote(ledger, "1", None)
    for kind in set(Kind) - set(REIGNS):
        append(ledger, kind=kind)
    promote(ledger, "2", "1")
    assert ledger.champion() == "2"
    assert ledger.last_reign() == ledger.entries()[-1]


def test_a_rollback_changes_the_champion(ledger):
    promote(ledger, "1", None)
    promote(ledger, "2", "1")
    back = promote(ledger, "1", "2", kind=Kind.ROLLBACK)
    assert (back.kind, ledger.champion(), ledger.last_reign()) == (Kind.ROLLBACK, "1", back)
    with pytest.raises(ChampionMoved, match="version 3 was compared with champion 2, meanwhile it is 1"):
        promote(ledger, "3", "2")


@pytest.mark.parametrize("kind", [Kind.PROMOTION, Kind.ROLLBACK])
def test_what_changes_the_champion_cannot_pass_as_a_plain_row(ledger, kind):
    with pytest.raises(AssertionError, match="use promote"):
        append(ledger, kind=kind)


def test_what_changes_no_champion_cannot_pass_as_a_promotion(ledger):
    with pytest.raises(AssertionError, match="a keep changes no champion"):
        promote(ledger, "1", None, kind=Kind.KEEP)


def overtaken(other: Ledger) -> tuple[Callable[[Any], None], list[list[int]]]:
    """A guard during whose first look somebody else appends a row, and the rows it saw at each look."""
    looks: list[list[int]] = []

    def guard(entries):
        looks.append([entry.seq for entry in entries])
        if len(looks) == 1:
            append(other, kind=Kind.REJECTION)

    return guard, looks


def test_a_guard_sees_the_row_that_came_between_its_look_and_the_insert(opened):
    mine, other = opened(), opened()
    promote(mine, "1", None)
    guard, looks = overtaken(other)
    assert append(mine, guard=guard).seq == 3
    assert promote(mine, "2", "1", guard=guard).seq == 4
    assert looks == [[1], [1, 2], [1, 2, 3]]
    assert altered(mine.entries()) == []


def test_a_guard_that_raises_leaves_the_ledger_as_it_was(ledger):
    def refuse(entries):
        raise ValueError(f"{len(entries)} are enough")

    append(ledger)
    with pytest.raises(ValueError, match="1 are enough"):
        append(ledger, guard=refuse)
    with pytest.raises(ValueError, match="1 are enough"):
        promote(ledger, "1", None, guard=refuse)
    assert len(ledger.entries()) == 1


def test_alerts_are_told_up_to_the_highest_row_marked(opened):
    ledger, again, other = opened(), opened(), opened("fraud")
    assert ledger.told() is None
    for seq in (0, 3, 2, 3):  # a slower run may mark an older row, or the same
        ledger.mark_told(seq)
    assert (again.told(), other.told()) == (3, None)
    assert ledger.entries() == []


def test_alerts_marked_by_many_at_once_are_told_up_to_the_highest(url, opened, at_once):
    at_once(racers.mark_told_at_once, url)
    assert opened().told() == PROCESSES // 2


def test_loops_in_one_database_do_not_see_each_other(url, opened):
    churn, fraud = opened(), opened("fraud")
    promote(churn, "1", None)
    append(churn)
    promote(fraud, "7", None)
    append(churn)
    assert (churn.champion(), fraud.champion()) == ("1", "7")
    assert [e.seq for e in churn.entries()] == [1, 2, 3]
    assert [e.seq for e in fraud.entries()] == [1]
    assert altered(churn.entries()) == altered(fraud.entries()) == []
    assert sorted(loops(url)) == ["churn", "fraud"]


@pytest.mark.parametrize("look", [loops, lambda url: peek(url, "churn")], ids=["loops", "peek"])
def test_a_look_from_outside_leaves_no_connection_open(postgres_url, look):
    with racers.opened(postgres_url) as ledger:
        append(ledger)
    look(postgres_url)
    engine = sa.create_engine(postgres_url)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with engine.connect() as connection:
        open_ = connection.scalar(sa.text(others))
        for _ in range(20):  # the server notices a moment later that one was closed
            if open_:
                time.sleep(0.05)
                connection.rollback()
                open_ = connection.scalar(sa.text(others))
    engine.dispose()
    assert open_ == 0


def test_entries_of_one_window_are_told_apart(ledger):
    for window in ("2024-01", "2024-02", "2024-01"):
        append(ledger, window)
    assert [e.seq for e in ledger.entries("2024-01")] == [1, 3]


HARD_TO_KEEP = {
    "floats": [1 / 14, 0.1 + 0.2, 1e-320, 1.7976931348623157e308, -0.0, 1e16, 100.0],
    "integers": [2**53 + 1, -(2**63), 10**30],
    "text": 'durée Straße 東京 🚲 "quoted" \\ \n\t %s :name \u2028',
    "nested": {"none": None, "list": [None, [], {}, {"": None}], "b": True, "a": False},
}


def test_a_row_is_read_back_as_it_was_written(opened):
    ledger = opened()
    written = [
        ledger.append(Kind.KEEP, window="août", version="2", reason="zu groß ✗", actor="Zoë", details=details)
        for details in (HARD_TO_KEEP, {}, {"key": None})
    ]
    assert opened().entries() == written
    assert written[0].details == HARD_TO_KEEP
    assert repr(opened().entries()[0].details) == repr(HARD_TO_KEEP)  # 100.0 stays a float, -0.0 keeps its sign
    assert altered(opened().entries()) == []


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_are_utc_whatever_the_machine_s_zone(opened, zone, monkeypatch):
    for name in ("TZ", "PGTZ"):
        monkeypatch.setenv(name, zone)
    time.tzset()
    try:
        append(opened())
        (entry,) = opened().entries()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert entry.time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - entry.time) < timedelta(minutes=5)
    assert altered([entry]) == altered(opened().entries()) == []


def test_the_ledger_offers_no_way_to_change_or_remove_a_row(ledger):
    offered = {name for name in dir(ledger) if not name.startswith("_")}
    reading = {"url", "loop", "champion", "last", "last_reign", "entries", "told", "verified"}
    assert offered == reading | {"append", "promote", "mark_told"}


def test_no_call_of_the_public_surface_changes_or_removes_a_row_there_is(url, ledger, opened):
    promote(ledger, "1", None)
    append(ledger, kind=Kind.ASK)
    before = ledger.entries()
    append(ledger, kind=Kind.EXPIRY)
    promote(ledger, "2", "1")
    promote(ledger, "1", "2", kind=Kind.ROLLBACK)
    ledger.mark_told(1)
    ledger.entries().clear()
    loops(url)
    assert opened().entries()[:2] == before


def test_a_row_is_frozen(ledger):
    entry = append(ledger)
    with pytest.raises(AttributeError):
        entry.version = "2"


def test_the_ledger_s_folder_is_made_when_it_is_not_there(tmp_path):
    with racers.opened(f"sqlite:///{tmp_path / 'new' / 'folder' / 'ledger.db'}") as ledger:
        append(ledger)
    assert (tmp_path / "new" / "folder" / "ledger.db").exists()


INSERT = (
    'INSERT INTO ledger (loop, seq, time, kind, "window", version, actor, reason, details, previous, hash) '
    "VALUES (:loop, :seq, :time, :kind, :window, :version, :actor, :reason, :details, :previous, :hash)"
)


def put(sql, entry: Entry) -> None:
    said = {"kind": str(entry.kind), "time": str(entry.time), "details": json.dumps(entry.details)}
    sql(INSERT, rows=[{**entry.__dict__, **said}])


def chained(entry: Entry, before: Entry, **changes: Any) -> Entry:
    """A row whose hashes are right, after the row before."""
    forged = replace(entry, previous=before.hash, **changes)
    return replace(forged, hash=row_hash(forged))


@pytest.fixture
def five(ledger) -> list[Entry]:
    return [append(ledger, n=n) for n in range(5)]


def test_nothing_is_found_in_an_untouched_ledger(five, ledger):
    assert ledger.entries() == five
    assert altered(five) == []


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'another'",
        "reason = 'tesT'",
        "details = '{\"n\": 3}'",
        'details = \'{"n": 2, "m": null}\'',
        "details = '{\"n\": 2.0}'",
        "time = '2020-01-01 00:00:00.000000'",
        "kind = 'keep'",
        "version = '9'",
        "version = ''",
        "actor = 'somebody'",
        "\"window\" = '2024-02'",
    ],
)
def test_a_changed_column_of_a_row_is_found(five, ledger, sql, change):
    sql(f"UPDATE ledger SET {change} WHERE seq = 3")
    assert altered(ledger.entries()) == ["row 3 is not what was written"]


def test_a_removed_row_is_found(five, ledger, sql):
    sql("DELETE FROM ledger WHERE seq = 3")
    assert altered(ledger.entries()) == ["row 3 is missing before row 4"]


def test_a_removed_row_is_found_where_those_after_it_move_up(five, ledger, sql):
    sql("DELETE FROM ledger WHERE seq = 3", "UPDATE ledger SET seq = 3 WHERE seq = 4")
    sql("UPDATE ledger SET seq = 4 WHERE seq = 5")
    assert altered(ledger.entries()) == [
        "row 3 does not follow row 2 as it stands",
        "row 3 is not what was written",
        "row 4 is not what was written",
    ]


def test_a_removed_first_row_is_found(five, ledger, sql):
    sql("DELETE FROM ledger WHERE seq = 1")
    assert altered(ledger.entries()) == ["row 1 is missing before row 2"]


def test_an_inserted_row_is_found(five, ledger, sql):
    sql("UPDATE ledger SET seq = seq + 100 WHERE seq > 2", "UPDATE ledger SET seq = seq - 99 WHERE seq > 100")
    put(sql, chained(five[2], five[1], details={"n": "slipped in"}))
    assert altered(ledger.entries()) == [
        "row 4 does not follow row 3 as it stands",
        "row 4 is not what was written",
        "row 5 is not what was written",
        "row 6 is not what was written",
    ]


def test_an_inserted_row_before_the_first_is_found(five, ledger, sql):
    put(sql, chained(replace(five[0], seq=0), replace(five[0], hash="")))
    assert "row 1 does not follow row 0 as it stands" in altered(ledger.entries())


def test_a_row_added_at_the_end_without_its_hash_is_found(five, ledger, sql):
    put(sql, replace(five[4], seq=6))
    assert altered(ledger.entries()) == [
        "row 6 does not follow row 5 as it stands",
        "row 6 is not what was written",
    ]


def test_a_swapped_pair_is_found(five, ledger, sql):
    sql(*(f"UPDATE ledger SET seq = {new} WHERE seq = {old}" for old, new in ((2, 100), (3, 2), (100, 3))))
    assert altered(ledger.entries()) == [
        "row 2 does not follow row 1 as it stands",
        "row 2 is not what was written",
        "row 3 does not follow row 2 as it stands",
        "row 3 is not what was written",
        "row 4 does not follow row 3 as it stands",
    ]


def test_a_changed_hash_is_found(five, ledger, sql):
    sql(f"UPDATE ledger SET hash = '{'0' * 32}' WHERE seq = 3")
    assert altered(ledger.entries()) == ["row 3 is not what was written", "row 4 does not follow row 3 as it stands"]


def test_a_row_moved_from_another_loop_is_found(five, opened, sql):
    append(opened("fraud"))
    sql("DELETE FROM ledger WHERE loop = 'churn' AND seq = 1", "UPDATE ledger SET loop = 'churn' WHERE loop = 'fraud'")
    assert altered(opened().entries()) == [
        "row 1 is not what was written",
        "row 2 does not follow row 1 as it stands",
    ]


def test_two_rows_rewritten_consistently_are_found_by_the_row_after_them(five, ledger, sql):
    second = chained(five[1], five[0], details={"n": "forged"})
    third = chained(five[2], second)
    sql("DELETE FROM ledger WHERE seq IN (2, 3)")
    put(sql, second)
    put(sql, third)
    assert altered(ledger.entries()) == ["row 4 does not follow row 3 as it stands"]


def test_rows_removed_at_the_end_leave_no_trace(five, ledger, sql):
    sql("DELETE FROM ledger WHERE seq > 3")
    assert altered(ledger.entries()) == []
    assert five[4].hash not in {entry.hash for entry in ledger.entries()}  # noted down elsewhere, it shows them


WHEN = datetime(2024, 2, 1, 23, 59, 59, 123456, tzinfo=UTC)
OLD = (  # as driftloop 0.1 made it
    "CREATE TABLE ledger (loop VARCHAR(100) NOT NULL, seq INTEGER NOT NULL, time {time} NOT NULL, "
    'kind VARCHAR(20) NOT NULL, "window" VARCHAR(200) NOT NULL, version VARCHAR(50), actor VARCHAR(200) NOT NULL, '
    "reason TEXT NOT NULL, details JSON NOT NULL, PRIMARY KEY (loop, seq))"
)
OLD_ROW = "INSERT INTO ledger VALUES (:loop, :seq, :time, :kind, :window, :version, 'monitor_flow', :reason, :details)"


OLD_ROWS = 60  # of each loop


def old_row(loop: str, seq: int) -> dict[str, Any]:
    promoted = seq % 20 == 1
    return {
        "loop": loop,
        "seq": seq,
        "time": WHEN + timedelta(days=seq, microseconds=seq),
        "kind": Kind.PROMOTION.value if promoted else Kind.VERDICT.value,
        "window": f"2024-{seq:02}",
        "version": str(seq) if promoted else None,
        "reason": "durée",
        "details": {**HARD_TO_KEEP, "seq": seq},
    }


@pytest.fixture
def old(url, sql):
    """A ledger of driftloop 0.1 with rows of two loops that wrote in turn; gives what they say."""
    zoned = url.startswith("postgresql")
    sql(OLD.format(time="TIMESTAMP WITH TIME ZONE" if zoned else "DATETIME"))
    rows = [old_row(loop, seq) for seq in range(1, OLD_ROWS + 1) for loop in ("fraud", "churn")]
    time_of = "{time}" if zoned else "{time:%Y-%m-%d %H:%M:%S.%f}"
    sql(OLD_ROW, rows=[{**r, "time": time_of.format(**r), "details": json.dumps(r["details"])} for r in rows])
    return rows


def said(entries: list[Entry], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the entries say in the columns of the old rows."""
    return [{column: getattr(entry, column) for column in rows[0]} for entry in entries]


def test_a_ledger_of_the_old_version_is_chained_when_it_is_opened(old, opened):
    for loop in ("churn", "fraud"):
        entries = opened(loop).entries()
        assert said(entries, old) == [row for row in old if row["loop"] == loop]
        assert altered(entries) == []
        assert entries[0].previous == ""
        assert [e.previous for e in entries[1:]] == [e.hash for e in entries[:-1]]
    ledger = opened()
    assert (ledger.champion(), ledger.told()) == ("41", None)


def test_a_ledger_of_the_old_version_goes_on_after_it_was_opened_twice(old, opened, sql):
    before = opened().entries()
    ledger = opened()
    assert ledger.entries() == before
    assert promote(ledger, "61", "41").previous == before[-1].hash
    assert altered(opened().entries()) == altered(opened("fraud").entries()) == []
    sql("UPDATE ledger SET reason = 'another' WHERE seq = 3 AND loop = 'churn'")
    assert altered(opened().entries()) == ["row 3 is not what was written"]  # opening does not chain it anew


def test_a_ledger_of_the_old_version_opened_by_many_at_once_is_chained_once(url, old, opened, at_once):
    at_once(racers.append_at_once, url, 1)
    churn, fraud = opened().entries(), opened("fraud").entries()
    assert said([*churn[:OLD_ROWS], *fraud], old) == sorted(old, key=lambda row: (row["loop"], row["seq"]))
    assert {e.details["writer"] for e in churn[OLD_ROWS:]} == {str(1 + n) for n in range(PROCESSES)}
    assert altered(churn) == altered(fraud) == []


def test_a_ledger_that_many_open_for_the_first_time_at_once_is_made_once(url, opened, at_once):
    at_once(racers.append_at_once, url, 1)
    assert [e.seq for e in opened().entries()] == list(range(1, PROCESSES + 1))


@pytest.mark.parametrize("again", range(6))
def test_a_file_that_many_make_at_once_is_made_once_every_time(tmp_path, at_once, again):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    at_once(racers.mark_told_at_once, url)
    assert Ledger(url, "churn").told() == PROCESSES // 2


@pytest.mark.parametrize(
    ("column", "value"), [("details", "{oops"), ("kind", "bogus"), ("time", "yesterday"), ("reason", "forged")]
)
def test_a_row_that_was_edited_by_hand_is_named_even_where_it_can_no_longer_be_read(tmp_path, column, value):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(url, "churn")
    for _ in range(3):
        append(ledger)
    ledger._engine.dispose()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as file:
        file.execute(f"UPDATE ledger SET {column} = ? WHERE seq = 2", (value,))
        file.commit()
    assert verify(url, "churn").problems == ("row 2 is not what was written",)


def test_looking_for_changes_does_not_tie_rows_together_whose_hashes_were_taken_away(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    assert verify(url, "churn") == Verified(0, (), None)
    ledger = Ledger(url, "churn")
    append(ledger)
    ledger._engine.dispose()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as file:
        for name in ("hash", "previous"):
            file.execute(f"ALTER TABLE ledger DROP COLUMN {name}")
    with pytest.raises(DriftloopError, match=r"carry no hashes: driftloop 0\.1 wrote it, or somebody took them away"):
        verify(url, "churn")
