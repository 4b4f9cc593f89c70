"""The API as the dashboard asks it; what goes wrong is one sentence."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Row = Mapping[str, float | str | None]

LOOK_SECONDS = 2
ANSWER_SECONDS = 60  # the first explanation waits for imports
UNKNOWN_KEY = "DRIFTLOOP_API_KEY holds no key that it knows"


class ApiError(Exception):
    """Why there is no answer, in one sentence."""


class TooLarge(ApiError):
    """The request holds more rows or bytes than the API takes."""


class Refused(ApiError):
    """Wrong input; ``problems`` are the API's own, each with the place of its field."""

    def __init__(self, problems: list[Json]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem["msg"]) for problem in problems))


@dataclass(frozen=True)
class Scored:
    """Predictions of rows in their order, and the version that gave them."""

    version: str
    predictions: list[Json]


@dataclass(frozen=True)
class Api:
    """Raises ApiError from every question."""

    url: str | None
    key: str = field(default="", repr=False)

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Api:
        return cls(env.get("DRIFTLOOP_API_URL"), env.get("DRIFTLOOP_API_KEY", ""))

    def model(self) -> Json:
        """What GET /model says of the version that serves."""
        return self._ask("/model", None, LOOK_SECONDS)

    def predict(self, rows: Sequence[Row]) -> Scored:
        """Raises Refused for wrong values, TooLarge where fewer rows at once may do."""
        answer = self._ask("/predict", {"rows": list(rows)}, ANSWER_SECONDS)
        return Scored(answer["version"], answer["predictions"])

    def explain(self, row: Row) -> Json:
        return self._ask("/explain", dict(row), ANSWER_SECONDS)

    def _ask(self, path: str, body: Json | None, seconds: float) -> Json:
        if not self.url:
            raise ApiError("DRIFTLOOP_API_URL is not set")
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.url}{path}", data, headers), timeout=seconds
            ) as response:
                answer: Json = json.load(response)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (urllib.error.URLError, OSError, ValueError):
            raise ApiError(f"the API at {self.url} does not answer") from None
        return answer


def _refusal(error: urllib.error.HTTPError) -> ApiError:
    try:
        detail = json.load(error)["detail"]
    except (ValueError, KeyError, TypeError):  # a proxy before it says so in its own way
        detail = None
    if error.code in (401, 403):
        return ApiError(f"the API answers {error.code}: {UNKNOWN_KEY}")
    if error.code == 422 and isinstance(detail, list):
        return Refused(detail)
    if error.code == 413:
        return TooLarge(f"the API answers 413: {detail or 'too much at once'}")
    if error.code == 503 and not isinstance(detail, str):
        detail = "no model is loaded yet"
    return ApiError(f"the API answers {error.code}" + (f": {detail}" if isinstance(detail, str) else ""))
