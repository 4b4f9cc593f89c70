"""Champions out of the MLflow registry, looked at without MLflow, whose import alone is twice this process."""

from __future__ import annotations

import base64
import http.client
import json
import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop.errors import Unreachable
from driftloop.facts import Version
from driftloop.settings import Settings, without_password
from services.api import fetching

SQLITE = "sqlite:///"
CHAMPION, CHALLENGER = "champion", "challenger"
PATIENCE_SECONDS = 10.0  # a look that takes longer is no answer; the next one is never far
# a server that needs these is asked by MLflow's own client
SPECIAL = ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH",
           "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_AUTH")  # fmt: skip
QUERY = """
SELECT a.alias, v.version, v.run_id FROM registered_model_aliases a
JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE a.name = ?
"""


@dataclass(frozen=True)
class Aliases:
    """What the registry says of a loop at one look; None where an alias names nothing."""

    champion: Version | None = None
    challenger: Version | None = None


class RegistrySource:
    """A Source over one loop's registered model. ``fetch`` downloads and verifies a version, in a process of its own.

    Nothing is created by a look: MLflow creates and migrates a SQLite file that it is pointed at, and two processes
    that do so at once break each other.
    """

    def __init__(
        self, settings: Settings, loop_name: str, fetch: Callable[[fetching.Request], Path] = fetching.fetch
    ) -> None:
        self._settings, self._loop, self._fetch = settings, loop_name, fetch
        self._runs: dict[str, str] = {}
        self._ask = self._how(settings.tracking_uri, os.environ)

    def aliases(self) -> Aliases:
        """The versions behind the two aliases. Raises Unreachable when the registry does not answer."""
        found = self._ask()
        return Aliases(found.get(CHAMPION), found.get(CHALLENGER))

    def download(self, version: str, folder: Path) -> Path:
        """A complete, verified model folder. Raises ArtifactError and Unreachable."""
        return self._fetch(fetching.Request(self._settings, self._loop, version, folder))

    def _how(self, uri: str, env: Mapping[str, str]) -> Callable[[], dict[str, Version]]:
        if uri.startswith(SQLITE):
            return self._from_sqlite
        if uri.startswith(("http://", "https://")) and not any(env.get(name) for name in SPECIAL):
            return self._from_server
        return self._from_mlflow

    def _from_sqlite(self) -> dict[str, Version]:
        database = Path(self._settings.tracking_uri.removeprefix(SQLITE))
        try:
            with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(database))}?mode=ro", uri=True)) as connection:
                rows = connection.execute(QUERY, (self._loop,)).fetchall()
        except sqlite3.Error as error:
            raise Unreachable(f"MLflow's database {database} cannot be read ({error}).") from None
        return {alias: Version(str(number), str(run or "")) for alias, number, run in rows}

    def _from_server(self) -> dict[str, Version]:
        model = self._get("registered-models/get", name=self._loop)
        if model is None:
            return {}
        about = model.get("registered_model", {})
        if about.get("name") != self._loop:  # a proxy's empty 200 would otherwise read as a model without champion
            raise Unreachable(f"{self._address} answers, and does not name the model {self._loop}.")
        named = {alias["alias"]: str(alias["version"]) for alias in about.get("aliases", [])}
        return {alias: Version(number, self._run(number)) for alias, number in named.items()}

    def _run(self, number: str) -> str:
        """The run that made a version never changes, so it is asked for once."""
        if number not in self._runs:
            found = self._get("model-versions/get", name=self._loop, version=number)
            if found is None:
                raise Unreachable(f"{self._address} names version {number} and does not hold it.")
            self._runs[number] = str(found["model_version"].get("run_id") or "")
        return self._runs[number]

    def _get(self, what: str, **query: str) -> dict[str, Any] | None:
        """The server's answer; None where it holds no such thing."""
        url = urllib.parse.urlsplit(self._settings.tracking_uri)
        host = url.netloc.rpartition("@")[2]
        path = f"{url.path.rstrip('/')}/api/2.0/mlflow/{what}"
        request = urllib.request.Request(
            urllib.parse.urlunsplit((url.scheme, host, path, urllib.parse.urlencode(query), "")),
            headers=_credentials(url, os.environ),
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                missing = error.code == 404 and _code(error) == "RESOURCE_DOES_NOT_EXIST"
            if missing:
                return None
            raise Unreachable(f"{self._address} answers {error.code}.") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._address} does not answer ({error}).") from None
        if not isinstance(found, dict):
            raise Unreachable(f"{self._address} is no MLflow server.")
        return found

    @property
    def _address(self) -> str:
        return f"MLflow at {without_password(self._settings.tracking_uri)}"

    def _from_mlflow(self) -> dict[str, Version]:
        from driftloop.registry import Registry

        registry = Registry(self._settings, self._loop)
        return {alias: registry.version(number) for alias, number in registry.aliases().items()}


def _credentials(url: urllib.parse.SplitResult, env: Mapping[str, str]) -> dict[str, str]:
    """As MLflow's client has them: from the address, or from the environment."""
    if token := env.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = env.get("MLFLOW_TRACKING_USERNAME") or urllib.parse.unquote(url.username or "")
    password = env.get("MLFLOW_TRACKING_PASSWORD") or urllib.parse.unquote(url.password or "")
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _code(error: urllib.error.HTTPError) -> object:
    try:
        return json.load(error).get("error_code")
    except (ValueError, AttributeError):
        return None
