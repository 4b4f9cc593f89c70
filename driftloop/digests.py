"""Hashes of files, which are read again only where something tells that they may be others."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.fs

from driftloop.storage import version

JUST_NOW = 2_000_000_000  # nanoseconds within which a file may be written twice at what its clock calls the same time
State = list[int]


class Digests:
    """Of local files also those that earlier processes told, where ``store``, a file, holds them.

    What it holds is trusted as long as nobody replaced a file or wrote to it: its time of change cannot be set back.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._store = store
        self._known: dict[str, tuple[State, str]] | None = None

    def of(self, filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
        """A hash of the file's content, or what the storage calls it."""
        named = version(filesystem, info)
        if named is not None:
            return named
        if filesystem.type_name != "local":
            return _read(filesystem, info)
        if self._known is None:
            self._known = self._kept()
        state, changed = _state(info.path)
        known = self._known.get(info.path)
        if known and known[0] == state:
            return bytes.fromhex(known[1])
        digest = _read(filesystem, info)
        if time.time_ns() - changed > JUST_NOW:
            self._keep(info.path, state, digest.hex())
        return digest

    def _kept(self) -> dict[str, tuple[State, str]]:
        if self._store is None:
            return {}
        try:
            found = json.loads(self._store.read_text(encoding="utf-8"))
            return {path: (state, bytes.fromhex(digest).hex()) for path, (state, digest) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # not there yet, or not as it was: it is made anew
            return {}

    def _keep(self, path: str, state: State, digest: str) -> None:
        assert self._known is not None, "it was looked up first"
        self._known[path] = (state, digest)
        if self._store is None:
            return
        known = self._kept() | self._known  # another process may have told others meanwhile
        there = {path: told for path, told in known.items() if Path(path).exists()}
        with suppress(OSError), tempfile.TemporaryDirectory(dir=self._store.parent, prefix=".unfinished-") as folder:
            new = Path(folder) / self._store.name
            new.write_text(json.dumps(there), encoding="utf-8")
            new.replace(self._store)


def _read(filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
    digest = hashlib.sha256()  # processors have instructions for it
    with filesystem.open_input_stream(info.path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _state(path: str) -> tuple[State, int]:
    """What differs once a file was replaced or written to, and when that last was: a time that nobody can set back."""
    found = Path(path).stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns], found.st_ctime_ns
