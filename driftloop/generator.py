"""A made-up streaming service: seeded months of customer tables whose world changes as generator.toml tells it."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from driftloop.errors import ContractError

Period = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Shares = dict[str, Share]

TABLES: dict[str, tuple[str, ...]] = {
    "users": ("signup_date", "user_gender", "user_is_senior", "has_family", "has_dependents"),
    "subscriptions": (
        "months_active",
        "plan_stream_tv",
        "plan_stream_movies",
        "contract_type",
        "paperless_billing",
        "monthly_fee",
        "total_paid",
        "net_service",
    ),
    "usage_agg_30d": (
        "watch_hours_30d",
        "avg_session_mins_7d",
        "unique_devices_30d",
        "skips_7d",
        "rebuffer_events_7d",
    ),
    "support_agg_90d": ("support_tickets_90d", "ticket_avg_resolution_hrs_90d"),
    "payments_agg_90d": ("failed_payments_90d",),
}
MEASURES = (*TABLES["usage_agg_30d"], *TABLES["support_agg_90d"], *TABLES["payments_agg_90d"])
FLAGS = ("user_is_senior", "has_family", "has_dependents", "paperless_billing", "plan_stream_tv", "plan_stream_movies")
CHOICES = ("user_gender", "contract_type", "net_service")
LETTERS = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turnover(Section):
    """``joining``: new customers a month, as a share of ``users``. ``leaving``: the share of churners not won back."""

    joining: Share
    leaving: Share


class Customers(Section):
    """Who the customers are: shares of the choices, chance of each flag, tenure at the start."""

    choices: dict[str, Shares]
    flags: Shares
    newcomers: Share
    longest_tenure: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require("choices", self.choices, CHOICES)
        _require("flags", self.flags, FLAGS)
        return self


class Fees(Section):
    """Monthly fee in dollars: by net service, more for each stream plan, with a spread between customers."""

    base: dict[str, Positive]
    plan: float
    spread: float


class Measure(Section):
    """A measured column: a bell curve (``amount``) or a Poisson count.

    ``between`` is its spread between customers, ``within`` between one customer's months; for a count
    ``between`` is the spread of the logarithm of its mean, and there is no ``within``.
    """

    kind: Literal["amount", "count"]
    mean: float
    between: float
    within: float = 0.0
    low: float = 0.0
    high: float = float("inf")
    decimals: int = 0


class Term(Section):
    """One term of the churn logit: weight × (column − centre) / scale, or weight where the column equals a value."""

    column: str
    weight: float
    centre: float = 0.0
    scale: Positive = 1.0
    equals: str | None = None


class Concept(Section):
    intercept: float
    terms: dict[str, Term]


class Event(Section):
    """A change of the world from month ``first`` to ``last`` (to the end when left out).

    ``factors`` multiply a measure's mean or the monthly fee, again each month when ``gradual``. ``joiners``
    replace shares and chances among those who join. ``weights`` replace weights of the concept's terms, or its
    intercept.
    """

    name: str
    first: Period
    last: Period | None = None
    gradual: bool = False
    factors: dict[str, Positive] = Field(default_factory=dict)
    joiners: dict[str, Share | Shares] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)

    def at(self, month: str) -> bool:
        return self.first <= month and (self.last is None or month <= self.last)


class GeneratorSettings(Section):
    """What generator.toml holds; the seed and these settings fix every byte that is written."""

    seed: Annotated[int, Field(ge=0)]
    first: Period
    months: Annotated[int, Field(ge=1)]
    users: Annotated[int, Field(ge=10)]
    turnover: Turnover
    customers: Customers
    fees: Fees
    measures: dict[str, Measure]
    concept: Concept
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        _require("measures", self.measures, MEASURES)
        _require("fees.base", self.fees.base, self.customers.choices["net_service"])
        columns = [c for table in TABLES.values() for c in table]
        for term in self.concept.terms.values():
            _known("concept.terms", [term.column], columns)
        for event in self.events:
            _known(f"event {event.name!r}: factors", event.factors, [*MEASURES, "monthly_fee"])
            _known(f"event {event.name!r}: joiners", event.joiners, [*CHOICES, *FLAGS])
            _known(f"event {event.name!r}: weights", event.weights, [*self.concept.terms, "intercept"])
        return self

    @property
    def ids(self) -> list[str]:
        """The months' ids, oldest first."""
        return [str(p) for p in pd.period_range(self.first, periods=self.months, freq="M")]


def _require(what: str, given: Mapping[str, object], names: object) -> None:
    if set(given) != set(names):  # type: ignore[call-overload]  # any iterable of names
        raise ValueError(f"{what} names {', '.join(given)}; expected exactly {', '.join(names)}")  # type: ignore[arg-type]


def _known(what: str, given: object, names: list[str]) -> None:
    if unknown := [n for n in given if n not in names]:  # type: ignore[attr-defined]
        raise ValueError(f"{what} names {', '.join(unknown)}; known are {', '.join(names)}")


@dataclass(frozen=True)
class Month:
    """One month's five tables by name, and its labels (user_id, churn_label), which the world knows a month later."""

    id: str
    tables: dict[str, pd.DataFrame]
    labels: pd.DataFrame


@dataclass(frozen=True)
class Delivery:
    """What arrives when month ``window`` begins: its tables, and the ``labels`` that came in meanwhile, by window."""

    window: str
    tables: dict[str, pd.DataFrame]
    labels: dict[str, pd.DataFrame]

    def write(self, folder: Path) -> None:
        """Write ``labels/<window>.csv``, then ``windows/<window>/<table>.csv``, each under its name only when whole."""
        for window, labels in self.labels.items():
            file = folder / "labels" / f"{window}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{file.name}.unfinished")
            _to_csv(labels, unfinished)
            os.replace(unfinished, file)
        self._write_tables(folder / "windows")

    def _write_tables(self, windows: Path) -> None:
        unfinished, target = windows / f".{self.window}.unfinished", windows / self.window
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, table in self.tables.items():
            _to_csv(table, unfinished / f"{name}.csv")
        shutil.rmtree(target, ignore_errors=True)  # a folder cannot be renamed over one that holds files
        os.replace(unfinished, target)


def load(folder: Path) -> GeneratorSettings:
    """Read ``folder/generator.toml``. Raises ContractError naming the key that is wrong."""
    file = folder / "generator.toml"
    try:
        return GeneratorSettings.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ContractError(f"{file} does not exist; this loop has no generator.") from None
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{file} is not valid TOML: {error}.") from None
    except ValidationError as error:
        problems = (f"{'.'.join(str(p) for p in e['loc']) or 'file'}: {e['msg']}" for e in error.errors())
        raise ContractError(f"{file}: " + "; ".join(problems)) from None


def write(folder: Path, settings: GeneratorSettings) -> list[str]:
    """Write every delivery below ``folder``; returns the windows' ids. The last month's labels never arrive."""
    return [delivery.window for delivery in deliveries(settings) if delivery.write(folder) is None]


def deliveries(settings: GeneratorSettings) -> Iterator[Delivery]:
    """The months in the order they arrive, each with the labels of the month before."""
    known: dict[str, pd.DataFrame] = {}
    for month in generate(settings):
        yield Delivery(month.id, month.tables, known)
        known = {month.id: month.labels}


def generate(settings: GeneratorSettings) -> Iterator[Month]:
    """The months of the story, oldest first; the same settings give the same bytes."""
    customers = _start(settings, np.random.default_rng([settings.seed, 0]))
    for number, month in enumerate(settings.ids):
        rng = np.random.default_rng([settings.seed, number + 1])
        rows = _observe(settings, customers, month, rng)
        churned = rng.random(len(rows)) < _churn_probability(settings, rows, month)
        labels = pd.DataFrame({"user_id": rows["user_id"], "churn_label": churned})
        tables = {name: rows[["user_id", *columns]] for name, columns in TABLES.items()}
        yield Month(month, tables, labels)
        customers = _turn_over(settings, customers, rows, churned, month, rng)


def _start(settings: GeneratorSettings, rng: np.random.Generator) -> pd.DataFrame:
    """The customers of the first month: a share of newcomers, the others with any tenure up to the longest."""
    chosen = settings.customers
    customers = _newcomers(settings, settings.users, 0, {}, rng)
    tenure = rng.integers(0, chosen.longest_tenure, size=settings.users, endpoint=True)
    early = rng.integers(0, min(12, chosen.longest_tenure), size=settings.users)
    customers["months_active"] = np.where(rng.random(settings.users) < chosen.newcomers, early, tenure)
    customers["total_paid"] = customers["months_active"] * customers["fee"]
    first = pd.Period(settings.first, "M").to_timestamp()
    customers["signup_date"] = _signup_dates(first, customers["months_active"].to_numpy(), rng)
    return customers


def _newcomers(
    settings: GeneratorSettings, count: int, known: int, mix: Mapping[str, object], rng: np.random.Generator
) -> pd.DataFrame:
    """``count`` customers who just joined; ``known`` customers joined before, ``mix`` replaces usual shares."""
    columns: dict[str, object] = {"user_id": _ids(count, known, rng)}
    for name in CHOICES:
        shares: Shares = {**settings.customers.choices, **mix}[name]  # type: ignore[dict-item]
        weights = np.array(list(shares.values()))
        columns[name] = rng.choice(np.array(list(shares), dtype=object), size=count, p=weights / weights.sum())
    for name in FLAGS:
        columns[name] = rng.random(count) < {**settings.customers.flags, **mix}[name]
    customers = pd.DataFrame(columns).assign(months_active=0, total_paid=0.0)
    customers["fee"] = _fees(settings.fees, customers, rng)
    for name in MEASURES:
        customers[f"usual {name}"] = rng.standard_normal(count)
    return customers


def _ids(count: int, known: int, rng: np.random.Generator) -> list[str]:
    letters = rng.choice(LETTERS, size=(count, 5))
    return [f"{known + i + 1:04d}-{''.join(row)}" for i, row in enumerate(letters)]


def _fees(fees: Fees, customers: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    plans = customers["plan_stream_tv"].astype(int) + customers["plan_stream_movies"].astype(int)
    plans = plans.where(customers["net_service"] != "No", 0)
    spread = np.exp(fees.spread * rng.standard_normal(len(customers)))
    return (customers["net_service"].map(fees.base).astype(float) + fees.plan * plans) * spread


def _signup_dates(month: pd.Timestamp, tenure: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ISO dates, ``tenure`` whole months before ``month``, on a day that every month has."""
    months = np.datetime64(month, "M") - tenure.astype("timedelta64[M]")
    days = months.astype("datetime64[D]") + rng.integers(0, 28, size=len(tenure)).astype("timedelta64[D]")
    return np.datetime_as_string(days).astype(object)


def _observe(
    settings: GeneratorSettings, customers: pd.DataFrame, month: str, rng: np.random.Generator
) -> pd.DataFrame:
    """All columns of the month's tables, a row a customer."""
    rows = customers.copy()
    no_plan = rows["net_service"] == "No"  # the stream plans need the service, so theirs stay blank
    for plan in ("plan_stream_tv", "plan_stream_movies"):
        rows[plan] = rows[plan].astype(object).where(~no_plan, None)
    rows["monthly_fee"] = (rows["fee"] * _factor(settings, "monthly_fee", month)).round(2)
    rows["total_paid"] = rows["total_paid"].round(2)
    for name, measure in settings.measures.items():
        rows[name] = _measure(measure, rows[f"usual {name}"], _factor(settings, name, month), rng)
    return rows


def _measure(measure: Measure, usual: pd.Series, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Values of shape (customers,); ``usual`` is how each customer differs from the others, in deviations."""
    if measure.kind == "count":
        values = rng.poisson(measure.mean * factor * np.exp(measure.between * usual.to_numpy())).astype(float)
    else:
        noise = measure.between * usual.to_numpy() + measure.within * rng.standard_normal(len(usual))
        values = measure.mean * factor + noise
    values = np.clip(np.round(values, measure.decimals), measure.low, measure.high)
    return values if measure.decimals else values.astype(np.int64)


def _factor(settings: GeneratorSettings, column: str, month: str) -> float:
    factor = 1.0
    for event in settings.events:
        if event.at(month):
            times = _months_between(event.first, month) + 1 if event.gradual else 1
            factor *= event.factors.get(column, 1.0) ** times
    return factor


def _churn_probability(settings: GeneratorSettings, rows: pd.DataFrame, month: str) -> np.ndarray:
    weights = {"intercept": settings.concept.intercept} | {n: t.weight for n, t in settings.concept.terms.items()}
    for event in settings.events:
        if event.at(month):
            weights |= event.weights
    logit = np.full(len(rows), weights["intercept"])
    for name, term in settings.concept.terms.items():
        logit += weights[name] * _term(term, rows[term.column])
    return np.asarray(1 / (1 + np.exp(-logit)))


def _term(term: Term, column: pd.Series) -> np.ndarray:
    if term.equals is not None:
        return (column.astype(str) == term.equals).to_numpy(dtype=float)
    return (column.to_numpy(dtype=float) - term.centre) / term.scale


def _turn_over(
    settings: GeneratorSettings,
    customers: pd.DataFrame,
    rows: pd.DataFrame,
    churned: np.ndarray,
    month: str,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Next month's customers: churners who were not won back are gone, the others are a month older, some join."""
    stays = ~(churned & (rng.random(len(customers)) < settings.turnover.leaving))
    staying = customers[stays].assign(
        months_active=lambda c: c["months_active"] + 1,
        total_paid=(customers["total_paid"] + rows["monthly_fee"])[stays],
    )
    mix: dict[str, object] = {}
    for event in settings.events:
        if event.at(month):
            mix |= event.joiners
    known = int(customers["user_id"].str.split("-").str[0].astype(int).max())
    joining = _newcomers(settings, round(settings.turnover.joining * settings.users), known, mix, rng)
    next_month = (pd.Period(month, "M") + 1).to_timestamp()
    joining["signup_date"] = _signup_dates(next_month, joining["months_active"].to_numpy(), rng)
    return pd.concat([staying, joining], ignore_index=True)


def _months_between(first: str, month: str) -> int:
    return int((pd.Period(month, "M") - pd.Period(first, "M")).n)  # type: ignore[union-attr]


def _to_csv(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, lineterminator="\n")
