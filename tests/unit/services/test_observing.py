"""The dashboard asks for what the API exports and nothing else, and the stack that shows it is closed to others."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from services.api.metrics import Metrics

ROOT = Path(__file__).parents[3]
STANDING = {
    "log": {"up": True, "lag_seconds": 0.5, "waiting_bytes": 10, "dropped": 0},
    "live": {"1": {"rows": 10, "labelled": 5, "metric": "auc", "value": 0.75}},
    "shadow": {"version": "2", "agreement": 0.9, "difference": 0.01},
}


@pytest.fixture(scope="module")
def exported() -> dict[str, dict[str, set[str]]]:
    """Metric to the names it is queried by, each with its labels, of an API that has everything to tell."""
    champion: Any = SimpleNamespace(
        version=SimpleNamespace(number="1"),
        facts=SimpleNamespace(loop="churn", labels=("no", "yes")),
        origin="registry",
        scorer=SimpleNamespace(engine="onnx"),
        since=datetime(2024, 1, 1, tzinfo=UTC),
    )
    metrics = Metrics(SimpleNamespace(current=champion), lambda: STANDING)  # type: ignore[arg-type]
    metrics.request("/predict", 200, 0.01)
    metrics.predicted(champion, [0.7], ["yes"])
    metrics.looked()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        if not family.name.endswith("_created"):  # when a counter began, which nobody plots
            found[family.name] = {sample.name: set(sample.labels) for sample in family.samples}
    return found


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "services/grafana/dashboard.json").read_text())


@pytest.fixture(scope="module")
def queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(query, legend) of every panel."""
    return [(t["expr"], t["legendFormat"]) for panel in dashboard["panels"] for t in panel.get("targets", [])]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def asked(query: str) -> set[str]:
    return set(re.findall(r"driftloop_\w+", query))


def test_a_panel_asks_for_nothing_that_the_api_does_not_export(exported: Any, queries: list[tuple[str, str]]) -> None:
    names = {name: labels for samples in exported.values() for name, labels in samples.items()}
    for query, legend in queries:
        assert asked(query)
        for name in asked(query):
            assert name in names, query
            used = re.findall(r"{{(\w+)}}", legend) + re.findall(r"(\w+)=~?\"", query)
            for labels in re.findall(r"by \(([^)]*)\)", query):
                used += labels.split(", ")
            assert set(used) <= names[name] | {"le"}, query


def test_everything_that_the_api_exports_is_on_a_panel(exported: Any, queries: list[tuple[str, str]]) -> None:
    shown = set().union(*(asked(query) for query, _ in queries))
    assert [name for name, samples in exported.items() if not shown & set(samples)] == []


def test_panels_do_not_overlap_and_ask_the_datasource_there_is(dashboard: dict[str, Any]) -> None:
    source = yaml.safe_load((ROOT / "services/grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = source["datasources"][0]["uid"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert all(target["datasource"]["uid"] == uid for target in panel.get("targets", []))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_prometheus_scrapes_the_api_where_the_stack_has_it(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "services/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert port in compose["services"][service]["command"]
    key = job["authorization"]["credentials_file"]
    assert any(f":{key}:" in volume for volume in compose["services"]["prometheus"]["volumes"])


def test_every_port_of_the_stack_is_on_this_machine_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_what_observes_is_asked_for_pinned_and_has_no_password(compose: dict[str, Any]) -> None:
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        assert service["profiles"] == ["observe"]
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists()
    environment = compose["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not any("PASSWORD" in name for name in environment)


def test_the_stack_names_no_variable_that_the_example_does_not_explain() -> None:
    # a key without a value is handed on as it is
    found = re.findall(r"\$\{([A-Z_]+)|^ +([A-Z_]+):$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    used = {name or handed_on for name, handed_on in found}
    explained = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used - explained == {"GIT_COMMIT"}, "which is told on the command line, as docs/operations.md says"
    assert explained <= used
