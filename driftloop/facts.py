"""What a version says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Version:
    """A registered version and the MLflow run that made it, which tells it from another registry's of that number."""

    number: str
    run_id: str


class CompiledFacts(BaseModel):
    """What came of compiling a version: ``sha256`` of its graph, or the sentence that says why it was ``refused``.

    ``difference`` is the largest from scikit-learn's scores on ``rows`` rows, absolute and above 1 relative; None
    where nothing could be measured. It had to stay within ``tolerance``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str | None
    difference: float | None
    tolerance: float
    rows: int
    refused: str | None

    def __str__(self) -> str:
        if self.refused is not None:
            return f"no: {self.refused}"
        return f"onnx, differs by at most {self.difference:.2g} on {self.rows:,} rows"


class Facts(BaseModel):
    """What a version says about itself, stored in the MLmodel file under ``metadata.driftloop``.

    ``labels`` are as the target spells them: (negative, positive) of a binary model, all classes of a multiclass one;
    None for a regression. ``sample`` are a few training rows as the API would receive them and ``sample_scores`` what
    the candidate gave for them (a row of probabilities each where there are several classes): a copy that does not
    reproduce them does not serve. ``metrics`` are those of the holdout.
    ``threshold``: a binary model says yes from this probability on; None where the rows were too few to choose it.
    ``quartiles`` cut the numeric columns of the training rows. ``refit_of``: the version that was judged, where this
    one is its recipe fitted again with the holdout's rows. ``compiled``: None where nobody tried. ``statistics`` are
    mean and standard deviation of each numeric feature's training values, nulls left out; a feature without any has
    none. ``importance``: what the loop's metric loses on holdout rows when a feature's values are shuffled, most first;
    empty where nobody measured it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    loop: str
    task: str
    target: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    windows: tuple[str, ...]
    rows: int
    fingerprint: str
    holdout: str
    metrics: dict[str, float]
    sample: tuple[dict[str, float | str | None], ...]
    sample_scores: tuple[float, ...] | tuple[tuple[float, ...], ...]
    threshold: float | None = None
    quartiles: dict[str, tuple[float, ...]] = {}
    refit_of: str | None = None
    compiled: CompiledFacts | None = None
    statistics: dict[str, tuple[float, float]] = {}
    importance: dict[str, float] = {}
