"""The space of a recipe that a search draws from: its values as loop.toml has them, and as Optuna stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from driftloop.contract import Range, Recipe
from driftloop.errors import ContractError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MANY = 10_000  # values of a parameter are more than any search tries


def require_one_kind(recipe: Recipe, name: str, values: Range) -> None:
    """Raise ContractError where choices are the same, or nobody can tell whether whole numbers are meant: 2 and 8.0."""
    for n, one in enumerate(values.choices):
        if same := [other for other in values.choices[:n] if drawn(other) == drawn(one)]:
            raise ContractError(
                f"loop.toml: the space of {recipe.name}: {name} has {same[0]!r} and {one!r} among its choices, which "
                f"Python takes for the same: leave one out"
            )
    ends = (values.low, values.high)
    if len({type(end) for end in ends}) == 2 and all(end is not None and end == int(end) for end in ends):
        raise ContractError(
            f"loop.toml: the space of {recipe.name}: {name} is from low = {values.low} to high = {values.high}: write "
            f"both with a point, or both without for whole numbers only"
        )


def drawn(value: Any) -> Any:
    """A value as Optuna stores it, which takes scalars only: a list is its JSON text."""
    return json.dumps(value, default=str) if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """A choice as loop.toml has it: a list, where the frozen contract holds a tuple."""
    return list(value) if isinstance(value, tuple) else value


def given(recipe: Recipe, asked: dict[str, Any]) -> dict[str, Any]:
    """What Optuna drew, as the estimator takes it."""
    lists = {
        name: {drawn(one): plain(one) for one in values.choices if isinstance(one, tuple)}
        for name, values in recipe.space.items()
    }
    return {name: lists[name].get(value, value) for name, value in asked.items()}


def distribution(values: Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices:
        return CategoricalDistribution([drawn(one) for one in values.choices])
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=values.log)
    assert low is not None, "the contract holds both ends or choices"
    assert high is not None, "the contract holds both ends or choices"
    return FloatDistribution(low, high, log=values.log)


def every(values: Range) -> Sequence[Any] | None:
    """All values of a parameter as Optuna stores them; None where they are too many to go through."""
    if values.choices:
        return [drawn(one) for one in values.choices]
    if isinstance(values.low, int) and isinstance(values.high, int) and values.high - values.low < MANY:
        return range(values.low, values.high + 1)
    return None


def holds(values: Range, value: Any) -> bool:
    if values.choices:
        return drawn(value) in [drawn(one) for one in values.choices]
    low, high = values.low, values.high
    assert low is not None, "the contract holds both ends or choices"
    assert high is not None, "the contract holds both ends or choices"
    whole = isinstance(low, int) and isinstance(high, int)
    return isinstance(value, int if whole else int | float) and low <= value <= high
