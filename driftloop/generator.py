"""A made-up streaming service: seeded months of customer tables whose world changes as generator.toml tells it."""

from __future__ import annotations

import math
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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

Array = np.ndarray[Any, np.dtype[Any]]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turnover(Section):
    """``joining``: new customers a month, as a share of ``users``. ``leaving``: the share of churners not won back."""

    joining: Share
    leaving: Share


class Mix(Section):
    """Who joins: the shares of each choice and the chance of each flag."""

    choices: dict[str, Shares] = Field(default_factory=dict)
    flags: Shares = Field(default_factory=dict)

    def changed_by(self, other: Mix) -> Mix:
        return Mix(choices=self.choices | other.choices, flags=self.flags | other.flags)


class Customers(Section):
    """Who the customers are. At the start a share of them are ``newcomers`` in their first year."""

    mix: Mix
    newcomers: Share
    longest_tenure: Annotated[int, Field(ge=12)]


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
    """One term of the churn logit: weight * (column - centre) / scale, or weight where the column equals a value."""

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

    ``factors`` multiply a measure's mean or the monthly fee, once more each month while the event ``grows``.
    ``joiners`` replace shares and chances among those who join; ``weights`` replace weights of the concept's
    terms, or its intercept.
    """

    name: str
    first: Period
    last: Period | None = None
    grows: Annotated[int, Field(ge=1)] = 1
    factors: dict[str, Positive] = Field(default_factory=dict)
    joiners: Mix = Mix()
    weights: dict[str, float] = Field(default_factory=dict)

    def at(self, month: str) -> bool:
        return self.first <= month and (self.last is None or month <= self.last)

    def factor(self, column: str, month: str) -> float:
        return self.factors.get(column, 1.0) ** min(self.grows, _ordinal(month) - _ordinal(self.first) + 1)


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
        mix = self.customers.mix
        _expect("measures", self.measures, MEASURES, every=True)
        _expect("customers.mix.choices", mix.choices, CHOICES, every=True)
        _expect("customers.mix.flags", mix.flags, FLAGS, every=True)
        _expect("fees.base", self.fees.base, mix.choices["net_service"], every=True)
        columns = [column for table in TABLES.values() for column in table]
        _expect("concept.terms", [term.column for term in self.concept.terms.values()], columns)
        for event in self.events:
            _expect(f"factors of {event.name!r}", event.factors, [*MEASURES, "monthly_fee"])
            _expect(f"joiners of {event.name!r}", [*event.joiners.choices, *event.joiners.flags], [*CHOICES, *FLAGS])
            _expect(f"weights of {event.name!r}", event.weights, [*self.concept.terms, "intercept"])
        return self

    def ids(self) -> list[str]:
        """The months' ids, oldest first."""
        return [str(p) for p in pd.period_range(self.first, periods=self.months, freq="M")]

    @property
    def joining(self) -> int:
        """How many customers join a month."""
        return round(self.turnover.joining * self.users)

    def events_in(self, month: str) -> list[Event]:
        return [event for event in self.events if event.at(month)]


def _expect(what: str, given: Iterable[str], names: Iterable[str], *, every: bool = False) -> None:
    """Raise ValueError when ``given`` holds a name that is not among ``names``, or not every one of them."""
    unknown, missing = sorted(set(given) - set(names)), sorted(set(names) - set(given))
    if unknown:
        raise ValueError(f"{what}: {', '.join(unknown)} is not known; known are {', '.join(names)}")
    if every and missing:
        raise ValueError(f"{what}: {', '.join(missing)} is missing")


def _ordinal(month: str) -> int:
    year, number = month.split("-")
    return 12 * int(year) + int(number)


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
            unfinished.replace(file)
        self._write_tables(folder / "windows")

    def _write_tables(self, windows: Path) -> None:
        target = windows / self.window
        unfinished, replaced = (windows / f".{self.window}.{state}" for state in ("unfinished", "replaced"))
        for leftover in (unfinished, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, table in self.tables.items():
            _to_csv(table, unfinished / f"{name}.csv")
        if target.exists():  # a folder cannot be renamed over one that holds files
            target.replace(replaced)
        unfinished.replace(target)
        shutil.rmtree(replaced, ignore_errors=True)


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
    for delivery in deliveries(settings):
        delivery.write(folder)
    return settings.ids()


def deliveries(settings: GeneratorSettings) -> Iterator[Delivery]:
    """The months in the order they arrive, each with the labels of the month before."""
    known: dict[str, pd.DataFrame] = {}
    for month in generate(settings):
        yield Delivery(month.id, month.tables, known)
        known = {month.id: month.labels}


def generate(settings: GeneratorSettings) -> Iterator[Month]:
    """The months of the story, oldest first; the same settings give the same bytes."""
    customers = _start(settings, np.random.default_rng([settings.seed, 0]))
    for number, month in enumerate(settings.ids()):
        rng = np.random.default_rng([settings.seed, number + 1])
        rows = _observe(settings, customers, month, rng)
        churned = rng.random(len(rows)) < _churn_probability(settings, rows, month)
        labels = pd.DataFrame({"user_id": rows["user_id"], "churn_label": churned})
        yield Month(month, {name: rows[["user_id", *columns]] for name, columns in TABLES.items()}, labels)
        gone = churned & (rng.random(len(rows)) < settings.turnover.leaving)
        joining = _joining(settings, number, month, rng)
        customers = pd.concat([_a_month_later(customers, rows["monthly_fee"])[~gone], joining], ignore_index=True)


def _start(settings: GeneratorSettings, rng: np.random.Generator) -> pd.DataFrame:
    """The customers of the first month: a share of newcomers, the others with any tenure up to the longest."""
    customers = _new(settings, settings.customers.mix, settings.users, 0, rng)
    tenure = rng.integers(0, settings.customers.longest_tenure, size=settings.users, endpoint=True)
    first_year = rng.random(settings.users) < settings.customers.newcomers
    months = np.where(first_year, tenure % 12, tenure)
    customers["months_active"] = months
    customers["total_paid"] = months * customers["fee"]
    customers["signup_date"] = _signup_dates(settings.first, months, rng)
    return customers


def _joining(settings: GeneratorSettings, number: int, month: str, rng: np.random.Generator) -> pd.DataFrame:
    """Those who join at the end of ``month``, the ``number``-th from 0, and are first seen in the next."""
    mix = settings.customers.mix
    for event in settings.events_in(month):
        mix = mix.changed_by(event.joiners)
    joining = _new(settings, mix, settings.joining, settings.users + number * settings.joining, rng)
    joining["signup_date"] = _signup_dates(month, np.full(len(joining), -1), rng)
    return joining


def _new(settings: GeneratorSettings, mix: Mix, count: int, before: int, rng: np.random.Generator) -> pd.DataFrame:
    """``count`` customers with nothing paid yet; ``before`` is how many there ever were, so that no id comes twice.

    ``usual <measure>`` is how far a customer lies from the average one, in standard deviations.
    """
    columns: dict[str, Array | list[str]] = {"user_id": _ids(count, before, rng)}
    for name in CHOICES:
        columns[name] = _choose(mix.choices[name], count, rng)
    for name in FLAGS:
        columns[name] = rng.random(count) < mix.flags[name]
    for name in MEASURES:
        columns[f"usual {name}"] = rng.standard_normal(count)
    customers = pd.DataFrame(columns).assign(months_active=0, total_paid=0.0)
    return customers.assign(fee=_fees(settings.fees, customers, rng))


def _choose(shares: Shares, count: int, rng: np.random.Generator) -> Array:
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares), dtype=object), size=count, p=weights / weights.sum())


def _ids(count: int, before: int, rng: np.random.Generator) -> list[str]:
    letters = rng.choice(LETTERS, size=(count, 5))
    return [f"{number:04d}-{''.join(row)}" for number, row in enumerate(letters, start=before + 1)]


def _fees(fees: Fees, customers: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    plans = customers["plan_stream_tv"].astype(int) + customers["plan_stream_movies"].astype(int)
    plans = plans.where(customers["net_service"] != "No", 0)
    spread = np.exp(fees.spread * rng.standard_normal(len(customers)))
    return (customers["net_service"].map(fees.base).astype(float) + fees.plan * plans) * spread


def _signup_dates(month: str, tenure: Array, rng: np.random.Generator) -> Array:
    """ISO dates, ``tenure`` whole months before ``month`` (-1: the month after), on a day that every month has."""
    months = np.datetime64(month, "M") - tenure.astype("timedelta64[M]")
    days = months.astype("datetime64[D]") + rng.integers(0, 28, size=len(tenure)).astype("timedelta64[D]")
    return np.asarray(np.datetime_as_string(days), dtype=object)


def _observe(
    settings: GeneratorSettings, customers: pd.DataFrame, month: str, rng: np.random.Generator
) -> pd.DataFrame:
    """All columns of the month's tables, a row a customer."""
    rows = customers.copy()
    for plan in ("plan_stream_tv", "plan_stream_movies"):  # a plan needs the service: without, it stays blank
        rows[plan] = rows[plan].astype(object).mask(rows["net_service"] == "No")
    rows["monthly_fee"] = (rows["fee"] * _factor(settings, "monthly_fee", month)).round(2)
    rows["total_paid"] = rows["total_paid"].round(2)
    for name, measure in settings.measures.items():
        rows[name] = _measure(measure, rows[f"usual {name}"].to_numpy(), _factor(settings, name, month), rng)
    return rows


def _factor(settings: GeneratorSettings, column: str, month: str) -> float:
    return math.prod(event.factor(column, month) for event in settings.events_in(month))


def _measure(measure: Measure, usual: Array, factor: float, rng: np.random.Generator) -> Array:
    """Values of shape (customers,)."""
    if measure.kind == "count":
        values = rng.poisson(measure.mean * factor * np.exp(measure.between * usual)).astype(float)
    else:
        noise = measure.between * usual + measure.within * rng.standard_normal(len(usual))
        values = measure.mean * factor + noise
    values = np.clip(np.round(values, measure.decimals), measure.low, measure.high)
    return values if measure.decimals else values.astype(np.int64)


def _churn_probability(settings: GeneratorSettings, rows: pd.DataFrame, month: str) -> Array:
    """Shape (customers,): the logistic of the concept's terms, with the weights of the month."""
    terms = settings.concept.terms
    weights = {name: term.weight for name, term in terms.items()} | {"intercept": settings.concept.intercept}
    for event in settings.events_in(month):
        weights |= event.weights
    logit = np.full(len(rows), weights["intercept"])
    for name, term in terms.items():
        logit += weights[name] * _term(term, rows[term.column])
    return np.asarray(1 / (1 + np.exp(-logit)))


def _term(term: Term, column: pd.Series) -> Array:
    if term.equals is not None:
        return (column.astype(str) == term.equals).to_numpy(dtype=float)
    return (column.to_numpy(dtype=float) - term.centre) / term.scale


def _a_month_later(customers: pd.DataFrame, paid: pd.Series) -> pd.DataFrame:
    months, total = customers["months_active"] + 1, customers["total_paid"] + paid
    return customers.assign(months_active=months, total_paid=total)


def _to_csv(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, lineterminator="\n")
