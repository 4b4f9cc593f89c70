"""The API's routes, and the factory that wires them to a loop."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from driftloop import alerts
from driftloop.settings import Settings
from services.api.champion import Holder, Source
from services.api.documentation import describe_predict
from services.api.metrics import Measured, Metrics
from services.api.prediction import answer
from services.api.schema import TooManyRows, WrongInput
from services.api.source import RegistrySource
from services.api.store import Store
from services.api.watcher import Watcher

MAX_BYTES = 32 * 2**20
SWAGGER = "/swagger"
NO_MODEL = "no model is loaded yet; GET /model says why"


class Api(FastAPI):
    """A FastAPI app whose /docs follow the champion: the schema is made at each look, never cached."""

    def __init__(self, loop_name: str, holder: Holder, watcher: Watcher, metrics: Metrics) -> None:
        super().__init__(title=f"driftloop: {loop_name}", lifespan=self._watching, docs_url=None, redoc_url=None)
        self.loop_name, self.holder, self.watcher, self.metrics = loop_name, holder, watcher, metrics
        self.add_middleware(Measured, metrics=metrics)
        self.add_exception_handler(Exception, _internal_error)
        for path, endpoint in (("/health", health), ("/metrics", prometheus)):
            self.add_api_route(path, endpoint, methods=["GET"])
        for path, endpoint in (("/ready", ready), ("/model", model)):
            self.add_api_route(
                path, endpoint, methods=["GET"], responses={503: {"description": "No model is loaded yet."}}
            )
        self.add_api_route("/predict", predict, methods=["POST"])
        self.mount(SWAGGER, StaticFiles(packages=[("fastapi_offline", "static")]))
        self.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)

    @asynccontextmanager
    async def _watching(self, _app: FastAPI) -> AsyncIterator[None]:
        self.watcher.start()
        yield
        await run_in_threadpool(self.watcher.stop)

    def openapi(self) -> dict[str, Any]:
        self.openapi_schema = None
        return describe_predict(super().openapi(), self.holder.current)


def create_app(settings: Settings, loop_name: str, poll_seconds: float = 2.0, source: Source | None = None) -> FastAPI:
    """The API of one loop; ``source`` stands in for the registry that ``settings`` name.

    Nothing is read and no thread started before the app's lifespan begins.
    """
    holder = Holder()
    metrics = Metrics(holder)
    store = Store(settings.home / "serving" / loop_name)
    watcher = Watcher(
        source or RegistrySource(settings, loop_name), store, holder, metrics, poll_seconds, tell=_teller(loop_name)
    )
    return Api(loop_name, holder, watcher, metrics)


def _teller(loop_name: str) -> Callable[[str], None]:
    """Alerts in a thread of their own: an address that does not answer must not keep the watcher from its next look."""

    def tell(message: str) -> None:
        urls = alerts.filled(os.environ.get("DRIFTLOOP_ALERT_URLS", "").split(), os.environ)
        if urls:
            alert = alerts.serving_trouble(loop_name, message)
            threading.Thread(target=alerts.send, args=(alert, urls), daemon=True).start()

    return tell


async def docs(request: Request) -> HTMLResponse:
    """Swagger's page, with its scripts from here and not from elsewhere."""
    root = request.scope.get("root_path", "") + SWAGGER
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=_api(request).title,
        swagger_js_url=f"{root}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/swagger-ui.css",
        swagger_favicon_url=f"{root}/favicon.png",
    )


async def health() -> dict[str, str]:
    """The process is alive, whether or not it has a model."""
    return {"status": "ok"}


async def ready(request: Request) -> JSONResponse:
    """200 once a model is loaded, 503 before."""
    champion = _api(request).holder.current
    if champion is None:
        return JSONResponse({"ready": False, "detail": NO_MODEL}, 503)
    return JSONResponse({"ready": True, "version": champion.version.number})


async def model(request: Request) -> JSONResponse:
    """What serves, since when, and why it is not what the alias names, should that be so."""
    api = _api(request)
    champion, trouble = api.holder.current, api.watcher.trouble
    about = champion.describe() if champion else {"loop": api.loop_name, "version": None}
    error = {"at": trouble.at.isoformat(), "message": trouble.message} if trouble else None
    return JSONResponse(about | {"last_error": error}, 200 if champion else 503)


async def prometheus(request: Request) -> Response:
    """Requests, latency, version and swaps in Prometheus' text format."""
    return Response(_api(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def predict(request: Request) -> JSONResponse:
    """Score one row, or up to 10,000 as {"rows": [...]}. Every feature must be given; null where it is unknown."""
    body = await _body(request)
    holder = _api(request).holder
    champion = holder.current  # taken once: schema, scores and version of this answer are its own
    if champion is None:
        raise HTTPException(503, NO_MODEL)
    try:
        return JSONResponse(await run_in_threadpool(answer, champion, body, uuid.uuid4().hex, holder.scoring))
    except WrongInput as error:
        return JSONResponse({"detail": error.problems}, 422)
    except TooManyRows as error:
        raise HTTPException(413, str(error)) from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BYTES // 2**20} MiB; send fewer rows")
    return bytes(body)


def _api(request: Request) -> Api:
    api = request.app
    assert isinstance(api, Api), "these routes are served by Api only"
    return api


async def _internal_error(_request: Request, _error: Exception) -> JSONResponse:
    """The traceback goes to the log, where Starlette sends it; the client learns nothing of it."""
    return JSONResponse({"detail": "internal error"}, 500)
