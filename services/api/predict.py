"""POST /predict without FastAPI's own route: one body, one validation, one score, one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from starlette.types import Message, Receive

from driftloop.contract import Serving
from services.api.answers import answer, encode
from services.api.champion import Champion, Holder
from services.api.metrics import Metrics
from services.api.recording import Recorder
from services.api.schema import TooManyRows, WrongInput, problem
from services.api.scoring import Row, Scorer, Unscorable

NO_MODEL = "no model is loaded yet; GET /model says why"
MEBIBYTE = 2**20


class Refused(Exception):
    """An answer other than 200; ``detail`` is for the client. ``expected``: it comes by the thousand, if it comes."""

    def __init__(self, status: int, detail: Any, *, expected: bool = False) -> None:
        self.status, self.detail, self.expected = status, detail, expected
        super().__init__(f"{status}: {detail}")


class Together:
    """Rows of all requests of one turn of the event loop, scored by one call: most of a call's time is its own.

    Nobody waits for a request that is still to come. A row's score is the same alone and among others: an export is
    accepted only where both agree with scikit-learn.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Scorer, Sequence[Row], asyncio.Future[np.ndarray]]] = []

    def score(self, scorer: Scorer, rows: Sequence[Row]) -> asyncio.Future[np.ndarray]:
        """The rows' scores, before the loop's next turn but one. The future raises what scoring raised."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._score_all)
        future: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.append((scorer, rows, future))
        return future

    def _score_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            scorer, rows, taken = waiting[0][0], list(waiting[0][1]), 1
            for other, more, _ in waiting[1:]:  # after a swap there may be rows for two versions
                if other is not scorer or not scorer.inline(len(rows) + len(more)):
                    break
                rows += more
                taken += 1
            self._score(scorer, rows, waiting[:taken])
            waiting = waiting[taken:]

    def _score(
        self, scorer: Scorer, rows: list[Row], asked: list[tuple[Scorer, Sequence[Row], asyncio.Future[np.ndarray]]]
    ) -> None:
        try:
            scores = scorer.score(rows)
        except Exception as error:  # noqa: BLE001  # raised again where its own request waits
            if len(asked) == 1:
                _settle(asked[0][2], error)
            else:  # one request's values must not fail the others'
                for one in asked:
                    self._score(scorer, list(one[1]), [one])
            return
        at = 0
        for _, own, future in asked:
            _settle(future, scores[at : at + len(own)])
            at += len(own)


def _settle(future: asyncio.Future[np.ndarray], said: np.ndarray | Exception) -> None:
    if future.done():  # whoever asked is gone
        return
    if isinstance(said, Exception):
        future.set_exception(said)
    else:
        future.set_result(said)


class Predict:
    """Answers one request at a time on the event loop where that takes microseconds, else in a thread."""

    def __init__(self, holder: Holder, limits: Serving, metrics: Metrics, recorder: Recorder) -> None:
        self.holder, self.limits, self.metrics, self.recorder = holder, limits, metrics, recorder
        self._max_bytes = int(limits.max_body_mb * MEBIBYTE)
        self._threads = ThreadPoolExecutor(thread_name_prefix="score")
        self._together = Together()

    async def respond(self, receive: Receive, request_id: str, *, alone: bool) -> bytes:
        """The answer's body; ``alone``: no other request is being answered. Raises Refused."""
        body = await self.body(receive)
        began = time.perf_counter()
        champion = self.holder.current  # taken once: schema, scores and version of this answer are its own
        if champion is None:
            raise Refused(503, NO_MODEL, expected=True)
        rows, batch = read(champion, body)
        try:
            if champion.scorer.inline(len(rows)):
                scores = champion.scorer.score(rows) if alone else await self._together.score(champion.scorer, rows)
            else:
                scores = await self._in_a_thread(champion, rows)
            said, values, labels = answer(champion, scores, request_id, batch)
        except Unscorable as error:  # every value was checked alone; the model can still find one out of its range
            raise Refused(422, [problem((), f"the model cannot score this: {error}", "value_error")]) from None
        except Refused as error:
            self.recorder.failed(champion, request_id, error.status, time.perf_counter() - began)
            raise
        except Exception:
            self.recorder.failed(champion, request_id, 500, time.perf_counter() - began)
            raise
        seconds = time.perf_counter() - began
        self.metrics.predicted(champion, values, labels)
        if not self.recorder.answered(champion, request_id, rows, values, labels, seconds):
            raise Refused(503, 'the answer could not be recorded, which serving.durability = "sync" asks for')
        return said

    async def body(self, receive: Receive) -> bytes:
        """The request's body. Raises Refused where it is too large or does not arrive."""
        begun = Begun(receive())
        if (whole := begun.message) is not None and not whole.get("more_body", False):
            return self._part(whole)
        try:
            async with asyncio.timeout(self.limits.timeout_s):  # its first byte too may never come
                message = await begun
                body = bytearray(self._part(message))
                while message.get("more_body", False):
                    message = await receive()
                    body += self._part(message)
                    self._require_small(len(body))
                return bytes(body)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.limits.timeout_s:g} s") from None

    def _part(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client went away before its request was whole")
        part: bytes = message.get("body", b"")
        self._require_small(len(part))
        return part

    def _require_small(self, size: int) -> None:
        if size > self._max_bytes:
            raise Refused(413, f"the body is larger than {self.limits.max_body_mb:g} MiB; send fewer rows")

    async def _in_a_thread(self, champion: Champion, rows: Sequence[Row]) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                return await loop.run_in_executor(self._threads, champion.scorer.score, rows)
        except TimeoutError:
            raise Refused(503, f"not scored within {self.limits.timeout_s:g} s; send fewer rows at once") from None


def read(champion: Champion, body: bytes) -> tuple[list[Row], bool]:
    """(rows, whether they came as a batch). Raises Refused."""
    try:
        return champion.schema.read(body)
    except WrongInput as error:
        raise Refused(422, error.problems) from None
    except TooManyRows as error:
        raise Refused(413, str(error)) from None


class Begun:
    """A receive() taken as far as it goes without waiting.

    Most bodies are there when their request is, and a deadline for them would cost more than to validate them.
    """

    def __init__(self, receiving: Awaitable[Message]) -> None:
        self._steps = receiving.__await__()
        self.message: Message | None = None
        self._step(lambda: next(self._steps))

    def __await__(self) -> Generator[Any, Any, Message]:
        while self.message is None:
            try:
                yield self._waits_for
            except BaseException as error:  # noqa: BLE001  # cancelled, most likely: whoever waits within is told
                self._step(partial(self._steps.throw, error))
            else:
                self._step(lambda: next(self._steps))
        return self.message

    def _step(self, go: Callable[[], Any]) -> None:
        try:
            self._waits_for = go()
        except StopIteration as done:
            self.message = done.value


def refusal(error: Refused) -> bytes:
    return encode({"detail": error.detail})
