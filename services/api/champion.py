"""The model that answers: loaded and verified once, never changed, held behind one reference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

from driftloop import artifact
from driftloop.artifact import Artifact
from driftloop.errors import ArtifactError
from driftloop.registry import Version
from services.api.schema import RequestSchema

Origin = Literal["registry", "disk"]


@dataclass(frozen=True)
class Champion:
    """A request takes one of these and uses nothing else, so its schema, scores and version always belong together.

    ``since`` is when it began to serve here, in UTC; ``origin`` tells a copy kept on disk from a fresh download.
    """

    version: Version
    artifact: Artifact
    schema: RequestSchema
    since: datetime
    origin: Origin

    def describe(self) -> dict[str, Any]:
        """What GET /model says of it, ready for JSON."""
        facts = self.artifact.facts
        inputs, outputs = self.artifact.signature.inputs, self.artifact.signature.outputs
        return {
            "loop": facts.loop,
            "version": self.version.number,
            "since": self.since.isoformat(),
            "origin": self.origin,
            "task": facts.task,
            "target": facts.target,
            "labels": facts.labels,
            "threshold": facts.threshold,
            "metrics": facts.metrics,
            "windows": facts.windows,
            "rows": facts.rows,
            "signature": {"inputs": inputs.to_dict(), "outputs": outputs.to_dict() if outputs else None},
        }


def load(folder: Path, version: Version, origin: Origin, scoring: Lock) -> Champion:
    """Load and verify a complete model folder. Raises ArtifactError when it must not serve.

    ``scoring`` is the holder's lock, under which the sample rows are scored.
    """
    loaded = artifact.load(folder)
    with scoring:
        loaded.verify()
    if loaded.facts.task == "binary" and loaded.facts.labels is None:
        raise ArtifactError("the model is binary and does not say how its labels are spelled")
    return Champion(version, loaded, RequestSchema.of(loaded.facts), datetime.now(UTC), origin)


class Source(Protocol):
    """Where champions come from: the registry."""

    def champion(self) -> Version | None:
        """The version behind the alias, None when nobody set it. Raises when there is no answer."""
        ...

    def download(self, version: str, folder: Path) -> Path:
        """Copy a version's model below ``folder`` and return where it lies."""
        ...


class Holder:
    """The one reference. Reading it is a single attribute read, so a request never waits for a swap.

    ``scoring`` is held while a model scores: scikit-learn sets and restores the process's warning filters around each
    transformer, and two threads at that at once leave them cleared for good (seen: a warning at every request since).
    """

    def __init__(self) -> None:
        self.scoring = Lock()
        self._lock = Lock()
        self._current: Champion | None = None

    @property
    def current(self) -> Champion | None:
        return self._current

    def swap(self, champion: Champion) -> None:
        with self._lock:
            self._current = champion

    def fill(self, champion: Champion) -> bool:
        """Serve it only where nothing serves yet: a slow read from disk must not undo a swap that came meanwhile."""
        with self._lock:
            if self._current is not None:
                return False
            self._current = champion
            return True
