"""One registry with a few real versions for all tests of the API; a plugin, so that they share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driftloop import blank
from driftloop.registry import Registry
from driftloop.settings import Settings
from tests.integration.api_fakes import CHURN, SPEND, candidate


@pytest.fixture(scope="session")
def api_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Versions 1 to 3 of one shape, 4 a regression on other features; the alias is each test's to set."""
    home = tmp_path_factory.mktemp("api-mlflow")
    blank.provide("mlflow", home / "mlflow.db")
    registry = Registry(Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()), "churn")
    for seed in (1, 2, 3):
        registry.register(candidate(CHURN, seed), {}, {}, None)
    registry.register(candidate(SPEND, 4), {}, {}, None)
    return registry


@pytest.fixture
def api_settings(api_registry: Registry, tmp_path: Path) -> Settings:
    """The shared registry, and a home of the test's own for what is kept on disk."""
    return replace(api_registry.settings, home=tmp_path / "home")
