"""The scribe: moves what the API answered into the log's store, and says what can be learnt from it."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from driftloop import contract
from driftloop.prediction_log import open_spool, open_store, ship
from driftloop.settings import Settings
from services.api.scribe import STANDING

LOOK_SECONDS = 0.5
PRUNE_SECONDS = 3600.0

log = logging.getLogger("driftloop.scribe")


class Scribing:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self.loop = contract.load(folder)
        self.settings = settings
        self.place = settings.home / "serving" / self.loop.name
        store = open_store(self.loop, settings)
        assert store is not None
        self.store, self.spool = store, open_spool(self.loop, settings)
        self.dropped = 0
        self.pruned = 0.0

    def round(self) -> None:
        report = ship(self.spool, self.store)
        self.dropped += report.dropped
        if time.monotonic() - self.pruned > PRUNE_SECONDS and report.trouble is None:
            self.store.prune(datetime.now(UTC) - timedelta(days=self.loop.serving.retention_days))
            self.pruned = time.monotonic()
        self.write(
            {
                "log": {
                    "up": report.trouble is None,
                    "lag_seconds": report.lag_seconds,
                    "waiting_bytes": report.waiting_bytes,
                    "dropped": self.dropped,
                    "trouble": report.trouble,
                }
            }
        )

    def write(self, standing: dict[str, Any]) -> None:
        file = self.place / f".{STANDING}"
        file.write_text(json.dumps(standing))
        file.replace(self.place / STANDING)


def main() -> None:
    folder = Path(sys.argv[1])
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    scribing = Scribing(folder, Settings.from_env(os.environ, Path.cwd()))
    while not over.wait(LOOK_SECONDS):
        scribing.round()
    scribing.round()


if __name__ == "__main__":
    main()
