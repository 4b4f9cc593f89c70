"""What was answered and is not in the log's store yet: lines in files, written by the API, taken away by the scribe.

A folder holds segments ``<pid>-<nanoseconds>-<number>.jsonl``; the one being written has ``.open`` behind its name
and a lock on it. The kernel drops the lock with its process, so a segment that can be locked belongs to nobody any
more, whichever container or process number wrote it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SEGMENT_BYTES = 4 * 2**20
SEGMENT_SECONDS = 1.0  # how long an answer waits at most before the scribe may have it
BUFFER_BYTES = 32 * 2**20  # what one process keeps in memory while the disk takes nothing
CHUNK_BYTES = 2**20
DONE, OPEN, STARTING = ".jsonl", ".jsonl.open", ".jsonl.starting"
MEGABYTE = 2**20


class SpoolWriter:
    """The lines of one process, put by one thread: the event loop's.

    With durability "sync" a line is in the file when ``put`` returns, and so outlives the process; with "batch" it is
    there after the next ``flush``, which the event loop calls each ``flush_seconds``. Neither waits for the disk: a
    power cut takes what the kernel had not written yet. Nothing here raises: what the disk does not take waits in
    memory, the oldest is dropped when that is full, and ``dropped`` counts the requests. ``trouble`` says what is
    wrong, None when nothing is.
    """

    def __init__(self, folder: Path, durability: str, flush_ms: int, max_mb: float) -> None:
        self.folder, self.flush_seconds = folder, flush_ms / 1000
        self.dropped = 0
        self.trouble: str | None = None
        self._at_once, self._most = durability == "sync", int(max_mb * MEGABYTE)
        self._full = min(SEGMENT_BYTES, self._most // 4)  # what is dropped goes by whole segments
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes of the lines, without their ends
        self._segment: _Segment | None = None
        self._number = 0

    @property
    def waiting(self) -> int:
        """Requests in memory, which are lost with this process."""
        return len(self._lines)

    def put(self, line: bytes) -> bool:
        """Take one request's line, which holds no line break. Whether it is as durable as was asked for."""
        self._lines.append(line)
        self._waiting += len(line)
        if self._at_once:
            self.flush()
            return not self._lines
        if self._waiting > BUFFER_BYTES:
            return self._drop_oldest()
        return True

    def flush(self) -> bool:
        """Write what waits in memory, and end the segment when it is full or old. Whether all could be written."""
        return self._flush(ended=False)

    def close(self) -> bool:
        """Write what waits and hand over the last segment. Whether all could be written."""
        return self._flush(ended=True)

    def _flush(self, *, ended: bool) -> bool:
        try:
            while self._lines or (self._segment and (ended or self._segment.is_due(self._full))):
                if self._lines:
                    self._write()
                if self._segment and (ended or self._segment.is_due(self._full)):
                    self._finish(self._segment)
        except OSError as error:
            self.trouble = f"{self.folder}: {error.strerror}"
            with suppress(OSError):  # what is in the file can be shipped, and another file may have more luck
                if self._segment and self._segment.size:
                    self._finish(self._segment)
            if self._waiting > BUFFER_BYTES:
                self._drop_oldest()
            return False
        self.trouble = None
        return True

    def _write(self) -> None:
        segment = self._segment = self._segment or self._start()
        taken: list[bytes] = []
        size = 0
        while self._lines and size < min(CHUNK_BYTES, self._full):
            taken.append(self._lines.popleft())
            size += len(taken[-1]) + 1
        written = 0
        try:
            written = segment.append(b"\n".join(taken) + b"\n")
        finally:
            left = written
            for place, line in enumerate(taken):
                if left <= len(line):  # the first that did not get there, and all after it
                    self._lines.extendleft(reversed(taken[place:]))
                    break
                left -= len(line) + 1
                self._waiting -= len(line)
        if written < size:
            raise OSError(errno.ENOSPC, "the disk took only a part")

    def _start(self) -> _Segment:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        return _Segment(self.folder / f"{os.getpid()}-{time.time_ns()}-{self._number}")

    def _finish(self, segment: _Segment) -> None:
        try:
            segment.finish()
        except FileNotFoundError:  # somebody cleared the folder; what was in the file is still ours to tell
            lines = segment.content().splitlines()
            self._lines.extendleft(reversed(lines))
            self._waiting += sum(map(len, lines))
            segment.close()
        self._segment = None
        self.dropped += trim(self.folder, self._most)  # also when no scribe runs, the folder stays within its bound

    def _drop_oldest(self) -> bool:
        while self._waiting > BUFFER_BYTES:
            self._waiting -= len(self._lines.popleft())
            self.dropped += 1
        return False


class _Segment:
    """The file being written: locked before it bears the name by which others may look for its lock."""

    def __init__(self, name: Path) -> None:
        self._name, self.size, self._begun = name, 0, time.monotonic()
        starting = Path(f"{name}{STARTING}")
        self._file = os.open(starting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        starting.rename(f"{name}{OPEN}")

    def append(self, lines: bytes) -> int:
        """How many bytes of whole lines were written; a line that was cut off is taken back."""
        written = os.write(self._file, lines)
        if written < len(lines):
            written = lines.rfind(b"\n", 0, written) + 1
            os.ftruncate(self._file, self.size + written)
        self.size += written
        return written

    def is_due(self, full: int) -> bool:
        return self.size >= full or time.monotonic() - self._begun >= SEGMENT_SECONDS

    def content(self) -> bytes:
        return os.pread(self._file, self.size, 0)

    def finish(self) -> None:
        Path(f"{self._name}{OPEN}").rename(f"{self._name}{DONE}")
        self.close()

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True)
class Waiting:
    """What lies in a spool: bytes of all segments, and when the oldest was begun, seconds since the epoch."""

    bytes: int
    oldest: float | None


class Spool:
    """The reading side of a spool's folder, which may not be there yet. ``max_mb`` bounds what may wait in it."""

    def __init__(self, folder: Path, max_mb: float) -> None:
        self.folder, self._most = folder, int(max_mb * MEGABYTE)

    def segments(self) -> list[Path]:
        """The segments that nobody writes to any more, oldest first; those a dead process left open are among them."""
        for left in self.folder.glob(f"*{OPEN}"):
            with _locked(left) as free:
                if free:
                    left.rename(left.with_suffix(""))
        return _in_order(self.folder)

    def trim(self) -> int:
        """Drop the oldest segments until the rest is within the bound; how many requests went with them."""
        return trim(self.folder, self._most)

    def waiting(self) -> Waiting:
        found = [*self.folder.glob(f"*{DONE}"), *self.folder.glob(f"*{OPEN}")]
        begun = [_begun(file) / 1e9 for file in found]
        return Waiting(sum(map(_size, found)), min(begun, default=None))


@contextmanager
def taken(segment: Path) -> Iterator[bytes | None]:
    """A segment's content, and nobody drops it for the length of the block; None where somebody else has or had it."""
    with _locked(segment) as free:
        yield segment.read_bytes() if free else None


def trim(folder: Path, most: int) -> int:
    """Drop a folder's oldest segments until all are ``most`` bytes or fewer; how many requests went with them."""
    segments = _in_order(folder)
    total, dropped = sum(map(_size, segments)), 0
    for segment in segments:
        if total <= most:
            break
        with taken(segment) as content:
            if content is not None:
                segment.unlink()
                dropped += content.count(b"\n")
                total -= len(content)
    return dropped


@contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Whether the file is there and its lock was free; it is held for the block."""
    try:
        handle = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        handle = None
    if handle is None:
        yield False
        return
    try:
        yield _lock(handle) and file.exists()  # who held the lock until now may have renamed or removed it
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{DONE}"), key=lambda file: (_begun(file), file.name))


def _begun(file: Path) -> int:
    """Nanoseconds since the epoch, from the name. A file that somebody else put there comes first."""
    parts = file.name.split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0  # taken away between the listing and now
