"""A loop of several labels on real MLflow, Evidently and Prefect, and the API on what it promoted."""

from __future__ import annotations

import numpy as np
import pytest

from driftloop.contract import Serving
from services.api.app import build
from services.api.fetching import fetch_here
from services.api.gate import Gate, Keys
from services.api.source import RegistrySource
from tests.integration.api_fakes import serving, version, wait_for
from tests.integration.conftest import month

pytestmark = pytest.mark.usefixtures("prefect_api")
LABELS = ["often", "rarely", "sometimes"]


def some_month(seed: int, *, shift: float = 0.0, turned: bool = False):
    """Customers who come more or less often by fee and plan; ``turned`` reverses that."""
    rows = month(seed, shift=shift, rows=300)
    signal = (rows["fee"] - 50 - 30 * shift) / 10 + (rows["plan"] == "basic")
    signal += np.random.default_rng(seed).normal(0, 0.5, len(rows))
    words = np.array(["rarely", "sometimes", "often"])
    return rows.assign(churned=words[np.digitize(-signal if turned else signal, [-0.5, 0.5])])


def test_several_labels_go_through_the_loop_and_are_answered(loop, monitor):
    file = loop.folder / "loop.toml"
    file.write_text(file.read_text().replace('task = "binary"', 'task = "multiclass"'))
    (loop.folder / "golden.csv").write_text("fee,usage,plan,expect\n90,5,basic,often\n")
    loop.deliver("2024-01", some_month(1))
    first = monitor()
    assert first["champion"] == {"version": "1"}
    assert {name for name in first["training"]["metrics"] if name.startswith("val_")} == {
        "val_accuracy", "val_auc_ovr", "val_f1_macro", "val_log_loss", "val_calibration_error",
    }  # fmt: skip
    loop.deliver("2024-02", some_month(2, shift=1, turned=True).query("churned != 'often'"))
    second = monitor()
    assert (second["performance"]["metric"], second["retrain"]["reason"]) == ("log_loss", "drift above threshold")
    assert (second["decision"]["outcome"], second["decision"]["metric"]) == ("keep", "log_loss")
    assert second["decision"]["broken"] == ["row 2: says rarely, expected often"]
    (loop.folder / "golden.csv").unlink()
    third = monitor(force=True)
    assert third["decision"]["outcome"] == "promote"
    assert third["decision"]["gain_low"] > 0
    loop.deliver("2024-03", some_month(3).replace({"churned": {"often": "never"}}))
    assert monitor()["retrain"]["reason"] == "quarantined"
    assert "label never is none of those that the model learnt" in str(loop.open().ledger.entries()[-1].details)

    number = third["champion"]["version"]
    facts = loop.open().champion().artifact.facts
    assert (list(facts.labels), facts.compiled.refused) == (LABELS, None)
    card = loop.open().registry.client.get_model_version("churn", number).description
    assert "`churned` is one of often, rarely, sometimes." in card
    row = {"fee": 90.0, "usage": 20.0, "plan": "basic"}
    api = build(loop.settings, "churn", 0.05, RegistrySource(loop.settings, "churn", fetch_here), Serving(log="off"))
    with serving(Gate(api, api.predict, api.metrics, Keys())) as client:
        wait_for(lambda: version(client) == number)
        one = client.post("/predict", json=row).json()
        assert list(one) == ["request_id", "version", "label", "probabilities"]
        assert list(one["probabilities"]) == LABELS
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert one["label"] == max(one["probabilities"], key=one["probabilities"].get)
        many = client.post("/predict", json={"rows": [row, row]}).json()
        assert many["predictions"] == [{name: one[name] for name in ("label", "probabilities")}] * 2
        about = client.get("/model").json()
        assert (about["task"], about["labels"], about["engine"]) == ("multiclass", LABELS, "onnx")
        assert f'kind="{one["label"]}",version="{number}"}} 3.0' in client.get("/metrics").text
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        assert schemas["ClassAnswer"]["properties"]["probabilities"]["additionalProperties"] == {"type": "number"}
        assert schemas["Feedback"]["properties"]["label"]["enum"] == LABELS
