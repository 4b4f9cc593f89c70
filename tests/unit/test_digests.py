"""Hashes of files are kept from process to process while the files are the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.fs
import pytest

from driftloop import digests
from driftloop.digests import Digests

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
    store = tmp_path / "digests.json"
    files = [window(tmp_path, name, name) for name in "ab"]
    first = [of(file, store) for file in files]
    assert [of(file, store) for file in files] == first
    assert read == ["a", "b"]
    assert [of(file, None) for file in files] == first
    assert read == ["a", "b"] * 2


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read(tmp_path: Path, read: list[str]) -> None:
    store, file = tmp_path / "digests.json", window(tmp_path, "a", "1")
    before, times = of(file, store), file.stat()
    other = window(tmp_path, "other", "2")
    os.utime(other, ns=(times.st_mtime_ns, times.st_mtime_ns))
    other.replace(file)
    assert of(file, store) != before
    assert read == ["a", "a"]


def test_a_file_written_just_now_is_not_taken_for_known(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "JUST_NOW", 10**18)
    store, file = tmp_path / "digests.json", window(tmp_path, "a", "1")
    assert of(file, store) == of(file, store)
    assert read == ["a", "a"]
    assert not store.exists()


def test_what_is_kept_is_of_files_that_are_there(tmp_path: Path, read: list[str]) -> None:
    store, gone, file = tmp_path / "digests.json", window(tmp_path, "a", "1"), window(tmp_path, "b", "1")
    of(gone, store)
    gone.unlink()
    of(file, store)
    assert list(json.loads(store.read_text(encoding="utf-8"))) == [str(file)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "digests.json"]


def test_two_processes_keep_what_both_found(tmp_path: Path, read: list[str]) -> None:
    store = tmp_path / "digests.json"
    files = [window(tmp_path, name, name) for name in "ab"]
    for asked, file in zip([Digests(store), Digests(store)], files, strict=True):
        asked.of(LOCAL, LOCAL.get_file_info(str(file)))
    assert len(json.loads(store.read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "null", '{"FILE": [[], "no hash"]}', "\xff"])
def test_a_store_that_is_not_as_it_was_is_made_anew(tmp_path: Path, read: list[str], content: str) -> None:
    file, store = window(tmp_path, "a", "1"), tmp_path / "digests.json"
    store.write_text(content.replace("FILE", str(file)), encoding="latin-1")
    assert of(file, store) == of(file, store) == of(file, None)
    assert read == ["a", "a"]


def test_without_a_place_to_keep_them_all_is_read(tmp_path: Path, read: list[str]) -> None:
    file = window(tmp_path, "a", "1")
    assert of(file, tmp_path / "nowhere" / "digests.json") == of(file, tmp_path / "nowhere" / "digests.json")
    assert read == ["a", "a"]
    assert not (tmp_path / "nowhere").exists()
