"""The model that answers: loaded and verified once, never changed, held behind one reference."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np

from driftloop.category import MISSING
from driftloop.compiled import read_facts
from driftloop.errors import ArtifactError
from driftloop.facts import Facts, Version
from services.api.schema import MAX_ROWS, RequestSchema
from services.api.scoring import Scorer, scorer
from services.api.source import Aliases

Origin = Literal["registry", "disk"]


@dataclass(frozen=True)
class Champion:
    """A request takes one of these and uses nothing else, so its schema, scores and version always belong together.

    ``since`` is when it began to serve here, in UTC; ``origin`` is disk when no registry confirmed it yet.
    """

    version: Version
    facts: Facts
    schema: RequestSchema
    scorer: Scorer
    since: datetime
    origin: Origin

    @cached_property
    def quartiles(self) -> tuple[float, ...]:
        """What cuts the scores of the version's sample rows into four."""
        return tuple(np.quantile(self.facts.sample_scores, (0.25, 0.5, 0.75)).tolist())

    @property
    def threshold(self) -> float:
        return 0.5 if self.facts.threshold is None else self.facts.threshold

    def describe(self) -> dict[str, Any]:
        """What GET /model says of it, ready for JSON."""
        facts, compiled = self.facts, self.facts.compiled
        return {
            "loop": facts.loop,
            "version": self.version.number,
            "since": self.since.isoformat(),
            "origin": self.origin,
            "engine": self.scorer.engine,
            "compiled": None if compiled is None else compiled.model_dump(exclude={"sha256"}),
            "task": facts.task,
            "target": facts.target,
            "labels": facts.labels,
            "threshold": facts.threshold,
            "metrics": facts.metrics,
            "baseline": facts.baseline,
            "windows": facts.windows,
            "rows": facts.rows,
            "signature": _signature(facts),
            "max_rows": self.schema.max_rows,
        }


def _signature(facts: Facts) -> dict[str, Any]:
    inputs = [_number(name, facts) for name in facts.numeric] + [_category(name, facts) for name in facts.categorical]
    return {"inputs": inputs, "outputs": [{"type": "double" if facts.task == "regression" else "long"}]}


def _number(name: str, facts: Facts) -> dict[str, Any]:
    low, middle, high = facts.ranges.get(name, (None, None, None))
    about = {"low": low, "high": high, "default": middle, "categories": None}
    return {"name": name, "type": "double", "required": False} | about


def _category(name: str, facts: Facts) -> dict[str, Any]:
    known = [word for word in facts.categories.get(name, ()) if word != MISSING]
    mode = facts.modes.get(name)
    about = {"low": None, "high": None, "default": None if mode == MISSING else mode, "categories": known}
    return {"name": name, "type": "string", "required": False} | about


class Source(Protocol):
    """Where champions come from: the registry."""

    def aliases(self) -> Aliases:
        """The versions behind champion and challenger. Raises when there is no answer."""
        ...

    def download(self, version: str, folder: Path) -> Path:
        """Copy a version's model below ``folder``, verify it whole and return where it lies."""
        ...


class Holder:
    """The one reference. Reading it is a single attribute read, so a request never waits for a swap."""

    def __init__(self, loop: str, max_rows: int = MAX_ROWS) -> None:
        self.loop, self._max_rows = loop, max_rows
        self._scoring, self._lock = Lock(), Lock()
        self.current: Champion | None = None

    def load(self, folder: Path, version: Version, origin: Origin) -> Champion:
        """Load a complete model folder. Raises ArtifactError when it must not serve."""
        facts = read_facts(folder)
        if facts.loop != self.loop:
            raise ArtifactError(f"the model was trained for the loop {facts.loop}, not for {self.loop}")
        if facts.task != "regression" and facts.labels is None:
            raise ArtifactError(f"the model is {facts.task} and does not say how its labels are spelled")
        schema = RequestSchema.of(facts, self._max_rows)
        made = Champion(version, facts, schema, scorer(folder, facts, self._scoring), datetime.now(UTC), origin)
        _give_back_memory()
        return made

    def swap(self, champion: Champion) -> None:
        with self._lock:
            self.current = champion

    def fill(self, champion: Champion) -> bool:
        """Serve it only where nothing serves yet: a slow read from disk must not undo a swap that came meanwhile."""
        with self._lock:
            if self.current is not None:
                return False
            self.current = champion
            return True


def _give_back_memory() -> None:
    """What loading took and freed again: glibc would keep it, more than half of what a forest's process holds."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
