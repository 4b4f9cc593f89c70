"""Columns compared by the workers of a cluster: as threads compare them, also when a worker dies on the way."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from threading import Thread

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from driftloop.columnar import Column, compare, judged
from driftloop.contract import Compute
from driftloop.errors import ContractError, DriftloopError, Unreachable
from driftloop.monitoring import drift_between
from flows import comparing_columns
from flows.comparing_columns import measure_by, require
from flows.server import free_port
from tests.integration.conftest import month
from tests.integration.held import Full, Held, Numbers

COLUMNS = [Column("fee" * times, numeric=True) for times in (1, 2, 3, 4, 5)]


pytest_plugins = ["tests.integration.seaweed"]


@pytest.fixture(scope="module")
def cluster(prefect_api, s3_server):
    """Two worker processes, beside this one, that have the key to the storage."""
    distributed = pytest.importorskip("distributed", reason="driftloop[dask] is not installed")
    few = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**few, env=s3_server.env) as started:
        yield started.scheduler_address


def kill_reader(side, column, killed):
    """Kill the first process that reads the column, and let all others read on."""
    deadline = time.monotonic() + 60
    while not (readers := side.readers(column)) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.extend(readers)
    os.kill(readers[0], signal.SIGKILL)
    (side.folder / "go").touch()


def test_a_worker_killed_midway_changes_nothing_in_the_result(cluster, tmp_path):
    before, now = Held(1, tmp_path, held="feefee"), Held(3, tmp_path)
    killed = []
    killer = Thread(target=kill_reader, args=(before, "feefee", killed))
    killer.start()
    found = measure_by(Compute(runner="dask", address=cluster))(before, now, COLUMNS, compare)
    killer.join()
    assert found == judged(before, now, COLUMNS, compare, threads=2)
    others = [reader for reader in before.readers("feefee") if reader != os.getpid()]
    assert len(others) == 2, "another worker read it again"
    assert killed[0] in others
    everywhere = {reader for column in COLUMNS for reader in before.readers(column.name)}
    assert len(everywhere - {os.getpid()}) >= 2


def test_windows_on_storage_are_read_by_the_workers_themselves(cluster, bucket, loop, monitor, monkeypatch):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace('labels = "labels"', f'path = "{bucket.url("windows")}"'))
    loop.set("drift", engine="columnar")
    loop.set("compute", runner="dask", address=cluster)
    for number in (1, 2):
        bucket.put(f"windows/2024-0{number}.parquet", month(number))
    work = loop.open()
    here = drift_between(work.loop, [work.read("2024-01")], [work.read("2024-02")]).drift
    monkeypatch.setattr(comparing_columns, "in_threads", None)
    monitor("2024-01")
    drift = monitor("2024-02")["drift"]
    assert drift["engine"] == "columnar"
    assert drift["columns"] == [asdict(column) for column in here.columns]
    assert drift["target"] == asdict(here.target)


def test_what_goes_wrong_on_a_worker_is_told_with_the_worker(cluster, tmp_path):
    with pytest.raises(DriftloopError, match=r"worker on .* failed at column fee: .*No space left"):
        measure_by(Compute(runner="dask", address=cluster))(Full(), Held(1, tmp_path), COLUMNS[:1], compare)


def test_a_cluster_that_does_not_answer_is_unreachable(prefect_api, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="driftloop[dask] is not installed")
    monkeypatch.setattr(comparing_columns, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(comparing_columns, "PAUSES", (0,))
    address = f"tcp://127.0.0.1:{free_port()}"
    tries = []
    monkeypatch.setattr(comparing_columns.time, "sleep", tries.append)
    with pytest.raises(Unreachable, match=rf"the dask cluster at {address} does not answer: .*correct compute.address"):
        measure_by(Compute(runner="dask", address=address))(Held(1, tmp_path), Held(2, tmp_path), COLUMNS, compare)
    assert 0 in tries


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ZeroDivisionError("killed"), DriftloopError, "the dask cluster of this machine gave up: killed"),
        (RuntimeError("Failed to reach API at http://127.0.0.1:1/api"), Unreachable, "Name a server that it reaches"),
    ],
)
def test_how_a_cluster_fails_is_told_as_what_it_is(prefect_api, monkeypatch, error, kind, told):
    failures = (ConnectionError,), (ZeroDivisionError,)
    monkeypatch.setattr(comparing_columns, "_dask", lambda _: (*failures, ThreadPoolTaskRunner()))

    def judge(*_):
        raise error

    with pytest.raises(kind, match=told):
        measure_by(Compute(runner="dask"))(Numbers(), Numbers(), COLUMNS[:1], judge)


def test_ray_gives_the_same(prefect_api, tmp_path):
    ray = pytest.importorskip("ray", reason="driftloop[ray] is not installed")
    before, now = Held(1, tmp_path), Held(3, tmp_path)
    try:
        found = measure_by(Compute(runner="ray"))(before, now, COLUMNS, compare)
    finally:
        ray.shutdown()
    assert os.getpid() not in before.readers("fee")
    assert found == judged(before, now, COLUMNS, compare)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_told_before_anything_runs(runner, monkeypatch):
    monkeypatch.setattr(comparing_columns, "find_spec", lambda name: None)
    with pytest.raises(ContractError, match=rf"pip install 'driftloop\[{runner}\]'"):
        require(Compute(runner=runner), {})
    require(Compute(), {})


def test_workers_elsewhere_need_a_prefect_server_that_they_reach(monkeypatch):
    monkeypatch.setattr(comparing_columns, "find_spec", lambda name: name)
    there = Compute(runner="dask", address="tcp://dask.example:8786")
    with pytest.raises(ContractError, match=r"report to Prefect, which is at http://127\.0\.0\.1:4200/api"):
        require(there, {"PREFECT_API_URL": "http://127.0.0.1:4200/api"})
    require(there, {"PREFECT_API_URL": "http://prefect.example:4200/api"})
    require(Compute(runner="dask", address="tcp://127.0.0.1:8786"), {"PREFECT_API_URL": "http://127.0.0.1:4200/api"})
