"""What a version says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Loss = Literal["absolute", "squared"]


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


class Trial(BaseModel):
    """One way to make the candidate: how many rows it learnt from, its score on validation rows, and what it took.

    ``score`` None where it could not be scored; ``gain`` over the preferred one and its standard error, paired.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    estimator: str
    strategy: str
    rows: int
    effective_rows: float | None
    score: float | None
    gain: float | None
    error: float | None
    seconds: float
    chosen: bool
    note: str | None = None

    @property
    def name(self) -> str:
        """In the characters that a metric's name may have."""
        return f"{self.estimator}_{self.strategy}".replace(":", "_")


class Contest(BaseModel):
    """What the trials of a training came to, the preferred one first, on validation rows of its newest window."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: str
    window: str
    rows: int
    why: str
    trials: tuple[Trial, ...]

    def table(self) -> dict[str, list[Any]]:
        """The trials by column."""
        rows = [trial.model_dump(mode="json") for trial in self.trials]
        return {name: [row[name] for row in rows] for name in Trial.model_fields}


class Adopted(BaseModel):
    """Where a version that was trained elsewhere comes from, and up to when it was: a window with all its rows, or a
    time. Rows after that are the only ones it cannot have seen.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    unit: Literal["window", "time"]
    until: str


class EvidenceFacts(BaseModel):
    """What is kept of the holdout beside a version: so many ``rows``, drawn ``of`` all it was scored on, each file's
    ``sha256``, and which ``loss`` its error model tells, None where it has none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: int
    of: int
    sha256: dict[str, str]
    loss: Loss | None = None


class SearchFacts(BaseModel):
    """What a parameter search came to; ``trials`` of any state, ``params`` those of the best, ``seconds`` spent.

    ``best`` is the mean over folds that chose the parameters, so it is optimistic; None where no trial was complete.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: str
    best: float | None
    params: dict[str, Any]
    trials: int
    pruned: int
    failed: int
    seconds: float


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
    empty in the MLmodel file of a version that was weighed once it was there. ``recipe`` is that of loop.toml it was
    made by, ``strategy`` how its rows were chosen, ``note`` where that could not do all that its name says;
    ``effective_rows`` what weighted rows were worth; ``tuned_from`` the version that learnt on, whose windows are among
    ``windows``. Its rows, ``left_out`` and their values are counted in with the ``new_rows`` that it went on from, see
    with_base; ``fingerprint``, ``sample`` and ``baseline`` are of the new ones. ``contest``: what else was tried.
    ``search``: of its parameters; None where they are as given. ``baseline``: the metrics, on the same rows, of the
    answer that knows no feature: the classes' shares in training, or the mean of the training targets; an undefined one
    is left out. ``ranges`` are the smallest, a middle and the largest training value of each numeric feature, ``modes``
    the most frequent category of each other one: what a form to ask the model with begins with. ``adopted``: None for
    one that was trained here; else ``windows``, ``rows`` and what is said of their values are those that drift is
    measured against, for its own are not known. ``left_out``: rows of its windows that broke schema.yaml. ``evidence``:
    of the holdout, see driftloop.evidence; None where nothing was kept.
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
    recipe: dict[str, Any] | None = None
    strategy: str = ""
    note: str | None = None
    effective_rows: float | None = None
    tuned_from: str | None = None
    new_rows: int | None = None
    contest: Contest | None = None
    search: SearchFacts | None = None
    baseline: dict[str, float] = {}
    ranges: dict[str, tuple[float, float, float]] = {}
    modes: dict[str, str] = {}
    adopted: Adopted | None = None
    left_out: int = 0
    evidence: EvidenceFacts | None = None

    @property
    def search_metrics(self) -> dict[str, float]:
        """The search's own best score, by a name that tells it from the gate's; empty without one."""
        found = self.search
        return {} if found is None or found.best is None else {f"search_best_{found.metric}": found.best}
