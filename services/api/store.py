"""The last good models on disk, from which the API starts when MLflow does not answer."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from driftloop.facts import Version

KEPT = 2
POINTER = "last-good.json"
INCOMING = ".incoming-"
LOCK = ".lock"
READY = ".ready"


@dataclass(frozen=True)
class Newest:
    """The last good version, and when it was named so (time.time())."""

    version: Version
    named: float


class Store:
    """Folders ``<version>/`` that are complete, and a pointer file that lists them, the last good first.

    Both come into being by a rename, so a crash at any point leaves either the old state or the new one. Several
    processes may use one folder; who brings a version in holds ``exclusive`` meanwhile. What else lies there is left
    alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder to download into, gone afterwards with whatever was not moved into place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self.folder, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Only one process at a time, and none that is dead."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def keep(self, model: Path, version: Version) -> None:
        """Move a verified model folder into place as the last good one and remove all but the newest two."""
        with self.incoming() as aside:
            place = self.folder / version.number
            if place.exists():  # a rename replaces no folder with files in it
                place.rename(aside / "replaced")
            model.rename(place)
        self.prefer(version)

    def prefer(self, version: Version) -> None:
        """Let a version whose folder is in place be the last good one."""
        others = [kept for kept, _ in self.kept() if kept.number != version.number]
        self._point_at([version, *others][:KEPT])
        self._remove_others()

    def newest(self) -> Newest | None:
        """What the pointer names first; None when it names nothing."""
        try:
            named = (self.folder / POINTER).stat().st_mtime_ns
        except OSError:
            return None
        kept = self.kept()
        return Newest(kept[0][0], named / 1e9) if kept else None

    def mark_ready(self, newest: Newest, *who: int) -> None:
        """Say to the other processes that this one has it loaded."""
        marks = self.folder / READY
        marks.mkdir(exist_ok=True)
        for mark in marks.iterdir():
            if not mark.name.startswith(f"{newest.named}-"):
                mark.unlink(missing_ok=True)
        (marks / "-".join(map(str, (newest.named, *who)))).touch()

    def ready(self, newest: Newest) -> list[float]:
        """When those that have it loaded said so (time.time())."""
        times = []
        for mark in (self.folder / READY).glob(f"{newest.named}-*"):
            with suppress(FileNotFoundError):  # who is on to the next version has removed it
                times.append(mark.stat().st_mtime)
        return times

    def kept(self) -> list[tuple[Version, Path]]:
        """The kept versions with their folders, the last good first; empty when there is none to be read."""
        try:
            entries = json.loads((self.folder / POINTER).read_text(encoding="utf-8"))["kept"]
            versions = [Version(entry["version"], entry["run_id"]) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [(v, self.folder / v.number) for v in versions if (self.folder / v.number).is_dir()]

    def clear_leftovers(self) -> None:
        """Remove what a process that was killed while downloading left behind; nothing while another one downloads."""
        if not self.folder.is_dir():
            return
        with (self.folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for folder in self.folder.glob(f"{INCOMING}*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _point_at(self, versions: list[Version]) -> None:
        content = json.dumps({"kept": [{"version": v.number, "run_id": v.run_id} for v in versions]})
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".pointer-", delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self.folder / POINTER)

    def _remove_others(self) -> None:
        kept = {folder for _, folder in self.kept()}
        for folder in self.folder.iterdir():
            # versions only: the log's spool and the workers' counters lie beside them
            if folder.is_dir() and folder not in kept and folder.name.isdecimal():
                shutil.rmtree(folder, ignore_errors=True)
