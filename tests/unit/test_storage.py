"""What a storage's refusals mean, in its client's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftloop.errors import ContractError, DriftloopError, Unreachable
from driftloop.storage import answering, locate, shown

LISTING = "When getting information for key 'windows' in bucket 'shop': AWS Error {} operation: {}"
GONE = "curlCode: 7, Could not connect to server; Details: Failed to connect to 127.0.0.1 port 1"


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        (LISTING.format("NETWORK_CONNECTION during HeadObject", GONE), Unreachable, "Could not connect to server"),
        (LISTING.format("SLOW_DOWN during GetObject", "Reduce your rate"), Unreachable, "Reduce your rate"),
        (LISTING.format("UNKNOWN (HTTP status 503) during HeadObject", "No body."), Unreachable, "HTTP status 503"),
        (LISTING.format("ACCESS_DENIED during HeadObject", "No response body."), DriftloopError, "AWS_ACCESS_KEY_ID"),
        (LISTING.format("INVALID_ACCESS_KEY_ID during X", "The key AKIA is not"), DriftloopError, "does not let us in"),
        (LISTING.format("SIGNATURE_DOES_NOT_MATCH during X", "AKIA"), DriftloopError, "does not let us in"),
        (LISTING.format("EXPIRED_TOKEN during X", "AKIA"), DriftloopError, "does not let us in"),
        (LISTING.format("UNKNOWN (HTTP status 403) during X", "AKIA"), DriftloopError, "does not let us in"),
        (LISTING.format("NO_SUCH_BUCKET during ListObjectsV2", "(Request ID: 1)"), ContractError, "no such bucket"),
    ],
)
def test_a_refusal_is_told_by_its_kind_and_never_with_a_key(said, error, told):
    with pytest.raises(DriftloopError, match=told) as raised, answering("shop/windows"):
        raise OSError(said)
    assert type(raised.value) is error
    assert str(raised.value).startswith("shop/windows: the storage ")
    assert "AKIA" not in str(raised.value)


def test_what_is_wrong_with_a_file_stays_as_it_is():
    with pytest.raises(FileNotFoundError, match="gone"), answering("shop/windows"):
        raise FileNotFoundError(2, "gone")
    with pytest.raises(OSError, match="Couldn't deserialize thrift"), answering("shop/windows"):
        raise OSError("Couldn't deserialize thrift: don't know what type")


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/x?access_key=AKIA&secret_key=s3cret",
        "s3://bucket/x?region=eu&Session-Token=s3cret%zz",
        "s3://bucket/x?s3cret_password",
        "abfs://bucket/x?sig=s3cret",
        "s3://bucket/x?endpoint_override=http://AKIA:s3cret@host",
        "s3://AKIA:s3cret@bucket/x",
    ],
)
def test_an_address_that_holds_a_key_is_refused_without_being_told(address):
    with pytest.raises(ContractError, match=r"path holds a key.* in AWS_ACCESS_KEY_ID and AWS_SEC") as raised:
        locate(address, Path(), "windows.path")
    assert "AKIA" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["s3://bucket/x?user=s3cret%zz", "s3://bucket/ x?user=s3cret", "no://x?user=s3cret"]
)
def test_an_address_that_is_not_understood_is_told_without_its_query(address):
    with pytest.raises(ContractError, match=r"windows\.path = '\w+://") as raised:
        locate(address, Path(), "windows.path")
    assert "s3cret" not in str(raised.value)
    assert shown(address) in str(raised.value)


def test_a_path_is_told_whole_and_an_address_without_its_query():
    assert [shown(path) for path in ("a?b#c", "s3://b/x?region=eu", "s3://b/x#y")] == ["a?b#c", "s3://b/x", "s3://b/x"]
