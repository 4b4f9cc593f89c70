"""How the API starts: with a registry, without one, with nothing at all; as a real process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from driftloop.errors import ContractError
from driftloop.facts import Version
from driftloop.registry import Registry
from driftloop.settings import Settings
from services.api.app import create_app
from services.api.champion import Holder
from services.api.metrics import Metrics
from services.api.serving import Address, serve
from services.api.store import Store
from services.api.watcher import Watcher
from tests.integration.api_fakes import (
    CHURN,
    ROW,
    WARNINGS_ARE_ERRORS,
    Hanging,
    Switched,
    error,
    free_port,
    serving,
    source_here,
    version,
    wait_for,
)

pytestmark = WARNINGS_ARE_ERRORS
FAST = 0.05
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def kept(api_registry: Registry, api_settings: Settings) -> Path:
    """A serving folder after versions 1, 2 and 3 were champion in turn."""
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        for number in ("1", "2", "3"):
            api_registry.point("champion", number)
            wait_for(lambda number=number: version(client) == number)
    return api_settings.home / "serving" / "churn"


def test_without_any_model_the_api_is_alive_and_not_ready(tmp_path: Path) -> None:
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(tmp_path)}, tmp_path)
    with serving(create_app(settings, "churn", FAST)) as client:
        wait_for(lambda: error(client))
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
        assert client.get("/model").status_code == 503
        answered = client.post("/predict", json=ROW)
        assert (answered.status_code, answered.json()["detail"]) == (503, "no model is loaded yet; GET /model says why")
        assert client.get("/openapi.json").status_code == 200
    assert not (tmp_path / "mlflow.db").exists(), "looking must not create MLflow's database"


def test_a_registry_without_a_champion_is_not_ready_even_with_an_old_copy_on_disk(
    kept: Path, api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.client.delete_registered_model_alias("churn", "champion")
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        wait_for(lambda: error(client))
        assert error(client) == "no version has the alias champion yet"
        assert client.get("/ready").status_code == 503


def test_the_last_two_good_models_are_kept(kept: Path) -> None:
    assert sorted(p.name for p in kept.iterdir()) == [".lock", "2", "3", "last-good.json"]
    assert [v.number for v, _ in Store(kept).kept()] == ["3", "2"]


def test_a_swap_removes_older_models_and_nothing_else_that_lies_beside_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "spool").mkdir()
    for number in ("1", "2", "3"):
        with store.incoming() as folder:
            (folder / "model").mkdir()
            store.keep(folder / "model", Version(number, "run"))
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {"2", "3", "spool"}


def test_an_unreachable_registry_at_the_start_serves_the_last_good_model(kept: Path, api_settings: Settings) -> None:
    away = replace(api_settings, tracking_uri=f"sqlite:///{kept / 'gone.db'}")
    with serving(create_app(away, "churn", FAST, source_here(away))) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        about = client.get("/model").json()
        assert (about["version"], about["origin"]) == ("3", "disk")
        assert "MLflow does not answer" in about["last_error"]["message"]
        assert client.post("/predict", json=ROW).json()["version"] == "3"


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_last_good_model_gives_way_to_the_one_before(kept: Path, api_settings: Settings, damage: str) -> None:
    file = kept / "3" / "model.skops"
    file.write_bytes(file.read_bytes()[:1000]) if damage == "truncated" else shutil.rmtree(kept / "3")
    away = replace(api_settings, tracking_uri=f"sqlite:///{kept / 'gone.db'}")
    with serving(create_app(away, "churn", FAST, source_here(away))) as client:
        wait_for(lambda: version(client) == "2")
        assert client.post("/predict", json=ROW).json()["version"] == "2"


def test_a_half_downloaded_folder_is_never_served_and_is_cleared_away(kept: Path, api_settings: Settings) -> None:
    shutil.copytree(kept / "3", kept / ".incoming-abc" / "model")
    shutil.copytree(kept / "3", kept / "9")  # moved into place, but the process died before the pointer named it
    away = replace(api_settings, tracking_uri=f"sqlite:///{kept / 'gone.db'}")
    with serving(create_app(away, "churn", FAST, source_here(away))) as client:
        wait_for(lambda: version(client) == "3")
    assert not (kept / ".incoming-abc").exists()


def test_the_registry_is_preferred_to_the_copy_on_disk(
    kept: Path, api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        about = client.get("/model").json()
        assert (about["version"], about["origin"]) == ("1", "registry")


def test_a_copy_of_another_registry_gives_way_to_the_version_of_the_same_number(
    kept: Path, api_registry: Registry, api_settings: Settings
) -> None:
    pointer = kept / "last-good.json"
    pointer.write_text(pointer.read_text().replace(Store(kept).kept()[0][0].run_id, "of-another-registry"))
    source = Switched(source_here(api_settings), on=False)
    with serving(create_app(api_settings, "churn", FAST, source)) as client:
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert client.get("/model").json()["origin"] == "disk"
        source.on = True
        wait_for(lambda: client.get("/model").json()["origin"] == "registry")
        assert version(client) == "3"


def test_a_registry_that_hangs_holds_up_neither_the_start_nor_piles_up_looks(kept: Path) -> None:
    source, holder = Hanging(), Holder("churn")
    watcher = Watcher(source, Store(kept), holder, Metrics(holder), FAST, grace_seconds=0.1)
    watcher.start()
    wait_for(lambda: holder.current)
    assert holder.current.version.number == "3"
    assert source.waiting == 1
    source.let_go.set()
    watcher.stop()


@contextmanager
def process(home: Path, tracking_uri: str) -> Iterator[httpx.Client]:
    from driftloop.cli.children import answers

    port = free_port()
    env = os.environ | {"DRIFTLOOP_HOME": str(home), "MLFLOW_TRACKING_URI": tracking_uri}
    (home / "loop.toml").write_text(CHURN)
    with (home / "api.log").open("a") as log:
        command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "serve", str(home), "--port", str(port)]
        running = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/ready"), 60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        running.terminate()
        running.wait(20)


@pytest.mark.e2e
def test_a_real_process_swaps_in_time_and_starts_again_without_mlflow(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_settings.home.mkdir()
    api_registry.point("champion", "1")
    with process(api_settings.home, api_settings.tracking_uri) as client:
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        api_registry.point("champion", "2")
        assert wait_for(lambda: client.post("/predict", json=ROW).json()["version"] == "2") < 3
    with process(api_settings.home, NOWHERE) as client:
        about = client.get("/model").json()
        assert (about["version"], about["origin"]) == ("2", "disk")
    log = (api_settings.home / "api.log").read_text()
    assert "champion.swapped version=2 previous=1" in log
    assert "champion.loaded_from_disk version=2" in log
    assert "Traceback" not in log


def test_a_log_without_a_database_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(f'{CHURN}[serving]\nlog = "postgresql"\n')
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(tmp_path)}, tmp_path)
    with pytest.raises(ContractError, match="DRIFTLOOP_LOG_URL"):
        serve(tmp_path, settings, Address())


HEAVY = {"prefect", "evidently", "flows", "streamlit", "mlflow", "pandas", "sklearn", "scipy", "sqlalchemy", "shap"}


@pytest.mark.parametrize("module", ["services.api.app", "services.api.serving"])
def test_the_process_that_answers_holds_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_scribe_ships_without_pandas_and_scikit_learn() -> None:
    code = f"import sys, services.api.scribing, driftloop.log_tables; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['sqlalchemy']"
