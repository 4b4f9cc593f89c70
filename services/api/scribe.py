"""The API's hand on its scribe: the process that moves answers into the log and says what it learnt from them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STANDING = "standing.json"
LOOK_SECONDS = 1.0
SILENT_SECONDS = 30.0  # a scribe at work reports twice a second, one that loads a challenger within some seconds
LAST_WORDS_SECONDS = 8.0  # to ship what was answered before the end


log = logging.getLogger("driftloop.api")


class Scribe:
    """Keeps ``python -m services.api.scribing`` alive. With several workers each offers one; a lock lets one work."""

    def __init__(self, folder: Path, arguments: Sequence[str] | None) -> None:
        self._file, self._arguments = folder / STANDING, arguments
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._read: tuple[int, dict[str, Any]] = (0, {})

    @classmethod
    def none(cls, folder: Path) -> Scribe:
        """No process; what an earlier one found out is still told."""
        return cls(folder, None)

    def start(self) -> None:
        if self._arguments is not None:
            self._thread = threading.Thread(target=self._keep, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let it ship what is left, and end."""
        self._stopped.set()
        if self._thread:
            self._thread.join(LAST_WORDS_SECONDS + 2)

    def standing(self) -> dict[str, Any]:
        """log, live and shadow, as the scribe wrote them last; empty before."""
        try:
            written = self._file.stat().st_mtime_ns
            if written != self._read[0]:
                self._read = (written, json.loads(self._file.read_bytes()))
        except (OSError, ValueError):
            return {}
        found = self._read[1]
        silent = time.time() - written / 1e9
        if self._arguments is not None and "log" in found and silent > SILENT_SECONDS:
            trouble = f"the scribe has not reported for {silent:.0f} s, see the log"
            return found | {"log": found["log"] | {"up": False, "trouble": trouble}}
        return found

    def _keep(self) -> None:
        assert self._arguments is not None, "start was called for a scribe to keep"
        while not self._stopped.wait(LOOK_SECONDS if self._process else 0.0):
            if self._process is None or self._process.poll() is not None:
                if self._process:
                    log.error("scribe.ended exit_code=%s", self._process.returncode)
                self._process = subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", "services.api.scribing", *self._arguments],
                    stdin=subprocess.PIPE,  # its end tells the scribe that this process is gone, however it ended
                    start_new_session=True,
                )
        if self._process and self._process.stdin:
            self._process.stdin.close()
            try:
                self._process.wait(LAST_WORDS_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()  # what it did not ship stays in the spool
                self._process.wait()
