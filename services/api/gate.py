"""What every request passes: its id, its key, the load, the headers of the answer, and the count of it."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftloop.errors import ContractError
from services.api.feedback import REQUEST_ID_PATTERN
from services.api.metrics import Metrics
from services.api.predict import Predict, Refused, refusal

Role = Literal["predict", "admin"]
OPEN = frozenset({"/health", "/ready"})  # what a load balancer asks, which has no key
FOR_PREDICT = frozenset({"/predict", "/explain", "/feedback", "/model", "/docs", "/openapi.json"})
REQUEST_ID = re.compile(REQUEST_ID_PATTERN.encode())
RETRY_SECONDS = b"1"
INTERNAL = "internal error"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# Swagger's page is the one page there is; its scripts are ours, its start is written into the page
POLICY = b"content-security-policy"
PAGE = (POLICY, b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
NOTHING = (POLICY, b"default-src 'none'; frame-ancestors 'none'")
ALWAYS = [*HEADERS, NOTHING]
JSON = (b"content-type", b"application/json")
EXTRA = {
    401: [(b"www-authenticate", b"Bearer")],
    408: [(b"connection", b"close")],  # what is still to come of the body must not be read as the next request
    503: [(b"retry-after", RETRY_SECONDS)],
}

log = logging.getLogger("driftloop.api")


@dataclass(frozen=True)
class Keys:
    """Who may ask: SHA-256 digests of keys, each with its role. No entry at all means that everybody may."""

    entries: tuple[tuple[Role, bytes], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Read ``role:digest`` entries separated by blanks. Raises ContractError that shows no digest."""
        entries: list[tuple[Role, bytes]] = []
        for number, entry in enumerate(text.split(), 1):
            role, _, digest = entry.partition(":")
            if role not in ("predict", "admin") or not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ContractError(
                    f"DRIFTLOOP_API_KEYS: entry {number} is not predict:<digest> or admin:<digest> with 64 hexadecimal "
                    f"digits; make one with `driftloop key`."
                )
            entries.append((role, bytes.fromhex(digest)))  # type: ignore[arg-type]  # it was compared just now
        return cls(tuple(entries))

    def role(self, key: bytes) -> Role | None:
        """The most that the key may do. Every entry is compared, each in constant time."""
        digest, found = hashlib.sha256(key).digest(), None
        for role, known in self.entries:
            if hmac.compare_digest(digest, known) and found != "admin":
                found = role
        return found


class Gate:
    """The outermost ASGI app: POST /predict goes to its lean route, everything else to FastAPI."""

    def __init__(self, app: ASGIApp, predict: Predict, metrics: Metrics, keys: Keys) -> None:
        self._app, self._predict, self._metrics, self._keys = app, predict, metrics, keys
        self._queue, self._inside = predict.limits.queue, 0
        self._prefix, self._numbers = os.urandom(8).hex(), count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        path, method = scope["path"], scope["method"]
        given, key = self._read(scope["headers"])
        request_id = given or f"{self._prefix}{next(self._numbers):08x}"
        scope["state"] = {"request_id": request_id}
        if path == "/predict" and method == "POST":
            status = await self._answer_predict(receive, send, request_id, key)
        else:
            status = await self._answer_other(scope, receive, send, request_id, key)
            path = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.request(path, status, time.perf_counter() - began)

    async def _answer_predict(self, receive: Receive, send: Send, request_id: str, key: bytes) -> int:
        self._inside += 1
        try:
            self._let_in("/predict", key)
            body, status = await self._predict.respond(receive, request_id, alone=self._inside == 1), 200
        except Refused as error:
            body, status = refusal(error), error.status
            if not error.expected:
                log.info("request.refused request_id=%s path=/predict status=%d", request_id, status)
        except Exception:
            body, status = refusal(Refused(500, INTERNAL)), 500
            log.exception("request.failed request_id=%s path=/predict status=500", request_id)
        finally:
            self._inside -= 1
        headers = [JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode()), *ALWAYS]
        if status != 200:
            headers += _extra(status)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return status

    async def _answer_other(self, scope: Scope, receive: Receive, send: Send, request_id: str, key: bytes) -> int:
        status = 500

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                page = PAGE if scope["path"].startswith("/docs") else NOTHING
                own = [(b"x-request-id", request_id.encode()), *HEADERS, page, *_extra(status)]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        self._inside += 1
        try:
            self._let_in(scope["path"], key)
            await self._app(scope, receive, with_headers)
        except Refused as error:
            body = refusal(error)
            headers = [JSON, (b"content-length", b"%d" % len(body))]
            await with_headers({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        except Exception:
            log.exception("request.failed request_id=%s path=%s status=500", request_id, quote(scope["path"]))
            if status != 500:  # it began to answer: nothing else can be said
                raise
        finally:
            self._inside -= 1
        return status

    def _let_in(self, path: str, key: bytes) -> None:
        """Raises Refused for who may not come in, or not now."""
        if self._keys.entries and path not in OPEN:
            role = self._keys.role(key)
            if role is None:
                raise Refused(401, "no valid key; send one as X-API-Key, or as Authorization: Bearer")
            if role != "admin" and path not in FOR_PREDICT and not path.startswith("/swagger"):
                raise Refused(403, "this key may only predict")
        if self._inside > self._queue and path not in OPEN:
            raise Refused(503, "too many requests at once; try again", expected=True)

    def _read(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str | None, bytes]:
        """(the id that the client gave, the key)."""
        given, key = None, b""
        for name, value in headers:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                given = value.decode("ascii")
            elif name == b"x-api-key":
                key = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                key = key or value[7:].strip()
        return given, key


def _extra(status: int) -> list[tuple[bytes, bytes]]:
    return EXTRA.get(status, [])
