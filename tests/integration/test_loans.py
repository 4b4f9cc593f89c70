"""The loans loop from its files to an answer of the API: an accent in a column's name, and nobody's name anywhere."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from driftloop.comparing import comparison
from driftloop.settings import Settings
from driftloop.workspace import open_workspace
from services.api.app import create_app
from services.api.fetching import fetch_here
from services.api.source import RegistrySource
from tests.integration.api_fakes import serving, wait_for
from tests.unit.test_loans_data import LOOP, generate

DATA = Path(os.environ.get("DRIFTLOOP_REAL_DATA") or LOOP.parents[2] / "shared" / "data")
NAMES = (b"Patronyme", b"Bapteme")  # each made-up person has one of each with a number
ACCENT = "nationalité_francaise"


def realdata(test: Callable[..., None]) -> Callable[..., None]:
    """Only where the files of the brief are."""
    reason = f"no real input at {DATA}; DRIFTLOOP_REAL_DATA names its folder"
    return pytest.mark.realdata(pytest.mark.skipif(not DATA.is_dir(), reason=reason)(test))


@pytest.fixture
def loans(tmp_path, home):
    """The loop's folder with few rows, whose names are easy to find wherever they get to."""
    folder = tmp_path / "loans"
    folder.mkdir()
    text = (LOOP / "loop.toml").read_text(encoding="utf-8").replace("[64, 32]", "[8, 4]")
    text = text.replace('["all", "latest", "mix:0.7", "fine_tune"]', '["all", "fine_tune"]')
    (folder / "loop.toml").write_text(text, encoding="utf-8")
    generate("--to", str(folder), "--rows", "500")
    for file in (folder / "windows").iterdir():
        rows = pd.read_csv(file)
        people = [f"{number}-{file.stem}" for number in range(len(rows))]
        rows["nom"], rows["prenom"] = ([f"{name.decode()}{who}" for who in people] for name in NAMES)
        rows.to_csv(file, index=False)
    return folder


def scores(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """The metrics by model and window of `driftloop compare`."""
    shutil.copy(LOOP / "loop.toml", folder)
    work = open_workspace(folder, Settings.from_env({"DRIFTLOOP_HOME": str(folder / "home")}, folder))
    return {(row["model"], row["holdout"]): row["metrics"] for row in comparison(work, None, [])["models"]}


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
    assert ACCENT in champion.signature
    assert ACCENT in champion.facts.importance
    assert champion.facts.compiled.refused is None
    assert type(champion.estimator["model"]).__name__ == "TransformedTargetRegressor"

    row = champion.sample.iloc[0].to_dict() | {ACCENT: None}
    with serving(
        create_app(work.settings, "loans", 0.05, RegistrySource(work.settings, "loans", fetch_here), work.loop.serving)
    ) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert ACCENT in client.get("/openapi.json").text
        answered = client.post("/predict", json=row)
        assert answered.json()["prediction"] == pytest.approx(champion.score(pd.DataFrame([row]))[0])
        refused = client.post("/predict", json={**row, "nom": NAMES[0].decode(), "prenom": NAMES[1].decode()})
        assert (refused.status_code, "nom" in refused.text) == (422, True)
        assert NAMES[0].decode() not in refused.text
    spool = b"".join(file.read_bytes() for file in (tmp_path / "home").glob("**/spool/*"))
    assert ACCENT in json.dumps([json.loads(line) for line in spool.splitlines()], ensure_ascii=False), (
        "it is in the log"
    )
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


def test_an_old_network_fails_on_the_new_population_and_every_way_of_learning_from_it_mends_that(tmp_path):
    generate("--to", str(tmp_path), "--rows", "1000")
    found = scores(tmp_path)
    before = found["old model", "2-new"]
    assert found["old model", "1-old"]["r2"] - before["r2"] > 0.05
    for strategy in ("all", "latest", "mix:0.7", "fine_tune"):
        assert found[strategy, "2-new"]["mse"] < 0.8 * before["mse"], strategy


@realdata
def test_on_the_files_of_the_brief_the_table_is_the_one_in_the_readme(tmp_path):
    generate("--from", str(DATA / "fastia"), "--to", str(tmp_path))
    found = scores(tmp_path)
    r2 = {key: metrics["r2"] for key, metrics in found.items()}
    assert r2["old model", "1-old"] == pytest.approx(0.84, abs=0.03)
    assert r2["old model", "2-new"] == pytest.approx(0.70, abs=0.05)
    for strategy in ("all", "latest", "mix:0.7", "fine_tune"):
        assert r2[strategy, "2-new"] > r2["old model", "2-new"] + 0.08, strategy
    assert r2["all", "2-new"] == pytest.approx(0.86, abs=0.03)


@realdata
def test_nobody_is_known_to_be_in_both_files_of_the_brief():
    old, new = (pd.read_csv(DATA / "fastia" / f"df_{name}.csv") for name in ("old", "new"))
    people = ["nom", "prenom"]
    assert len(old.merge(new, on=people)), "names come again, as they do among strangers"
    assert not len(old.merge(new, on=[*people, "taille"]))
    assert not len(old.merge(new, on=[c for c in old if c not in (*people, "montant_pret")]))
    for rows in (old, new):
        assert not rows.duplicated([c for c in rows if c not in people]).any()
