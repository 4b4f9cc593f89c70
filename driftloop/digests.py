"""Hashes of files, which are read again only where something tells that they may be others."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow.fs

from driftloop.storage import version

JUST_NOW = 2_000_000_000  # nanoseconds within which a file may be written twice at what its clock calls the same time


class State(NamedTuple):
    """What differs once a file was replaced or written to; nobody can set back when it was ``changed``."""

    inode: int
    size: int
    written: int
    changed: int


class Digests:
    """Of local files also those that earlier processes told, each in a file of its own in the folder ``store``.

    They are trusted until a file's state is another one. A write through a mapping of a file is seen once the system
    has written it out, and a clock that runs ahead of this machine's, a file server's, may hide one of the same second.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._store = store
        self._told: dict[str, tuple[State, str]] = {}

    def of(self, filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
        """A hash of the file's content, or what the storage calls it."""
        if named := version(filesystem, info):
            return named
        if filesystem.type_name != "local":
            return _read(filesystem, info)
        path, now = info.path, time.time_ns()
        state = _state(path)
        told = self._told.get(path) or self._kept(path)
        if told and told[0] == state:
            self._told[path] = told
            return bytes.fromhex(told[1])
        digest = _read(filesystem, info)
        if now - state.changed > JUST_NOW:
            self._told[path] = state, digest.hex()
            self._keep(path)
        return digest

    def _kept(self, path: str) -> tuple[State, str] | None:
        if self._store is None:
            return None
        try:
            said = json.loads(_place(self._store, path).read_text(encoding="utf-8"))
            return State(*said["state"]), bytes.fromhex(said["digest"]).hex()
        except (OSError, ValueError, TypeError, KeyError):  # not there, or not as it was: it is made anew
            return None

    def _keep(self, path: str) -> None:
        if self._store is None:
            return
        state, digest = self._told[path]
        place = _place(self._store, path)
        new = place.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # the next process then reads the file again
            self._store.mkdir(exist_ok=True)
            new.write_text(json.dumps({"path": path, "state": state, "digest": digest}), encoding="utf-8")
            new.replace(place)


def _place(store: Path, path: str) -> Path:
    return store / f"{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}.json"


def _read(filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
    digest = hashlib.sha256()  # processors have instructions for it
    with filesystem.open_input_stream(info.path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _state(path: str) -> State:
    found = Path(path).stat()
    return State(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
