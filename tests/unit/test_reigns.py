"""Who reigned when, who waits, and for how long: read off the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from driftloop.entry import Entry, Kind
from driftloop.reigns import expired, in_a_row, previous_champion, reign_at, reigns, waiting

BEGAN = datetime(2024, 5, 1, tzinfo=UTC)


def rows(*said: tuple[str, str, str | None]) -> list[Entry]:
    """(kind, window, version), an hour apart."""
    return [
        Entry("churn", n, BEGAN + timedelta(hours=n), Kind(kind), window, version, "a", "r", {})
        for n, (kind, window, version) in enumerate(said, 1)
    ]


def hour(n: float) -> datetime:
    return BEGAN + timedelta(hours=n)


def test_before_the_first_champion_nobody_reigned() -> None:
    entries = rows(("verdict", "01", None), ("ask", "01", "1"))
    assert reigns(entries) == reigns([]) == []
    assert reign_at(entries, hour(9)) is None


def test_a_reign_lasts_until_the_next_begins() -> None:
    entries = rows(("promotion", "01", "1"), ("keep", "02", "2"), ("promotion", "03", "3"), ("rollback", "03", "1"))
    assert [(r.version, r.since, r.until) for r in reigns(entries)] == [
        ("1", hour(1), hour(3)), ("3", hour(3), hour(4)), ("1", hour(4), None),
    ]  # fmt: skip
    at = [(found := reign_at(entries, hour(n))) and found.version for n in (0.9, 1, 2.9, 3, 4, 99)]
    assert at == [None, "1", "1", "3", "1", "1"]


@pytest.mark.parametrize(
    ("said", "previous"),
    [
        ([], None),
        (["p1"], None),
        (["p1", "p2"], "1"),
        (["p1", "p2", "p3"], "2"),
        (["p1", "p2", "p3", "r2"], "1"),
        (["p1", "p2", "p3", "r2", "r1"], None),
        (["p1", "p2", "p3", "r2", "p4"], "2"),
        (["p1", "p2", "r7"], "2"),
    ],
)
def test_a_rollback_goes_ever_further_back(said: list[str], previous: str | None) -> None:
    kinds = {"p": "promotion", "r": "rollback"}
    assert previous_champion(rows(*((kinds[word[0]], "01", word[1:]) for word in said))) == previous


@pytest.mark.parametrize("ends", ["promotion", "rejection", "expiry"])
def test_a_candidate_waits_until_it_is_answered_or_another_comes(ends: str) -> None:
    asked = rows(("ask", "01", "2"), ("verdict", "02", "1"), ("keep", "02", "3"), ("rollback", "02", "1"))
    assert (found := waiting(asked)) is not None
    assert found.version == "2"
    assert waiting([*asked, *rows((ends, "02", "2"))]) is None
    assert (newer := waiting([*asked, *rows(("ask", "02", "4"))])) is not None
    assert newer.version == "4"


def test_a_candidate_expires_once_so_many_newer_windows_arrived() -> None:
    entries = rows(("verdict", "01", None), ("ask", "01", "1"), ("verdict", "02", None), ("verdict", "02", None))
    asked = entries[1]
    assert not expired(entries, asked, None, 2)
    assert not expired(entries, asked, "02", 2)
    assert expired(entries, asked, "03", 2)
    assert expired(entries + rows(("quarantine", "03", None)), asked, None, 1)


def test_windows_that_were_known_when_the_candidate_asked_do_not_count_against_it() -> None:
    entries = rows(("verdict", "02", None), ("verdict", "03", None), ("ask", "01", "1"), ("verdict", "02", None))
    assert not expired(entries, entries[2], "03", 1)
    assert expired(entries, entries[2], "04", 1)


# what shows in a row


def arrival(window: str, *on: str, measured: tuple[str, ...] = ("drift",), rows: int = 500, seq: int = 0) -> Entry:
    trigger = {"on": list(on), "measured": list(measured)}
    report = {"rows": {"current": rows}, "retrain": {"trigger": trigger}}
    return Entry("churn", seq or int(window), BEGAN, Kind.VERDICT, window, "1", "a", "r", {"report": report})


def other(kind: Kind, window: str, seq: int) -> Entry:
    report = {"rows": {"current": 500}, "retrain": {"trigger": None}}
    return Entry("churn", seq, BEGAN, kind, window, "1", "a", "r", {"report": report})


def test_windows_right_before_are_counted_until_one_is_quiet() -> None:
    entries = [arrival("1", "drift"), arrival("2"), arrival("3", "drift"), arrival("4", "drift")]
    assert in_a_row(entries, "5", 30) == {"drift": 2}
    assert in_a_row(entries, "3", 30) == {}
    assert in_a_row([], "1", 30) == {}


def test_the_window_itself_and_later_ones_do_not_count() -> None:
    entries = [arrival("1", "drift"), arrival("2", "drift"), arrival("3", "drift")]
    assert in_a_row(entries, "2", 30) == {"drift": 1}


def test_each_finding_has_a_row_of_its_own() -> None:
    both = ("drift", "quality")
    entries = [arrival("1", "drift", "quality", measured=both), arrival("2", "quality", measured=both)]
    assert in_a_row(entries, "3", 30) == {"quality": 2}


@pytest.mark.parametrize(
    "between",
    [
        other(Kind.QUARANTINE, "2", 2),
        arrival("2", rows=29),
        arrival("2", measured=()),
        other(Kind.VERDICT, "2", 2),  # without a champion, or of an earlier version
    ],
    ids=["quarantined", "too few rows", "not measured", "no trigger"],
)
def test_a_window_that_cannot_tell_neither_counts_nor_ends_a_row(between: Entry) -> None:
    assert in_a_row([arrival("1", "drift"), between, arrival("3", "drift")], "4", 30) == {"drift": 2}


@pytest.mark.parametrize("kind", [Kind.PROMOTION, Kind.KEEP, Kind.ASK, Kind.ROLLBACK, Kind.ADOPTION])
def test_a_training_or_another_champion_begins_anew(kind: Kind) -> None:
    entries = [arrival("1", "drift"), arrival("2", "drift"), other(kind, "2", 3), arrival("3", "drift", seq=4)]
    assert in_a_row(entries, "4", 30) == {"drift": 1}


@pytest.mark.parametrize("kind", [Kind.EXPIRY, Kind.REJECTION])
def test_what_trains_nothing_leaves_the_row_as_it_is(kind: Kind) -> None:
    entries = [arrival("1", "drift"), other(kind, "1", 2), arrival("2", "drift", seq=3)]
    assert in_a_row(entries, "3", 30) == {"drift": 2}


def test_of_a_window_that_was_looked_at_again_the_last_look_counts() -> None:
    entries = [arrival("1", "drift"), arrival("2", "drift"), arrival("1", seq=3)]
    assert in_a_row(entries, "3", 30) == {"drift": 1}
    assert in_a_row([arrival("1", "drift"), other(Kind.QUARANTINE, "1", 2)], "2", 30) == {}
