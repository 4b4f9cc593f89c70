"""Rows of several requests in one call, each request with its own scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from services.api.predict import Together


@dataclass
class Doubling:
    """Twice the number of each row; a row without one cannot be scored."""

    most: int = 100
    calls: list[int] = field(default_factory=list)
    engine: str = "doubling"

    def score(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        self.calls.append(len(rows))
        if any(row["n"] is None for row in rows):
            raise ValueError("no number")
        return np.array([2.0 * row["n"] for row in rows])

    def inline(self, rows: int) -> bool:
        return rows <= self.most


def rows(*numbers: float | None) -> list[dict[str, Any]]:
    return [{"n": number} for number in numbers]


def asked(*requests: tuple[Doubling, list[dict[str, Any]]]) -> list[Any]:
    async def ask() -> list[Any]:
        together = Together()
        return await asyncio.gather(*(together.score(s, some) for s, some in requests), return_exceptions=True)

    return [answer if isinstance(answer, Exception) else answer.tolist() for answer in asyncio.run(ask())]


def test_every_request_gets_the_scores_of_its_own_rows_from_one_call() -> None:
    scorer = Doubling()
    assert asked((scorer, rows(1)), (scorer, rows(2, 3)), (scorer, rows(4))) == [[2.0], [4.0, 6.0], [8.0]]
    assert scorer.calls == [4]


def test_a_request_that_cannot_be_scored_fails_alone() -> None:
    first, broken, last = asked(*((scorer := Doubling(), rows(1)), (scorer, rows(None)), (scorer, rows(3))))
    assert (first, last) == ([2.0], [6.0])
    assert isinstance(broken, ValueError)


def test_after_a_swap_each_version_scores_its_own_requests() -> None:
    old, new = Doubling(), Doubling()
    assert asked((old, rows(1)), (new, rows(2)), (new, rows(3)), (old, rows(4))) == [[2.0], [4.0], [6.0], [8.0]]
    assert (old.calls, new.calls) == ([1, 1], [2])


def test_no_call_takes_more_rows_than_the_event_loop_may_score() -> None:
    scorer = Doubling(most=3)
    assert asked(*[(scorer, rows(1, 2))] * 3) == [[2.0, 4.0]] * 3
    assert scorer.calls == [2, 2, 2]


def test_a_request_whose_client_is_gone_keeps_nobody_else_from_an_answer() -> None:
    async def ask() -> list[float]:
        together, scorer = Together(), Doubling()
        gone, stays = together.score(scorer, rows(1)), together.score(scorer, rows(2))
        gone.cancel()
        return (await stays).tolist()

    assert asyncio.run(ask()) == [4.0]


def test_the_next_turn_s_requests_are_a_call_of_their_own() -> None:
    async def ask() -> list[int]:
        together, scorer = Together(), Doubling()
        await together.score(scorer, rows(1))
        await together.score(scorer, rows(2))
        return scorer.calls

    assert asyncio.run(ask()) == [1, 1]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_however_many_wait_none_is_lost(count: int) -> None:
    scorer = Doubling(most=7)
    assert asked(*((scorer, rows(n)) for n in range(count))) == [[2.0 * n] for n in range(count)]
