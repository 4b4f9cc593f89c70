"""An endpoint that reads nothing and answers a constant: ``constant.py fastapi|starlette|uvicorn PORT``."""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn

ANSWER = {"label": "no", "probability": 0.5}
BODY = json.dumps(ANSWER).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


def with_fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/predict")
    async def predict() -> dict[str, Any]:
        return ANSWER

    return app


def with_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def predict(_request: Request) -> JSONResponse:
        return JSONResponse(ANSWER)

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


async def bare(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    app = {"fastapi": with_fastapi, "starlette": with_starlette, "uvicorn": lambda: bare}[sys.argv[1]]()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off")
