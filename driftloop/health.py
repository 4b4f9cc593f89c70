"""Whether a version does so much worse than the one before it that the one before should serve again."""

from __future__ import annotations

import math
from dataclasses import dataclass

# a version is judged on as many requests as show a rate of 5 % to about a third of itself, and not on one bad second
MIN_REQUESTS = 200
ERROR_RATE_ABOVE = 0.05
LATENCY_TIMES, LATENCY_ABOVE_MS = 5.0, 5.0
CONFIDENCE_Z = 3.29  # one-sided, 1 in 2,000: it is asked again and again


@dataclass(frozen=True)
class Health:
    """A version in service: its requests, those that failed for no fault of the client's, and their latency."""

    version: str
    requests: int
    errors: int
    latency_ms: float
    """The 95th percentile, of those that were answered; NaN where none was."""


def decide_rollback(now: Health, before: Health | None) -> str | None:
    """Why ``now`` should give way to its predecessor ``before``; None while it should not.

    Far above means: errors in at least 5 in 100 requests more than before, beyond what chance explains (a two-sample
    z-test of proportions), or a 95th percentile of latency of five times the predecessor's and 5 ms more.

    >>> decide_rollback(Health("2", 1000, 90, 1.0), Health("1", 5000, 3, 1.0))
    '9.0 % of its 1,000 requests failed, 0.1 % of those of version 1 did'
    >>> decide_rollback(Health("2", 1000, 1, 1.1), Health("1", 5000, 3, 1.0)) is None
    True
    """
    if before is None or min(now.requests, before.requests) < MIN_REQUESTS:
        return None
    rate, usual = now.errors / now.requests, before.errors / before.requests
    pooled = (now.errors + before.errors) / (now.requests + before.requests)
    error = math.sqrt(pooled * (1 - pooled) * (1 / now.requests + 1 / before.requests))
    if rate - usual > max(ERROR_RATE_ABOVE, CONFIDENCE_Z * error):
        return (
            f"{rate:.1%} of its {now.requests:,} requests failed, {usual:.1%} of those of version {before.version} did"
        ).replace("%", " %")
    slow = now.latency_ms > before.latency_ms * LATENCY_TIMES and now.latency_ms > before.latency_ms + LATENCY_ABOVE_MS
    if slow:
        return (
            f"its slowest 5 % of {now.requests:,} requests take {now.latency_ms:.3g} ms and more, those of version "
            f"{before.version} {before.latency_ms:.3g} ms"
        )
    return None
