"""A model somebody logged to MLflow becomes champion, serves, and is beaten by a month's candidate."""

from __future__ import annotations

import warnings
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from driftloop import adopting
from driftloop.cli.__main__ import cli
from driftloop.errors import ArtifactError, ContractError
from services.api.app import create_app
from tests.integration.api_fakes import serving, source_here, wait_for
from tests.integration.conftest import month


def notebook(rows: pd.DataFrame, model: Any = None) -> Pipeline:
    encode = make_column_transformer(
        (StandardScaler(), ["fee", "usage"]), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
    )
    X = rows[["plan", "usage", "fee"]]
    return make_pipeline(encode, model or LogisticRegression()).fit(X, rows["churned"].astype(int))


def logged(loop: Any, estimator: Any, form: str = "skops") -> str:
    """The address of a model logged in a run, as somebody would from a notebook."""
    assert loop.open().registry.client, "it points MLflow at the loop's store"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of pickles, and of a model without signature
        here = (loop.home / "notebook").as_uri()  # else MLflow keeps it in the working directory
        known = mlflow.get_experiment_by_name("notebook")
        experiment = known.experiment_id if known else mlflow.create_experiment("notebook", here)
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.sklearn.log_model(
                estimator, name="model", serialization_format=form, pip_requirements=["scikit-learn"]
            )
    return str(info.model_uri)


class Weird(ClassifierMixin, BaseEstimator):
    """Somebody's own type, which nobody reviewed."""

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_a_logged_pipeline_is_adopted_served_and_beaten_by_a_later_month(loop, monitor):
    loop.deliver("2024-01", month(1))
    uri = logged(loop, notebook(month(11)))
    args = ["adopt", str(loop.folder), uri, "--trained-until", "2024-01", "--by", "ada"]
    done = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert done.output.endswith("Version 1 is champion, adopted by ada. (ledger row 1)\n")
    work = loop.open()
    assert work.registry.aliases() == {"champion": "1"}
    assert work.registry.tags("1")["trained_until"] == "2024-01"
    assert work.registry.tags("1")["decision"] == "adoption"
    described = work.registry.client.get_model_version("churn", "1").description
    assert f"Adopted by ada from `{uri}`" in described
    check = work.ledger.entries()[0].details["serving"]
    assert (check["problem"], check["rows"]) == (None, 600)
    rows = work.read("2024-01").X
    mine = notebook(month(11)).predict_proba(rows)[:, 1]
    assert work.champion().artifact.score(rows) == pytest.approx(mine)
    with serving(create_app(loop.settings, "churn", 0.05, source_here(loop.settings))) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        answer = client.post("/predict", json={"fee": 71.5, "usage": 20, "plan": None}).json()
    missing = pd.DataFrame({"fee": [71.5], "usage": [20.0], "plan": ["(missing)"]})
    assert answer["probability"] == pytest.approx(work.champion().artifact.score(missing)[0])
    assert answer["label"] in ("True", "False")

    loop.deliver("2024-02", month(2, shift=1, turned=True))
    report = monitor()
    assert report["reference"] == ["2024-01"]
    assert report["performance"]["rows"] == 600
    assert (report["decision"]["reason"], report["champion"]) == ("beats the margin", {"version": "2"})
    refused = CliRunner().invoke(cli, args)
    assert "version 2 is the champion of churn" in str(refused.exception)
    assert CliRunner().invoke(cli, [*args, "--replace", "--json"], catch_exceptions=False).exit_code == 0
    assert loop.open().registry.aliases() == {"champion": "3"}


def test_a_pickle_is_loaded_only_when_told_so_and_stored_anew_without(loop):
    loop.deliver("2024-01", month(1))
    uri = logged(loop, notebook(month(11)), "cloudpickle")
    work = loop.open()
    with pytest.raises(ContractError, match=r"loading a pickle runs whatever code it holds.* --trust-pickle"):
        adopting.adopt(work, uri, "2024-01", "ada", "")
    assert work.registry.aliases() == {}
    adopting.adopt(work, uri, "2024-01", "ada", "", trust_pickle=True)
    stored = work.registry.download("1", loop.home / "copy")
    assert (stored / "model.skops").exists()
    assert not list(stored.rglob("*.pkl"))


def test_types_that_nobody_reviewed_are_refused_however_they_came(loop):
    loop.deliver("2024-01", month(1))
    work = loop.open()
    uri = logged(loop, notebook(month(11), Weird()), "cloudpickle")
    with pytest.raises(ArtifactError, match=r"cannot be stored without pickle: it holds \S+Weird\. Trusted") as raised:
        adopting.adopt(work, uri, "2024-01", "ada", "", trust_pickle=True)
    assert "skops_trusted_types" not in str(raised.value)  # it is no setting of a loop's
    assert work.ledger.champion() is None


@pytest.mark.parametrize("uri", ["runs:/0123456789abcdef0123456789abcdef/model", "models:/nobody/3", "no/such/folder"])
def test_an_address_that_leads_nowhere_is_said(loop, uri):
    loop.deliver("2024-01", month(1))
    said = r"MODEL = .*(cannot be read: (?!.*ledger).*|no such folder)\. Name one as runs:/RUN/model"
    with pytest.raises(ContractError, match=said):
        adopting.adopt(loop.open(), uri, "2024-01", "ada", "")


def test_a_folder_without_a_scikit_learn_model_is_refused(loop, tmp_path):
    loop.deliver("2024-01", month(1))
    with pytest.raises(ContractError, match=r"holds no MLflow model .*file MLmodel"):
        adopting.adopt(loop.open(), str(tmp_path), "2024-01", "ada", "")
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: x}}\n")
    with pytest.raises(ContractError, match="has the flavor python_function; only models of the flavor sklearn"):
        adopting.adopt(loop.open(), str(tmp_path), "2024-01", "ada", "")
