"""Which rows a candidate learns from, by each strategy, and what that is worth where it should win."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.strategies import WORLDS, last_error
from driftloop.contract import Recipe
from driftloop.errors import ContractError, DriftloopError
from driftloop.facts import Adopted
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.strategy import Base, TrainingSet, training_set, window_limit
from driftloop.training import fit_set, require_strategies, split_parts
from tests.fakes import a_loop, a_window, some_rows

TREE = Recipe(estimator="sklearn.tree.DecisionTreeClassifier")
SGD = Recipe(estimator="sklearn.linear_model.SGDRegressor", params={"random_state": 0})
NAMES = ("all", "latest", "rolling:2", "mix:0.5", "reweight", "reweight:segments")


def part(window: str, n: int, first: int = 0) -> Window:
    """Rows that are told apart by their number."""
    number = np.arange(first, first + n, dtype=float)
    return Window(window, pd.DataFrame({"x": number}), pd.Series(number % 2), None, None)


PARTS = (part("w1", 30), part("w2", 50, 100), part("w3", 20, 200))


def numbers(learnt: TrainingSet) -> list[float]:
    return learnt.rows.X["x"].tolist()


def taken(strategy: str, parts: tuple[Window, ...] = PARTS, **given: Any) -> TrainingSet:
    return training_set(strategy, parts, recipe=given.pop("recipe", TREE), **given)


@pytest.mark.parametrize(
    ("strategies", "limit"),
    [(["latest"], 1), (["rolling:3", "latest"], 3), (["rolling:2", "all"], None), (["mix:0.7"], None)],
)
def test_of_several_strategies_the_widest_says_how_many_windows_are_read(
    strategies: list[str], limit: int | None
) -> None:
    assert window_limit(*strategies) == limit


@pytest.mark.parametrize(
    ("strategy", "windows"), [("all", ("w1", "w2", "w3")), ("rolling:2", ("w2", "w3")), ("latest", ("w3",))]
)
def test_rows_are_those_of_the_newest_windows_in_their_order(strategy: str, windows: tuple[str, ...]) -> None:
    learnt = taken(strategy)
    assert learnt.windows == windows
    assert numbers(learnt) == [x for p in PARTS if p.id in windows for x in p.X["x"]]
    assert (learnt.rows.id, learnt.weights, learnt.note, learnt.effective_rows) == ("w3", None, None, None)


# mix


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.3, 1), seed=st.text(max_size=5))
def test_a_mix_holds_all_current_rows_and_earlier_ones_for_the_rest(share: float, seed: str) -> None:
    learnt = taken(f"mix:{share:.4f}", seed=seed)
    found = numbers(learnt)
    current = [x for x in found if x >= 200]
    assert len(current) == 20
    assert abs(len(current) / len(found) - share) < 1 / len(found)
    assert len(set(found)) == len(found)
    assert found == sorted(found)
    assert learnt.note is None


def test_a_mix_is_drawn_by_its_seed() -> None:
    one, same, other = (numbers(taken("mix:0.5", seed=seed)) for seed in "aab")
    assert one == same != other


def test_a_mix_with_too_few_earlier_rows_takes_them_all_and_says_so() -> None:
    learnt = taken("mix:0.1")
    assert len(numbers(learnt)) == 100
    assert learnt.note == "only 80 earlier rows for the 180 asked: the current window's share is 0.20"


def test_a_mix_without_earlier_windows_is_the_current_one() -> None:
    learnt = taken("mix:0.5", PARTS[:1])
    assert len(numbers(learnt)) == 30
    assert learnt.note is not None


# weights


def test_rows_count_by_how_much_they_look_like_the_current_window() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.uniform(0, 4, 400), rng.uniform(3, 4, 80)
    parts = tuple(
        Window(name, pd.DataFrame({"x": x}), pd.Series(x), None, None) for name, x in (("w1", old), ("w2", new))
    )
    for strategy in ("reweight", "reweight:segments"):
        learnt = taken(strategy, parts)
        assert learnt.weights is not None
        assert learnt.weights.mean() == pytest.approx(1)
        x = learnt.rows.X["x"].to_numpy()
        assert learnt.weights[x < 2.5].mean() < 0.05
        assert learnt.weights[x > 3.2].mean() > 1
        assert learnt.effective_rows == pytest.approx((learnt.weights.sum()) ** 2 / (learnt.weights**2).sum())
        assert learnt.effective_rows < 250  # about 100 old ones and the 80 new ones


def test_rows_of_a_world_that_stays_count_alike() -> None:
    windows = tuple(a_window(some_rows(150, seed=n), window=f"w{n}") for n in range(3))
    by_density, by_segments = taken("reweight", windows), taken("reweight:segments", windows)
    assert by_density.effective_rows is not None
    assert by_density.effective_rows > 0.75 * 450
    assert (by_segments.weights, by_segments.note) == (None, "no column drifted: all rows count alike")


def test_segments_of_categories_get_the_shares_they_have_now() -> None:
    rows = [some_rows(300, seed=n) for n in (1, 2)]
    rows[1]["plan"] = np.where(np.arange(300) % 10 == 0, "basic", "family")
    learnt = taken("reweight:segments", tuple(a_window(r, window=f"w{n}") for n, r in enumerate(rows)))
    assert learnt.weights is not None
    family = (learnt.rows.X["plan"] == "family").to_numpy()
    assert learnt.weights[family].sum() / learnt.weights.sum() == pytest.approx(0.9, abs=0.01)
    assert learnt.note == "weighted by plan"


def test_with_one_window_there_is_nothing_to_weight() -> None:
    learnt = taken("reweight", PARTS[:1])
    assert (learnt.weights, learnt.note) == (None, "there is no earlier window to weight: all rows count alike")


# fine_tune


def linear(window: str, n: int, slope: float, seed: int = 0) -> Window:
    x = np.random.default_rng([seed, n]).normal(size=n)
    return Window(window, pd.DataFrame({"x": x}), pd.Series(slope * x), None, None)


REGRESSION = a_loop(
    task="regression", entity=None, features={"numeric": ["x"]}, model=SGD.model_dump(exclude_unset=True),
    training={"strategy": "fine_tune"},
)  # fmt: skip


def champion(recipe: Recipe = SGD, **facts: Any) -> Base:
    made = fit_set(REGRESSION, recipe, TrainingSet("all", ("w1",), linear("w1", 100, 1.0)), "rule")
    return Base("7", made.estimator, made.facts.model_copy(update=facts))


TUNED = (linear("w1", 100, 1.0), linear("w2", 40, 2.0), linear("w3", 40, 2.0))


def test_a_champion_learns_on_from_the_windows_it_never_saw() -> None:
    base = champion()
    learnt = taken("fine_tune", TUNED, recipe=SGD, base=base)
    assert learnt.windows == ("w1", "w2", "w3")
    assert len(learnt.rows.X) == 80
    made = fit_set(REGRESSION, SGD, learnt, "rule")
    assert (made.facts.tuned_from, made.facts.windows, made.facts.rows) == ("7", ("w1", "w2", "w3"), 180)
    assert made.facts.new_rows == 80
    assert made.facts.categories == base.facts.categories
    before, after = base.estimator["model"].coef_[0], made.estimator["model"].coef_[0]
    assert before == champion().estimator["model"].coef_[0] < after  # a copy has learnt


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (None, "there is no champion to go on from"),
        (champion(Recipe(estimator="sklearn.linear_model.Ridge")), "champion 7 is no SGDRegressor"),
        (champion(numeric=("x", "z")), "champion 7 knows other features"),
        (champion(SGD.model_copy(update={"params": {"alpha": 0.5}})), "champion 7 was made with other parameters"),
        (
            champion(recipe=None, adopted=Adopted(source="runs:/1/model", unit="window", until="w0")),
            "champion 7 was adopted, and what it learnt from is not known",
        ),
        (champion(windows=("w1", "w3")), "champion 7 knows all of these windows"),
    ],
)
def test_without_a_champion_of_its_kind_it_is_a_fit_on_all_and_says_so(base: Base | None, why: str) -> None:
    learnt = taken("fine_tune", TUNED, recipe=SGD, base=base)
    assert (learnt.base, len(learnt.rows.X)) == (None, 180)
    assert learnt.note == f"{why}: fitted on all rows"


def test_what_a_search_may_vary_does_not_make_another_champion() -> None:
    searched = Recipe.model_validate({**SGD.model_dump(), "space": {"alpha": {"low": 0.1, "high": 1.0}}})
    base = champion(SGD.model_copy(update={"params": {"alpha": 0.5, "random_state": 0}}))
    assert taken("fine_tune", TUNED, recipe=searched, base=base).base is base


FOREST = Recipe(estimator="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 3, "random_state": 0})
SEVERAL = a_loop(
    task="multiclass", entity=None, features={"numeric": ["x"]}, model=FOREST.model_dump(exclude_unset=True),
    training={"strategy": "fine_tune"}, promotion={},
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "new", "why"),
    [
        ("high low", "high mid", "lack a class"),
        ("high low", "high low mid", "have a class that it never learnt"),
        ("high low mid", "high mid", "lack a class"),
        ("high mid", "high mid", None),
    ],
)
def test_a_champion_of_other_classes_than_the_new_rows_does_not_learn_on(known: str, new: str, why: str | None) -> None:
    """A forest that went on would take mid for the low that it knows."""
    labels = ("high", "low", "mid")

    def classes(window: str, named: str) -> Window:
        y = [float(labels.index(name)) for name in named.split()] * 20
        return Window(window, pd.DataFrame({"x": np.array(y) + 0.1}), pd.Series(y), None, None, labels)

    parts = (classes("w1", known), classes("w2", new))
    made = fit_set(SEVERAL, FOREST, TrainingSet("all", ("w1",), parts[0]), "rule")
    learnt = taken("fine_tune", parts, recipe=FOREST, base=Base("7", made.estimator, made.facts))
    assert learnt.note == (why and f"the windows new to champion 7 {why}: fitted on all rows")
    assert (learnt.base is None) == bool(why)
    again = fit_set(SEVERAL, FOREST, learnt, "rule").estimator
    assert {labels[int(place)] for place in again.classes_} == {*known.split(), *new.split()}


def test_a_champion_whose_searched_parameters_rule_it_out_does_not_learn_on() -> None:
    given = {"estimator": "sklearn.linear_model.LogisticRegression", "space": {"solver": {"choices": ["liblinear"]}}}
    recipe = Recipe.model_validate({**given, "params": {"solver": "liblinear"}})
    rows = part("w1", 30)
    made = fit_set(a_loop(entity=None, features={"numeric": ["x"]}), recipe, TrainingSet("all", ("w1",), rows), "rule")
    learnt = taken("fine_tune", recipe=Recipe.model_validate(given), base=Base("7", made.estimator, made.facts))
    assert learnt.note == ("champion 7 cannot learn on with the parameters that a search gave it: fitted on all rows")


def test_a_champion_from_before_versions_named_their_recipe_can_learn_on() -> None:
    old = champion(recipe=None)
    assert taken("fine_tune", TUNED, recipe=SGD, base=old).base is old


# what cannot be done is told when loop.toml is read


@pytest.mark.parametrize(
    ("strategy", "estimator", "message"),
    [
        ("fine_tune", "sklearn.tree.DecisionTreeClassifier", "DecisionTreeClassifier cannot learn on from new rows"),
        ("fine_tune", "sklearn.ensemble.HistGradientBoostingClassifier", "cannot learn on from new rows"),
        ("reweight", "sklearn.neighbors.KNeighborsClassifier", "KNeighborsClassifier takes no sample_weight"),
        ("reweight:segments", "sklearn.neighbors.KNeighborsClassifier", "takes no sample_weight"),
    ],
)
def test_an_estimator_that_cannot_is_a_contract_error(strategy: str, estimator: str, message: str) -> None:
    loop = a_loop(model={"estimator": estimator}, training={"strategy": strategy})
    with pytest.raises(ContractError, match=message):
        require_strategies(loop)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("sklearn.ensemble.RandomForestClassifier", "RandomForestClassifier has no learning rate; leave it out"),
        ("sklearn.ensemble.GradientBoostingClassifier", "scales what all its stages say, those of the champion too"),
    ],
)
def test_a_learning_rate_needs_an_estimator_that_has_one_for_what_is_new(estimator: str, message: str) -> None:
    training = {"strategy": "fine_tune", "learning_rate": 0.1}
    with pytest.raises(ContractError, match=f"training.learning_rate: .*{message}"):
        require_strategies(a_loop(model={"estimator": estimator}, training=training))
    require_strategies(a_loop(model={"estimator": "sklearn.neural_network.MLPClassifier"}, training=training))


# never the holdout


@settings(max_examples=25, deadline=None)
@given(strategy=st.sampled_from(NAMES), by=st.sampled_from(["entity", "row", "time"]), seed=st.integers(0, 99))
def test_no_strategy_learns_from_the_holdout(strategy: str, by: str, seed: int) -> None:
    own = {"entity": "user_id"} if by == "entity" else {"entity": None}
    loop = a_loop(**own, timestamp="at", holdout={"by": by, "share": 0.3})
    windows = [
        a_window(
            some_rows(40, seed=100 * seed + n).assign(at=pd.date_range(f"2024-0{n}-01", periods=40, freq="h")),
            loop,
            f"2024-0{n}",
        )
        for n in (1, 2, 3)
    ]
    parts, holdout = split_parts(windows, HoldoutRule.of(loop))
    learnt = taken(strategy, parts)
    assert not set(holdout.X["fee"]) & set(learnt.rows.X["fee"])
    if by == "entity":
        assert holdout.entity is not None
        assert learnt.rows.entity is not None
        assert not set(holdout.entity) & set(learnt.rows.entity)


# each where it should win


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.strategy)
def test_a_strategy_wins_on_the_stream_made_for_it(world: Any) -> None:
    plain = [name for name in ("all", "rolling:3", "latest", "mix:0.7") if name != world.strategy]
    errors = {name: np.mean([last_error(world, name, seed) for seed in range(3)]) for name in (*plain, world.strategy)}
    assert min(errors, key=lambda name: float(errors[name])) == world.strategy


def test_rows_that_an_estimator_refuses_are_an_error_with_its_name() -> None:
    learnt = TrainingSet("all", ("w1",), linear("w1", 0, 1.0))
    with pytest.raises(DriftloopError, match="SGDRegressor could not be trained on w1"):
        fit_set(REGRESSION, SGD, learnt, "rule")
