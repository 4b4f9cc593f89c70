"""Champions out of the MLflow registry, without ever creating what is only to be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from driftloop.errors import Unreachable
from driftloop.registry import Registry, Version
from driftloop.settings import Settings

SQLITE = "sqlite:///"


class RegistrySource:
    """A Source over one loop's registered model."""

    def __init__(self, settings: Settings, loop_name: str) -> None:
        self._registry = Registry(settings, loop_name)
        uri = settings.tracking_uri
        self._database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None

    def champion(self) -> Version | None:
        """The version behind the alias. Raises Unreachable when the registry does not answer."""
        if self._database and not _holds_models(self._database):
            return None
        return self._registry.champion_version()

    def download(self, version: str, folder: Path) -> Path:
        return self._registry.download(version, folder)


def _holds_models(database: Path) -> bool:
    """Whether anything was registered yet.

    MLflow creates and migrates a SQLite file that it is pointed at, and two processes that do so at once break each
    other: the first run creates it, the API only looks. Raises Unreachable while there is no database.
    """
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM registered_models LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise Unreachable(f"MLflow's database {database} cannot be read ({error}).") from None
