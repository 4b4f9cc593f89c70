"""For every test: hypothesis without a clock, a database or draws that change, one thread a process, longest first."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

# Trees and matrices share their rows out to as many threads as there are cores, and these spin while they wait for one
# another: with a test on every core a boosting takes nine times as long. Read when the libraries are first imported,
# here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("driftloop", deadline=None, database=None, derandomize=True, max_examples=25)
settings.load_profile("driftloop")

# It also draws the constants of whichever of our modules happen to be imported: others in another order of the tests.
assert callable(providers._get_local_constants)
providers._get_local_constants = lambda: providers._local_constants

# Files are shared out among workers as they come, and one that begins last is waited for.
LONGEST = (
    "test_cli", "test_serving_faults", "test_realdata", "test_crash", "test_approval", "test_strategies",
    "test_prediction_page", "test_flows", "test_bad_input", "test_deployments", "test_compute",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others, and the tests of a file, in their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
