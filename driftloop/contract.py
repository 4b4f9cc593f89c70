"""loop.toml, the one description of a loop: parsed once, frozen, unknown keys refused."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from driftloop.errors import ContractError, command
from driftloop.metrics import metrics_of
from driftloop.stattests import OF_ROWS, names_for

Task = Literal["binary", "multiclass", "regression"]
Share = Annotated[float, Field(ge=0, le=1)]
Label = bool | int | str
Scalar = bool | int | float | str
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]  # TOML has lists where the frozen model has tuples


DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
DEFAULT_METRIC = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}
LIVE_METRIC = {"binary": "auc", "multiclass": "accuracy", "regression": "mae"}  # what one logged number can tell
AUTO = ("all", "rolling:3", "latest")
StrategyName = Annotated[
    str,
    Field(
        pattern=r"^(all|latest|rolling:[1-9]\d*|mix:(0?\.\d*[1-9]\d*|1(\.0*)?)|fine_tune|reweight(:segments)?|auto)$"
    ),
]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


Name = Annotated[str, Field(min_length=1)]


class Windows(Section):
    """Where windows come from: a folder (or ``s3://`` prefix), one table of a database, or the prediction log.

    With the log each completed ``calendar`` period is a window; the folder then holds what came before the log.
    """

    path: Name = "windows"
    labels: Name | None = None
    sql: str | None = None
    table: str | None = None
    period: str | None = None
    source: Literal["files", "log"] = "files"
    calendar: Literal["month", "week", "day"] = "month"

    @model_validator(mode="after")
    def _sql_needs_table_and_period(self) -> Self:
        if self.sql and not (self.table and self.period):
            raise ValueError("sql needs table and period beside it")
        if not self.sql and (self.table or self.period):
            raise ValueError("table and period need sql beside them")
        if self.sql and self.labels:
            raise ValueError("labels is a folder; with sql the target is a column of the table")
        if self.source == "log" and (self.sql or self.table or self.period):
            raise ValueError('source = "log" takes windows from the prediction log; leave sql, table and period out')
        if self.source == "files" and self.calendar != "month":
            raise ValueError('calendar cuts the prediction log into windows; it needs source = "log"')
        return self


class Features(Section):
    numeric: Listed[str] = ()
    categorical: Listed[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.numeric + self.categorical


def _dotted(value: str, info: ValidationInfo) -> str:
    if re.fullmatch(DOTTED, value) or (info.field_name == "preprocessing" and value == "auto"):
        return value
    if info.field_name == "preprocessing":
        raise ValueError('expected "auto" or the dotted import path of a function such as features.encoder')
    raise ValueError("expected a dotted import path such as sklearn.ensemble.RandomForestClassifier")


class Range(Section):
    """Values of one parameter in a search: ``choices``, or numbers from ``low`` to ``high``, both included.

    Whole numbers where both ends are; ``log``: drawn evenly by magnitude.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: Listed[Scalar | Listed[Scalar]] = ()

    @field_validator("choices", mode="wrap")
    @classmethod
    def _plain(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # one problem for each type that a value might have been
            raise ValueError("expected a list of values, each a boolean, number or string or a list of such") from None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ends = (self.low is not None) + (self.high is not None)
        if bool(self.choices) == bool(ends) or (ends and ends != 2) or (self.log and not ends):
            raise ValueError("expected { choices = [...] } or { low = …, high = … } with log = true or without")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low = {self.low} is not below high = {self.high}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"log = true needs a low above 0, not {self.low}")
        return self


class Recipe(Section):
    """One way to make a model: an importable estimator, its parameters, and what comes before it.

    ``preprocessing``: "auto" suits the estimator's kind, else the import path of a function of (numeric, categorical)
    that gives an unfitted transformer. ``scale_target``: regression only, the target is standardised for the fit; left
    out, it is for neural networks. ``space``: what [model.search] may vary, see Range.
    """

    estimator: str
    params: dict[str, Any] = Field(default_factory=dict)
    preprocessing: str = "auto"
    scale_target: bool | None = None
    space: dict[str, Range] = Field(default_factory=dict)

    _paths = field_validator("estimator", "preprocessing")(_dotted)

    @property
    def name(self) -> str:
        """The estimator's own name, without its package."""
        return self.estimator.rpartition(".")[2]


class Search(Section):
    """How long parameters may be searched for: at most ``trials`` and ``timeout_s`` seconds in all."""

    trials: Annotated[int, Field(ge=1)] = 30
    timeout_s: Annotated[float, Field(gt=0)] = 300
    folds: Annotated[int, Field(ge=2)] = 3
    pruning: bool = True


class Model(Section):
    """One recipe, or several ``candidates`` of which the best goes to the gate; ``search`` tunes those with a space."""

    estimator: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    preprocessing: str = "auto"
    scale_target: bool | None = None
    space: dict[str, Range] = Field(default_factory=dict)
    candidates: Listed[Recipe] = ()
    search: Search | None = None

    _paths = field_validator("estimator", "preprocessing")(_dotted)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        own = {name: getattr(self, name) for name in Recipe.model_fields}
        return self.candidates or (Recipe.model_validate(own),)

    @model_validator(mode="after")
    def _recipes_fit(self) -> Self:
        if self.candidates and self.model_fields_set & set(Recipe.model_fields):
            raise ValueError("[model] names an estimator of its own beside [[model.candidates]]; keep one of the two")
        if not self.candidates and not self.estimator:
            raise ValueError("model.estimator is missing; give one, or [[model.candidates]]")
        named = [recipe.name for recipe in self.recipes]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(
                f"[[model.candidates]] names {', '.join(twice)} more than once: candidates are told apart by the "
                f"name of the estimator's class, without its package"
            )
        spaces = any(recipe.space for recipe in self.recipes)
        if self.search and not spaces:
            raise ValueError("[model.search] needs a space: [model.space], or space = {…} in a candidate")
        if spaces and not self.search:
            raise ValueError("a space is given and nothing searches it: add [model.search]")
        return self


class Training(Section):
    """Which rows a candidate learns from, and how.

    With several ``strategies`` each is tried on ``validation_share`` of the newest training rows, and the best one
    makes the candidate. ``epochs`` and ``learning_rate`` are those of fine_tune.
    """

    strategy: StrategyName = "all"
    strategies: Listed[StrategyName] = ()
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    epochs: Annotated[int, Field(ge=1)] = 10
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.strategies and "strategy" in self.model_fields_set:
            raise ValueError("training.strategy and training.strategies are both given; keep one of the two")
        if "strategies" in self.model_fields_set and not self.strategies:
            raise ValueError("training.strategies names none; name what is to compete, or leave it out")
        if twice := sorted({name for name in self.strategies if self.strategies.count(name) > 1}):
            raise ValueError(f"training.strategies names {', '.join(twice)} more than once")
        if own := sorted({"epochs", "learning_rate"} & self.model_fields_set) if "fine_tune" not in self.names else []:
            raise ValueError(f"training.{own[0]} is for fine_tune, which training names nowhere")
        if "auto" in self.strategies:
            raise ValueError(f'"auto" stands for {", ".join(AUTO)}; in strategies name what you want of them')
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The strategies to try, the preferred one first."""
        return self.strategies or (AUTO if self.strategy == "auto" else (self.strategy,))


class Validation(Section):
    """What becomes of rows that break an error of schema.yaml: the window fails, or it goes on without them.

    A window fails all the same when more than ``max_bad_share`` of its rows are bad.
    """

    on_bad_rows: Literal["fail", "drop", "quarantine"] = "fail"
    max_bad_share: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Holdout(Section):
    by: Literal["entity", "row", "time"] = "row"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class ColumnTest(Section):
    """How one column's drift is judged: a test by Evidently's name for it, and its threshold; what is left out is
    Evidently's choice.
    """

    test: str | None = None
    threshold: Annotated[float, Field(ge=0)] | None = None


class Drift(Section):
    """``reference``: "training", "previous", "year_ago" or a window; year_ago is the window of the same month, week or
    day a year before by its id, and training where there is none. ``engine``: who measures; auto is Evidently up to
    a size, and above it the columnar engine, which gives the same.
    """

    threshold: Share = 0.3
    reference: str = "training"
    engine: Literal["auto", "evidently", "columnar"] = "auto"
    columns: dict[str, ColumnTest] = Field(default_factory=dict)


Finding = Literal["drift", "performance", "estimated", "prediction", "target", "quality"]
FINDINGS: tuple[str, ...] = get_args(Finding)


class Trigger(Section):
    """When a finding may start a training.

    ``consecutive``: windows in a row that have to show it. ``cooldown`` counts windows since the last training.
    ``confidence``: how surely a performance, seen or estimated, has to have fallen; 0 asks for ``max_drop`` only.
    ``min_importance``: a drifted column counts towards the share that triggers when shuffling it moved the champion's
    score by more; "off" counts all. ``reference``: what the trigger's drift is measured against, where that is another
    than drift.reference.
    """

    on: Listed[Finding] = ("drift",)
    max_drop: Annotated[float, Field(ge=0)] = 0.05
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.95
    consecutive: Annotated[int, Field(ge=1)] = 1
    cooldown: Annotated[int, Field(ge=0)] = 0
    min_rows: Annotated[int, Field(ge=1)] = 30
    min_importance: Annotated[float, Field(ge=0)] | Literal["off"] = 0.0
    reference: str | None = None

    @field_validator("on", mode="before")
    @classmethod
    def _known_findings(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and all(name in FINDINGS for name in value):
            if twice := sorted({name for name in value if list(value).count(name) > 1}):
                raise ValueError(f"{', '.join(twice)} is named more than once")
            return value
        raise ValueError(f"expected a list of {', '.join(FINDINGS)}; an empty one starts no training")

    @field_validator("min_importance", mode="wrap")
    @classmethod
    def _importance(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # one problem for the number and one for the word
            raise ValueError('expected a number from 0 on, or "off" to count every drifted column') from None


class Compute(Section):
    """Where the columnar engine compares columns: threads of this process, or the workers of a Dask or Ray cluster;
    without ``address`` one of this machine.
    """

    runner: Literal["threads", "dask", "ray"] = "threads"
    address: str | None = None

    @model_validator(mode="after")
    def _address_of_a_cluster(self) -> Self:
        if self.address and self.runner == "threads":
            raise ValueError('compute.address is for runner = "dask" or "ray"')
        return self


class Promotion(Section):
    """What a candidate must show, and who has the last word. ``approval_expires`` counts windows."""

    metric: str = ""
    delta: Annotated[float, Field(ge=0)] = 0.01
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.95
    slices: Listed[str] = ()
    max_slice_drop: Annotated[float, Field(ge=0)] = 0.0
    min_slice_rows: Annotated[int, Field(ge=2)] = 100
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    refit: bool = False
    approval: Literal["auto", "always", "borderline"] = "auto"
    approval_expires: Annotated[int, Field(ge=1)] = 2


class Alerts(Section):
    """Where alerts go: Apprise addresses. ``${NAME}`` in one stands for a variable of the environment."""

    urls: Listed[str] = Field(default=(), repr=False)


class Serving(Section):
    """How the API answers, and where what it answered is kept. Nothing here changes what a run computes.

    ``max_rows`` and ``max_body_mb`` bound a request, ``queue`` how many are in work at once, ``timeout_s`` each one's
    time. ``max_spool_mb``: what may wait on disk while the log's store does not answer.
    """

    log: Literal["sqlite", "postgresql", "parquet", "off"] = "sqlite"
    durability: Literal["batch", "sync"] = "batch"
    flush_ms: Annotated[int, Field(gt=0)] = 200
    retention_days: Annotated[int, Field(ge=1)] = 90
    max_spool_mb: Annotated[float, Field(gt=0)] = 512
    auto_rollback: bool = False
    max_rows: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    max_body_mb: Annotated[float, Field(gt=0)] = 32
    timeout_s: Annotated[float, Field(gt=0)] = 30
    queue: Annotated[int, Field(ge=1)] = 1000


class Schedule(Section):
    cron: Annotated[str, Field(pattern=r"^\S+(\s+\S+){4}$")]
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):  # not found is a KeyError, a folder an OSError
            raise ValueError("expected a time zone such as Europe/Paris") from None
        return value


class Loop(Section):
    """One model kept fresh.

    ``holdout.by`` and ``promotion.metric`` are filled in when left out: entity if there is one, else
    time if there is a timestamp, else row; the metric of DEFAULT_METRIC. ``promotion.refit`` is on
    where the holdout is by time.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    task: Task
    target: Name
    positive: Label | None = None
    entity: Name | None = None
    timestamp: Name | None = None
    windows: Windows = Windows()
    features: Features | None = None
    model: Model
    training: Training = Training()
    validation: Validation = Validation()
    holdout: Holdout = Holdout()
    drift: Drift = Drift()
    trigger: Trigger = Trigger()
    compute: Compute = Compute()
    promotion: Promotion = Promotion()
    alerts: Alerts = Alerts()
    serving: Serving = Serving()
    schedule: Schedule | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: dict[str, Any]) -> dict[str, Any]:
        by = "entity" if data.get("entity") else "time" if data.get("timestamp") else "row"
        data = _filled(data, "holdout", {"by": by})
        refit = isinstance(data["holdout"], dict) and data["holdout"]["by"] == "time"
        metric = DEFAULT_METRIC.get(str(data.get("task")), "")
        return _filled(data, "promotion", {"metric": metric, "refit": refit})

    @model_validator(mode="after")
    def _a_column_each(self) -> Self:
        roles = [column for column in (self.target, self.entity, self.timestamp) if column is not None]
        if len(set(roles)) < len(roles):
            raise ValueError(
                f"target, entity and timestamp name {', '.join(roles)}: expected a column of its own for each"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.holdout.by == "entity" and not self.entity:
            raise ValueError('holdout.by = "entity" needs entity = "<column>"')
        if self.holdout.by == "time" and not self.timestamp:
            raise ValueError('holdout.by = "time" needs timestamp = "<column>"')
        if self.positive is not None and self.task != "binary":
            raise ValueError('positive is for task = "binary" only')
        if self.promotion.metric not in (known := metrics_of(self.task)):
            raise ValueError(
                f"promotion.metric = {self.promotion.metric!r}: for {self.task} expected one of {', '.join(known)}"
            )
        if self.promotion.refit and self.holdout.by != "time":
            raise ValueError(
                f'promotion.refit = true needs holdout.by = "time"; rows held out by {self.holdout.by} are never '
                f"trained on, by rule"
            )
        if twice := sorted({c for c in self.promotion.slices if self.promotion.slices.count(c) > 1}):
            raise ValueError(f"promotion.slices names {', '.join(twice)} more than once")
        if roles := [c for c in self.promotion.slices if c in (self.target, self.entity, self.timestamp)]:
            raise ValueError(
                f"promotion.slices names {', '.join(roles)}; expected columns that tell kinds of rows apart"
            )
        if self.features:
            self._check_features(self.features)
        if self.windows.source == "log":
            self._check_log()
        return self

    @model_validator(mode="after")
    def _contest_has_rivals(self) -> Self:
        alone = len(self.training.names) == len(self.model.recipes) == 1
        if alone and "validation_share" in self.training.model_fields_set:
            raise ValueError(
                "training.validation_share is for several strategies or [[model.candidates]], of which there is one"
            )
        return self

    @model_validator(mode="after")
    def _engine_runs_there(self) -> Self:
        if self.compute.runner != "threads" and self.drift.engine == "evidently":
            raise ValueError(
                f'compute.runner = "{self.compute.runner}" is for the columnar engine: set drift.engine to "columnar" '
                f'or "auto", or leave [compute] out'
            )
        return self

    @model_validator(mode="after")
    def _target_may_be_scaled(self) -> Self:
        if self.task != "regression" and any(recipe.scale_target is not None for recipe in self.model.recipes):
            raise ValueError('scale_target is for task = "regression" only')
        return self

    def _check_log(self) -> None:
        """The log holds requests: features, an id and a time. Whatever else a window needs, it cannot give."""
        if self.serving.log == "off":
            raise ValueError('windows.source = "log" needs a prediction log, and serving.log = "off" keeps none')
        if self.features is None:
            raise ValueError('windows.source = "log" needs [features]: what was asked for is all that the log holds')
        if strange := [c for c in self.promotion.slices if c not in self.features.names]:
            raise ValueError(
                f'promotion.slices names {", ".join(strange)}: windows.source = "log" knows the features and no more'
            )

    def _check_features(self, features: Features) -> None:
        names = features.names
        if not names:
            raise ValueError("features names no column: list some under numeric or categorical")
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"features lists {', '.join(twice)} more than once")
        for role in ("target", "entity", "timestamp"):
            if getattr(self, role) in names:
                raise ValueError(f"{role} {getattr(self, role)!r} is also listed as a feature; it never is one")

    @model_validator(mode="after")
    def _tests_fit(self) -> Self:
        features, engine = self.features or Features(), ""
        if self.drift.columns and not self.features:
            raise ValueError("drift.columns needs [features]: list the columns there that the loop learns from")
        for name, asked in self.drift.columns.items():
            if name not in features.names:
                raise ValueError(
                    f"drift.columns names {name}, which is no feature; expected one of {', '.join(features.names)}"
                )
            known = names_for(numeric=name in features.numeric)
            if self.drift.engine == "columnar":
                engine = 'and engine = "columnar" '
                known = tuple(test for test in known if test not in OF_ROWS)
            if asked.test is not None and asked.test not in known:
                kind = "numeric" if name in features.numeric else "categorical"
                raise ValueError(
                    f"drift.columns.{name}.test = {asked.test!r}: for a {kind} column "
                    f"{engine}expected one of {', '.join(known)}"
                )
        return self

    @property
    def columns(self) -> Features:
        """The features, which inference has written into loop.toml or the caller has resolved."""
        if self.features is None:
            raise ContractError("loop.toml lists no [features]; run `driftloop init` on the folder to write them down")
        return self.features

    @property
    def digest(self) -> str:
        """A hash of everything that changes what a run computes."""
        passed_by: dict[str, Any] = {"schedule": True, "alerts": True, "serving": True, "compute": True}
        if self.windows.source == "files":  # loops from before a key was there keep the hash of their runs
            passed_by["windows"] = {"source", "calendar"}
        passed_by["training"] = set(Training.model_fields) - self.training.model_fields_set - {"strategy"}
        passed_by["model"] = set(Model.model_fields) - self.model.model_fields_set - {"estimator", "params"}
        passed_by["drift"] = {"engine", "columns"} - self.drift.model_fields_set
        passed_by["trigger"] = {
            "confidence",
            "consecutive",
            "min_importance",
            "reference",
        } - self.trigger.model_fields_set
        if not self.validation.model_fields_set:
            passed_by["validation"] = True
        return hashlib.blake2b(self.model_dump_json(exclude=passed_by).encode(), digest_size=8).hexdigest()


def _filled(data: dict[str, Any], section: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """``data`` with a section's defaults; what is no section is left to the section's own check."""
    given = data.get(section, {})
    return data | {section: defaults | given} if isinstance(given, dict) else data


def load(folder: Path) -> Loop:
    """Read ``folder/loop.toml``.

    Raises ContractError naming file, key, value and what was expected.
    """
    file = folder / "loop.toml"
    text = written(file)
    if text is None:
        raise ContractError(
            f"{file} does not exist. Write one with `{command('init', folder)}`, or name a folder that has one."
        )
    return parse(text, str(file))


def written(file: Path) -> str | None:
    """What a file of the user's says, None where there is none. Raises ContractError."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ContractError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ContractError(f"{file} cannot be read: it is not UTF-8 ({error}).") from None


def parse(text: str, source: str = "loop.toml") -> Loop:
    """Parse the text of a loop.toml; ``source`` names it in errors."""
    try:
        return Loop.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{source} is not valid TOML: {error}.") from None
    except ValidationError as error:
        raise ContractError(f"{source}: " + "; ".join(_sentence(e) for e in error.errors())) from None


# of what pydantic says in Python's terms
EXPECTED = {"tuple_type": "expected a list", "dict_type": "expected a table", "model_type": "expected a table"}


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key} is not a known key; check its spelling against the reference in docs/loop-toml.md"
    if error["type"] == "missing":
        return f"{key} is missing; it is required"
    message = EXPECTED.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    if key == "name" and error["type"] == "string_pattern_mismatch":
        message = "expected at most 100 letters, digits, points, underscores and hyphens, the first a letter or digit"
    if error["type"] == "string_pattern_mismatch" and key.startswith("training.strateg"):
        message = (
            'expected "all", "latest", "rolling:3", "mix:0.7", "fine_tune", "reweight", "reweight:segments" or "auto"'
        )
    if error["type"] == "value_error" and not key:
        return message
    if key.startswith("alerts") or isinstance(error["input"], dict):
        return f"{key}: {message}"  # an address may hold a token, and a section's text says nothing of two of its keys
    return f"{key} = {error['input']!r}: {message}"
