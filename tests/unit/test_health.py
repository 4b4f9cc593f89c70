"""When a version that serves should give way to the one before it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.health import MIN_REQUESTS, Health, decide_rollback

GOOD = Health("1", 5000, 0, 2.0)
FAILING = Health("2", 1000, 200, 2.0)
SLOW = Health("2", 1000, 0, 20.0)
NAN = float("nan")

many = st.integers(MIN_REQUESTS, 10**6)
milliseconds = st.floats(0.01, 1e4)


@st.composite
def served(draw: st.DrawFn, version: str) -> Health:
    requests = draw(many)
    return Health(version, requests, draw(st.integers(0, requests)), draw(milliseconds))


def test_a_version_that_fails_far_more_often_gives_way_and_the_reason_names_both_rates() -> None:
    why = decide_rollback(FAILING, replace(GOOD, errors=50))
    assert why == "20.0 % of its 1,000 requests failed, 1.0 % of those of version 1 did"


def test_a_version_that_takes_far_longer_gives_way_and_the_reason_names_both_latencies() -> None:
    why = decide_rollback(SLOW, GOOD)
    assert why == "its slowest 5 % of 1,000 requests take 20 ms and more, those of version 1 2 ms"


def test_the_first_version_has_nobody_to_give_way_to() -> None:
    assert decide_rollback(FAILING, None) is None


@pytest.mark.parametrize("few", ["now", "before"])
def test_nothing_is_decided_before_both_have_answered_enough(few: str) -> None:
    now, before = replace(FAILING, requests=MIN_REQUESTS, errors=MIN_REQUESTS), replace(GOOD, requests=MIN_REQUESTS)
    assert decide_rollback(now, before)
    if few == "now":
        now = replace(now, requests=MIN_REQUESTS - 1, errors=MIN_REQUESTS - 1)
    else:
        before = replace(before, requests=MIN_REQUESTS - 1)
    assert decide_rollback(now, before) is None


def test_five_in_a_hundred_more_are_no_reason_yet() -> None:
    now, before = Health("2", 10**6, 50_000, 2.0), Health("1", 10**6, 0, 2.0)
    assert decide_rollback(now, before) is None
    assert decide_rollback(replace(now, errors=50_001), before)


def test_few_requests_need_more_than_five_in_a_hundred_to_be_beyond_chance() -> None:
    before = Health("1", MIN_REQUESTS, 10, 2.0)
    assert decide_rollback(Health("2", MIN_REQUESTS, 22, 2.0), before) is None
    assert decide_rollback(Health("2", MIN_REQUESTS, 60, 2.0), before)


@pytest.mark.parametrize(("before", "now"), [(0.5, 5.5), (0.5, 2.6), (10.0, 50.0), (10.0, 14.9)])
def test_five_times_as_long_or_five_milliseconds_more_alone_are_no_reason(before: float, now: float) -> None:
    assert decide_rollback(replace(SLOW, latency_ms=now), replace(GOOD, latency_ms=before)) is None


def test_a_version_that_answered_nothing_is_judged_by_its_failures_alone() -> None:
    assert decide_rollback(Health("2", 300, 300, NAN), GOOD)
    assert decide_rollback(replace(GOOD, version="2"), replace(GOOD, latency_ms=NAN)) is None


@given(served("1"))
def test_a_version_like_its_predecessor_never_gives_way(before: Health) -> None:
    assert decide_rollback(replace(before, version="2"), before) is None


@given(served("2"), served("1"))
def test_of_two_versions_at_most_one_gives_way_for_its_failures(one: Health, other: Health) -> None:
    one, other = replace(one, latency_ms=1.0), replace(other, latency_ms=1.0)
    assert not (decide_rollback(one, other) and decide_rollback(other, one))


@given(served("2"), served("1"), st.data())
def test_who_gives_way_still_does_with_more_failures_or_a_longer_wait(
    now: Health, before: Health, data: st.DataObject
) -> None:
    worse = replace(
        now,
        errors=data.draw(st.integers(now.errors, now.requests)),
        latency_ms=now.latency_ms + data.draw(milliseconds),
    )
    if decide_rollback(now, before):
        assert decide_rollback(worse, before)


@given(served("2"), served("1"), st.data())
def test_who_stays_still_does_beside_a_worse_predecessor(now: Health, before: Health, data: st.DataObject) -> None:
    worse = replace(
        before,
        errors=data.draw(st.integers(before.errors, before.requests)),
        latency_ms=before.latency_ms + data.draw(milliseconds),
    )
    if decide_rollback(now, before) is None:
        assert decide_rollback(now, worse) is None
