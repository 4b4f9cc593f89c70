"""A search stays within its budget, goes on where it was killed, and judges parameters on rows as the holdout is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.tree import DecisionTreeClassifier

from driftloop import progress, search
from driftloop.contract import Loop, Recipe
from driftloop.errors import ContractError
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.search import Searched, parts, tune
from driftloop.strategy import joined
from driftloop.training import split, split_parts
from tests.fakes import a_loop, a_window, some_rows

TREE = "sklearn.tree.DecisionTreeClassifier"
SPACE = {"max_depth": {"low": 1, "high": 8}, "min_samples_leaf": {"low": 1, "high": 50, "log": True}}


def searching(space: dict[str, Any] = SPACE, params: dict[str, Any] | None = None, **settings: Any) -> Loop:
    params = {"max_depth": 2, "random_state": 0} if params is None else params
    return a_loop(model={"estimator": TREE, "params": params, "space": space, "search": settings})


def rows_for(loop: Loop, n: int = 120) -> Window:
    return split([a_window(some_rows(n), loop)], HoldoutRule.of(loop))[0]


@pytest.fixture(scope="module", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Optuna's tables, copied to where a test wants them: its migrations cost more than a search."""
    made, opened = tmp_path_factory.mktemp("optuna") / "made.db", search._opened
    optuna.storages.RDBStorage(f"sqlite:///{made}").engine.dispose()

    def copied(store: Path) -> Any:
        if not store.exists():
            shutil.copy(made, store)
        return opened(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_opened", copied)
        yield


class Lenient(DecisionTreeClassifier):
    """Takes a parameter that it has no use for."""

    def __init__(self, odd: float = 0.0, max_depth: int | None = None) -> None:
        super().__init__(max_depth=max_depth, random_state=0)
        self.odd = odd


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folds_give(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Callable[..., None]:
    """Let each fold take a second and give what a function of (parameters, fold) says."""

    def given(value: Callable[[dict[str, Any], int], float], seconds: float = 1.0) -> None:
        def fold(_: object, recipe: Any, place: int) -> float:
            clock.now += seconds
            return value(recipe.params, place)

        monkeypatch.setattr(search._Study, "_value", fold)

    return given


def flat(params: dict[str, Any], place: int) -> float:
    return 0.5


def states(found: Searched) -> list[str]:
    return [trial.state for trial in found.trials]


def test_an_edited_module_of_the_loops_own_starts_a_new_search(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    loop = searching(trials=1)
    scores = {}
    for n, sources in enumerate(("", "a", "", "b")):
        folds_give(lambda params, place, n=n: n / 10)
        (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock, sources=sources)
        scores.setdefault(sources, []).append(found.trials[0].score)
    assert scores == {"": [0.0, 0.0], "a": [pytest.approx(0.1)], "b": [pytest.approx(0.3)]}


# what it finds


def test_the_same_rows_and_loop_make_the_same_trials_and_none_is_better_than_the_best(tmp_path: Path) -> None:
    loop = searching(trials=7, pruning=False)
    training = rows_for(loop)
    (first,), (second,) = (tune(loop, training, tmp_path / name) for name in ("one.db", "other.db"))
    assert [(t.params, t.folds) for t in first.trials] == [(t.params, t.folds) for t in second.trials]
    assert len({str(t.params) for t in first.trials}) > 4
    scores = [t.score for t in first.trials if t.score is not None]
    assert first.best is not None
    assert first.best.score == max(scores) >= scores[0]
    assert first.recipe.params == first.best.params
    assert first.facts.model_dump() == {
        "metric": "auc", "best": first.best.score, "params": first.best.params, "trials": 7, "pruned": 0, "failed": 0,
        "seconds": round(first.seconds, 3),
    }  # fmt: skip


def test_the_first_trial_has_the_parameters_given_and_wins_a_tie(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat)
    loop = searching(trials=4)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert found.trials[0].params == {"max_depth": 2, "random_state": 0}
    assert found.best == found.trials[0]
    assert found.recipe == loop.model.recipes[0]


def test_parameters_given_that_lie_outside_the_space_are_tried_first_all_the_same(
    tmp_path: Path, folds_give: Any, clock: Clock
) -> None:
    folds_give(lambda params, place: float("max_depth" not in params))
    loop = searching(params={}, trials=4)  # max_depth is None, which no range holds
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert found.trials[0].params == found.recipe.params == {}
    assert all(1 <= trial.params["max_depth"] <= 8 for trial in found.trials[1:])


def test_the_given_parameters_of_a_scaled_target_s_estimator_are_what_tpe_knows_first(tmp_path: Path) -> None:
    model = {
        "estimator": "sklearn.neural_network.MLPRegressor", "params": {"max_iter": 1, "hidden_layer_sizes": [3]},
        "space": {"alpha": {"low": 1e-5, "high": 0.1}}, "search": {"trials": 1},
    }  # fmt: skip
    loop, store = a_loop(task="regression", model=model), tmp_path / "s.db"
    tune(loop, rows_for(a_loop()), store)
    (study,) = optuna.get_all_study_names(f"sqlite:///{store}")
    assert optuna.load_study(study_name=study, storage=f"sqlite:///{store}").trials[0].params == {"alpha": 0.0001}


@pytest.mark.parametrize("given", [{"hidden_layer_sizes": [4, 2]}, {}])
def test_a_choice_may_be_a_list(tmp_path: Path, given: dict[str, Any], folds_give: Any, clock: Clock) -> None:
    tried = list[Any]()

    def value(params: dict[str, Any], place: int) -> float:
        tried.append(params.get("hidden_layer_sizes"))
        return float(params.get("hidden_layer_sizes") == [3])

    folds_give(value)
    loop = a_loop(
        model={
            "estimator": "sklearn.neural_network.MLPClassifier", "params": given, "search": {"trials": 12},
            "space": {"hidden_layer_sizes": {"choices": [[4, 2], [3], [100], 5]}},
        }
    )  # fmt: skip
    search.require(loop)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert tried[0] == given.get("hidden_layer_sizes")
    assert found.recipe.params == {"hidden_layer_sizes": [3]}
    assert all(one in (None, [4, 2], [3], [100], 5) for one in tried)
    recipe = loop.model.recipes[0]
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    (study,) = optuna.get_all_study_names(f"sqlite:///{tmp_path / 's.db'}")
    drawn = optuna.load_study(study_name=study, storage=f"sqlite:///{tmp_path / 's.db'}").trials[0].params
    assert drawn == {"hidden_layer_sizes": "[4, 2]" if given else "[100]"}  # the estimator's own default is a tuple


@pytest.mark.parametrize("trials", [2, 5, 30])
def test_nothing_is_tried_twice_and_a_space_that_was_tried_ends_the_search(
    tmp_path: Path, folds_give: Any, clock: Clock, trials: int
) -> None:
    folds_give(lambda params, place: 1.0 if params["max_features"] == 0.5 else 0.5)
    choices = ["sqrt", "log2", 0.5]
    space = {"max_features": {"choices": choices}, "max_depth": {"low": 1, "high": 2}}
    loop, lines = searching(space, {"max_features": 0.5, "max_depth": 2}, trials=trials), list[str]()
    with progress.heard_by(lines.append):
        (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    tried = [(trial.params["max_features"], trial.params["max_depth"]) for trial in found.trials]
    assert len(tried) == len(set(tried)) == min(trials, 6)
    assert any("all of its space was tried in 6 trials" in line for line in lines) == (trials > 6)
    before = clock.now
    assert tune(loop, rows_for(loop), tmp_path / "s.db", clock) == (found,)
    assert clock.now == before, "a search that came to its end is only read"


def test_what_was_cut_short_is_tried_again(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    loop = searching({"max_depth": {"low": 1, "high": 3}}, trials=9)
    training = rows_for(loop)
    folds_give(killed_at(5))
    with pytest.raises(KeyboardInterrupt):
        tune(loop, training, tmp_path / "s.db", clock)
    folds_give(flat)
    (found,) = tune(loop, training, tmp_path / "s.db", clock)
    assert sorted(trial.params["max_depth"] for trial in found.trials if trial.state == "complete") == [1, 2, 3]
    assert states(found).count("failed") == 1


def test_a_lower_error_is_the_better_one(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(lambda params, place: params["max_depth"])
    loop = searching(trials=6).model_copy(update={"promotion": a_loop(promotion={"metric": "log_loss"}).promotion})
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert found.recipe.params["max_depth"] == min(trial.params["max_depth"] for trial in found.trials)


def test_parameters_that_the_estimator_refuses_fail_their_trial_alone(tmp_path: Path) -> None:
    loop = searching({"max_depth": {"choices": [2, -1]}}, trials=6)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db")
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert {trial.params["max_depth"] for trial in failed} == {-1}
    assert "max_depth" in str(failed[0].why)
    assert found.recipe.params["max_depth"] == 2


def test_a_search_by_labels_is_scored_at_a_threshold_of_each_fold(tmp_path: Path) -> None:
    loop = searching(trials=1).model_copy(update={"promotion": a_loop(promotion={"metric": "f1"}).promotion})
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db")
    assert found.best is not None
    assert min(found.best.folds) > 0.5


def test_a_space_with_what_its_estimator_does_not_take_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"the space of DecisionTreeClassifier has depth, which it refuses: .*depth"
    ):
        search.require(searching({"depth": {"low": 1, "high": 2}}))


@pytest.mark.parametrize("choices", [[1, 0.5, 1.0], ["a", True, 1]])
def test_choices_that_are_the_same_to_python_are_refused(choices: list[Any]) -> None:
    with pytest.raises(ContractError, match=r"max_depth has (1|True) and 1(\.0)? among its choices"):
        search.require(searching({"max_depth": {"choices": choices}}))


def test_what_is_no_number_is_tried_once_as_it_is_given(tmp_path: Path) -> None:
    space = {"max_depth": {"low": 1, "high": 4}}
    model = {"estimator": "tests.unit.test_search.Lenient", "params": {"odd": math.nan}, "space": space}
    loop = a_loop(model=model | {"search": {"trials": 3}})
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db")
    assert len({trial.params.get("max_depth") for trial in found.trials}) == 3


@pytest.mark.parametrize(("low", "high"), [(2, 8.0), (2.0, 8)])
def test_ends_of_which_one_is_whole_by_its_look_only_are_refused(low: float, high: float) -> None:
    said = f"max_depth is from low = {low} to high = {high}: write both with a point, or both without for whole numbers"
    with pytest.raises(ContractError, match=said):
        search.require(searching({"max_depth": {"low": low, "high": high}}))
    search.require(searching({"min_samples_leaf": {"low": 0.01, "high": 1}}))


def test_a_recipe_that_would_get_no_trial_is_refused() -> None:
    other = {"estimator": "sklearn.linear_model.LogisticRegression", "space": {"C": {"low": 0.1, "high": 10.0}}}
    loop = a_loop(model={"candidates": [{"estimator": TREE, "space": SPACE}, other], "search": {"trials": 1}})
    with pytest.raises(ContractError, match=r"model\.search\.trials = 1: expected at least 2, one for each of the"):
        search.require(loop)


def test_rows_that_the_metric_cannot_be_told_on_are_not_searched(tmp_path: Path) -> None:
    loop = searching(trials=3)
    training = rows_for(loop)
    assert training.y is not None
    (found,) = tune(loop, replace(training, y=training.y * 0), tmp_path / "s.db")
    assert (found.trials, found.best, found.recipe) == ((), None, loop.model.recipes[0])


def test_a_loop_without_a_search_does_none(tmp_path: Path) -> None:
    assert tune(a_loop(), rows_for(a_loop()), tmp_path / "s.db") == ()
    assert not (tmp_path / "s.db").exists()


# the budget


def test_several_recipes_share_the_trials(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat)
    other = {"estimator": "sklearn.linear_model.LogisticRegression", "space": {"C": {"low": 0.1, "high": 10.0}}}
    untouched = {"estimator": "sklearn.naive_bayes.GaussianNB"}
    candidates = [{"estimator": TREE, "space": SPACE}, other, untouched]
    loop = a_loop(model={"candidates": candidates, "search": {"trials": 5, "timeout_s": 1000.0}})
    found = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert [(one.recipe.name, len(one.trials)) for one in found] == [
        ("DecisionTreeClassifier", 3),
        ("LogisticRegression", 2),
    ]


def test_several_recipes_share_the_seconds_and_what_one_leaves_goes_to_the_next(
    tmp_path: Path, folds_give: Any, clock: Clock
) -> None:
    folds_give(flat)
    other = {"estimator": "sklearn.linear_model.LogisticRegression", "space": {"C": {"low": 0.1, "high": 10.0}}}
    loop = a_loop(model={"candidates": [{"estimator": TREE, "space": SPACE}, other], "search": {"timeout_s": 20.0}})
    found = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert [one.seconds for one in found] == [9, 9]
    few = loop.model_copy(
        update={"model": loop.model.model_copy(update={"search": search_of(trials=4, timeout_s=20.0)})}
    )
    assert [one.seconds for one in tune(few, rows_for(few), tmp_path / "t.db", clock)] == [6, 6]


def search_of(**settings: Any) -> Any:
    return searching(**settings).model.search


def test_no_trial_is_begun_that_would_end_after_the_budget(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat)
    loop = searching(timeout_s=8.5)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert states(found) == ["complete", "complete"]
    assert clock.now == found.seconds == 6


def test_a_trial_that_turns_out_slow_is_stopped_between_folds(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    def slow_later(params: dict[str, Any], place: int) -> float:
        clock.now += 3 if clock.now > 3.5 else 0
        return 0.5

    folds_give(slow_later)
    loop = searching(timeout_s=10.5)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert states(found) == ["complete", "failed"]
    assert found.trials[-1].why == "out of time"
    assert clock.now == found.seconds == 7


def test_without_time_for_one_trial_the_parameters_stay_as_given(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat, seconds=5)
    loop = searching(timeout_s=8)
    (found,) = tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    assert states(found) == ["failed"]
    assert found.recipe == loop.model.recipes[0]
    assert (found.facts.best, found.facts.params) == (None, {})


def test_what_lags_behind_after_a_fold_is_pruned_but_only_where_it_is_asked_for(
    tmp_path: Path, folds_give: Any, clock: Clock
) -> None:
    folds_give(lambda params, place: 1 / params["max_depth"])
    for pruning in (True, False):
        loop = searching(trials=9, timeout_s=1000, pruning=pruning)
        (found,) = tune(loop, rows_for(loop), tmp_path / f"{pruning}.db", clock)
        pruned = [trial for trial in found.trials if trial.state == "pruned"]
        assert bool(pruned) == pruning
        assert all(len(trial.folds) < 3 for trial in pruned)
        assert set(states(found)[:5]) == {"complete"}


def test_progress_is_told_trial_by_trial(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat)
    loop, lines = searching(trials=2), list[str]()
    with progress.heard_by(lines.append):
        tune(loop, rows_for(loop), tmp_path / "s.db", clock)
    progress.tell("nobody listens")
    assert lines == [
        f"DecisionTreeClassifier: trial {n} of at most 2: auc 0.5000, best auc so far 0.5000" for n in (1, 2)
    ]


# taken up again


def killed_at(fold: int) -> Callable[[dict[str, Any], int], float]:
    seen = 0

    def value(params: dict[str, Any], place: int) -> float:
        nonlocal seen
        seen += 1
        if seen == fold:
            raise KeyboardInterrupt
        return 0.5

    return value


def test_a_killed_search_goes_on_with_what_is_left_of_its_budget(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    loop = searching(trials=6, timeout_s=15.5)
    training = rows_for(loop)
    folds_give(killed_at(8))  # the second fold of the third trial
    with pytest.raises(KeyboardInterrupt):
        tune(loop, training, tmp_path / "s.db", clock)
    folds_give(flat)
    (found,) = tune(loop, training, tmp_path / "s.db", clock)
    assert states(found) == ["complete", "complete", "failed", "complete", "complete"]
    assert [trial.why for trial in found.trials if trial.why] == ["the process ended"]
    assert found.seconds == 13  # of the fold that was cut short nobody knows
    assert len({str(trial.params) for trial in found.trials}) == 5
    before = clock.now
    assert tune(loop, training, tmp_path / "s.db", clock) == (found,)
    assert clock.now == before, "a complete search is only read"


def test_a_search_killed_in_its_first_trial_tries_the_parameters_given_again(
    tmp_path: Path, folds_give: Any, clock: Clock
) -> None:
    loop = searching(trials=3)
    training = rows_for(loop)
    folds_give(killed_at(2))
    with pytest.raises(KeyboardInterrupt):
        tune(loop, training, tmp_path / "s.db", clock)
    folds_give(lambda params, place: float(params["max_depth"] == 2 and "min_samples_leaf" not in params))
    (found,) = tune(loop, training, tmp_path / "s.db", clock)
    assert states(found) == ["failed", "complete", "complete"]
    assert found.recipe == loop.model.recipes[0]


def test_other_rows_are_searched_anew(tmp_path: Path, folds_give: Any, clock: Clock) -> None:
    folds_give(flat)
    loop = searching(trials=2)
    for n in (120, 130):
        tune(loop, rows_for(loop, n), tmp_path / "s.db", clock)
    assert clock.now == 2 * 2 * 3


# folds


def test_no_entity_is_in_two_folds() -> None:
    loop = searching()
    entity = pd.Series([f"u{n % 40}" for n in range(120)])
    training = replace(rows_for(loop, 200).where(np.arange(len(rows_for(loop, 200).X)) < 120), entity=entity)
    found = parts(loop, training, 3)
    assert len(found) == 3
    for part in found:
        assert not set(entity[part.learnt]) & set(entity[part.held])
        assert len(part.learnt) + len(part.held) == 120
    assert sorted(np.concatenate([part.held for part in found])) == list(range(120))


def test_by_time_each_fold_comes_after_the_rows_that_it_is_told_from() -> None:
    loop = a_loop(timestamp="day", holdout={"by": "time"}, model=searching().model)
    rows = some_rows(100).assign(day=pd.date_range("2024-01-01", periods=100))
    training, _ = split([a_window(rows, loop)], HoldoutRule.of(loop))
    found = parts(loop, training, 3)
    assert [(part.learnt[0], part.learnt[-1], part.held[0], part.held[-1]) for part in found] == [
        (0, 19, 20, 39),
        (0, 39, 40, 59),
        (0, 59, 60, 79),
    ]


def test_rows_are_put_in_the_order_of_their_times_and_not_copied_where_they_are_in_it() -> None:
    loop = a_loop(timestamp="day", holdout={"by": "time"}, model=searching().model)
    days = pd.date_range("2024-01-01", periods=100)
    ordered = split_parts([a_window(some_rows(100).assign(day=days), loop)], HoldoutRule.of(loop))[0]
    assert joined(ordered) is ordered[0].of
    mixed = split_parts([a_window(some_rows(100).assign(day=days[::-1]), loop)], HoldoutRule.of(loop))[0]
    assert mixed[0].timestamp is not None
    assert mixed[0].timestamp.tolist() == days[:80].tolist()
    assert mixed[0].X["fee"].tolist() == some_rows(100)["fee"].tolist()[:19:-1]


def test_by_time_the_rows_of_one_instant_are_in_one_fold() -> None:
    loop = a_loop(timestamp="day", holdout={"by": "time"}, model=searching().model)
    days = pd.date_range("2024-01-01", periods=10).repeat(10)
    training, _ = split([a_window(some_rows(100).assign(day=days), loop)], HoldoutRule.of(loop))
    for part in parts(loop, training, 2):
        assert training.timestamp is not None
        assert training.timestamp[part.learnt].max() < training.timestamp[part.held].min()


def test_by_row_duplicates_share_a_fold() -> None:
    loop = a_loop(entity=None, holdout={"by": "row"}, model=searching().model)
    rows = pd.concat([some_rows(60)] * 2)
    training, _ = split([a_window(rows, loop)], HoldoutRule.of(loop))
    for part in parts(loop, training, 3):
        assert not set(training.X["fee"][part.learnt]) & set(training.X["fee"][part.held])


def test_a_fold_is_encoded_once_for_all_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    original = ColumnTransformer.fit_transform

    def counted(self: Any, X: pd.DataFrame, y: Any = None, **more: Any) -> Any:
        encoded.append(len(X))
        return original(self, X, y, **more)

    monkeypatch.setattr(ColumnTransformer, "fit_transform", counted)
    loop = searching(trials=4, pruning=False)
    tune(loop, rows_for(loop), tmp_path / "s.db")
    assert len(encoded) == 3
