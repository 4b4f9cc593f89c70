"""Hashes of files are kept from process to process while the files are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs
import pytest

from driftloop import digests
from driftloop.digests import Digests
from driftloop.settings import Settings
from driftloop.windows import open_windows
from tests.fakes import a_loop

LOCAL = pyarrow.fs.LocalFileSystem()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files read through, in turn; a file written just now is as good as an old one."""
    names: list[str] = []
    through = digests._read

    def noted(filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
        names.append(info.base_name)
        return through(filesystem, info)

    monkeypatch.setattr(digests, "_read", noted)
    monkeypatch.setattr(digests, "JUST_NOW", -(10**18))
    return names


def of(file: Path, store: Path | None) -> bytes:
    """As a new process would ask."""
    return Digests(store).of(LOCAL, LOCAL.get_file_info(str(file)))


def window(folder: Path, name: str, content: str) -> Path:
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def test_another_process_reads_no_file_that_is_the_same(tmp_path: Path, read: list[str]) -> None:
    store = tmp_path / "digests"
    files = [window(tmp_path, name, name) for name in "ab"]
    first = [of(file, store) for file in files]
    assert [of(file, store) for file in files] == first
    assert read == ["a", "b"]
    assert [of(file, None) for file in files] == first
    assert read == ["a", "b"] * 2
    assert {json.loads(kept.read_text(encoding="utf-8"))["path"] for kept in store.iterdir()} == {*map(str, files)}


def test_the_windows_of_a_loop_are_known_to_the_next_process(tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "windows").mkdir()
    window(tmp_path / "windows", "2024-01.csv", "user_id\n1\n")
    settings = Settings.from_env({}, tmp_path)
    settings.home.mkdir()
    found = {open_windows(a_loop(), tmp_path, settings).digest("2024-01") for _ in range(2)}
    assert len(found) == 1
    assert read == ["2024-01.csv"]


def replaced(file: Path) -> None:
    other = window(file.parent, "other", "2")
    os.utime(other, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    other.replace(file)


def written_to(file: Path) -> None:
    before = file.stat()
    file.write_text("2", encoding="utf-8")
    os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert file.stat().st_ino == before.st_ino


@pytest.mark.parametrize("change", [replaced, written_to])
def test_another_content_of_the_same_size_and_time_is_read(
    tmp_path: Path, read: list[str], change: Callable[[Path], None]
) -> None:
    store, file = tmp_path / "digests", window(tmp_path, "a", "1")
    before, changed = of(file, store), file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == changed:  # a clock of few digits
        change(file)
    assert of(file, store) == of(file, store) != before
    assert read == ["a", "a"]


def test_a_file_written_just_before_it_was_read_is_not_taken_for_known(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file, noted = tmp_path / "digests", window(tmp_path, "a", "1"), digests._read
    clock = [file.stat().st_ctime_ns + 5]

    def slowly(filesystem: pyarrow.fs.FileSystem, info: pyarrow.fs.FileInfo) -> bytes:
        clock[0] += 10**12
        return noted(filesystem, info)

    monkeypatch.setattr(digests, "JUST_NOW", 10)
    monkeypatch.setattr(digests, "_read", slowly)
    monkeypatch.setattr("time.time_ns", lambda: clock[0])
    first = of(file, store)
    assert not store.exists()
    assert of(file, store) == of(file, store) == first
    assert read == ["a", "a"], "the second time it was no longer just before"


DAMAGED = [
    "",
    "[]",
    "{",
    '{"a": 1}',
    "null",
    '{"state": [], "digest": ""}',
    '{"state": [1, 2, 3, 4], "digest": "no"}',
    "\xff",
]


@pytest.mark.parametrize("content", DAMAGED)
def test_what_is_not_as_it_was_is_made_anew(tmp_path: Path, read: list[str], content: str) -> None:
    file, store = window(tmp_path, "a", "1"), tmp_path / "digests"
    of(file, store)
    (kept,) = store.iterdir()
    kept.write_text(content, encoding="latin-1")
    assert of(file, store) == of(file, store) == of(file, None)
    assert read == ["a"] * 3


def test_without_a_place_to_keep_them_all_is_read(tmp_path: Path, read: list[str]) -> None:
    file = window(tmp_path, "a", "1")
    for store in (tmp_path / "nowhere" / "digests", file):
        assert of(file, store) == of(file, store)
    assert read == ["a"] * 4
    assert [*tmp_path.iterdir()] == [file]


def test_another_storage_is_asked_each_time(tmp_path: Path, read: list[str]) -> None:
    elsewhere, store = pyarrow.fs.SubTreeFileSystem(str(tmp_path), LOCAL), tmp_path / "digests"
    window(tmp_path, "a", "1")
    for _ in range(2):
        Digests(store).of(elsewhere, elsewhere.get_file_info("a"))
    assert read == ["a", "a"]
    assert not store.exists()
