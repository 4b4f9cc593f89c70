"""The API of one loop: its routes, and the factory that wires them to a registry, a store and a log."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from driftloop.contract import Serving
from driftloop.settings import Settings
from driftloop.spool import SpoolWriter
from services.api.champion import Holder, Source
from services.api.documentation import describe
from services.api.explain import Explainer
from services.api.feedback import read_feedback
from services.api.gate import INTERNAL, Gate, Keys
from services.api.metrics import Metrics
from services.api.predict import NO_MODEL, Predict, Refused, read
from services.api.recording import Recorder
from services.api.schema import WrongInput, problem
from services.api.scribe import Scribe
from services.api.source import RegistrySource
from services.api.store import Store
from services.api.watcher import Watcher

SWAGGER = "/swagger"
TELL_AGAIN_SECONDS = 3600.0

log = logging.getLogger("driftloop.api")


class Api(FastAPI):
    """A FastAPI app whose /docs follow the champion: the schema is made at each look, never cached."""

    def __init__(
        self,
        holder: Holder,
        watcher: Watcher,
        metrics: Metrics,
        predict: Predict,
        scribe: Scribe,
        explainer: Explainer,
        *,
        among_others: bool,
    ) -> None:
        super().__init__(
            title=f"driftloop: {holder.loop}", lifespan=self._running, docs_url=None, redoc_url=None,
            openapi_url=None,
        )  # fmt: skip
        self.holder, self.watcher, self.metrics, self.among_others = holder, watcher, metrics, among_others
        self.predict, self.recorder, self.scribe, self.explainer = predict, predict.recorder, scribe, explainer
        self.add_exception_handler(Refused, _refused)  # type: ignore[arg-type]
        self.add_exception_handler(Exception, _failed)
        for method, path, endpoint in (
            ("GET", "/health", health),
            ("GET", "/ready", ready),
            ("GET", "/model", model),
            ("GET", "/metrics", prometheus),
            ("POST", "/predict", answered_elsewhere),
            ("POST", "/feedback", feedback),
            ("POST", "/explain", explain),
        ):
            self.add_api_route(path, endpoint, methods=[method])
        self.mount(SWAGGER, StaticFiles(packages=[("fastapi_offline", "static")]))
        self.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
        self.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)

    @asynccontextmanager
    async def _running(self, _app: FastAPI) -> AsyncIterator[None]:
        self.watcher.start()
        self.scribe.start()
        if self.among_others:  # who takes a killed worker's place asks for no request before it can answer one
            await run_in_threadpool(self.watcher.wait_for_first)
        flushing = asyncio.create_task(self._flush())
        try:
            yield
        finally:
            flushing.cancel()
            with suppress(asyncio.CancelledError):
                await flushing
            if self.recorder.writer and not self.recorder.writer.close():
                log.error("log.lost requests=%d error=%s", self.recorder.writer.waiting, self.recorder.writer.trouble)
            await run_in_threadpool(self._stop)

    def _stop(self) -> None:
        self.watcher.stop()
        self.explainer.stop()
        self.scribe.stop()

    async def _flush(self) -> None:
        writer, lost, failing = self.recorder.writer, 0, False
        told, again = 0, 0.0  # a loss may go on for hours: people hear of the first, and then once an hour
        while writer:
            await asyncio.sleep(writer.flush_seconds)
            written = writer.flush()
            if failing is written:
                failing = not written
                log.error("spool.down error=%s", writer.trouble) if failing else log.info("spool.up")
                if failing:
                    self.watcher.tell(f"the prediction log cannot be written to disk: {writer.trouble}.")
            if writer.dropped > lost:
                self.metrics.lost(writer.dropped - lost)
                lost = writer.dropped
            if lost > told and time.monotonic() >= again:
                why = writer.trouble or "more waited than max_spool_mb"
                self.watcher.tell(f"the prediction log lost {lost - told:,} requests: {why}.")
                told, again = lost, time.monotonic() + TELL_AGAIN_SECONDS

    def openapi(self) -> dict[str, Any]:
        self.openapi_schema = None
        return describe(super().openapi(), self.holder.current, self.predict.limits)


def create_app(
    settings: Settings,
    loop_name: str,
    poll_seconds: float = 2.0,
    source: Source | None = None,
    serving: Serving | None = None,
    *,
    keys: Keys | None = None,
    origins: tuple[str, ...] = (),
    workers: int = 1,
    scribe: Scribe | None = None,
) -> ASGIApp:
    """The API of one loop; ``source`` stands in for the registry that ``settings`` name.

    ``origins`` are the pages elsewhere whose scripts may ask. Nothing is read and no thread or process started before
    the app's lifespan begins.
    """
    api = build(settings, loop_name, poll_seconds, source, serving, workers=workers, scribe=scribe)
    gate: ASGIApp = Gate(api, api.predict, api.metrics, keys or Keys())
    if not origins:
        return gate
    return CORSMiddleware(
        gate, allow_origins=origins, allow_methods=["*"], allow_headers=["*"],
        expose_headers=["X-Request-ID", "Retry-After"],
    )  # fmt: skip


def build(
    settings: Settings,
    loop_name: str,
    poll_seconds: float,
    source: Source | None,
    serving: Serving | None,
    *,
    workers: int = 1,
    scribe: Scribe | None = None,
) -> Api:
    """The app behind the gate, with everything it holds."""
    limits = serving or Serving(log="off")
    folder = settings.home / "serving" / loop_name
    holder = Holder(loop_name, limits.max_rows)
    quill = scribe or Scribe.none(folder)
    metrics = Metrics(holder, quill.standing)
    store = Store(folder)
    watcher = Watcher(
        source or RegistrySource(settings, loop_name), store, holder, metrics, poll_seconds, tell=_teller(loop_name),
        workers=workers,
    )  # fmt: skip
    writer = None
    if limits.log != "off":
        writer = SpoolWriter(folder / "spool", limits.durability, limits.flush_ms, limits.max_spool_mb)
    recorder = Recorder(writer, limits.durability == "sync")
    predict = Predict(holder, limits, metrics, recorder)
    explainer = Explainer(store, limits.timeout_s)
    return Api(holder, watcher, metrics, predict, quill, explainer, among_others=workers > 1)


def _teller(loop_name: str) -> Callable[[str], None]:
    """Alerts in a thread of their own: an address that does not answer must not keep the watcher from its next look."""

    def tell(message: str) -> None:
        if addresses := os.environ.get("DRIFTLOOP_ALERT_URLS", "").split():
            threading.Thread(target=_send, args=(loop_name, message, addresses), daemon=True).start()

    return tell


def _send(loop_name: str, message: str, addresses: list[str]) -> None:
    from driftloop import alerts  # Apprise and pandas, which the API has no other use for

    alerts.send(alerts.serving_trouble(loop_name, message), alerts.filled(addresses, os.environ))


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


async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(_api(request).openapi())


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
    """What serves, since when, how it does on the labels that came back, and why it is not what the alias names."""
    api = _api(request)
    champion, trouble, standing = api.holder.current, api.watcher.trouble, api.scribe.standing()
    about = champion.describe() if champion else {"loop": api.holder.loop, "version": None}
    error = {"at": trouble.at.isoformat(), "message": trouble.message} if trouble else None
    beside = {"live": standing.get("live", {}), "shadow": standing.get("shadow"), "log": standing.get("log")}
    return JSONResponse(about | {"last_error": error} | beside, 200 if champion else 503)


async def prometheus(request: Request) -> Response:
    """Requests, latency, predictions, versions, swaps and the log in Prometheus' text format."""
    api = _api(request)
    return Response(await run_in_threadpool(api.metrics.text), media_type=CONTENT_TYPE_LATEST)


async def answered_elsewhere() -> None:
    """Score one row, or many as {"rows": [...]}. Every feature must be given; null where it is unknown."""
    raise AssertionError("the gate answers POST /predict")


async def feedback(request: Request) -> JSONResponse:
    """Say what really happened to rows that were scored, by the request_id of their answer.

    One label, or many as {"labels": [...]}; ``row`` is a row's place in a batch, from 0. A label may come before its
    prediction is in the log's store, and a later label of the same row replaces an earlier one.
    """
    api = _api(request)
    champion, recorder = api.holder.current, api.recorder
    if champion is None:
        raise Refused(503, NO_MODEL)
    if recorder.writer is None:
        raise Refused(409, 'this loop keeps no prediction log ([serving] log = "off"), so no label can be matched')
    try:
        labels = read_feedback(await api.predict.body(request.receive), champion.facts, api.predict.limits.max_rows)
    except WrongInput as error:
        raise Refused(422, error.problems) from None
    written = [recorder.feedback(one.request_id, one.row, one.label) for one in labels]
    if not all(written):
        raise Refused(503, "the labels could not be written to disk; send them again")
    return JSONResponse({"accepted": len(labels)}, 202)


async def explain(request: Request) -> JSONResponse:
    """How much each feature moved the score of one row away from the average one: SHAP values.

    The first answer takes seconds, while the process that finds them starts.
    """
    api = _api(request)
    body = await api.predict.body(request.receive)
    champion = api.holder.current
    if champion is None:
        raise Refused(503, NO_MODEL)
    rows, batch = read(champion, body)
    if batch:
        raise Refused(422, [problem(("rows",), "rows: one row at a time is explained", "too_long")])
    found = await run_in_threadpool(api.explainer.explain, champion, rows[0])
    head = {"request_id": request.scope["state"]["request_id"], "version": champion.version.number}
    return JSONResponse(head | found)


def _api(request: Request) -> Api:
    api = request.app
    assert isinstance(api, Api), "these routes are served by Api only"
    return api


async def _refused(_request: Request, error: Refused) -> JSONResponse:
    return JSONResponse({"detail": error.detail}, error.status)


async def _failed(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": INTERNAL}, 500)  # the gate logs what it was
