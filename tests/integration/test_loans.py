"""The loans loop from its files to an answer of the API: an accent in a column's name, and nobody's name anywhere."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from driftloop.settings import Settings
from driftloop.workspace import open_workspace
from services.api.app import create_app
from services.api.fetching import fetch_here
from services.api.source import RegistrySource
from tests.integration.api_fakes import serving, wait_for
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


def test_a_network_learns_both_populations_and_answers_and_nothing_ever_keeps_a_name(loans, prefect_api, tmp_path):
    from flows.monitor_flow import monitor_flow

    first, second = (monitor_flow(loans, window) for window in ("1-old", "2-new"))
    work = open_workspace(loans, Settings.from_env(os.environ, Path.cwd()))
    assert second["champion"] != first["champion"]
    assert ACCENT in [column["name"] for column in second["drift"]["columns"] if column["drifted"]]

    champion = work.champion().artifact
    assert ACCENT in [column.name for column in champion.signature.inputs]
    assert ACCENT in champion.facts.importance
    assert champion.facts.compiled.refused is None
    assert type(champion.estimator["model"]).__name__ == "TransformedTargetRegressor"

    row = champion.sample.iloc[0].to_dict() | {ACCENT: None}
    with serving(
        create_app(work.settings, "loans", 0.05, RegistrySource(work.settings, "loans", fetch_here))
    ) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert ACCENT in client.get("/openapi.json").text
        answered = client.post("/predict", json=row)
        assert answered.json()["prediction"] == pytest.approx(champion.score(pd.DataFrame([row]))[0])
        refused = client.post("/predict", json={**row, "nom": NAMES[0].decode(), "prenom": NAMES[1].decode()})
        assert (refused.status_code, "nom" in refused.text) == (422, True)
        assert NAMES[0].decode() not in refused.text
    assert "predictions.db" in [file.name for file in (tmp_path / "home").rglob("*.db")]
    assert holding_names(loans) == ["1-old.csv", "2-new.csv"], "the search finds names where they are"
    assert holding_names(tmp_path / "home") == []
    assert holding_names(Path(os.environ["PREFECT_HOME"])) == []


def test_rows_set_aside_are_kept_without_names(loans):
    toml, file = loans / "loop.toml", loans / "windows" / "1-old.csv"
    toml.write_text(toml.read_text(encoding="utf-8") + '\n[validation]\non_bad_rows = "quarantine"\n', encoding="utf-8")
    (loans / "schema.yaml").write_text(
        "columns:\n  age: {type: number, range: {min: 18, max: 99, level: error}}\n", encoding="utf-8"
    )
    rows = pd.read_csv(file)
    rows.loc[:2, "age"] = 400
    rows.to_csv(file, index=False)
    work = open_workspace(loans, Settings.from_env(os.environ, Path.cwd()))
    assert len(work.read("1-old").X) == len(rows) - 3
    kept = pd.read_csv(work.aside("1-old"))
    assert len(kept) == 3
    assert ACCENT in kept
    assert holding_names(work.settings.home) == []
