"""For every test: hypothesis without a clock, a database or a seed that changes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("driftloop", deadline=None, database=None, derandomize=True, max_examples=25)
settings.load_profile("driftloop")
