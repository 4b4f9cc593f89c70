"""What auto takes on public streams, where DRIFTLOOP_REAL_DATA names them."""

from __future__ import annotations

import pytest

from benchmarks.gate_cost import is_there, loop_of, windows_of
from benchmarks.strategies import PUBLIC, next_window

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not all(map(is_there, PUBLIC)), reason="the public streams are not there"),
]


@pytest.mark.parametrize(("stream", "newest", "taken"), [("bike_hour", 17, "rolling:3"), ("bank_marketing", 7, "all")])
def test_auto_takes_the_better_of_all_and_rolling(stream: str, newest: int, taken: str) -> None:
    """The whole of each stream is `python -m benchmarks strategies`."""
    found = next(s for s in PUBLIC if s.folder == stream)
    loop = loop_of(found, 0.95)
    windows, _ = windows_of(found, loop)
    scores = next_window(loop, windows, newest)
    assert scores.auto == taken
    assert scores.scores["auto"] == scores.scores[taken]
