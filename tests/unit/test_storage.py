"""What a storage's refusals mean, in its client's own words."""

from __future__ import annotations

import pytest

from driftloop.errors import ContractError, DriftloopError, Unreachable
from driftloop.storage import answering

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
