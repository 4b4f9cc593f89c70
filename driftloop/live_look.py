"""The last requests of the prediction log beside what the champion was trained on."""

from __future__ import annotations

import pandas as pd

from driftloop import frame, monitoring, references
from driftloop.contract import Loop
from driftloop.errors import DriftloopError
from driftloop.frame import Window
from driftloop.live import live_verdict, means_json
from driftloop.prediction_log import Store, open_store, rows_of
from driftloop.report import Json, drift_json
from driftloop.settings import Settings
from driftloop.workspace import Workspace


def require_store(loop: Loop, settings: Settings) -> Store:
    """The loop's log. Raises DriftloopError where it keeps none."""
    store = open_store(loop, settings)
    if store is None:
        raise DriftloopError('loop.toml says serving.log = "off": there is no prediction log.')
    return store


def live_look(work: Workspace, store: Store, last: int) -> Json:
    """The newest ``last`` rows of the log against the champion's training windows; records nothing.

    ``means`` is None where the champion's version stores no statistics; a ``z`` of None stands for an infinite one.
    Raises DriftloopError when there is no champion, or too few rows to say anything.
    """
    serving = work.serving()
    if serving is None:
        raise DriftloopError(f"{work.loop.name} has no champion yet, so there is nothing to compare requests with.")
    found = store.read(last=last)
    if len(found) < work.loop.trigger.min_rows:
        raise DriftloopError(
            f"the prediction log of {work.loop.name} holds {len(found)} rows; trigger.min_rows asks for "
            f"{work.loop.trigger.min_rows} before anything is said of them."
        )
    current = _window(work.loop, rows_of(found, work.loop.columns.names))
    drift = monitoring.measure_drift(work, references.side(work, serving.windows, current), current).drift
    facts = work.model(serving.version).facts
    shifts, limit = monitoring.shifts_since_training(facts, current)
    verdict = live_verdict(drift.share, work.loop.drift.threshold, shifts, limit)
    return {
        "loop": work.loop.name,
        "version": serving.version,
        "rows": len(found),
        "since": found["time"].iloc[0].isoformat(timespec="seconds"),
        "until": found["time"].iloc[-1].isoformat(timespec="seconds"),
        "drift": drift_json(drift, work.loop.drift.threshold),
        "means": means_json(shifts, limit) if facts.statistics else None,
        "z_limit": limit,
        "quiet": verdict.quiet,
        "reasons": list(verdict.reasons),
    }


def _window(loop: Loop, rows: pd.DataFrame) -> Window:
    """Requests as a checked window: they have features, and neither owner nor target. Raises WindowError."""
    promotion = loop.promotion.model_copy(update={"slices": ()})
    bare = loop.model_copy(update={"entity": None, "timestamp": None, "promotion": promotion})
    return frame.check(rows[list(loop.columns.names)], bare, "live")
