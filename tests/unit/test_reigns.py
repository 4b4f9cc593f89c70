"""Who reigned when, who waits, and for how long: read off the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from driftloop.entry import Entry, Kind
from driftloop.reigns import expired, previous_champion, reign_at, reigns, waiting

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
