"""Where state lives, from an injected mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftloop.settings import DEFAULTS, Settings, apply_defaults, without_password

CWD = Path("/work/here")
ELSEWHERE = {
    "DRIFTLOOP_HOME": "/state",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "DRIFTLOOP_LEDGER_URL": "postgresql+psycopg://db/ledger",
    "PREFECT_API_URL": "http://prefect:4200/api",
    "DRIFTLOOP_MLFLOW_UI": "https://mlflow.example.org",
}


def test_everything_lives_beside_the_working_directory_by_default() -> None:
    assert Settings.from_env({}, CWD) == Settings(
        home=CWD / ".driftloop",
        tracking_uri="sqlite:////work/here/.driftloop/mlflow.db",
        ledger_url="sqlite:////work/here/.driftloop/ledger.db",
        prefect_api_url=None,
        mlflow_ui=None,
    )


@pytest.mark.parametrize(("given", "home"), [("state", CWD / "state"), ("/state", Path("/state"))])
def test_home_may_be_elsewhere_and_takes_the_rest_along(given: str, home: Path) -> None:
    found = Settings.from_env({"DRIFTLOOP_HOME": given}, CWD)
    assert found.home == home
    assert found.ledger_url == f"sqlite:///{home}/ledger.db"
    assert found.artifacts == home / "artifacts"


def test_the_prediction_log_may_have_a_database_of_its_own_and_children_are_told() -> None:
    found = Settings.from_env({"DRIFTLOOP_LOG_URL": "postgresql+psycopg://db/log"}, CWD)
    assert found.log_url == found.environment()["DRIFTLOOP_LOG_URL"] == "postgresql+psycopg://db/log"
    assert Settings.from_env({"DRIFTLOOP_LOG_URL": ""}, CWD) == Settings.from_env({}, CWD)
    assert "DRIFTLOOP_LOG_URL" not in Settings.from_env({}, CWD).environment()


def test_each_part_may_live_elsewhere() -> None:
    assert Settings.from_env(ELSEWHERE, CWD) == Settings(Path("/state"), *list(ELSEWHERE.values())[1:])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_variable_that_is_empty_counts_as_not_set(name: str) -> None:
    assert Settings.from_env({name: ""}, CWD) == Settings.from_env({}, CWD)


@pytest.mark.parametrize(
    ("tracking", "ui"),
    [("http://mlflow:5000", "http://mlflow:5000"), ("sqlite:///x.db", None), ("databricks", None)],
)
def test_a_tracking_server_is_its_own_page(tracking: str, ui: str | None) -> None:
    assert Settings.from_env({"MLFLOW_TRACKING_URI": tracking}, CWD).mlflow_ui == ui


def test_a_tracking_server_decides_where_artifacts_lie() -> None:
    assert Settings.from_env(ELSEWHERE, CWD).artifacts is None


@pytest.mark.parametrize("env", [{}, {"DRIFTLOOP_HOME": "/state"}, ELSEWHERE], ids=["default", "home", "elsewhere"])
def test_a_process_given_the_settings_as_its_environment_has_the_same(env: dict[str, str]) -> None:
    settings = Settings.from_env(env, CWD)
    assert Settings.from_env(settings.environment(), Path("/another/folder")) == settings


def test_telemetry_is_off_and_patience_short_by_default() -> None:
    env: dict[str, str] = {}
    apply_defaults(env)
    assert env == DEFAULTS
    assert (env["DO_NOT_TRACK"], env["MLFLOW_DISABLE_TELEMETRY"]) == ("1", "true")
    assert env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_the_user_set_stays(name: str) -> None:
    env = {name: "mine", "OTHER": "untouched"}
    apply_defaults(env)
    assert env == DEFAULTS | {name: "mine", "OTHER": "untouched"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://loop:s3cret@db:5432/ledger", "postgresql+psycopg://loop:***@db:5432/ledger"),
        ("postgresql://loop:s3/cr:et@db/ledger", "postgresql://loop:***@db/ledger"),
        ("https://:token@mlflow", "https://:***@mlflow"),
        ("postgresql://loop@db/ledger", "postgresql://loop@db/ledger"),
        ("http://mlflow:5000/path", "http://mlflow:5000/path"),
        ("sqlite:////work/ledger.db", "sqlite:////work/ledger.db"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
