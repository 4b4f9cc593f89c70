"""A real PostgreSQL server from the machine's packages: ``pytest_plugins = ["tests.integration.postgres"]``.

It lives as long as the test session. PYTEST_DONT_REWRITE: the collection of doctests may import it first.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.server import free_port

# nothing here outlives the tests, so nothing needs to reach the disk
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "16MB"}
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server of the session's own on a free loopback port, without a database's name."""
    programs, identity = _programs(), _identity()
    if programs is None:
        pytest.skip("no PostgreSQL server here: initdb is neither on the PATH nor in /usr/lib/postgresql/*/bin")
    if identity is None:
        pytest.skip("PostgreSQL refuses to be run by root, and there is no user postgres or nobody to run it")
    port = free_port()
    # not below pytest's folder, which only the user who runs the tests may enter
    with tempfile.TemporaryDirectory(prefix="driftloop-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        data, log = folder / "data", folder / "log"

        def call(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [programs / program, "-D", data, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                **identity,
            )
            if done.returncode:
                said = log.read_text() if log.exists() else done.stdout
                pytest.fail(f"{program} ended with {done.returncode}: {done.stderr}{said}", pytrace=False)

        call("initdb", "--auth=trust", "--username=driftloop", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = " ".join(f"-c {key}='{value}'" for key, value in {**SETTINGS, "port": port}.items())
        call("pg_ctl", "start", "--wait", "--timeout=100", f"--log={log}", f"--options={options}")
        try:
            yield f"postgresql://driftloop@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "stop", "--wait", "--mode=fast")


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """The ledger's address of a fresh database, gone after the test."""
    name = f"ledger_{next(_numbers)}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield f"{postgres.replace('postgresql', 'postgresql+psycopg')}/{name}"
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version's; Debian keeps it off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((file.parent for file in installed), key=lambda f: float(f.parent.name), default=None)


def _identity() -> dict[str, Any] | None:
    """As whom to run the server, in subprocess.run's words: nobody else, unless the tests are run by root."""
    if os.geteuid():
        return {}
    users = {user.pw_name: user for user in pwd.getpwall()}
    user = users.get("postgres") or users.get("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else None
