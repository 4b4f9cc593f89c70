"""The bundled loans loop: its made-up populations, and the files of the brief put in their place."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from driftloop import contract, frame
from driftloop.windows import open_windows

LOOP = Path(__file__).parents[2] / "data" / "loans"


def generate(*arguments: str) -> Any:
    """Run the script, which is in no package."""
    return CliRunner().invoke(runpy.run_path(str(LOOP / "generate.py"))["main"], arguments, catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate("--to", str(tmp_path), "--rows", "400")
    return tmp_path


def test_the_same_rows_come_out_each_time(folder: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in (folder / "windows").iterdir()}
    assert sorted(files) == ["1-old.csv", "2-new.csv"]
    generate("--to", str(tmp_path), "--rows", "400")
    assert {file.name: file.read_bytes() for file in (tmp_path / "windows").iterdir()} == files


def test_the_loop_reads_them_and_knows_no_names(folder: Path) -> None:
    loop = contract.load(LOOP)
    windows = open_windows(loop, folder)
    assert windows.ids() == ["1-old", "2-new"], "the old one comes first"
    for name in windows.ids():
        window = frame.check(windows.read(name), loop, name)
        assert "nationalité_francaise" in window.X
        assert not {"nom", "prenom"} & {*window.X}
        assert window.y is not None
        assert window.y.between(500, 40_000).all()
        assert window.notes == ("columns not in loop.toml, unused: nom, prenom",)


def test_who_applies_changes_and_what_a_loan_depends_on_does_not(folder: Path) -> None:
    old, new = (pd.read_csv(folder / "windows" / f"{name}.csv") for name in ("1-old", "2-new"))
    share = [(rows["nationalité_francaise"] == "oui").mean() for rows in (old, new)]
    assert share[0] > 0.75
    assert share[1] < 0.65
    assert old["montant_pret"].mean() > 1.5 * new["montant_pret"].mean()
    assert old["age"].min() >= 36
    assert new["age"].min() < 25


def test_the_files_of_the_brief_take_their_place_as_they_are(tmp_path: Path) -> None:
    (real := tmp_path / "fastia").mkdir()
    (real / "df_old.csv").write_text("montant_pret\n1\n")
    found = generate("--from", str(real), "--to", str(tmp_path))
    assert (found.exit_code, "there is no df_new.csv" in found.output) == (2, True)
    (real / "df_new.csv").write_text("montant_pret\n2\n")
    assert generate("--from", str(real), "--to", str(tmp_path)).exit_code == 0
    assert (tmp_path / "windows" / "1-old.csv").read_text() == "montant_pret\n1\n"
    assert (tmp_path / "windows" / "2-new.csv").read_text() == "montant_pret\n2\n"
