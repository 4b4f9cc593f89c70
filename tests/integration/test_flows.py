"""The two flows on real MLflow, real Evidently and a real Prefect server."""

from __future__ import annotations

import json
import re

import mlflow
import pytest
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from driftloop.entry import Kind
from driftloop.errors import HoldoutMismatch
from tests.integration.conftest import month

pytestmark = pytest.mark.usefixtures("prefect_api")


def kinds(loop):
    return [str(e.kind) for e in loop.open().ledger.entries()]


def test_the_story_from_first_window_to_a_new_champion(loop, monitor):
    loop.deliver("2024-01", month(1), labels=False)
    first = monitor()
    waiting = {"retrain": False, "reason": "labels not ready", "columns": [], "trigger": None}
    assert (first["retrain"], first["champion"]) == (waiting, None)

    loop.label("2024-01", month(1))
    loop.deliver("2024-02", month(2), labels=False)
    second = monitor()
    assert second["retrain"]["reason"] == "first champion"
    assert second["training"]["windows"] == ["2024-01"]
    assert second["champion"] == {"version": "1"}

    loop.label("2024-02", month(2))
    loop.deliver("2024-03", month(3), labels=False)
    third = monitor()
    assert (third["retrain"]["reason"], third["retrain"]["columns"], third["drift"]["share"]) == ("quiet", [], 0.0)
    assert third["training"] is third["decision"] is None

    loop.label("2024-03", month(3))
    loop.deliver("2024-04", month(4, shift=1, turned=True))
    fourth = monitor()
    assert fourth["retrain"]["reason"] == "drift above threshold"
    assert fourth["drift"]["drifted"] == 2
    assert sorted(fourth["retrain"]["columns"]) == ["fee", "usage"]
    assert fourth["retrain"]["trigger"] == {
        "share": 2 / 3, "on": ["drift"], "lasted": ["drift"], "measured": ["drift"], "consecutive": 1, "needed": 1,
        "reference": ["2024-01"], "drift": None,
    }  # fmt: skip
    assert third["drift"]["target"] is None  # its labels are not in
    assert (third["performance"], third["drift"]["prediction"]["drifted"]) == (None, False)
    assert third["estimated"]["low"] < second["training"]["metrics"]["val_auc"] < third["estimated"]["high"]
    assert fourth["performance"]["drop_low"] > 0
    assert fourth["estimated"]["low"] > fourth["performance"]["value"], "labels that turned round show in no score"
    assert fourth["drift"]["target"]["name"] == "churned"
    assert fourth["performance"]["value"] < 0.5
    assert fourth["decision"]["outcome"] == "promote"
    assert fourth["decision"]["reason"] == "beats the margin"
    assert fourth["decision"]["gain_low"] > 0
    assert fourth["champion"] == {"version": "2"}
    assert loop.open().registry.champion() == "2"
    assert kinds(loop) == ["verdict", "verdict", "promotion", "verdict", "verdict", "promotion"]

    with get_client(sync_client=True) as client:
        shown = max((a for a in client.read_artifacts() if a.key == "timeline-churn"), key=lambda a: a.created)
    assert shown.data.startswith("![drift by column and window](data:image/png;base64,iVBOR")
    assert "| column | drifted since | 2024-01 | 2024-02 | 2024-03 | 2024-04 |" in shown.data
    assert re.search(r"\| fee \| 2024-04 \| – \| – \| 0\.\d\d \| \*\*0\.00\*\* \|", shown.data)
    assert len(shown.data) < 100_000


def test_a_report_has_exactly_the_contract_s_keys(loop, monitor):
    loop.deliver("2023-12", month(2, shift=1, turned=True), labels=False)
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    loop.set("drift", reference="2023-12")
    loop.set("trigger", reference="training")
    monitor("2024-01")
    report = monitor("2024-02")
    assert set(report) == {
        "loop", "window", "reference", "rows", "drift", "quality", "performance", "estimated", "retrain", "training",
        "decision", "champion",
    }  # fmt: skip
    assert set(report["drift"]) == {
        "share", "threshold", "engine", "drifted", "columns", "target", "prediction", "means",
    }  # fmt: skip
    assert [column["name"] for column in report["quality"]["columns"]] == ["fee", "usage", "plan"]
    assert set(report["drift"]["columns"][0]) == {"name", "method", "score", "threshold", "drifted"}
    trigger = report["retrain"]["trigger"]
    assert (report["reference"], trigger["reference"]) == (["2023-12"], ["2024-01"])
    assert (report["drift"]["share"], trigger["drift"]["share"], trigger["share"]) == (0.0, 2 / 3, 2 / 3)
    assert report["retrain"]["reason"] == "drift above threshold", "by what the trigger is told to look at"
    assert [mean["name"] for mean in report["drift"]["means"]] == ["fee", "usage"]
    assert all(mean["moved"] and abs(mean["z"]) > 10 for mean in report["drift"]["means"])
    assert set(report["performance"]) == {"metric", "value", "rows", "drop", "drop_low", "note"}
    assert set(report["training"]) == {
        "windows", "rows", "new_rows", "version", "metrics", "estimator", "strategy", "note", "effective_rows",
        "tuned_from", "contest", "search",
    }  # fmt: skip
    assert set(report["decision"]) == {
        "outcome", "reason", "metric", "candidate", "champion", "gain", "gain_low", "delta", "holdout_rows",
        "detectable", "slices", "broken", "serving",
    }  # fmt: skip
    assert report["rows"] == {"reference": 600, "current": 600}
    assert json.loads(json.dumps(report)) == report


def test_the_same_window_twice_does_nothing_and_says_so(loop, monitor):
    loop.deliver("2024-01", month(1))
    first = monitor()
    rows = loop.open().ledger.entries()
    again = monitor()
    assert again == {**first, "repeated": rows[-1].seq}
    assert loop.open().ledger.entries() == rows


@pytest.mark.usefixtures("begun")
def test_force_runs_the_same_window_again(loop, monitor):
    forced = monitor(force=True)
    assert "repeated" not in forced
    assert forced["retrain"]["reason"] == "quiet"


def test_labels_that_arrive_late_make_the_window_worth_another_run(loop, monitor):
    loop.deliver("2024-01", month(1), labels=False)
    assert monitor()["retrain"]["reason"] == "labels not ready"
    loop.label("2024-01", month(1))
    assert monitor()["retrain"]["reason"] == "first champion"


@pytest.mark.usefixtures("begun")
def test_a_window_without_new_labels_is_not_retrained_on_however_far_it_drifted(loop, monitor):
    loop.deliver("2024-02", month(2, shift=1), labels=False)
    report = monitor()
    assert report["drift"]["share"] > report["drift"]["threshold"]
    assert (report["retrain"]["retrain"], report["retrain"]["reason"]) == (False, "labels not ready")


def test_a_replay_of_what_is_done_leaves_the_ledger_as_it_is(loop, monitor):
    for number, window in enumerate(("2024-01", "2024-02"), 1):
        loop.deliver(window, month(number, shift=number - 1, turned=number == 2))
        monitor(window)
    rows = loop.open().ledger.entries()
    assert [monitor(window)["repeated"] for window in ("2024-01", "2024-02")] == [2, 4]
    assert loop.open().ledger.entries() == rows


@pytest.mark.usefixtures("begun")
def test_the_champion_s_own_score_is_taken_on_rows_it_never_saw(loop, monitor):
    report = monitor(force=True)  # the champion was trained on this very window
    assert report["performance"]["rows"] < 600 * 0.3


def test_a_version_says_where_it_comes_from(loop, monitor):
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    monitor("2024-01")
    report = monitor("2024-02")
    client = loop.open().registry.client
    version = client.get_model_version_by_alias("churn", "champion")
    tags = version.tags
    assert str(version.version) == report["training"]["version"]
    assert tags["loop"] == "churn"
    assert tags["windows"] == "2024-01,2024-02"
    assert tags["rows"] == str(report["training"]["rows"])
    assert tags["holdout"] == "entity(customer) share=0.2 seed=churn"
    assert (tags["decision"], tags["reason"]) == ("promote", "beats the margin")
    assert tags["fingerprint"]
    assert "scikit-learn" in tags["libraries"]
    assert "Drift share" in version.description
    run = client.get_run(version.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "churn"
    assert run.data.metrics["val_auc"] == report["decision"]["candidate"]
    assert run.data.params["estimator"] == "sklearn.linear_model.LogisticRegression"
    assert run.data.metrics["baseline_auc"] == report["training"]["metrics"]["baseline_auc"] == 0.5
    pages = {"decision.json", "drift_report.html", "importance.json", "importance.html", "evaluation.html"}
    assert {f.path for f in client.list_artifacts(version.run_id)} >= pages
    assert "| feature | loss |" in version.description
    model = mlflow.models.get_model_info(version.source)
    assert [c.name for c in model.signature.inputs] == ["fee", "usage", "plan"]


def test_prefect_shows_the_training_as_a_subflow_with_artifacts(loop, monitor):
    # the server is shared with other tests: no other has a run over these windows
    loop.deliver("2031-01", month(1))
    loop.deliver("2031-02", month(2, shift=1, turned=True))
    monitor("2031-01")
    monitor("2031-02")
    with get_client(sync_client=True) as client:
        runs = {run.name: run for run in client.read_flow_runs()}
        parent = runs["monitor 2031-02 of loop"]
        child = runs["train for 2031-02 of loop"]
        artifacts = [a for a in client.read_artifacts() if a.flow_run_id in (parent.id, child.id)]
    assert parent.state.is_completed()
    assert child.parent_task_run_id is not None
    assert {a.key for a in artifacts} == {
        "drift-churn", "quality-churn", "report-churn", "decision-churn", "version-churn",
    }  # fmt: skip
    table = next(a for a in artifacts if a.key == "drift-churn")
    assert "fee" in str(table.data)
    decision = next(a for a in artifacts if a.key == "decision-churn")
    assert "beats the margin" in decision.data


@pytest.mark.usefixtures("begun")
def test_a_champion_trained_under_another_holdout_rule_is_not_compared(loop, monitor):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + "[holdout]\nshare = 0.3\n")
    loop.deliver("2024-02", month(2, shift=1))
    with pytest.raises(HoldoutMismatch, match=r"under the holdout rule .entity\(customer\) share=0.2 seed=churn"):
        monitor()
    assert Kind.PROMOTION not in [e.kind for e in loop.open().ledger.entries("2024-02")]
    assert len(loop.open().registry.client.search_model_versions("name='churn'")) == 1  # nothing was trained in vain


def test_a_task_gets_what_it_is_called_with_and_prefect_searches_none_of_it():
    from flows.tasks import Step  # once it knows its server

    class Sealed(list):
        def __iter__(self):
            raise AssertionError("somebody goes through it")

    given = Sealed([1])
    step = Step(lambda first, *, second: (first, second), name="given back", cache_policy=NO_CACHE)

    @flow
    def called():
        now, later = step(given, second=given), step.submit(given, second=given).result()
        assert all(one is given for one in (*now, *later))

    called()
