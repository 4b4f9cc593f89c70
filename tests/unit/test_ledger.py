"""The append-only record, on SQLite in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from driftloop.entry import Kind
from driftloop.errors import ChampionMoved, Unreachable
from driftloop.ledger import Ledger, loops


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url, "churn")
    yield ledger
    ledger._engine.dispose()


def note(ledger: Ledger, window: str = "2024-01", kind: Kind = Kind.VERDICT, **details: Any) -> int:
    return ledger.append(kind, window=window, version=None, reason="quiet", actor="test", details=details).seq


def promote(ledger: Ledger, version: str, expected: str | None, window: str = "2024-01") -> int:
    entry = ledger.promote(
        version, expected=expected, window=window, reason="beats the margin", actor="test", details={}
    )
    return entry.seq


def test_a_new_ledger_knows_no_champion(ledger: Ledger) -> None:
    assert (ledger.entries(), ledger.champion(), ledger.last_reign()) == ([], None, None)


def test_what_is_appended_is_read_back_in_order(ledger: Ledger) -> None:
    assert [note(ledger, w, n=n) for n, w in enumerate(("b", "a", "b"))] == [1, 2, 3]
    assert [(e.seq, e.window, e.details) for e in ledger.entries()] == [
        (1, "b", {"n": 0}),
        (2, "a", {"n": 1}),
        (3, "b", {"n": 2}),
    ]
    assert [e.seq for e in ledger.entries("b")] == [1, 3]


def test_an_entry_is_read_back_as_it_was_returned(ledger: Ledger) -> None:
    entry = ledger.append(
        Kind.KEEP, window="w", version="2", reason="worse", actor="me", details={"key": None, "list": [1, "é"]}
    )
    assert ledger.entries() == [entry]


def test_time_is_utc(ledger: Ledger) -> None:
    note(ledger)
    (entry,) = ledger.entries()
    assert entry.time.tzinfo is UTC
    assert abs(datetime.now(UTC) - entry.time) < timedelta(minutes=1)


def test_the_champion_is_the_last_reigns(ledger: Ledger) -> None:
    promote(ledger, "1", None)
    promote(ledger, "4", "1", "2024-02")
    note(ledger, kind=Kind.KEEP)
    assert ledger.champion() == "4"
    promotion = ledger.last_reign()
    assert promotion is not None
    assert promotion.window == "2024-02"


@pytest.mark.parametrize("expected", [None, "2"])
def test_a_promotion_in_place_of_another_champion_is_refused_and_not_written(
    ledger: Ledger, expected: str | None
) -> None:
    promote(ledger, "1", None)
    with pytest.raises(ChampionMoved, match=rf"compared with champion {expected or 'none'}, meanwhile it is 1"):
        promote(ledger, "3", expected)
    assert [e.version for e in ledger.entries()] == ["1"]


def test_a_promotion_that_expects_a_champion_where_there_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ChampionMoved, match="compared with champion 1, meanwhile it is none"):
        promote(ledger, "2", "1")


def test_notes_of_others_do_not_refuse_a_promotion(ledger: Ledger) -> None:
    promote(ledger, "1", None)
    note(ledger)
    assert promote(ledger, "2", "1") == 3


def test_a_promotion_is_not_appended_as_a_note(ledger: Ledger) -> None:
    with pytest.raises(AssertionError, match="use promote"):
        note(ledger, kind=Kind.PROMOTION)


def test_of_promotions_at_once_exactly_one_wins(url: str, ledger: Ledger) -> None:
    def run(version: str) -> bool:
        mine = Ledger(url, "churn")
        try:
            promote(mine, version, None)
        except ChampionMoved:
            return False
        finally:
            mine._engine.dispose()
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(run, "1234"))
    assert won.count(True) == 1
    assert [e.version for e in ledger.entries()] == ["1234"[won.index(True)]]


def test_notes_at_once_each_get_a_number_of_their_own(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda n: note(ledger, n=n), range(12)))
    assert sorted(numbers) == list(range(1, 13))


def test_loops_in_one_database_do_not_see_each_other(url: str, ledger: Ledger) -> None:
    other = Ledger(url, "other")
    promote(ledger, "1", None)
    assert (promote(other, "7", None), other.champion(), ledger.champion()) == (1, "7", "1")
    assert sorted(loops(url)) == ["churn", "other"]
    other._engine.dispose()


def test_a_ledger_opened_again_remembers(url: str, ledger: Ledger) -> None:
    promote(ledger, "1", None)
    again = Ledger(url, "churn")
    assert again.champion() == "1"
    again._engine.dispose()


def test_a_ledger_that_does_not_answer_is_unreachable_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(Unreachable, match=r"the ledger at sqlite:.*folder\.db does not answer.*DRIFTLOOP_LEDGER_URL"):
        Ledger(f"sqlite:///{tmp_path / 'folder.db'}", "churn")
