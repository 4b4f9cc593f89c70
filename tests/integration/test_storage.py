"""Loops whose windows and labels lie on S3-compatible storage, on a real server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from driftloop.cli.__main__ import cli
from driftloop.errors import ContractError, DriftloopError, Unreachable
from driftloop.windows import FolderWindows
from tests.integration.conftest import month
from tests.integration.seaweed import stoppable

pytest_plugins = ["tests.integration.seaweed"]


def deliver(bucket, window, rows):
    bucket.put(f"windows/{window}.parquet", rows.drop(columns="churned"))
    bucket.put(f"labels/{window}.csv", rows[["customer", "churned"]])


def on(path, labels=None, folder="."):
    return FolderWindows(folder, path, labels, entity="customer", target="churned")


def call(*args):
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def test_a_loop_is_drawn_up_checked_and_monitored_on_storage(bucket, tmp_path, loop, monitor, monkeypatch):
    deliver(bucket, "2024-01", month(1))
    deliver(bucket, "2024-02", month(2))
    folder = tmp_path / "drawn"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{bucket.host}")
    windows, labels = f"s3://{bucket.name}/windows", bucket.url("labels")
    done = call("init", folder, "--windows", windows, "--labels", labels)
    assert done.exit_code == 0, done.output
    assert f'path = "{windows}"' in (folder / "loop.toml").read_text()
    assert "binary loop 'drawn' on 'churned', 2 numeric and 1 categorical features" in done.output
    done = call("check", folder, "--json")
    assert done.exit_code == 0, done.output
    assert [row["labelled"] for row in json.loads(done.stdout)["windows"]] == [600, 600]

    loop.set("windows", path=windows)
    text = (loop.folder / "loop.toml").read_text()
    (loop.folder / "loop.toml").write_text(text.replace('labels = "labels"', f'labels = "{labels}"'))
    assert monitor("2024-01")["champion"]["version"] == "1"
    first = monitor("2024-02")
    assert first["retrain"]["reason"] == "quiet"
    assert monitor("2024-02")["repeated"]
    told = "".join(str(entry.details) for entry in loop.open().ledger.entries()) + json.dumps(first)
    assert bucket.secret not in told
    assert bucket.key not in told


def test_what_is_stored_is_told_apart_without_being_read(bucket):
    deliver(bucket, "2024-01", month(1))
    windows = on(bucket.url("windows"), bucket.url("labels"))
    digest = windows.digest("2024-01")
    assert digest == windows.digest("2024-01")
    bucket.put("labels/2024-01.csv", month(2)[["customer", "churned"]])
    assert windows.digest("2024-01") != digest


def test_a_key_that_is_not_known_is_refused_without_being_told(bucket, monkeypatch):
    deliver(bucket, "2024-01", month(1))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(DriftloopError, match=r"does not let us in \(ACCESS_DENIED\)\. Set AWS_ACCESS_KEY_ID") as told:
        on(bucket.url("windows")).ids()
    assert not isinstance(told.value, Unreachable)
    assert "s3cret" not in str(told.value)
    assert bucket.key not in str(told.value)


def test_without_any_key_it_is_said_which_variables_to_set(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(DriftloopError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        on(bucket.url("windows")).ids()


@pytest.mark.parametrize("path", ["s3://nobody-s/windows", "s3://{0}/nothing"])
def test_a_bucket_or_prefix_that_is_not_there_is_named(bucket, path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{bucket.host}")
    path = path.format(bucket.name)
    with pytest.raises(ContractError, match=rf"windows\.path = '{path[5:]}' does not exist.*correct the path"):
        on(path).ids()


def test_a_key_in_the_address_is_refused_and_not_repeated(tmp_path):
    done = call("init", tmp_path, "--windows", "s3://AKIA:s3/cret@bucket/windows")
    assert isinstance(done.exception, ContractError)
    told = f"{done.exception}{done.output}"
    assert "windows.path holds a key" in told
    assert "cret" not in told
    assert "AKIA" not in told


def test_an_unknown_option_of_an_address_is_named():
    with pytest.raises(ContractError, match=r"windows\.path = .*Unexpected query parameter in S3 URI: 'endpoint'"):
        on("s3://bucket/windows?endpoint=there")


def test_a_window_is_not_to_blame_for_a_server_that_went_before_it_was_read(bucket):
    deliver(bucket, "2024-01", month(1))
    with stoppable(bucket.host) as (host, stop):
        windows = on(bucket.url("windows", host))
        assert windows.ids() == ["2024-01"]
        listed = windows.window_files("2024-01")
        windows.window_files = lambda _: listed
        stop()
        with pytest.raises(Unreachable, match=rf"{bucket.name}/windows/2024-01\.parquet: the storage does not answer"):
            windows.read("2024-01")
