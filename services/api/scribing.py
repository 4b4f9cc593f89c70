"""The scribe: moves what the API answered into the log's store, and says what can be learnt from it.

A process of its own beside the API's, so that neither the store nor what is found out there takes anything from an
answer. It is lean while it only ships: pandas and scikit-learn are imported when labels or a challenger ask for them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from driftloop import contract
from driftloop.compiled import read_facts
from driftloop.contract import LIVE_METRIC, Loop
from driftloop.errors import ArtifactError, DriftloopError
from driftloop.facts import Facts, Version
from driftloop.health import Health, decide_rollback
from driftloop.periods import keep_since
from driftloop.prediction_log import Lines, ShippingReport, Store, open_spool, open_store, ship, standing_by_version
from driftloop.settings import Settings, apply_defaults
from services.api.scribe import STANDING
from services.api.shadow import Shadow, shadow_log
from services.api.store import Store as Models

LOOK_SECONDS = 0.5
LATE_LOOKS = 6
ALIAS_SECONDS = 2.0
LIVE_SECONDS = 5.0
SHARE_OF_TIME = 20  # what is learnt from the labels takes at most a twentieth of the scribe's time
PRUNE_SECONDS = 3600.0
TELL_AGAIN_SECONDS = 3600.0
LATENCIES = 2_000  # the newest of a version, whose 95th percentile counts

log = logging.getLogger("driftloop.scribe")
Tell = Callable[[str], None]


@dataclass
class Served:
    """What the log saw of a version since the scribe started."""

    requests: int = 0
    errors: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))

    def health(self, version: str) -> Health:
        taken = sorted(self.latencies)
        return Health(version, self.requests, self.errors, taken[int(0.95 * len(taken))] if taken else float("nan"))


class Scribing:
    """One round after another; each leaves a standing that the API shows."""

    def __init__(self, folder: Path, loop: Loop, settings: Settings, store: Store, shadow: Shadow, tell: Tell) -> None:
        self.folder, self.loop, self.store, self.shadow, self.tell = folder, loop, store, shadow, tell
        self.place = settings.home / "serving" / loop.name
        self.spool, self._models = open_spool(loop, settings), Models(self.place)
        self.dropped = self.damaged = 0
        self.served: dict[str, Served] = {}
        self._order: list[str] = []  # versions as they came into service
        self._champion: Version | None = None
        self._trouble: str | None = None
        self._told_dropped, self._tell_again = 0, 0.0
        self._live: dict[str, Any] = {}
        self._due = {"alias": 0.0, "live": 0.0, "prune": 0.0}
        self._news = True
        self._rollback: subprocess.Popen[bytes] | None = None
        self._given_up: set[str] = set()

    def round(self) -> None:
        """Ship, and do what is due. A store or registry that does not answer is told of, and asked again."""
        report = ship(self.spool, self.store, self._seen)
        self.dropped, self.damaged = self.dropped + report.dropped, self.damaged + report.damaged
        self._tell_of(report)
        if report.trouble is None:
            self._when("prune", PRUNE_SECONDS, self._prune)
            if self._news:
                self._when("live", LIVE_SECONDS, self._look_at_labels, times=SHARE_OF_TIME)
        self._when("alias", ALIAS_SECONDS, self._look_at_aliases)
        if self.loop.serving.auto_rollback:
            self._consider_rollback()
        self._write(report)

    def _seen(self, lines: Lines) -> None:
        for record in lines.records:
            if record.row == 0:
                served = self._of(record.version)
                served.requests += 1
                served.latencies.append(record.latency_ms)
        if lines.feedback:
            import driftloop.live  # noqa: F401  # pandas and all: not what a look at labels takes from now on
        for failure in lines.failures:
            served = self._of(failure.version)
            served.requests, served.errors = served.requests + 1, served.errors + 1
        self.shadow.score(lines.records)
        self.shadow.label(lines.feedback)
        self._news = True

    def _of(self, version: str) -> Served:
        if version not in self.served:
            self.served[version] = Served()
        if not self._order or self._order[-1] != version:
            self._order = [v for v in self._order if v != version] + [version]
        return self.served[version]

    def _tell_of(self, report: ShippingReport) -> None:
        if report.trouble and not self._trouble:
            log.error("log.down error=%s", report.trouble)
            self.tell(f"the prediction log takes nothing: {report.trouble} Answers wait on disk.")
        if report.trouble is None and self._trouble:
            log.info("log.up waiting_bytes=%d", report.waiting_bytes)
        if report.dropped:
            log.error("log.dropped requests=%d", report.dropped)
        if self.dropped > self._told_dropped and time.monotonic() >= self._tell_again:
            self.tell(
                f"{self.dropped - self._told_dropped:,} requests were dropped from the prediction log: more waited "
                f"than max_spool_mb."
            )
            # it may go on for hours: people hear of the first, and then once an hour
            self._told_dropped, self._tell_again = self.dropped, time.monotonic() + TELL_AGAIN_SECONDS
        self._trouble = report.trouble

    def _when(self, what: str, seconds: float, do: Callable[[], None], times: int = 0) -> None:
        """Do it where that is due: ``seconds`` after the last time, and ``times`` as long as it took then."""
        began = time.monotonic()
        if began < self._due[what]:
            return
        try:
            do()
        except DriftloopError as error:
            log.warning("scribe.later what=%s error=%s", what, error)
        took = time.monotonic() - began
        self._due[what] = began + max(seconds, took * times)

    def _prune(self) -> None:
        now = datetime.now(UTC)
        oldest = now - timedelta(days=self.loop.serving.retention_days)
        if self.loop.windows.source == "log":
            facts = self._facts()
            if facts is None:
                return  # what the champion learnt from is not known, so nothing is known to be superfluous
            oldest = keep_since(self.loop, self.store, facts.windows, now)
        for store in (self.store, self.shadow.store):
            store.prune(oldest)

    def _look_at_aliases(self) -> None:
        self._champion = self.shadow.look()

    def _look_at_labels(self) -> None:
        self._news = False
        facts = self._facts()
        labels = facts.labels if facts else None
        shadowed, answered = (_live(store, self.loop, labels) for store in (self.shadow.store, self.store))
        # what became champion is judged by what it answered itself, a challenger by what it would have
        self._live = shadowed | answered | {v: live for v, live in shadowed.items() if v == self.shadow.challenger}

    def _facts(self) -> Facts | None:
        """What the champion that serves here says about itself."""
        for _, folder in self._models.kept():
            try:
                return read_facts(folder)
            except ArtifactError:
                continue
        return None

    def _consider_rollback(self) -> None:
        if self._rollback and self._rollback.poll() is not None:
            log.info("rollback.ended exit_code=%d", self._rollback.returncode)
            if self._rollback.returncode:
                self.tell("the rollback failed, see the API's log. Whoever is in charge has to decide.")
            self._rollback = None
        if self._rollback or self._champion is None or len(self._order) < 2:
            return
        now, before = self._champion.number, self._order[-2]
        if self._order[-1] != now or now in self._given_up:
            return
        why = decide_rollback(self.served[now].health(now), self.served[before].health(before))
        if why is None:
            return
        self._given_up.add(now)
        log.error("rollback.begun version=%s to=%s why=%s", now, before, why)
        self.tell(f"version {now} is being rolled back to version {before}: {why}.")
        command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "rollback", str(self.folder), "--to", before]
        self._rollback = subprocess.Popen(
            [*command, "--by", "auto_rollback", "--why", why], stdin=subprocess.DEVNULL, stdout=sys.stderr
        )

    def _write(self, report: ShippingReport) -> None:
        about = {
            "up": report.trouble is None,
            "lag_seconds": report.lag_seconds,
            "waiting_bytes": report.waiting_bytes,
            "dropped": self.dropped,
            "damaged": self.damaged,
            "trouble": "it does not answer, see the log" if report.trouble else None,
        }
        standing = {"log": about, "live": self._live, "shadow": self.shadow.standing()}
        file = self.place / f".{STANDING}"
        try:
            file.write_text(json.dumps(standing), encoding="utf-8")
            file.replace(self.place / STANDING)
        except OSError as error:  # a full disk: what is shipped frees it
            log.warning("scribe.standing_not_written error=%s", error.strerror)


def _live(store: Store, loop: Loop, labels: tuple[str, ...] | None) -> dict[str, Any]:
    """By version what answers.Live has."""
    counts = store.counts()
    if any(labelled for _, labelled in counts.values()):
        found = [asdict(one) for one in standing_by_version(store, loop, labels=labels)]
        return {one.pop("version"): one for one in found}
    unknown = {"labelled": 0, "metric": LIVE_METRIC[loop.task], "value": None, "on": 0, "unread": 0}
    return {version: {"rows": rows} | unknown for version, (rows, _) in counts.items()}


def teller(loop: Loop) -> Tell:
    """Alerts in a thread of their own: an address that does not answer must not keep the log waiting."""

    def send(message: str) -> None:
        from driftloop import alerts

        alerts.send(alerts.serving_trouble(loop.name, message), alerts.addresses(loop, os.environ))

    def tell(message: str) -> None:
        if loop.alerts.urls or os.environ.get("DRIFTLOOP_ALERT_URLS"):
            threading.Thread(target=send, args=(message,), daemon=True).start()

    return tell


def main() -> None:
    """Round after round until standard input ends: then whoever started this is gone, or wants it gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    apply_defaults(os.environ)
    folder, settings = Path(sys.argv[1]), Settings.from_env(os.environ, Path.cwd())
    loop, over = contract.load(folder), threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    place = settings.home / "serving" / loop.name
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".scribe").open("w") as lock:
        late = 0
        while not _locked(lock.fileno()):  # another one works
            if over.wait(LOOK_SECONDS):
                # it may be ending too, and not have seen the last answers of this one's worker
                if late == LATE_LOOKS:
                    return
                late += 1
                time.sleep(LOOK_SECONDS)
        store, shadowed = open_store(loop, settings), shadow_log(loop, settings)
        if store is None or shadowed is None:
            return
        scribing = Scribing(folder, loop, settings, store, Shadow(loop, settings, place, shadowed), teller(loop))
        while not over.wait(LOOK_SECONDS):
            scribing.round()
        scribing.round()


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
