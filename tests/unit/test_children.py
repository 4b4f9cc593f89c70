"""Servers that end with the command that started them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from driftloop.cli.children import Child, children

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell's trap tells")


def test_the_first_child_ends_when_the_others_have(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"trap 'echo $0 >> {told}; exit' TERM; echo up >> {told}; while :; do sleep 0.05; done"
    slow = script.replace("echo $0", "sleep 0.3; echo $0")
    with children() as group:
        for name, text in (("first", script), ("second", slow), ("third", slow)):
            group.start(Child(name, ["bash", "-c", text, name], None, tmp_path / name))
        while not told.exists() or told.read_text().count("up") < 3:
            assert group.ended() is None
    ended = told.read_text().split()[3:]
    assert (len(ended), ended[-1]) == (3, "first")
