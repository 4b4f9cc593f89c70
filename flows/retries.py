"""Which failures are worth another try."""

from __future__ import annotations

from typing import Any

from driftloop.errors import Unreachable


def unreachable(_task: object, _run: object, state: Any) -> bool:
    """Only a service that does not answer is worth another try; wrong data stays wrong."""
    try:
        state.result()
    except Unreachable:
        return True
    except Exception:  # noqa: BLE001  # Prefect asks about any failure; all others are not retried
        return False
    return False


PATIENCE: dict[str, Any] = {"retries": 3, "retry_delay_seconds": [1, 3, 9], "retry_condition_fn": unreachable}
