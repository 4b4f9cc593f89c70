"""Monitoring on what production saw: the log's periods through the flow, the last requests through the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from driftloop.cli.__main__ import cli
from driftloop.entry import Kind
from driftloop.errors import ContractError, DriftloopError
from driftloop.prediction_log import Record, nanoseconds, open_store
from tests.integration.conftest import month


@pytest.fixture
def logged(loop):
    """The loop with windows from its log, after a first month that was delivered as a file."""
    loop.deliver("2024-01", month(1))
    loop.set("windows", source="log")
    loop.set("serving", log="parquet")
    return loop


def serve(loop, day, rows, *, labels=False):
    """Requests as the log holds them after they were shipped, and the feedback to them."""
    work = loop.open()
    store = open_store(work.loop, loop.settings)
    start = nanoseconds(datetime.fromisoformat(day).replace(tzinfo=UTC))
    features = rows[["fee", "usage", "plan"]].to_dict("records")
    store.append(
        [Record(f"{day}-{n}", 0, start + n * 10**9, "1", row, 0.5, "False", 0.2) for n, row in enumerate(features)]
    )
    if labels:
        store.label([(f"{day}-{n}", 0, bool(label)) for n, label in enumerate(rows["churned"])])
    return store


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)


def test_a_period_of_the_log_is_monitored_trained_on_and_promoted_from(monitor, logged):
    assert monitor("2024-01")["decision"]["outcome"] == "promote"
    serve(logged, "2024-02-10", month(2, shift=1, turned=True))
    report = monitor()
    assert (report["window"], report["rows"]["current"], report["retrain"]["reason"]) == (
        "2024-02",
        600,
        "labels not ready",
    )
    assert report["drift"]["share"] > 0.3

    store = open_store(logged.open().loop, logged.settings)
    labels = month(2, shift=1, turned=True)["churned"]
    store.label([(f"2024-02-10-{n}", 0, bool(label)) for n, label in enumerate(labels)])
    report = monitor()
    assert report["training"]["windows"] == ["2024-01", "2024-02"]
    assert report["decision"]["outcome"] == "promote"
    assert monitor()["repeated"]
    assert [e.kind for e in logged.open().ledger.entries()].count(Kind.PROMOTION) == 2


def test_the_last_requests_are_compared_with_the_champion_s_training_and_nothing_is_recorded(monitor, logged, inbox):
    monitor("2024-01")
    before = logged.open().ledger.entries()
    serve(logged, "2024-02-10", month(2))
    quiet = run("monitor", logged.folder, "--live")
    promoted = inbox.titles()
    assert (quiet.exit_code, promoted) == (0, ["churn: version 1 promoted"])
    assert "the last 600 rows, 2024-02-10T00:00:00+00:00 to" in quiet.stdout.replace("\n", " ")

    serve(logged, "2024-02-20", month(3, shift=1))
    drifted = run("monitor", logged.folder, "--live", "--last", 300, "--json")
    assert drifted.exit_code == 1
    report = json.loads(drifted.stdout)
    assert (report["rows"], report["version"], report["quiet"]) == (300, "1", False)
    assert report["reasons"][0] == "drift share 0.67 is above 0.3"
    assert "The last requests are not what version 1 was trained on: drift share 0.67" in drifted.stderr
    assert inbox.titles() == [*promoted, "churn: the last requests drift"]
    assert logged.open().ledger.entries() == before


@pytest.mark.parametrize(
    "arguments", [("--live", "--window", "2024-01"), ("--live", "--force"), ("--last", "5"), ("--live", "--last", "0")]
)
def test_options_that_do_not_go_together_are_wrong_usage(loop, arguments):
    assert run("monitor", loop.folder, *arguments).exit_code == 2


# feedback


def test_labels_of_a_file_are_taken_in_and_unknown_ones_counted(logged):
    store = serve(logged, "2024-02-10", month(2, rows=40))
    file = logged.folder / "came-back.csv"
    file.write_text("request_id,label\n2024-02-10-0,True\n2024-02-10-1,False\n2024-02-10-2,\nnobody,True\n")
    told = run("feedback", logged.folder, file, "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout) == {"loop": "churn", "labels": 3, "unknown": 1, "without_label": 1}
    assert store.read()["feedback"].tolist()[:3] == [True, False, None]
    window = {"window": "2024-02", "labels": True, "state": "new"}
    assert json.loads(run("status", logged.folder, "--json").stdout)["windows"][-1] == window
    said = run("feedback", logged.folder, file)
    assert "3 labels taken in." in said.stdout
    assert "1 name a row that is not in the log" in said.stderr
    assert "1 rows held no label" in said.stderr


def test_a_label_that_the_champion_never_learnt_is_refused(monitor, logged):
    monitor("2024-01")
    store = serve(logged, "2024-02-10", month(2, rows=40))
    file = logged.folder / "came-back.csv"
    file.write_text("request_id,label\n2024-02-10-0,perhaps\n")
    with pytest.raises(ContractError, match="holds the label perhaps: expected False or True"):
        run("feedback", logged.folder, file)
    assert store.read()["feedback"].isna().all()


def test_labels_are_taken_in_while_mlflow_is_down(monitor, logged, monkeypatch):
    monitor("2024-01")
    store = serve(logged, "2024-02-10", month(2, rows=40))
    file = logged.folder / "came-back.csv"
    file.write_text("request_id,label\n2024-02-10-0,True\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = run("feedback", logged.folder, file)
    assert (done.exit_code, "nobody looked whether the champion knows these labels" in done.stderr) == (0, True)
    assert store.read()["feedback"].tolist()[0] is True


def test_labels_of_a_parquet_file_name_a_row_of_a_batch(logged):
    import pandas as pd

    work = logged.open()
    store = open_store(work.loop, logged.settings)
    store.append([Record("7", n, 10**18, "1", {}, 0.5, "False", 0.2) for n in range(3)])
    file = logged.folder / "labels.parquet"
    pd.DataFrame({"request_id": [7, 7], "row": [0, 2], "label": [True, False]}).to_parquet(file)
    assert run("feedback", logged.folder, file).exit_code == 0
    assert store.read()["feedback"].tolist() == [True, None, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("request,label\na,1\n", "has no column request_id"),
        ("request_id,churned\na,1\n", "has no column label"),
        ("request_id,label\n,1\n", "holds a null request_id"),
        ("request_id,row,label\na,0.5,1\n", "holds a row that is no whole number"),
        ("request_id,row,label\na,-1,1\n", "holds a row that is no whole number"),
        ("request_id,row,label\na,x,1\n", "holds a row that is no whole number"),
        ("request_id,label\na,1\na,0\n", "labels 1 rows more than once"),
        ("request_id,label\na,1\nb,2\nc,3\n", "expected two labels"),
        ("", "is empty"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_refused_and_nothing_taken_in(logged, text, told):
    file = logged.folder / "labels.csv"
    file.write_text(text)
    with pytest.raises(DriftloopError, match=told) as refused:
        run("feedback", logged.folder, file)
    assert refused.value.exit_code == 2
    assert not (logged.home / "predictions").exists()
