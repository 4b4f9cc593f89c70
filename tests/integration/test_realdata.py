"""The loop on real input: the StreamFlow months and public streams, where DRIFTLOOP_REAL_DATA names them."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache, reduce
from pathlib import Path
from statistics import mean

import pandas as pd
import pytest
from click.testing import CliRunner

from driftloop import contract, frame
from driftloop.artifact import score
from driftloop.cli.__main__ import cli
from driftloop.frame import MISSING
from driftloop.holdout import HoldoutRule
from driftloop.metrics import Predictions
from driftloop.recipe import build
from driftloop.scores import evaluate
from driftloop.settings import Settings
from driftloop.training import split
from driftloop.windows import open_windows
from driftloop.workspace import open_workspace

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("DRIFTLOOP_REAL_DATA") or REPOSITORY.parent / "shared" / "data")

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real input at {DATA}; DRIFTLOOP_REAL_DATA names its folder"),
]

NUMERIC = [
    "months_active", "monthly_fee", "watch_hours_30d", "avg_session_mins_7d", "unique_devices_30d", "skips_7d",
    "rebuffer_events_7d", "failed_payments_90d", "support_tickets_90d", "ticket_avg_resolution_hrs_90d",
]  # fmt: skip
CATEGORICAL = ["paperless_billing", "plan_stream_tv", "plan_stream_movies", "net_service"]
STREAMFLOW = f"""
name = "streamflow-churn"
task = "binary"
target = "churn_label"
entity = "user_id"
[windows]
path = "{DATA / "streamflow"}"
[features]
numeric = {json.dumps(NUMERIC)}
categorical = {json.dumps(CATEGORICAL)}
[model]
estimator = "sklearn.ensemble.RandomForestClassifier"
params = {{ n_estimators = 100, class_weight = "balanced", random_state = 42 }}
[drift]
threshold = 0.02
"""


@pytest.fixture
def streamflow(tmp_path):
    """A loop over the folder as it is published: six tables a month, the labels among them."""
    folder = tmp_path / "streamflow"
    folder.mkdir()
    (folder / "loop.toml").write_text(STREAMFLOW)
    return folder


def opened(folder, home):
    return open_workspace(folder, Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()))


@cache
def evidently_s_own():
    """Column to (method, score, drifted) as Evidently's preset gives it for the same 14 columns, called directly."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    def month(name):
        tables = [pd.read_csv(f) for f in sorted((DATA / "streamflow" / name).glob("*.csv"))]
        rows = reduce(lambda a, b: a.merge(b, on="user_id"), tables)[NUMERIC + CATEGORICAL]
        rows = rows.astype(dict.fromkeys(CATEGORICAL, object))
        rows[CATEGORICAL] = rows[CATEGORICAL].where(rows[CATEGORICAL].notna(), "blank").astype(str)
        return Dataset.from_pandas(rows, DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL))

    snapshot = Report([DataDriftPreset(columns=NUMERIC + CATEGORICAL)]).run(month("month_001"), month("month_000"))
    found = {m["config"].get("column"): m for m in snapshot.dict()["metrics"]}
    share = found.pop(None)["value"]["share"]
    return share, {name: (m["config"]["method"], float(m["value"])) for name, m in found.items()}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # Evidently correlates a constant column
@pytest.mark.parametrize(
    ("strategy", "trained_on", "about"),
    [
        ("latest", ["month_001"], 0.65),
        pytest.param("all", ["month_000", "month_001"], 0.55, marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("prefect_api")
def test_the_two_streamflow_months_drift_in_one_column_retrain_and_promote(
    streamflow, home, strategy, trained_on, about
):
    from flows.monitor_flow import monitor_flow

    with (streamflow / "loop.toml").open("a") as toml:
        toml.write(f'[training]\nstrategy = "{strategy}"\n')
    first = monitor_flow(streamflow, "month_000")
    assert first["decision"]["reason"] == "no champion"
    second = monitor_flow(streamflow, "month_001")

    drift = second["drift"]
    assert drift["share"] == 1 / 14
    assert [c["name"] for c in drift["columns"] if c["drifted"]] == ["rebuffer_events_7d"]
    share, columns = evidently_s_own()
    assert drift["share"] == share
    assert {c["name"]: c["method"] for c in drift["columns"]} == {n: method for n, (method, _) in columns.items()}
    for column in drift["columns"]:
        assert column["score"] == pytest.approx(columns[column["name"]][1], abs=1e-12), column["name"]

    assert (second["retrain"]["reason"], second["retrain"]["columns"]) == (
        "drift above threshold",
        ["rebuffer_events_7d"],
    )
    assert second["training"]["windows"] == trained_on
    decision = second["decision"]
    assert decision["metric"] == "auc"
    # one holdout of 1,400 rows: the standard error of each AUC is 0.015; the mean of several is tested below
    assert decision["champion"] == pytest.approx(0.49, abs=0.05)
    assert decision["candidate"] == pytest.approx(about, abs=0.06)
    assert second["training"]["metrics"]["val_auc"] == decision["candidate"]
    assert (decision["outcome"], decision["reason"]) == ("promote", "beats the margin")
    assert decision["gain_low"] > 0
    work = opened(streamflow, home)
    assert work.registry.aliases() == {"champion": "2"}

    tells_blanks_apart(work)


def tells_blanks_apart(work):
    """A blank plan_stream_* is a category of its own: neither True nor False to the model."""
    window = work.read("month_001")
    assert set(window.X["plan_stream_tv"]) == {"True", "False", MISSING}
    rows, model = window.X.head(200), work.champion().artifact
    by_value = [model.score(rows.assign(plan_stream_tv=value)) for value in (True, False, None)]
    assert ((by_value[0] != by_value[1]) & (by_value[1] != by_value[2]) & (by_value[0] != by_value[2])).any()
    assert set(model.facts.categories["plan_stream_tv"]) == {"True", "False", MISSING}


@pytest.mark.long
def test_over_several_holdouts_the_old_model_guesses_and_the_new_one_does_not(streamflow):
    """The holdout is drawn by the loop's name, so four names are four draws."""
    champion, candidate = [], []
    for name in ("first", "second", "third", "fourth"):
        loop = contract.load(streamflow).model_copy(update={"name": name})
        windows = open_windows(loop, streamflow)
        rule = HoldoutRule.of(loop)
        old, new = (frame.check(windows.read(month), loop, month) for month in ("month_000", "month_001"))
        holdout = split([new], rule)[1]
        for scores, window in ((champion, old), (candidate, new)):
            rows = split([window], rule)[0]
            model = build(loop).fit(rows.X, rows.y.astype(int))  # without the threshold, which an AUC does not know
            scores.append(evaluate(loop, holdout, Predictions(score(model, holdout.X, "binary")))["auc"])
    assert mean(champion) == pytest.approx(0.49, abs=0.02)
    assert mean(candidate) == pytest.approx(0.65, abs=0.03)


PUBLIC = {
    "housing": ("MedHouseVal", "regression", 10),
    "bank_marketing": ("y", "binary", 24),
    "bike_hour": ("cnt", "regression", 24),
    "car_loan": ("repaid", "binary", 20),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n in ("bank_marketing", "car_loan") else n for n in PUBLIC]
)
def test_a_public_stream_needs_no_more_than_its_target(tmp_path, name):
    target, task, windows = PUBLIC[name]
    folder = tmp_path / name
    (folder / "windows").mkdir(parents=True)
    for file in (DATA / name / "windows").iterdir():
        (folder / "windows" / file.name).symlink_to(file)

    made = CliRunner().invoke(cli, ["init", str(folder), "--target", target], catch_exceptions=False)
    assert made.exit_code == 0
    loop = contract.load(folder)
    assert (loop.name, loop.task, loop.target) == (name, task, target)
    assert target not in loop.columns.names

    checked = CliRunner().invoke(cli, ["check", str(folder), "--json"], catch_exceptions=False)
    assert checked.exit_code == 0
    found = json.loads(checked.stdout)
    assert len(found["windows"]) == windows
    assert not any(row["problems"] for row in found["windows"])


def about(name):
    return json.loads((DATA / name / "about.json").read_text())


@pytest.mark.parametrize("name", ["bank_marketing", "bike_hour", "car_loan"])
def test_the_features_inferred_are_those_its_publisher_names(tmp_path, name):
    folder = tmp_path / name
    (folder / "windows").mkdir(parents=True)
    first = min((DATA / name / "windows").iterdir())
    shutil.copyfile(first, folder / "windows" / first.name)
    made = CliRunner().invoke(cli, ["init", str(folder), "--target", PUBLIC[name][0]], catch_exceptions=False)
    assert made.exit_code == 0
    loop = contract.load(folder)
    assert set(loop.columns.names) == set(about(name)["features"])
    assert loop.timestamp == about(name)["timestamp"]


@pytest.mark.long
@pytest.mark.usefixtures("prefect_api")
def test_a_regression_stream_is_monitored_through_the_flow(tmp_path, home):
    from flows.monitor_flow import monitor_flow

    folder = tmp_path / "bike"
    (folder / "windows").mkdir(parents=True)
    months = ["2011-01", "2011-02", "2011-03"]
    for month in months:
        shutil.copyfile(DATA / "bike_hour" / "windows" / f"{month}.parquet", folder / "windows" / f"{month}.parquet")
    CliRunner().invoke(cli, ["init", str(folder), "--target", "cnt"], catch_exceptions=False)
    toml = (folder / "loop.toml").read_text()
    (folder / "loop.toml").write_text(toml.replace("n_estimators = 100", "n_estimators = 50"))

    reports = [monitor_flow(folder, month) for month in months]
    assert reports[0]["decision"]["metric"] == "rmse"
    assert reports[0]["champion"] == {"version": "2"}  # version 1 was judged, and fitted again with its tail
    for report in reports[1:]:
        assert "quarantine" not in report
        assert len(report["drift"]["columns"]) == 10
        assert report["performance"]["metric"] == "rmse"
        assert 0 < report["performance"]["value"] < 200  # bikes an hour
    for report in reports:
        if report["decision"] and report["decision"]["outcome"] == "promote" and report["decision"]["champion"]:
            assert report["decision"]["candidate"] < report["decision"]["champion"]
    champion = opened(folder, home).registry.champion()
    assert champion == reports[-1]["champion"]["version"]
