"""The bundled loops with generators of their own: made, checked, and monitored through the real flows."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from click.testing import CliRunner

from driftloop.cli.__main__ import cli
from driftloop.settings import Settings
from driftloop.workspace import open_workspace

DATA = Path(__file__).parents[2] / "data"
REAL = Path(os.environ.get("DRIFTLOOP_REAL_DATA") or DATA.parents[1] / "shared" / "data") / "housing"
FOREST = "n_estimators = 50, min_samples_leaf = 3"


def script(loop: str, name: str) -> ModuleType:
    """A script beside a loop.toml, as a module."""
    found = importlib.util.spec_from_file_location(f"{loop}_{name}", DATA / loop / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def run(loop: str, name: str, *arguments: str) -> str:
    done = CliRunner().invoke(script(loop, name).main, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def placed(name: str, folder: Path, rows: int, *windows: str) -> Path:
    """The loop in a folder of its own, with some of its generator's windows and models that are quick to fit."""
    run(name, "generate", "--to", str(folder), "--rows", str(rows))
    for file in (folder / "windows").iterdir():
        if file.stem not in windows:
            file.unlink()
    for file in (*(DATA / name).glob("*.toml"), *(DATA / name).glob("*.yaml")):
        text = file.read_text(encoding="utf-8").replace(FOREST, "n_estimators = 5, min_samples_leaf = 3")
        text = text.replace("{ random_state = 42 }", "{ n_estimators = 20, random_state = 42 }")
        (folder / file.name).write_text(text, encoding="utf-8")
    checked = CliRunner().invoke(cli, ["check", str(folder), "--json"], catch_exceptions=False)
    assert checked.exit_code == 0
    return folder


@pytest.mark.usefixtures("prefect_api")
def test_houses_far_south_drift_in_every_column_and_the_best_of_three_models_follows(tmp_path, home):
    from flows.monitor_flow import monitor_flow

    folder = placed("housing", tmp_path / "housing", 1_200, "2024-01", "2024-10")
    north, south = (monitor_flow(folder, window) for window in ("2024-01", "2024-10"))

    assert north["decision"]["metric"] == "rmse"
    assert (south["drift"]["share"], south["drift"]["drifted"]) == (1.0, 8)
    assert "MedHouseVal" not in [column["name"] for column in south["drift"]["columns"]]
    target = south["drift"]["target"]
    assert (target["name"], target["drifted"]) == ("MedHouseVal", True)
    assert {mean["name"] for mean in south["drift"]["means"] if mean["moved"]} >= {"Latitude", "Longitude", "MedInc"}
    assert south["performance"]["value"] > north["decision"]["candidate"], "a higher RMSE is worse"
    decision = south["decision"]
    assert (decision["outcome"], decision["gain"] > 0) == ("promote", True)
    assert decision["candidate"] < decision["champion"]

    work = open_workspace(folder, Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()))
    facts = work.champion().artifact.facts
    tried = {trial.estimator: trial.score for trial in facts.contest.trials}
    assert set(tried) == {"LinearRegression", "RandomForestRegressor", "GradientBoostingRegressor"}
    assert facts.recipe["estimator"].endswith(min(tried, key=tried.get))
    assert not facts.recipe["estimator"].endswith("LinearRegression"), "a city is no straight line"
    assert set(facts.metrics) == set(facts.baseline) == {"rmse", "mse", "mae", "r2"}
    assert facts.baseline["rmse"] > facts.metrics["rmse"]
    client = work.registry.client
    version = client.get_model_version_by_alias("housing", "champion")
    logged = client.get_run(version.run_id).data.metrics
    assert {f"{kind}_{name}" for kind in ("val", "baseline") for name in facts.metrics} <= set(logged)
    assert "The target MedHouseVal, apart from the share, drifted too" in version.description
    page = Path(client.download_artifacts(version.run_id, "evaluation.html", str(tmp_path))).read_text()
    assert "predicted against true" in page


@pytest.mark.usefixtures("prefect_api")
def test_churn_puts_the_mistakes_aside_and_stands_beside_its_baseline(tmp_path, home):
    from flows.monitor_flow import monitor_flow

    folder = placed("churn", tmp_path / "churn", 1_100, "2024-01", "2024-05")
    assert monitor_flow(folder, "2024-01")["decision"]["reason"] == "no champion"
    dearer = monitor_flow(folder, "2024-05")
    assert dearer["rows"]["current"] == 1_100 - 9  # charges below zero
    assert {mean["name"]: mean["z"] > 5 for mean in dearer["drift"]["means"]}["monthly_charges"]
    assert dearer["retrain"]["reason"] == "drift above threshold"
    assert dearer["drift"]["target"]["name"] == "churned"

    metrics = dearer["training"]["metrics"]
    assert metrics["baseline_auc"] == 0.5 < metrics["val_auc"]
    assert metrics["baseline_f1"] == 0 < metrics["val_f1"]
    work = open_workspace(folder, Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()))
    facts = work.model(dearer["training"]["version"]).facts
    assert 0 < facts.threshold < 0.5, "F1 is best at another one than a half"
    assert set(facts.statistics) == {"tenure", "monthly_charges", "total_charges", "support_calls"}


@pytest.mark.parametrize("name", ["housing", "churn"])
def test_the_same_number_of_rows_makes_the_same_bytes(tmp_path, name):
    for place in ("one", "two"):
        run(name, "generate", "--to", str(tmp_path / place), "--rows", "40")
    files = sorted((tmp_path / "one" / "windows").iterdir())
    assert len(files) == {"housing": 10, "churn": 6}[name]
    assert all(file.read_bytes() == (tmp_path / "two" / "windows" / file.name).read_bytes() for file in files)


def test_no_block_and_no_customer_comes_twice():
    for name, entity in (("housing", "block"), ("churn", "customer_id")):
        rows = pd.concat(rows for _, rows in script(name, "generate").windows(50))
        assert rows[entity].is_unique


def test_real_windows_take_the_place_of_made_up_ones(tmp_path):
    run("housing", "generate", "--to", str(tmp_path / "loop"), "--rows", "20")
    real = tmp_path / "real" / "windows"
    real.mkdir(parents=True)
    (real / "1990-01.csv").write_text("block,MedInc\n1,2.5\n")
    assert "1 windows" in run("housing", "generate", "--to", str(tmp_path / "loop"), "--from", str(real.parent))
    (placed_file,) = (tmp_path / "loop" / "windows").iterdir()
    assert placed_file.read_text() == "block,MedInc\n1,2.5\n"


def test_the_random_split_shows_every_candidate_beside_the_mean(tmp_path):
    folder = placed("housing", tmp_path, 100, "2024-01", "2024-02")
    lines = run("housing", "scores", str(folder)).splitlines()
    assert lines[0] == "200 rows of 2 windows, 40 of them held out at random"
    names = ["training", "LinearRegression", "RandomForestRegressor", "GradientBoostingRegressor"]
    assert [line.split()[0] for line in lines[3:]] == names
    assert all(float(line.split()[-1]) <= 1 for line in lines[3:])


def test_scores_forward_are_those_of_the_windows_after_the_first(tmp_path):
    folder = placed("housing", tmp_path, 100, "2024-01", "2024-02", "2024-03")
    lines = [line.split() for line in run("housing", "scores", str(folder), "--forward").splitlines()]
    assert lines[0][-3:] == ["LinearRegression", "RandomForest", "GradientBoosting"]
    assert [line[0] for line in lines[1:]] == ["2024-02", "2024-03", "mean"]
    first, second, mean = ([float(cell) for cell in line[1:]] for line in lines[1:])
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], abs=0.001)


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real input at {REAL}; DRIFTLOOP_REAL_DATA names its folder")
def test_the_random_split_of_the_census_comes_near_what_was_published(tmp_path):
    run("housing", "generate", "--to", str(tmp_path), "--from", str(REAL))
    toml = (DATA / "housing" / "loop.toml").read_text(encoding="utf-8").replace(FOREST, "n_estimators = 10")
    boosting = '[[model.candidates]]\nestimator = "sklearn.ensemble.GradientBoostingRegressor"\n'
    head, found, tail = toml.partition(boosting)  # takes as long as all the rest
    assert found
    (tmp_path / "loop.toml").write_text(head + tail.partition("\n\n")[2], encoding="utf-8")
    lines = run("housing", "scores", str(tmp_path)).splitlines()
    assert lines[0].startswith("20,639 rows of 10 windows")
    rmse, r2 = ({line.split()[0]: float(line.split()[column]) for line in lines[4:]} for column in (-3, -1))
    assert rmse == pytest.approx({"LinearRegression": 0.75, "RandomForestRegressor": 0.51}, abs=0.03)
    assert r2 == pytest.approx({"LinearRegression": 0.58, "RandomForestRegressor": 0.80}, abs=0.03)
