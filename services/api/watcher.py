"""Follows the alias: look, download, verify, keep, swap. Whatever fails, the champion that serves goes on serving."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from driftloop.errors import ArtifactError, Unreachable
from driftloop.facts import Version
from services.api.champion import Champion, Holder, Source
from services.api.fallback import serve_last_good
from services.api.metrics import Metrics
from services.api.store import Newest, Store

START_GRACE_SECONDS = 5.0  # how long MLflow may take for its first answer before the copy on disk serves
LONGEST_RETRY_SECONDS = 60.0
LOADING_SECONDS = 10.0  # what a copy on disk may take at the most
NOTICE_SECONDS = 0.1  # how soon a worker sees that another one brought a version in
AGREED_SECONDS = 0.25  # from the last worker's being ready to the moment at which all swap: each has to see it
MISSING_SECONDS = 5.0  # so long the others wait for a worker that is not ready: it may be dead

log = logging.getLogger("driftloop.api")


@dataclass(frozen=True)
class Trouble:
    """Why the API does not serve what the alias names: fit for clients, without addresses or paths."""

    at: datetime
    message: str


@dataclass(frozen=True)
class Retry:
    """A version that could not be taken over is tried again at ``after`` (time.monotonic), each time later."""

    version: Version
    attempts: int
    after: float


class Overtaken(Exception):
    """Meanwhile another worker follows a newer alias: so does this one, and leaves this version out."""


class Watcher:
    """One thread looks at the alias every ``poll_seconds``; a look that hangs delays the next and starts no second.

    A second thread lives only at the start: it serves the last good model from disk when the first look brings none.
    ``tell`` is called once for each version that cannot be taken over, with a sentence fit for people.

    Several ``workers`` swap at one moment, when each has the version loaded that the store's pointer came to name,
    whoever moved it: a client that comes to another worker with its next connection finds no older version there.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        holder: Holder,
        metrics: Metrics,
        poll_seconds: float = 2.0,
        grace_seconds: float = START_GRACE_SECONDS,
        tell: Callable[[str], None] = lambda _: None,
        workers: int = 1,
    ) -> None:
        self._source, self._store, self._holder, self._metrics = source, store, holder, metrics
        self._poll, self._grace, self.tell, self._workers = poll_seconds, grace_seconds, tell, workers
        self._stopped, self._looked = threading.Event(), threading.Event()
        self._retry: Retry | None = None
        self._none = False
        self._followed = store.newest()
        self.trouble: Trouble | None = None
        self.challenger: Version | None = None
        # daemons: a look that hangs in MLflow must not keep the process from ending
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._watch, self._fall_back)]

    def start(self) -> None:
        self._store.clear_leftovers()
        for thread in self._threads:
            thread.start()

    def wait_for_first(self) -> None:
        """Until the first champion is loaded, or none is to be had within the grace time."""
        self._threads[1].join(self._grace + LOADING_SECONDS)

    def stop(self, seconds: float = 2.0) -> None:
        """Ask the threads to end and wait that long at most for a look that is under way."""
        self._stopped.set()
        self._looked.set()
        for thread in self._threads:
            thread.join(seconds)

    def look(self) -> None:
        """Compare the alias with what serves, and take over what it names."""
        try:
            found = self._source.aliases()
        except Exception as error:  # noqa: BLE001  # the thread's boundary: logged, and shown by /model
            self._unanswered(error)
            return
        self._metrics.looked()
        version, self.challenger = found.champion, found.challenger
        serving = self._holder.current
        self._none = version is None
        if version is None:
            self._no_champion(serving)
        elif serving is not None and serving.version == version:
            self._retry = self.trouble = None
            if serving.origin == "disk":
                self._holder.swap(replace(serving, origin="registry"))
        elif self._due(version):
            self._take_over(version, serving)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._looked.set()
            # at the clock's own multiples, so that all workers look at the same moment
            self._pause(self._poll - time.time() % self._poll)

    def _pause(self, seconds: float) -> None:
        if self._workers == 1:
            self._stopped.wait(seconds)
            return
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped.wait(min(left, NOTICE_SECONDS)):
            self._follow()

    def _follow(self) -> None:
        """Take over what another worker brought in, whatever the alias names by now: that worker will serve it."""
        serving, newest = self._holder.current, self._store.newest()
        if serving is None or newest is None or newest == self._followed:
            return
        self._followed = newest
        if newest.version != serving.version:
            self._take_over(newest.version, serving)

    def _take_over(self, version: Version, serving: Champion | None) -> None:
        started = time.monotonic()
        try:
            champion = self._loaded(version)
        except Overtaken:
            return
        except Exception as error:  # noqa: BLE001  # any failure at all leaves the old champion serving
            self._not_taken_over(version, serving, error)
            return
        self._holder.swap(champion)
        self._retry = self.trouble = None
        self._metrics.swapped()
        seconds = time.monotonic() - started
        log.info("champion.swapped version=%s previous=%s seconds=%.2f", version.number, _number(serving), seconds)

    def _loaded(self, version: Version) -> Champion:
        """The version, ready to serve, out of the folder that all workers share; brought in first where it is not."""
        with self._store.exclusive():
            if self._workers > 1:
                self._require_wanted(version)
            champion = self._kept(version) or self._fetched(version)
            newest = self._store.newest()
        if self._workers > 1 and newest:
            self._followed = newest
            self._wait_for_others(newest)
        return replace(champion, since=datetime.now(UTC))

    def _wait_for_others(self, newest: Newest) -> None:
        """Until the moment at which all workers swap. Raises Overtaken."""
        self._store.mark_ready(newest, os.getpid(), id(self))
        while not self._stopped.is_set():
            ready = self._store.ready(newest)
            complete = len(ready) >= self._workers
            moment = max(ready) + AGREED_SECONDS if complete else newest.named + MISSING_SECONDS
            if self._store.newest() != newest:
                raise Overtaken
            if (left := moment - time.time()) <= 0:
                return
            self._stopped.wait(min(left, AGREED_SECONDS / 10))

    def _require_wanted(self, version: Version) -> None:
        """Raise Overtaken where the alias moved on while another worker held the store."""
        newest = self._store.newest()
        if (newest is None or newest.version != version) and self._source.aliases().champion != version:
            raise Overtaken

    def _kept(self, version: Version) -> Champion | None:
        folder = dict(self._store.kept()).get(version)
        if folder is None:
            return None
        try:
            champion = self._holder.load(folder, version, "registry")
        except ArtifactError as error:
            log.warning("champion.disk_unusable version=%s error=%s", version.number, error)
            return None
        if self._store.kept()[0][0] != version:
            self._store.prefer(version)
        return champion

    def _fetched(self, version: Version) -> Champion:
        with self._store.incoming() as folder:
            model = self._source.download(version.number, folder / "model")
            try:
                champion = self._holder.load(model, version, "registry")
            except ArtifactError as error:
                raise ArtifactError(str(error).replace(str(model), f"version {version.number}")) from error
            self._store.keep(model, version)  # before the swap: after a restart nobody may get an older version
        return champion

    def _not_taken_over(self, version: Version, serving: Champion | None, error: Exception) -> None:
        attempts = self._retry.attempts + 1 if self._retry and self._retry.version == version else 1
        delay = min(self._poll * 2**attempts, LONGEST_RETRY_SECONDS)
        self._retry = Retry(version, attempts, time.monotonic() + delay)
        reason = str(error) if isinstance(error, ArtifactError) else _public(error)
        self.trouble = Trouble(datetime.now(UTC), f"version {version.number} could not be taken over: {reason}")
        self._metrics.swap_failed()
        if attempts == 1:
            self.tell(f"{self.trouble.message}; version {_number(serving) or 'none'} goes on serving.")
        log.error(
            "champion.swap_failed version=%s serving=%s attempts=%d retry_seconds=%.1f error=%s",
            version.number,
            _number(serving),
            attempts,
            delay,
            error,
            exc_info=None if isinstance(error, (ArtifactError, Unreachable)) else error,
        )

    def _due(self, version: Version) -> bool:
        return self._retry is None or self._retry.version != version or time.monotonic() >= self._retry.after

    def _unanswered(self, error: Exception) -> None:
        message = f"the alias could not be read: {_public(error)}"
        if self.trouble is None or self.trouble.message != message:  # said once, not every poll
            log.error(
                "champion.unreachable serving=%s error=%s",
                _number(self._holder.current),
                error,
                exc_info=None if isinstance(error, Unreachable) else error,
            )
            self.trouble = Trouble(datetime.now(UTC), message)

    def _no_champion(self, serving: Champion | None) -> None:
        message = "no version has the alias champion" + (", the last one goes on serving" if serving else " yet")
        if self.trouble is None or self.trouble.message != message:
            log.warning("champion.none serving=%s", _number(serving))
            self.trouble = Trouble(datetime.now(UTC), message)

    def _fall_back(self) -> None:
        self._looked.wait(self._grace)
        if self._none or self._stopped.is_set():
            return  # the registry answered that there is no champion: then there is none
        serve_last_good(self._store, self._holder)


def _public(error: Exception) -> str:
    """A reason without addresses and paths, which stay in the log."""
    return "MLflow does not answer" if isinstance(error, Unreachable) else f"{type(error).__name__}, see the log"


def _number(champion: Champion | None) -> str | None:
    return champion.version.number if champion else None
