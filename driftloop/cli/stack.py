"""The local processes behind `driftloop up`."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from driftloop import blank
from driftloop.cli.children import Child
from driftloop.errors import ContractError
from driftloop.settings import Settings

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    prefect: int
    mlflow: int
    api: int
    dashboard: int
    approvals: int

    def by_name(self) -> list[tuple[str, int]]:
        """Raises ContractError when two parts are given one port."""
        named = [("Prefect", self.prefect), ("MLflow", self.mlflow), ("API", self.api)]
        named += [("Dashboard", self.dashboard), ("Approvals", self.approvals)]
        if len({port for _, port in named}) < len(named):
            raise ContractError(f"two parts share a port: {', '.join(f'{what} {port}' for what, port in named)}.")
        return named

    def url(self, part: str) -> str:
        return f"http://{LOCALHOST}:{getattr(self, part)}"


def stack(folder: Path, settings: Settings, ports: Ports) -> list[Child]:
    """Prefect server first, then MLflow UI, schedules, API, approvals and dashboard, all on the same state folder.

    A service that the environment names already (PREFECT_API_URL, MLFLOW_TRACKING_URI) is used, not started.
    """
    blank.provide("prefect", settings.home / "prefect" / "prefect.db")
    if settings.mlflow_file:
        blank.provide("mlflow", settings.mlflow_file)
    logs, python = settings.home / "logs", [sys.executable, "-W", "ignore", "-m"]
    prefect_api = settings.prefect_api_url or f"{ports.url('prefect')}/api"
    mlflow_ui = settings.mlflow_ui or ports.url("mlflow")
    env = settings.environment() | {"PREFECT_API_URL": prefect_api, "DRIFTLOOP_MLFLOW_UI": mlflow_ui}
    # made anew at each start, unless the environment has one: only the dashboard knows it
    token = {"DRIFTLOOP_APPROVAL_TOKEN": os.environ.get("DRIFTLOOP_APPROVAL_TOKEN") or secrets.token_urlsafe(32)}
    parts = [
        Child(
            "schedules",
            [*python, "flows.deployments", str(folder.absolute())],
            None,
            logs / "schedules.log",
            env,
        ),
        Child(
            "API",
            [*python, "driftloop.cli", "serve", str(folder.absolute()), "--port", str(ports.api)],
            f"{ports.url('api')}/health",
            logs / "api.log",
            env,
        ),
        Child(
            "approvals",
            [*python, "services.approvals", str(folder.absolute()), "--port", str(ports.approvals)],
            f"{ports.url('approvals')}/health",
            logs / "approvals.log",
            env | token,
        ),
        Child(
            "dashboard",
            [
                *python,
                "streamlit",
                "run",
                str(Path(__file__).parents[2] / "services" / "dashboard" / "app.py"),
                f"--server.port={ports.dashboard}",
                f"--server.address={LOCALHOST}",
                "--server.headless=true",
                "--browser.gatherUsageStats=false",
                "--client.toolbarMode=viewer",
            ],
            f"{ports.url('dashboard')}/_stcore/health",
            logs / "dashboard.log",
            env
            | token
            | {
                "DRIFTLOOP_LOOP_DIR": str(folder.absolute()),
                "DRIFTLOOP_API_URL": ports.url("api"),
                "DRIFTLOOP_APPROVALS_URL": ports.url("approvals"),
            },
        ),
    ]
    if settings.mlflow_ui is None:
        parts.insert(0, _mlflow(settings, ports, python, logs))
    if settings.prefect_api_url is None:
        parts.insert(0, _prefect(ports, python, logs, env))
    return parts


def _prefect(ports: Ports, python: list[str], logs: Path, env: dict[str, str]) -> Child:
    command = [*python, "prefect", "server", "start", "--host", LOCALHOST, "--port", str(ports.prefect)]
    return Child("Prefect", command, f"{ports.url('prefect')}/api/health", logs / "prefect.log", env)


def _mlflow(settings: Settings, ports: Ports, python: list[str], logs: Path) -> Child:
    command = [
        *python,
        "mlflow",
        "server",
        f"--backend-store-uri={settings.tracking_uri}",
        f"--default-artifact-root={(settings.home / 'artifacts').as_uri()}",
        f"--host={LOCALHOST}",
        f"--port={ports.mlflow}",
        "--workers=1",
    ]
    # its job runner, for evaluations of language models, is eight processes more, each with an import of MLflow
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Child("MLflow", command, f"{ports.url('mlflow')}/health", logs / "mlflow.log", env)
