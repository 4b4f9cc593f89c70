"""Where a run keeps its state: read once from an injected mapping, then frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    # MLflow's own patience is minutes; ours is a few tries with an answer that names the address
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for what was asked
    # a server forgets leases kept in memory when it ends, and the loop's slot would stay taken by a killed run forever
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "2",  # how often a waiting run asks again
}


@dataclass(frozen=True)
class Settings:
    """Addresses of the five places state lives in.

    ``home`` holds everything by default; a URL from the environment moves one part elsewhere.
    ``prefect_api_url`` is None when no server was named: a local one is then started for the run.
    ``mlflow_ui`` is where a person's browser finds MLflow, None when it runs nowhere.
    ``git_commit`` is told of models where the loop's folder is no repository, as in a container.
    ``log_url`` is the database of the prediction log, None where it was not named: see ``prediction_log.open_store``.
    """

    home: Path
    tracking_uri: str
    ledger_url: str
    prefect_api_url: str | None
    mlflow_ui: str | None
    git_commit: str = "unknown"
    log_url: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str], cwd: Path) -> Settings:
        """Read DRIFTLOOP_HOME, _LEDGER_URL, _LOG_URL, _MLFLOW_UI, _GIT_COMMIT, MLFLOW_TRACKING_URI, PREFECT_API_URL."""
        tracking = env.get("MLFLOW_TRACKING_URI")
        home = (cwd / (env.get("DRIFTLOOP_HOME") or ".driftloop")).absolute()
        return cls(
            home=home,
            tracking_uri=tracking or f"sqlite:///{home / 'mlflow.db'}",
            ledger_url=env.get("DRIFTLOOP_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            prefect_api_url=env.get("PREFECT_API_URL") or None,
            mlflow_ui=env.get("DRIFTLOOP_MLFLOW_UI")
            or (tracking if tracking and tracking.startswith("http") else None),
            git_commit=env.get("DRIFTLOOP_GIT_COMMIT") or "unknown",
            log_url=env.get("DRIFTLOOP_LOG_URL") or None,
        )

    @property
    def artifacts(self) -> Path | None:
        """Where MLflow keeps files when it is a local database; None when a server decides."""
        return self.home / "artifacts" if self.tracking_uri.startswith("sqlite:") else None

    @property
    def mlflow_file(self) -> Path | None:
        """The file of MLflow's database when it is the one in ``home``."""
        file = self.home / "mlflow.db"
        return file if self.tracking_uri == f"sqlite:///{file}" else None

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for processes this one starts."""
        env = {
            "DRIFTLOOP_HOME": str(self.home),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "DRIFTLOOP_LEDGER_URL": self.ledger_url,
            "PREFECT_HOME": str(self.home / "prefect"),
        }
        optional = {
            "PREFECT_API_URL": self.prefect_api_url,
            "DRIFTLOOP_MLFLOW_UI": self.mlflow_ui,
            "DRIFTLOOP_LOG_URL": self.log_url,
        }
        return env | {name: value for name, value in optional.items() if value}


def apply_defaults(env: MutableMapping[str, str]) -> None:
    """Telemetry off and patience short, unless the user said otherwise."""
    for key, value in DEFAULTS.items():
        env.setdefault(key, value)


def without_password(url: str) -> str:
    """The address without its secret, fit for an error message.

    >>> without_password("postgresql+psycopg://loop:s3cret@db:5432/ledger")
    'postgresql+psycopg://loop:***@db:5432/ledger'
    """
    url = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)
