"""A search inside a real training: its trials in MLflow, its score apart from the gate's, and a kill in its middle."""

from __future__ import annotations

import pytest

from driftloop import promoting, search
from tests.integration.conftest import month

SPACE = """
[model.space]
C = { low = 0.001, high = 10.0, log = true }
[model.search]
trials = 5
pruning = false
"""


def test_a_killed_search_goes_on_and_its_trials_are_runs_below_the_versions_own(loop, monitor, monkeypatch):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + SPACE)
    loop.deliver("2024-01", month(1, rows=300))
    work, folds = loop.open(), []
    value = search._Study._value

    def killed(study, recipe, place):
        if len(folds) == 4:
            raise KeyboardInterrupt
        folds.append(place)
        return value(study, recipe, place)

    with monkeypatch.context() as patch:
        patch.setattr(search._Study, "_value", killed)
        with pytest.raises(KeyboardInterrupt):
            promoting.train(work, promoting.training_data(work, "2024-01", None))
    client = work.registry.client
    assert client.get_experiment_by_name("churn") is None, "a search that was killed leaves no run that runs for ever"

    report = monitor()
    found = report["training"]["search"]
    assert (found["metric"], found["trials"], found["failed"], found["pruned"]) == ("auc", 5, 1, 0)
    experiment = client.get_experiment_by_name("churn")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("train 2024-01")
    assert sorted(runs) == [f"LogisticRegression trial {n}" for n in range(1, 6)]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    first, cut = runs["LogisticRegression trial 1"], runs["LogisticRegression trial 2"]
    assert [run.info.status for run in (parent, first, cut)] == ["FINISHED", "FINISHED", "FAILED"]
    assert cut.data.tags["why"] == "the process ended"
    assert first.info.end_time < parent.info.start_time
    assert "model.C" not in first.data.params, "the first has the parameters of loop.toml"
    best = max(run.data.metrics["search_auc"] for run in runs.values() if run.info.status == "FINISHED")
    assert found["best"] == parent.data.metrics["search_best_auc"] == best
    assert parent.data.metrics["val_auc"] == report["training"]["metrics"]["val_auc"] != best
    version = client.get_model_version("churn", "1")
    assert version.tags["search_best_auc"] == f"{best:.6g}"
    assert "**Search.** 5 trials in " in version.description
    assert "is optimistic: it is the best of many" in version.description
    chosen = work.model("1").facts
    assert chosen.recipe["params"] == found["params"]
    assert parent.data.params.get("model.C") == (str(found["params"]["C"]) if found["params"] else None)
