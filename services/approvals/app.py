"""The routes: who waits, approve, reject. Both answers need the token; without one configured nobody can answer."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from driftloop.errors import DriftloopError, Unreachable
from driftloop.settings import Settings
from driftloop.standing import standing

Json = dict[str, Any]
bearer = HTTPBearer(auto_error=False)


class Answer(BaseModel):
    """``by`` and ``why`` go into the ledger; ``version`` says which candidate is meant, null whichever waits."""

    by: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
    why: Annotated[str, Field(max_length=2000)] = ""
    version: str | None = None


class Approvals(FastAPI):
    """One loop's approvals; one answer at a time."""

    def __init__(self, folder: Path, settings: Settings, token: str | None) -> None:
        super().__init__(title="driftloop approvals", docs_url=None, redoc_url=None)
        self.folder, self.settings, self.token, self.answering = folder, settings, token, Lock()
        self.add_exception_handler(DriftloopError, _refused)
        self.add_exception_handler(Exception, _internal_error)
        self.add_api_route("/health", health, methods=["GET"])
        self.add_api_route("/challenger", challenger, methods=["GET"])
        for path, endpoint in (("/challenger/approve", approve), ("/challenger/reject", reject)):
            self.add_api_route(path, endpoint, methods=["POST"], dependencies=[Depends(require_token)])

    def answer(self, given: Callable[[Any], Any]) -> Json:
        """Give the answer to the library, and tell whoever is to be told."""
        from driftloop import following
        from driftloop.approving import report_of
        from driftloop.workspace import open_workspace

        with self.answering:
            work = open_workspace(self.folder, self.settings)
            following.tell(work, os.environ)  # what a killed answer left unsaid
            entry = given(work)
            following.tell(work, os.environ)
        return report_of(entry)


def require_token(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None
) -> None:
    token = _app(request).token
    if not token:
        raise HTTPException(403, "answers are turned off: DRIFTLOOP_APPROVAL_TOKEN is not set for this service")
    if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
        raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


def health() -> Json:
    """The process is alive."""
    return {"status": "ok"}


def challenger(request: Request) -> Json:
    """The candidate that waits, with the decision that asked; null when none does."""
    app = _app(request)
    found = standing(app.folder, app.settings)
    return {part: found[part] for part in ("loop", "champion", "challenger")}


def approve(request: Request, answer: Answer) -> Json:
    """Promote the candidate that waits; 409 says why it is not promoted."""
    from driftloop import approving

    return _app(request).answer(lambda work: approving.approve(work, answer.version, answer.by, answer.why))


def reject(request: Request, answer: Answer) -> Json:
    """End the candidate's wait."""
    from driftloop import approving

    return _app(request).answer(lambda work: approving.reject(work, answer.version, answer.by, answer.why))


def _app(request: Request) -> Approvals:
    app = request.app
    assert isinstance(app, Approvals), "these routes are served by Approvals only"
    return app


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503 if isinstance(error, Unreachable) else 409)


async def _internal_error(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "internal error"}, 500)
