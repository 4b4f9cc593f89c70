"""What a version says about itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """What a version says about itself, stored in the MLmodel file under ``metadata.driftloop``.

    ``sample`` are a few training rows as the API would receive them and ``sample_scores`` what the
    candidate gave for them: a copy that does not reproduce them does not serve.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    loop: str
    task: str
    target: str
    labels: tuple[str, str] | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    windows: tuple[str, ...]
    rows: int
    fingerprint: str
    holdout: str
    metrics: dict[str, float]
    sample: tuple[dict[str, float | str | None], ...]
    sample_scores: tuple[float, ...]
