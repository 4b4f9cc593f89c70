"""Where files lie: in a folder, or on S3-compatible storage by URL, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.fs

from driftloop.errors import ContractError, DriftloopError, Unreachable

KEY = re.compile(r"key|secret|token|password|^sig$", re.IGNORECASE)  # names in an address's query
# by Arrow's names for the codes that S3 answers with
REFUSED = (
    "ACCESS_DENIED",
    "ACCOUNT",
    "CLIENT_TOKEN",
    "CREDENTIAL",
    "EXPIRED",
    "INVALID_ACCESS_KEY",
    "SIGNATURE",
    "TOKEN",
    "UNAUTHORIZED",
    "UNRECOGNIZED_CLIENT",
    "HTTP status 401",
    "HTTP status 403",
)


def locate(path: str, folder: Path, key: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system and the folder on it that ``path`` means; ``key`` of loop.toml holds it."""
    if "://" in path:
        if _holds_a_key(path):
            raise ContractError(
                f"loop.toml: {key} holds a key, and is read by many: expected s3://bucket/prefix here, and the key in "
                f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        try:
            with answering(shown(path)):
                filesystem, root = pa.fs.FileSystem.from_uri(path)
        except pa.ArrowInvalid as error:
            said = str(error).replace(path, shown(path))  # some of them repeat the address
            raise ContractError(f"loop.toml: {key} = {shown(path)!r}: {said}.") from None
        return filesystem, root
    place = (folder / path).absolute()
    if place.is_file():
        raise ContractError(f"loop.toml: {key} = {path!r} is a file; expected the folder that holds them.")
    return pa.fs.LocalFileSystem(), str(place)


def shown(path: str) -> str:
    """A path for messages; an address without its query, which may hold what is nobody else's business."""
    return re.split(r"[?#]", path, maxsplit=1)[0] if "://" in path else path


def _holds_a_key(address: str) -> bool:
    """In front of the host, in a query that names one, or in an endpoint within the query."""
    query = address.partition("?")[2]
    named = any(KEY.search(name) for name, _ in parse_qsl(query, keep_blank_values=True))
    return named or "@" in query or re.match(r"\w+://[^/?]*[@:]", address) is not None


@contextmanager
def answering(place: str) -> Iterator[None]:
    """Give a storage's refusal its meaning; what is wrong with a file itself goes through as it is.

    Raises Unreachable, ContractError or DriftloopError. Of what the storage said only its code is told where it may
    hold more than that.
    """
    try:
        yield
    except OSError as error:
        found = re.search(r"AWS Error ([A-Z_]+(?: \(HTTP status \d+\))?) during \w+ operation: ([^;(]*)", str(error))
        if found is None:
            raise
        code, said = found.groups()
        if code == "NO_SUCH_BUCKET":
            raise ContractError(
                f"{place}: the storage has no such bucket; correct the path in loop.toml, or the endpoint."
            ) from None
        if any(part in code for part in REFUSED):
            raise DriftloopError(
                f"{place}: the storage does not let us in ({code}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                f"or what else names an identity to AWS's clients, to one that may list and read there."
            ) from None
        raise Unreachable(
            f"{place}: the storage does not answer ({code}: {said.strip()}). Start it, or correct the endpoint: "
            f"endpoint_override and scheme in the URL, or AWS_ENDPOINT_URL."
        ) from None


def version(filesystem: pa.fs.FileSystem, file: pa.fs.FileInfo) -> bytes | None:
    """What the storage calls this content of the file, so that nobody has to read it; None where it has no name."""
    if filesystem.type_name != "s3":
        return None
    with filesystem.open_input_stream(file.path) as stream:
        tag: bytes | None = stream.metadata().get(b"ETag")
        return tag
