"""The loans loop from its files to an answer of the API: an accent in a column's name, and no person's name anywhere."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftloop.settings import Settings
from driftloop.workspace import open_workspace
from services.api.app import create_app
from tests.integration.api_fakes import serving, source_here, wait_for
from tests.unit.test_loans_data import LOOP, generate

NAMES = (b"Patronyme", b"Bapteme")  # each made-up person has one of each with a number
ACCENT = "nationalité_francaise"


@pytest.fixture
def loans(tmp_path, monkeypatch):
    """The loop's folder with few rows, whose names are easy to find wherever they get to."""
    folder = tmp_path / "loans"
    folder.mkdir()
    text = (LOOP / "loop.toml").read_text(encoding="utf-8").replace("[64, 32]", "[8, 4]")
    (folder / "loop.toml").write_text(text, encoding="utf-8")
    generate("--to", str(folder), "--rows", "500")
    for file in (folder / "windows").iterdir():
        rows = pd.read_csv(file)
        people = [f"{number}-{file.stem}" for number in range(len(rows))]
        rows["nom"], rows["prenom"] = ([f"{name.decode()}{who}" for who in people] for name in NAMES)
        rows.to_csv(file, index=False)
    monkeypatch.setenv("DRIFTLOOP_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "DRIFTLOOP_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def holding_names(folder: Path) -> list[str]:
    """Files that hold a person's name, also inside what is zipped."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        contents = [file.read_bytes()]
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zipped:
                contents += [zipped.read(name) for name in zipped.namelist()]
        if any(name in content for content in contents for name in NAMES):
            found.append(file.name)
    return found


def test_a_network_learns_the_old_population_then_the_new_one_and_nothing_knows_a_name(loans, prefect_api, tmp_path):
    from flows.monitor_flow import monitor_flow

    first = monitor_flow(loans)
    assert first["champion"] is None or first["window"] == "2-new"
