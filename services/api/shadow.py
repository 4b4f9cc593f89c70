"""The challenger in production's shadow: it scores what the champion answered, after it was answered."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftloop.contract import Loop
from driftloop.errors import DriftloopError, Unreachable
from driftloop.facts import Version
from driftloop.prediction_log import Feedback, Record, Store, open_store
from driftloop.settings import Settings
from services.api.answers import answer
from services.api.champion import Champion, Holder
from services.api.scoring import Unscorable
from services.api.source import RegistrySource

MOST_ROWS = 5_000  # of a segment of the spool, about a second's answers; the log must not wait for its shadow
PATIENCE_LOOKS = 30  # a challenger that cannot be loaded is tried again after so many looks

log = logging.getLogger("driftloop.scribe")


def shadow_log(loop: Loop, settings: Settings) -> Store | None:
    """Where the challenger's predictions are kept: a log like the champion's, under the loop's name and ``.shadow``."""
    return open_store(loop.model_copy(update={"name": f"{loop.name}.shadow"}), settings)


class Shadow:
    """Lives in the scribe's process and works on rows out of the log, so no answer can wait for it or fail by it."""

    def __init__(self, loop: Loop, settings: Settings, place: Path, store: Store) -> None:
        self._source = RegistrySource(settings, loop.name)
        self._holder, self._place, self.store = Holder(loop.name), place / "challenger", store
        self._wait = 0
        self._version: Version | None = None
        self._challenger: Champion | None = None
        self.trouble: str | None = None
        self.rows = self.skipped = self._agreed = 0
        self._apart = 0.0

    def look(self) -> Version | None:
        """Follow the aliases; returns the champion. Raises Unreachable."""
        aliases = self._source.aliases()
        wanted = aliases.challenger if aliases.challenger != aliases.champion else None
        if wanted is None:
            self._version = None
            self._forget()
        elif wanted != self._version or (self._challenger is None and self._wait <= 0):
            self._take(wanted)
        self._wait -= 1
        return aliases.champion

    def score(self, records: Sequence[Record]) -> None:
        """Score what the champion answered; what is more than a round's work is counted and left out."""
        challenger = self._challenger
        if challenger is None:
            return
        mine = [r for r in records if r.version != challenger.version.number]
        self.skipped += max(0, len(mine) - MOST_ROWS)
        mine = mine[-MOST_ROWS:]
        names = (*challenger.facts.numeric, *challenger.facts.categorical)
        known = [r for r in mine if all(name in r.features for name in names)]
        self.skipped += len(mine) - len(known)
        if not known:
            return
        try:
            scores = challenger.scorer.score([dict(r.features) for r in known])
        except (Unscorable, ValueError) as error:
            self.trouble = (
                f"version {challenger.version.number} cannot score what version {known[0].version} did: {error}"
            )
            self.skipped += len(known)
            return
        _, values, words = answer(challenger, scores, "", batch=True)
        self.rows += len(known)
        apart = _beside(challenger, scores, known) - np.array([r.prediction for r in known])
        self._apart += float(np.abs(apart).sum())
        self._agreed += sum(word == r.label for word, r in zip(words, known, strict=True))
        number = challenger.version.number
        kept = [
            Record(r.request_id, r.row, r.time, number, {}, score, word, 0.0)
            for r, score, word in zip(known, values, words, strict=True)
        ]
        self._keep(lambda: self.store.append(kept))

    def label(self, labels: Sequence[Feedback]) -> None:
        if self._challenger:
            self._keep(lambda: self.store.label(labels))

    def _keep(self, do: Callable[[], object]) -> None:
        """In the shadow's own log, whose trouble is none of the champion's."""
        try:
            do()
        except Unreachable as error:
            log.warning("shadow.not_kept error=%s", error)
            self.trouble = "its predictions could not be kept, see the log"

    @property
    def challenger(self) -> str | None:
        return self._version.number if self._version else None

    def standing(self) -> dict[str, Any] | None:
        """What /model tells; None without a challenger. ``agreement`` is None for a regression, and before any row."""
        if self._version is None:
            return None
        says = self._challenger is not None and self._challenger.facts.labels is not None
        return {
            "version": self._version.number,
            "rows": self.rows,
            "skipped": self.skipped,
            "agreement": self._agreed / self.rows if says and self.rows else None,
            "difference": self._apart / self.rows if self.rows else None,
            "trouble": self.trouble,
        }

    def _take(self, version: Version) -> None:
        self._forget()
        self._version, self._wait = version, PATIENCE_LOOKS
        shutil.rmtree(self._place, ignore_errors=True)
        try:
            folder = self._source.download(version.number, self._place)
            self._challenger = self._holder.load(folder, version, "registry")
        except DriftloopError as error:
            self.trouble = f"version {version.number} cannot be loaded: {str(error).replace(str(self._place), '')}"
            log.warning("shadow.not_loaded version=%s error=%s", version.number, error)

    def _forget(self) -> None:
        self._challenger = self.trouble = None
        self.rows = self.skipped = self._agreed = 0
        self._apart = 0.0


def _beside(challenger: Champion, scores: np.ndarray, answered: Sequence[Record]) -> np.ndarray:
    """What stands beside the champion's numbers: of several classes the probability of the label that it answered."""
    labels = challenger.facts.labels
    if labels is None or scores.ndim == 1:
        return scores
    places = {label: place for place, label in enumerate(labels)}
    return np.array(
        [row[places[r.label]] if r.label in places else 0.0 for row, r in zip(scores, answered, strict=True)]
    )
