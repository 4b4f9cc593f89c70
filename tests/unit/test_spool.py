"""The spool: what is in the files when, and what becomes of it on a full disk, after a kill, beyond the bound."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftloop import spool as module
from driftloop.spool import SEGMENT_SECONDS, Spool, SpoolWriter, taken, trim


def writer(folder: Path, durability: str = "batch", max_mb: float = 10) -> SpoolWriter:
    return SpoolWriter(folder, durability, 200, max_mb)


def lines(folder: Path) -> list[bytes]:
    """All whole lines in the folder, in the order they were put."""
    files = sorted(folder.iterdir(), key=lambda file: int(file.name.split("-")[1]))
    return [line for file in files for line in file.read_bytes().splitlines()]


class Disk:
    """Stands in for os.write: takes so many bytes more, then says that it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self._write = os.write
        monkeypatch.setattr(module.os, "write", self.write)

    def write(self, file: int, data: bytes) -> int:
        if self.left is None:
            return self._write(file, data)
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(file, data[: self.left])
        self.left -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


# writing


def test_with_sync_a_line_is_in_the_file_when_put_returns(tmp_path: Path) -> None:
    spool = writer(tmp_path / "spool", "sync")
    assert spool.put(b"one")
    assert lines(tmp_path / "spool") == [b"one"]


def test_with_batch_lines_are_in_the_file_after_the_next_flush(tmp_path: Path) -> None:
    spool = writer(tmp_path / "spool")
    assert spool.put(b"one")
    assert not (tmp_path / "spool").exists()
    assert spool.put(b"two")
    assert spool.flush()
    assert lines(tmp_path / "spool") == [b"one", b"two"]


def test_the_event_loop_is_told_how_often_to_flush(tmp_path: Path) -> None:
    assert writer(tmp_path).flush_seconds == 0.2


def test_where_nothing_was_put_no_file_is_made(tmp_path: Path) -> None:
    spool = writer(tmp_path / "spool")
    assert spool.flush()
    assert spool.close()
    assert not (tmp_path / "spool").exists()


def test_a_segment_ends_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10)
    spool = writer(tmp_path, "sync")
    for line in (b"12345", b"67890", b"last"):
        spool.put(line)
    assert [file.read_bytes() for file in Spool(tmp_path, 10).segments()] == [b"12345\n67890\n"]


def test_a_segment_ends_when_it_is_old_though_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = writer(tmp_path, "sync")
    spool.put(b"one")
    assert Spool(tmp_path, 10).segments() == []
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + SEGMENT_SECONDS)
    spool.flush()
    assert [file.read_bytes() for file in Spool(tmp_path, 10).segments()] == [b"one\n"]


def test_closing_hands_over_what_was_put_last(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.put(b"one")
    assert spool.close()
    assert [file.read_bytes() for file in Spool(tmp_path, 10).segments()] == [b"one\n"]


def test_a_put_costs_less_than_a_microsecond_at_batch(tmp_path: Path) -> None:
    spool, line = writer(tmp_path), b"x" * 400
    rounds = []
    for _ in range(5):  # the best of some, for others use the machine too
        start = time.perf_counter()
        for _ in range(10_000):
            spool.put(line)
        rounds.append((time.perf_counter() - start) / 10_000)
        spool.flush()
    assert min(rounds) < 1e-6


# a disk that is full


def test_a_full_disk_raises_nothing_and_loses_nothing_while_memory_lasts(tmp_path: Path, disk: Disk) -> None:
    spool = writer(tmp_path, "sync")
    assert spool.put(b"one")
    disk.left = 0
    assert not spool.put(b"two")
    assert not spool.put(b"three")
    assert spool.trouble == f"{tmp_path}: No space left on device"
    assert lines(tmp_path) == [b"one"]
    disk.left = None
    assert spool.put(b"four")
    assert (spool.trouble, spool.dropped) == (None, 0)
    assert lines(tmp_path) == [b"one", b"two", b"three", b"four"]


@pytest.mark.parametrize("room", range(1, 12))
def test_a_line_that_the_disk_took_a_part_of_is_taken_back_and_written_whole_later(
    tmp_path: Path, disk: Disk, room: int
) -> None:
    spool = writer(tmp_path)
    for line in (b"one", b"two", b"3"):
        spool.put(line)
    disk.left = room
    assert spool.flush() == (room >= 10)
    assert lines(tmp_path) == [b"one", b"two", b"3"][: {1: 0, 2: 0, 3: 0}.get(room, 3 if room >= 10 else room // 4)]
    disk.left = None
    assert spool.flush()
    assert lines(tmp_path) == [b"one", b"two", b"3"]


def test_a_file_that_takes_no_more_is_left_for_the_next(tmp_path: Path) -> None:
    """A real limit, on a real process: the size of one file."""
    code = (
        "import resource, sys; from pathlib import Path; from driftloop.spool import SpoolWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "spool = SpoolWriter(Path(sys.argv[1]), 'batch', 200, 10)\n"
        "for number in range(100): spool.put(b'line %03d ' % number + b'x' * 41)\n"
        "while not spool.flush(): pass\n"
        "spool.close(); assert spool.dropped == 0 and spool.trouble is None"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)
    assert [int(line[5:8]) for line in lines(tmp_path)] == list(range(100))
    assert len(Spool(tmp_path, 1).segments()) == 6


def test_when_memory_is_full_too_the_oldest_go_and_are_counted(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUFFER_BYTES", 10)
    spool = writer(tmp_path)
    disk.left = 0
    for number in range(6):
        spool.put(f"line{number}".encode())
        spool.flush()
    assert spool.dropped == 4
    disk.left = None
    spool.flush()
    assert lines(tmp_path) == [b"line4", b"line5"]


def test_a_folder_that_cannot_be_made_is_told_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = writer(tmp_path / "file" / "spool", "sync")
    assert not spool.put(b"one")
    assert "Not a directory" in str(spool.trouble)
    assert not spool.close()


@pytest.mark.parametrize("end", ["flush", "close"])
def test_what_was_in_a_segment_that_somebody_removed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    spool = writer(tmp_path / "spool", "sync")
    spool.put(b"one")
    spool.put(b"two")
    shutil.rmtree(tmp_path / "spool")
    assert spool.put(b"three")
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + SEGMENT_SECONDS)
    assert getattr(spool, end)()
    assert (spool.trouble, spool.dropped) == (None, 0)
    assert lines(tmp_path / "spool") == [b"one", b"two", b"three"]


# reading


def test_segments_come_oldest_first_whatever_their_processes_are_called(tmp_path: Path) -> None:
    for name in ("9-300-1", "10-100-1", "8-200-7"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"x\n")
    assert [file.name for file in Spool(tmp_path, 1).segments()] == [
        "10-100-1.jsonl",
        "8-200-7.jsonl",
        "9-300-1.jsonl",
    ]


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1)
    assert (spool.segments(), spool.trim(), spool.waiting().bytes, spool.waiting().oldest) == ([], 0, 0, None)


def test_the_open_segment_of_a_living_writer_is_left_to_it(tmp_path: Path) -> None:
    spool = writer(tmp_path, "sync")
    spool.put(b"one")
    assert Spool(tmp_path, 1).segments() == []
    spool.put(b"two")
    assert lines(tmp_path) == [b"one", b"two"]


def test_the_open_segment_of_a_dead_writer_is_taken(tmp_path: Path) -> None:
    spool = writer(tmp_path, "sync")
    spool.put(b"one")
    assert spool._segment
    os.close(spool._segment._file)  # what the kernel does for a process that is killed
    assert [file.read_bytes() for file in Spool(tmp_path, 1).segments()] == [b"one\n"]


def test_what_waits_is_told_in_bytes_and_by_the_age_of_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "1-5000000000-1.jsonl").write_bytes(b"12345\n")
    (tmp_path / "1-9000000000-2.jsonl.open").write_bytes(b"123\n")
    waiting = Spool(tmp_path, 1).waiting()
    assert (waiting.bytes, waiting.oldest) == (10, 5.0)


# the bound


def test_beyond_the_bound_the_oldest_segments_go_and_their_requests_are_counted(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"1-{number}-1.jsonl").write_bytes(b"12345\n" * 2)
    assert trim(tmp_path, 30) == 4
    assert [file.name for file in Spool(tmp_path, 1).segments()] == ["1-2-1.jsonl", "1-3-1.jsonl"]


def test_a_segment_that_is_being_shipped_is_not_dropped(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"1-{number}-1.jsonl").write_bytes(b"12345\n")
    with taken(tmp_path / "1-0-1.jsonl") as content:
        assert content == b"12345\n"
        assert trim(tmp_path, 12) == 1
    assert [file.name for file in Spool(tmp_path, 1).segments()] == ["1-0-1.jsonl", "1-2-1.jsonl"]


def test_a_segment_is_taken_by_one_only(tmp_path: Path) -> None:
    segment = tmp_path / "1-0-1.jsonl"
    segment.write_bytes(b"one\n")
    with taken(segment) as first, taken(segment) as second:
        assert (first, second) == (b"one\n", None)
    segment.unlink()
    with taken(segment) as gone:
        assert gone is None


def test_what_was_just_written_is_not_dropped_however_small_the_bound(tmp_path: Path) -> None:
    spool = writer(tmp_path, max_mb=0.1)
    for number in range(200):
        spool.put(b"%04d" % number + b"x" * 400)
    assert spool.flush()
    assert spool.close()
    assert spool.dropped == 0
    assert len(lines(tmp_path)) == 200


def test_the_writer_keeps_to_the_bound_when_nobody_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    spool = writer(tmp_path, "sync", max_mb=20 / 2**20)
    for number in range(5):
        spool.put(f"line{number}xx".encode())
    assert spool.dropped == 3
    assert lines(tmp_path) == [b"line3xx", b"line4xx"]
