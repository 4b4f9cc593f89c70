"""What auto is worth on public streams, where DRIFTLOOP_REAL_DATA names them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate_cost import Stream, is_there, loop_of, windows_of
from benchmarks.strategies import PUBLIC, loss_of_auto, next_window
from driftloop.scores import comparable

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not all(map(is_there, PUBLIC)), reason="the public streams are not there"),
]
SMALL = {"max_iter": 25, "learning_rate": 0.4, "max_leaf_nodes": 15}  # learns about as far as a hundred at 0.1
EVERY = {"bike_hour": 1, "bank_marketing": 4, "car_loan": 8}  # so manieth row of each window


@pytest.mark.parametrize("stream", PUBLIC, ids=lambda stream: stream.folder)
def test_auto_is_within_a_hundredth_of_the_better_of_all_and_rolling(stream: Stream) -> None:
    """Of all windows; with all their rows and larger models it is `python -m benchmarks.strategies`."""
    loop = loop_of(stream, 0.95)
    loop = loop.model_copy(update={"model": loop.model.model_copy(update={"params": loop.model.params | SMALL})})
    windows, newest = windows_of(stream, loop)
    windows = [window.where(np.arange(len(window.X)) % EVERY[stream.folder] == 0) for window in windows]
    found = [next_window(loop, windows, n) for n in newest if comparable(loop, windows[n + 1])]
    assert len(found) >= 16
    assert all(one.scores["auto"] == one.scores[one.auto] for one in found)
    assert loss_of_auto(stream, found) <= 1.01
