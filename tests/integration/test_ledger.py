"""The ledger on real SQLite, written to by real processes at once."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from driftloop.entry import Kind
from driftloop.errors import ChampionMoved
from driftloop.ledger import Ledger, loops
from tests.integration import racers

PROCESSES = 8


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def promote(ledger, version, expected):
    return ledger.promote(version, expected=expected, window="2024-01", reason="test", actor="test", details={})


def append(ledger, window="2024-01", kind=Kind.VERDICT, **details):
    return ledger.append(kind, window=window, version=None, reason="test", actor="test", details=details)


@pytest.fixture(scope="module")
def at_once():
    """Run a function in eight processes that all wait for the last one before they begin."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, spawn, racers.arm, (spawn.Barrier(PROCESSES),)) as pool:

        def run(function, url, expected=None):
            runs = [pool.submit(function, url, str(1 + n), expected) for n in range(PROCESSES)]
            return [run.result(timeout=90) for run in runs]

        yield run


def test_of_eight_processes_that_promote_at_once_exactly_one_wins(url, at_once):
    winners = [won for won in at_once(racers.promote_at_once, url) if won]
    ledger = Ledger(url, "churn")
    assert len(winners) == 1
    assert ledger.champion() == winners[0]
    assert [(e.seq, e.version) for e in ledger.entries()] == [(1, winners[0])]


def test_exactly_one_replaces_a_champion_that_all_were_compared_with(url, at_once):
    ledger = Ledger(url, "churn")
    promote(ledger, "0", None)
    winners = [won for won in at_once(racers.promote_at_once, url, expected="0") if won]
    assert len(winners) == 1
    assert [(e.seq, e.version) for e in ledger.entries()] == [(1, "0"), (2, winners[0])]


def test_everything_that_eight_processes_append_lands_once_without_a_gap_and_in_its_writer_s_order(url, at_once):
    at_once(racers.append_five_at_once, url)
    entries = Ledger(url, "churn").entries()
    assert [e.seq for e in entries] == list(range(1, 5 * PROCESSES + 1))
    for writer in range(1, PROCESSES + 1):
        assert [e.details["number"] for e in entries if e.details["writer"] == str(writer)] == [0, 1, 2, 3, 4]


def test_a_promotion_over_a_champion_that_moved_names_both_and_writes_nothing(url):
    ledger = Ledger(url, "churn")
    promote(ledger, "1", None)
    with pytest.raises(ChampionMoved, match="version 3 was compared with champion 2, meanwhile it is 1"):
        promote(ledger, "3", "2")
    with pytest.raises(ChampionMoved, match="version 3 was compared with champion none, meanwhile it is 1"):
        promote(ledger, "3", None)
    assert len(ledger.entries()) == 1


def test_rows_that_change_no_champion_do_not_get_in_a_promotion_s_way(url):
    ledger = Ledger(url, "churn")
    promote(ledger, "1", None)
    for kind in (Kind.VERDICT, Kind.KEEP, Kind.QUARANTINE):
        append(ledger, kind=kind)
    promote(ledger, "2", "1")
    assert ledger.champion() == "2"
    assert ledger.last_reign().seq == 5


def test_a_promotion_cannot_pass_as_a_plain_row(url):
    with pytest.raises(AssertionError, match="use promote"):
        append(Ledger(url, "churn"), kind=Kind.PROMOTION)


def test_loops_in_one_database_do_not_see_each_other(url):
    churn, fraud = Ledger(url, "churn"), Ledger(url, "fraud")
    promote(churn, "1", None)
    append(churn)
    promote(fraud, "7", None)
    assert (churn.champion(), fraud.champion()) == ("1", "7")
    assert [e.seq for e in churn.entries()] == [1, 2]
    assert [e.seq for e in fraud.entries()] == [1]
    assert sorted(loops(url)) == ["churn", "fraud"]


def test_entries_of_one_window_are_told_apart(url):
    ledger = Ledger(url, "churn")
    for window in ("2024-01", "2024-02", "2024-01"):
        append(ledger, window)
    assert [e.seq for e in ledger.entries("2024-01")] == [1, 3]


def test_a_row_is_read_back_as_it_was_written(url):
    written = append(Ledger(url, "churn"), report={"share": 1 / 14, "columns": [{"name": "durée"}], "none": None})
    assert Ledger(url, "churn").entries() == [written]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_are_utc_whatever_the_machine_s_zone(url, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        append(Ledger(url, "churn"))
        when = Ledger(url, "churn").entries()[0].time
    finally:
        monkeypatch.undo()
        time.tzset()
    assert when.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=5)


def test_the_ledger_offers_no_way_to_change_or_remove_a_row():
    offered = {name for name in dir(Ledger) if not name.startswith("_")}
    assert offered == {"append", "promote", "champion", "last", "last_reign", "entries", "connect"}


def test_a_row_is_frozen(url):
    entry = append(Ledger(url, "churn"))
    with pytest.raises(AttributeError):
        entry.version = "2"


def test_what_goes_through_the_reading_connection_does_not_last(url):
    ledger = Ledger(url, "churn")
    append(ledger)
    with ledger.connect() as connection:
        connection.execute(sa.text("DELETE FROM ledger"))
    assert len(ledger.entries()) == 1


def test_the_ledger_s_folder_is_made_when_it_is_not_there(tmp_path):
    append(Ledger(f"sqlite:///{tmp_path / 'new' / 'folder' / 'ledger.db'}", "churn"))
    assert (tmp_path / "new" / "folder" / "ledger.db").exists()
