"""For every test: hypothesis without a clock, a database or draws that change, and one thread a process."""

from __future__ import annotations

import os

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
