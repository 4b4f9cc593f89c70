"""What a request may hold, read off the champion: its features as a pydantic type, and errors that name the field."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import pydantic_core
import typing_extensions
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from driftloop import category as categories
from driftloop.category import MISSING
from driftloop.facts import Facts

MAX_ROWS = 10_000
MAX_PROBLEMS = 20
STRANGE = "not a feature of this model"
SHOWN = 100  # characters of a name that a client made up
LARGE = 2**20  # bytes from which on a body is hardly one right row
ROWS, START = b'"rows"', 64  # a batch says so within its first bytes, or is read the longer way
REFS = "#/components/schemas/{model}"

Json = dict[str, Any]
Place = tuple[int | str, ...]
LARGEST = 3.4e38  # of 32-bit floats, which trees compute with
Number = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)] | None


def category(value: str | bool | float | None) -> str | None:
    """The name training knows the value by, per value: in a column ``True`` and ``1`` would count as the same.

    >>> [category(value) for value in (True, "true", 1, 1.0, "fibre", None)]
    ['True', 'True', '1', '1', 'fibre', None]
    """
    return None if value is None else categories.category(value)


def whole(value: float) -> float:
    """Raises ValueError for a fraction, infinity and NaN."""
    if not value.is_integer():
        raise ValueError("not an integer")
    return value


# JSON has one kind of number: 1.0 is an integer, and what clients make of one beside nulls
Whole = Annotated[float, AfterValidator(whole), WithJsonSchema({"type": "integer"})]
Category = Annotated[str | bool | int | Whole | None, AfterValidator(category)]


class WrongInput(Exception):
    """A request that cannot be scored; ``problems`` name each field, in FastAPI's form. Becomes a 422."""

    def __init__(self, problems: list[Json]) -> None:
        self.problems = problems
        super().__init__("; ".join(problem["msg"] for problem in problems))


class TooManyRows(Exception):
    """More rows than one request may hold. Becomes a 413."""


@dataclass(frozen=True)
class RequestSchema:
    """Reads request bodies for the model behind ``facts``: every feature given, nulls allowed, nothing else."""

    facts: Facts
    one: TypeAdapter[Any]
    many: TypeAdapter[Any]
    max_rows: int = MAX_ROWS

    @classmethod
    def of(cls, facts: Facts, max_rows: int = MAX_ROWS) -> RequestSchema:
        row = _dict_type("Row", _fields(facts), {"example": facts.sample[0]})
        rows = Annotated[list[row], Field(min_length=1, max_length=max_rows)]  # type: ignore[valid-type]
        batch = _dict_type("Rows", {"rows": rows}, {"example": {"rows": list(facts.sample[:2])}})
        return cls(facts, TypeAdapter(row), TypeAdapter(batch), max_rows)

    def read(self, body: bytes) -> tuple[list[Json], bool]:
        """(rows, whether they came as a batch). Raises WrongInput naming the fields, or TooManyRows."""
        if len(body) < LARGE and ROWS not in body[:START]:
            try:  # nearly every request is one right row: parsed and validated in one go
                return [self.one.validator.validate_json(body)], False
            except ValidationError:
                pass  # whatever is wrong with it is found out below
        return self._read(body)

    def _read(self, body: bytes) -> tuple[list[Json], bool]:
        try:
            given = pydantic_core.from_json(body)
        except ValueError as error:
            raise WrongInput([problem((), f"the body is not valid JSON: {error}", "json_invalid")]) from None
        if not isinstance(given, dict):
            raise WrongInput([problem((), 'expected one row as an object, or {"rows": [...]}', "dict_type")])
        batch = self._is_batch(given)
        if batch and isinstance(given["rows"], list) and len(given["rows"]) > self.max_rows:
            raise TooManyRows(f"{len(given['rows']):,} rows in one request; send at most {self.max_rows:,}")
        try:
            if batch:
                return self.many.validate_python(given)["rows"], True
            return [self.one.validate_python(given)], False
        except ValidationError:
            raise WrongInput(self._problems(given, batch)[:MAX_PROBLEMS]) from None

    def components(self) -> tuple[Json, Json]:
        """(schema of the request body, named schemas it refers to), as OpenAPI wants them."""
        _, schema = TypeAdapter.json_schemas(
            [("row", "validation", self.one), ("rows", "validation", self.many)], ref_template=REFS
        )
        return {"anyOf": [{"$ref": REFS.format(model=name)} for name in ("Row", "Rows")]}, schema["$defs"]

    def _is_batch(self, given: Json) -> bool:
        return "rows" in given and (not self._names_rows or isinstance(given["rows"], list))

    @property
    def _names_rows(self) -> bool:
        return "rows" in self.facts.numeric or "rows" in self.facts.categorical  # a feature may bear that name

    def _problems(self, given: Json, batch: bool) -> list[Json]:
        """What is wrong, found again row by row: of a million wrong fields nobody waits for more than the first."""
        if not batch:
            return self._of_row(given, ())
        others = islice((name for name in given if name != "rows"), MAX_PROBLEMS)
        found = [problem((name,), f"{_short(name)} is {STRANGE}", "extra_forbidden") for name in others]
        if not isinstance(given["rows"], list):
            return [problem(("rows",), "rows: expected a list of rows", "list_type"), *found]
        if not given["rows"]:
            return [problem(("rows",), "rows is empty; send at least one row", "too_short"), *found]
        for number, row in enumerate(given["rows"]):
            if len(found) >= MAX_PROBLEMS:
                break
            found += self._of_row(row, ("rows", number))
        return found

    def _of_row(self, row: Any, place: Place) -> list[Json]:
        """One problem a field: what follows its name in a location is the branch of a union, nothing a client sent."""
        names = (*self.facts.numeric, *self.facts.categorical)
        try:
            self.one.validate_python(excerpt(row, names))
        except ValidationError as error:
            found: dict[Any, Json] = {}
            for item in error.errors(include_url=False, include_input=False, include_context=False):
                at = (*place, *item["loc"][:1])
                found.setdefault(at, problem(at, self._sentence(item, at), item["type"]))
            return list(found.values())
        return []

    def _sentence(self, item: pydantic_core.ErrorDetails, place: Place) -> str:
        name, kind = str(place[-1]) if place else "", item["type"]
        if kind == "missing":
            return f"{name} is missing; send null where its value is unknown"
        if kind == "extra_forbidden":
            return f"{_short(name)} is {STRANGE}"
        if not item["loc"]:
            return f"{'.'.join(map(str, place))}: {item['msg']}"
        expected = "a finite number" if name in self.facts.numeric else "a string, true, false, an integer"
        return f"{name}: expected {expected} or null"


def _fields(facts: Facts) -> dict[str, Any]:
    fields: dict[str, Any] = {name: Annotated[Number, Field(title=name)] for name in facts.numeric}
    for name in facts.categorical:
        known = [value for value in facts.categories.get(name, ()) if value != MISSING]
        fields[name] = Annotated[Category, Field(title=name, examples=list(known[:5]))]
    return fields


def _dict_type(name: str, fields: dict[str, Any], extra: Json) -> Any:
    """A TypedDict, not a model: any column name will do, ``copy`` and ``a b`` included, and a row stays a dict."""
    make: Any = typing_extensions.TypedDict  # the type checker knows only those written out in full
    made = make(name, fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, json_schema_extra=extra)
    return made


def excerpt(row: Any, names: Collection[str]) -> Any:
    """The row without most of what nobody asked for."""
    if not isinstance(row, dict) or len(row) <= len(names) + MAX_PROBLEMS:
        return row
    others = islice((name for name in row if name not in names), MAX_PROBLEMS)
    return {name: row[name] for name in (*(name for name in names if name in row), *others)}


def problem(place: Place, message: str, kind: str) -> Json:
    return {"loc": ["body", *map(_short, place)], "msg": message, "type": kind}


def _short(part: int | str) -> int | str:
    return f"{part[:SHOWN]}…" if isinstance(part, str) and len(part) > SHOWN else part
