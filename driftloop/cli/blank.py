"""Make the blank databases of the installed Prefect and MLflow: ``python -m driftloop.cli.blank``."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from driftloop.blank import kept
from driftloop.registry import Registry
from driftloop.settings import Settings, apply_defaults
from flows.server import prefect_server

# keys and ids, and an experiment that stores below the folder it was made in: the library makes its own at its start
OF_ONE_STATE_FOLDER = {"prefect": ("configuration",), "mlflow": ("experiments",)}


def main() -> None:
    apply_defaults(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings.from_env({"DRIFTLOOP_HOME": folder}, home)
        os.environ.update({"MLFLOW_LOGGING_LEVEL": "ERROR"})
        with prefect_server(home / "prefect", os.environ) as server:
            Registry(settings, "blank").aliases()  # MLflow makes its tables at the first look
            server.wait()
        _keep("mlflow", home / "mlflow.db")
        _keep("prefect", home / "prefect" / "prefect.db")


def _keep(library: str, made: Path) -> None:
    """A compact copy in one file, without what belongs to one state folder."""
    target = kept(library)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with sqlite3.connect(made) as database:
        for table in OF_ONE_STATE_FOLDER.get(library, ()):
            database.execute(f"DELETE FROM {table}")  # noqa: S608  # our own constant
        database.commit()
        database.execute("VACUUM INTO ?", (str(unfinished),))
    unfinished.replace(target)


if __name__ == "__main__":
    main()
