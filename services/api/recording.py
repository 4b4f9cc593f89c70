"""What the prediction log learns of a request: one line in this process's spool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from driftloop.spool import SpoolWriter
from services.api.answers import encode
from services.api.champion import Champion
from services.api.scoring import Row


class Recorder:
    """Writes lines that ``driftloop.prediction_log`` reads; without a writer nothing is recorded."""

    def __init__(self, writer: SpoolWriter | None, durable: bool) -> None:
        self.writer, self._durable = writer, durable

    def answered(
        self,
        champion: Champion,
        request_id: str,
        rows: Sequence[Row],
        scores: Sequence[float],
        labels: Sequence[str | None],
        seconds: float,
    ) -> bool:
        """Whether the request may be acknowledged: with durability "sync" only once its line is in the file."""
        line = {"rows": rows, "p": scores, "l": labels}
        return self._put(champion, request_id, seconds, line) or not self._durable

    def failed(self, champion: Champion, request_id: str, status: int, seconds: float) -> None:
        self._put(champion, request_id, seconds, {"rows": (), "p": (), "l": (), "status": status})

    def feedback(self, request_id: str, row: int, label: float | str) -> bool:
        """As ``answered``, for a label that came back."""
        if self.writer is None:
            return False
        line = {"id": request_id, "t": time.time_ns(), "row": row, "label": label}
        return self.writer.put(encode(line)) or not self._durable

    def _put(self, champion: Champion, request_id: str, seconds: float, line: dict[str, Any]) -> bool:
        if self.writer is None:
            return True
        head = {"id": request_id, "t": time.time_ns(), "v": champion.version.number, "ms": seconds * 1000}
        return self.writer.put(encode(head | line))
