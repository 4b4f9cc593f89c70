"""Runs the API as a process."""

from __future__ import annotations

import logging
import os

from driftloop.settings import Settings, apply_defaults

# A look at the alias that takes longer than this is no answer; the next one is never far.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
SHUTDOWN_SECONDS = 10


def serve(
    settings: Settings, loop_name: str, host: str = "127.0.0.1", port: int = 8000, poll_seconds: float = 2.0
) -> None:
    """Serve the loop's champion until SIGTERM or Ctrl-C, in one process: the champion is one reference."""
    for key, value in PATIENCE.items():
        os.environ.setdefault(key, value)
    apply_defaults(os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # only now: MLflow reads the environment when it is imported
    import mlflow.artifacts
    import mlflow.models  # noqa: F401  # here, so that its seconds do not count against the first look
    import uvicorn

    from services.api.app import create_app

    app = create_app(settings, loop_name, poll_seconds)
    uvicorn.run(
        app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
