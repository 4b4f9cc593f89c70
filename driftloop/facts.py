"""What a version says about itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """What a version says about itself, stored in the MLmodel file under ``metadata.driftloop``.

    ``sample`` are a few training rows as the API would receive them and ``sample_scores`` what the
    candidate gave for them: a copy that does not reproduce them does not serve. ``metrics`` are those of the holdout.
    ``threshold``: a binary model says yes from this probability on; None where the rows were too few to choose it.
    ``quartiles`` cut the numeric columns of the training rows. ``refit_of``: the version that was judged, where this
    one is its recipe fitted again with the holdout's rows. ``statistics``: mean and standard deviation of the numeric
    columns of the training rows, nulls left out; empty on versions from before they were stored.
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
    threshold: float | None = None
    quartiles: dict[str, tuple[float, ...]] = {}
    refit_of: str | None = None
    statistics: dict[str, tuple[float, float]] = {}
