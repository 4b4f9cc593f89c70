"""A blank database is put where there is none, and never over one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from driftloop import blank


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own, without blank databases."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    return tmp_path


def keep(library: str, content: bytes) -> None:
    blank.kept(library).parent.mkdir(parents=True, exist_ok=True)
    blank.kept(library).write_bytes(content)


def test_a_new_state_folder_gets_the_blank_database(prefix: Path) -> None:
    keep("mlflow", b"tables")
    blank.provide("mlflow", prefix / "home" / "mlflow.db")
    assert (prefix / "home" / "mlflow.db").read_bytes() == b"tables"
    assert [f.name for f in (prefix / "home").iterdir()] == ["mlflow.db"]


def test_a_database_that_is_there_stays(prefix: Path) -> None:
    keep("mlflow", b"tables")
    (prefix / "mlflow.db").write_bytes(b"runs")
    blank.provide("mlflow", prefix / "mlflow.db")
    assert (prefix / "mlflow.db").read_bytes() == b"runs"


def test_where_none_was_made_only_the_folder_is(prefix: Path) -> None:
    blank.provide("prefect", prefix / "home" / "prefect.db")
    assert list((prefix / "home").iterdir()) == []


def test_the_blank_database_belongs_to_one_version_of_the_library(prefix: Path) -> None:
    assert blank.kept("mlflow").name.startswith("mlflow-3.")
    assert blank.kept("mlflow").is_relative_to(prefix / "env")
