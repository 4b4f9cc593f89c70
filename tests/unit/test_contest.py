"""Several ways to make a candidate, tried on validation rows off the training rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.strategies import WORLDS
from driftloop import contest, promoting
from driftloop.card import model_card
from driftloop.comparing import asked, comparison
from driftloop.contract import Loop
from driftloop.errors import ContractError, DriftloopError, LabelsNotReady
from driftloop.facts import Adopted
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.metrics import Score
from driftloop.promotion import Outcome, PromotionPolicy, decide_promotion
from driftloop.strategy import Base
from driftloop.training import Encodings, fit_set, fitted, split_parts
from driftloop.workspace import Workspace
from tests.fakes import FakeRegistry, FakeWindows, a_loop, a_workspace, some_rows
from tests.unit.test_promoting import run

RIDGE, TREE = "sklearn.linear_model.Ridge", "sklearn.tree.DecisionTreeRegressor"


def hold(loop: Loop, parts: Any, base: Base | None = None) -> contest.Chosen:
    return contest.hold(loop, loop.model.recipes, contest.set_aside(loop, parts), base)


def made_for(strategy: str, *strategies: str, seed: int = 0, **changes: Any) -> contest.Chosen:
    """The contest of these strategies on the stream made for one."""
    world = next(world for world in WORLDS if world.strategy == strategy)
    named = {"strategy": strategies[0]} if len(strategies) == 1 else {"strategies": list(strategies)}
    loop = Loop.model_validate({**world.loop("all").model_dump(exclude_unset=True), "training": named, **changes})
    return hold(loop, world.windows(seed)[:-1])


# what auto takes


@pytest.mark.parametrize(("world", "taken"), [("latest", "latest"), ("rolling:3", "rolling:3"), ("all", "all")])
def test_auto_takes_what_the_stream_was_made_for(world: str, taken: str) -> None:
    chosen = made_for(world, "auto", seed=1)
    assert chosen.strategy == taken
    assert chosen.contest is not None
    if world == "all":  # its windows are too small to tell
        return
    assert [trial.strategy for trial in chosen.contest.trials] == ["all", "rolling:3", "latest"]
    assert [trial.strategy for trial in chosen.contest.trials if trial.chosen] == [taken]


def test_another_than_the_first_is_taken_only_where_it_is_surely_better() -> None:
    loop, steady = WORLDS[0].loop("all"), WORLDS[0].windows(0)[:5]  # what comes later turns round
    named = {"strategies": ["latest", "all"]}
    chosen = hold(Loop.model_validate({**loop.model_dump(exclude_unset=True), "training": named}), steady)
    assert chosen.contest is not None
    first, second = chosen.contest.trials
    assert chosen.strategy == "latest"
    assert second.gain is not None
    assert second.gain > 0
    assert first.gain is None
    assert chosen.contest.why == "no other beats the first with 95% confidence"
    bold = {**loop.model_dump(exclude_unset=True), "training": named, "promotion": {"confidence": 0}}
    assert hold(Loop.model_validate(bold), steady).strategy == "all"


def test_recipes_compete_and_the_trials_are_each_recipe_by_each_strategy() -> None:
    models = {"candidates": [{"estimator": TREE, "params": {"random_state": 0}}, {"estimator": RIDGE}]}
    chosen = made_for("rolling:3", "all", "rolling:3", model=models)
    assert (chosen.recipe.name, chosen.strategy) == ("Ridge", "rolling:3")
    assert chosen.contest is not None
    assert {(t.estimator, t.strategy) for t in chosen.contest.trials} == {
        (e, s) for e in ("DecisionTreeRegressor", "Ridge") for s in ("all", "rolling:3")
    }
    assert chosen.contest.table()["estimator"][0] == "DecisionTreeRegressor"


UNFIT = {"estimator": "sklearn.neighbors.KNeighborsRegressor", "params": {"n_neighbors": 0}}


@pytest.mark.parametrize("first", [True, False])
def test_a_way_that_fails_is_left_out_with_its_reason_and_the_others_go_on(first: bool) -> None:
    candidates = [UNFIT, {"estimator": RIDGE}] if first else [{"estimator": RIDGE}, UNFIT]
    chosen = made_for("latest", "all", "latest", model={"candidates": candidates})
    assert (chosen.recipe.name, chosen.strategy) == ("Ridge", "latest")
    assert chosen.contest is not None
    failed = [trial for trial in chosen.contest.trials if trial.estimator == "KNeighborsRegressor"]
    assert [(trial.score, trial.gain, trial.chosen) for trial in failed] == [(None, None, False)] * 2
    assert "KNeighborsRegressor could not be trained on" in str(failed[0].note)
    said = r"it beats the first with 95% confidence; left out: .*n_neighbors.*; left out: .*n_neighbors"
    assert re.fullmatch(said + ".*", chosen.contest.why)


def test_where_every_way_fails_the_reasons_are_told() -> None:
    with pytest.raises(DriftloopError, match=r"none of the 2 ways to make a candidate could be tried: .*n_neighbors"):
        made_for("latest", "all", "latest", model=UNFIT)


def test_one_way_needs_no_contest() -> None:
    assert made_for("all", "latest") == contest.Chosen(made_for("all", "latest").recipe, "latest")


def test_ways_that_learn_from_the_same_rows_are_tried_once() -> None:
    world = WORLDS[0]
    loop = world.loop("auto")
    chosen = hold(loop, world.windows(0)[:1])
    assert chosen.contest is not None
    assert [trial.strategy for trial in chosen.contest.trials] == ["all"]


def test_preprocessing_is_fitted_once_for_the_same_rows() -> None:
    loop = WORLDS[0].loop("all")
    parts = WORLDS[0].windows(0)
    learnt = contest.training_set("all", parts, recipe=loop.model.recipes[0])
    encodings = Encodings()
    one, other = (fitted(loop, loop.model.recipes[0], learnt, encodings) for _ in range(2))
    assert one["encode"] is other["encode"]
    assert one["model"] is not other["model"]
    assert (
        one.predict(learnt.rows.X).tolist()
        == fitted(loop, loop.model.recipes[0], learnt).predict(learnt.rows.X).tolist()
    )


# validation rows


@settings(max_examples=25, deadline=None)
@given(by=st.sampled_from(["entity", "row", "time"]), seed=st.integers(0, 99))
def test_validation_rows_are_training_rows_that_no_trial_learns_from(by: str, seed: int) -> None:
    own = {"entity": "user_id"} if by == "entity" else {"entity": None}
    loop = a_loop(**own, timestamp="at", holdout={"by": by}, training={"strategy": "auto"})
    windows = [timed(n, seed, loop) for n in (1, 2)]
    parts, holdout = split_parts(windows, HoldoutRule.of(loop))
    aside = contest.set_aside(loop, parts)
    if aside.validation is None:
        assert aside.parts == parts
        return
    fees = [x for part in aside.parts for x in part.X["fee"]]
    assert not set(aside.validation.X["fee"]) & (set(fees) | set(holdout.X["fee"]))
    assert set(aside.validation.X["fee"]) < set(parts[-1].X["fee"])
    if by == "entity":
        assert aside.validation.entity is not None
        assert not set(aside.validation.entity) & {
            u for part in aside.parts if part.entity is not None for u in part.entity
        }
    if by == "time":
        assert aside.validation.timestamp is not None
        assert aside.parts[-1].timestamp is not None
        assert aside.validation.timestamp.min() > aside.parts[-1].timestamp.max()
        assert len(aside.parts[0].X) == 60


def timed(n: int, seed: int, loop: Loop) -> Window:
    from tests.fakes import a_window

    rows = some_rows(60, seed=100 * seed + n).assign(at=pd.date_range(f"2024-0{n}-01", periods=60, freq="h"))
    return a_window(rows, loop, f"2024-0{n}")


def test_too_few_validation_rows_take_the_first_way_and_say_so() -> None:
    loop = a_loop(training={"strategies": ["latest", "all"]})
    parts = [a_part(n, 6) for n in (1, 2)]
    chosen = hold(loop, parts)
    assert chosen.strategy == "latest"
    assert chosen.contest is not None
    assert "validation rows of 2024-02 are too few to tell models apart" in chosen.contest.why
    assert chosen.contest.trials == ()


def a_part(n: int, rows: int) -> Window:
    from tests.fakes import a_window

    return a_window(some_rows(rows, seed=n), window=f"2024-0{n}")


def test_a_window_that_is_one_instant_has_no_tail_and_that_is_said() -> None:
    loop = a_loop(entity=None, timestamp="at", holdout={"by": "time"}, training={"strategy": "auto"})
    windows = [timed(n, 0, loop) for n in (1, 2)]
    assert windows[1].timestamp is not None
    windows[1].timestamp[:] = windows[1].timestamp.iloc[0]
    chosen = hold(loop, windows)
    assert chosen.contest is not None
    assert "no tail" in chosen.contest.why


def test_what_has_one_class_to_learn_from_is_no_rival() -> None:
    loop = a_loop(training={"strategies": ["all", "latest"]})
    parts = [a_part(1, 250), a_part(2, 250)]
    aside = contest.set_aside(loop, parts)
    newest = aside.parts[-1]
    assert newest.y is not None
    newest.y[:] = 1.0
    chosen = contest.hold(loop, loop.model.recipes, aside, None)
    assert chosen.strategy == "all"
    assert chosen.contest is not None
    assert (chosen.contest.trials[1].score, chosen.contest.trials[1].gain) == (None, None)
    assert chosen.contest.trials[1].note == "its rows hold one class or one value only"


def test_a_champion_that_met_the_validations_owners_is_stood_in_for() -> None:
    """By entity its older rows have told it their labels: what is scored learnt from others."""
    loop = a_loop(
        model={"estimator": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss", "random_state": 0}},
        training={"strategies": ["fine_tune", "all"], "epochs": 2},
    )
    parts = [a_part(n, 250) for n in (1, 2)]
    champion = fit_set(
        loop, loop.model.recipes[0], contest.training_set("all", parts[:1], recipe=loop.model.recipes[0]), "r"
    )
    scores = []
    for other in (champion.estimator, None):  # a champion whose own coefficients would be of no use to anyone
        spoilt = fitted(
            loop, loop.model.recipes[0], contest.training_set("all", parts[:1], recipe=loop.model.recipes[0])
        )
        if other is None:
            spoilt["model"].coef_ = np.zeros_like(spoilt["model"].coef_)
        found = hold(loop, parts, Base("1", spoilt, champion.facts)).contest
        assert found is not None
        scores.append(found.trials[0].score)
    assert scores[0] == scores[1]


def test_the_stand_in_has_the_champions_parameters_not_those_just_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sgd = "sklearn.linear_model.SGDClassifier"
    model = {"estimator": sgd, "params": {"loss": "log_loss"}, "space": {"alpha": {"low": 0.01, "high": 0.1}}}
    loop = a_loop(model=model | {"search": {"trials": 1}}, training={"strategies": ["fine_tune", "all"], "epochs": 1})
    was, now = (
        loop.model.recipes[0].model_copy(update={"params": {"loss": "log_loss", "alpha": a}}) for a in (0.02, 0.09)
    )
    parts, made = [a_part(n, 250) for n in (1, 2)], list[Any]()
    champion = fit_set(loop, was, contest.training_set("all", parts[:1], recipe=was), "r")

    def spied(loop: Loop, recipe: Any, learnt: Any, *more: Any) -> Any:
        made.append((learnt.strategy, recipe.params["alpha"]))
        return fitted(loop, recipe, learnt, *more)

    monkeypatch.setattr(contest, "fitted", spied)
    contest.hold(loop, (now,), contest.set_aside(loop, parts), Base("1", champion.estimator, champion.facts))
    assert made == [("all", 0.02), ("fine_tune", 0.09), ("all", 0.09)]  # the second is the stand-in, learning on


def test_a_stand_in_that_knows_other_classes_than_the_new_rows_does_not_learn_on() -> None:
    model = {"estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 5, "random_state": 0}}
    loop = a_loop(model=model, training={"strategies": ["fine_tune", "all"], "epochs": 2})
    parts, (recipe,) = [a_part(n, 250) for n in (1, 2)], loop.model.recipes
    champion = fit_set(loop, recipe, contest.training_set("all", parts[:1], recipe=recipe), "r")
    aside = contest.set_aside(loop, parts)
    old = aside.parts[0]
    assert old.y is not None
    old.y[:] = 1.0  # all others were validation rows
    found = contest.hold(loop, (recipe,), aside, Base("1", champion.estimator, champion.facts)).contest
    assert found is not None
    assert found.trials[0].note == "beside the champion's windows the new ones have a class that it never learnt"


# in a training


@pytest.fixture
def work(tmp_path: Path) -> Any:
    months = {f"2024-0{n}": some_rows(300, seed=n) for n in (1, 2, 3)}
    months["2024-03"]["left"] = ~months["2024-03"]["left"]
    made = a_workspace(tmp_path, a_loop(training={"strategy": "auto"}), FakeWindows(months))
    yield made
    made.ledger._engine.dispose()


def test_the_contest_is_told_with_the_training_and_its_winner_learns_from_all_its_rows(work: Workspace) -> None:
    _, report = run(work, "2024-03")
    told = report["training"]["contest"]
    assert [trial["strategy"] for trial in told["trials"] if trial["chosen"]] == ["latest"]
    assert (report["training"]["strategy"], report["training"]["windows"]) == ("latest", ["2024-03"])
    assert report["training"]["rows"] > told["trials"][-1]["rows"]  # the validation rows are learnt from afterwards
    assert report["training"]["rows"] + report["decision"]["holdout_rows"] == 300
    fake = cast("FakeRegistry", work.registry)
    assert "**Contest.** It beats the first with 95% confidence. On" in fake.cards["1"]
    assert "| DecisionTreeClassifier | latest |" in fake.cards["1"]
    assert fake.tags["1"]["strategy"] == "latest"


def test_weights_are_told_as_the_rows_they_are_worth(work: Workspace) -> None:
    work.loop = a_loop(training={"strategy": "reweight"})
    _, report = run(work, "2024-02")
    worth = report["training"]["effective_rows"]
    assert 0 < worth <= report["training"]["rows"]
    fake = cast("FakeRegistry", work.registry)
    assert fake.tags["1"]["effective_rows"] == f"{worth:.0f}"
    assert f"worth {worth:,.0f} of equal weight" in fake.cards["1"]


def test_a_champion_that_learns_on_keeps_its_windows_among_its_successors(work: Workspace) -> None:
    model = {"estimator": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss", "random_state": 0}}
    work.loop = a_loop(model=model, training={"strategy": "fine_tune"})
    first = promoting.train(work, promoting.training_data(work, "2024-01", None)).facts
    assert first.note == "there is no champion to go on from: fitted on all rows"
    run(work, "2024-01")
    champion = work.champion()
    data = promoting.training_data(work, "2024-03", champion)
    second = promoting.train(work, data, champion).facts
    assert (second.tuned_from, second.windows) == ("1", ("2024-01", "2024-02", "2024-03"))
    assert second.new_rows == sum(len(part.X) for part in data.parts[1:])
    assert second.rows == sum(len(part.X) for part in data.parts)
    assert f"{second.rows:,} rows of 2024-01 … 2024-03 (3 windows) ({second.new_rows:,} new rows, their data" in (
        model_card(second, decide_promotion(Score("auc", 0.7, 90, "r"), None, None, PromotionPolicy(0.01, 0.95)), None)
    )
    again = promoting.learnt_again(work, second, data.parts)
    assert again.rows.fingerprint == second.fingerprint


@pytest.mark.parametrize("strategy", ["mix:0.6", "fine_tune"])
def test_what_passed_is_fitted_again_by_the_strategy_it_was_made_by(work: Any, strategy: str) -> None:
    for month, rows in work.windows.tables.items():
        rows["at"] = pd.date_range(f"{month}-01", periods=len(rows), freq="h").astype(str)
    model = {"estimator": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss", "random_state": 0}}
    work.loop = a_loop(
        entity=None, timestamp="at", holdout={"by": "time", "share": 0.25}, model=model,
        training={"strategy": strategy}, promotion={"confidence": 0, "delta": 0},
    )  # fmt: skip
    run(work, "2024-01")
    decision, _ = run_on(work, "2024-03")
    judged, refitted = (candidate.facts for candidate in work.registry.candidates[-2:])
    assert decision.outcome is Outcome.PROMOTE
    assert refitted.refit_of is not None
    assert (refitted.strategy, refitted.tuned_from) == (judged.strategy, judged.tuned_from) == (
        strategy, "2" if strategy == "fine_tune" else None,
    )  # fmt: skip
    more = {"mix:0.6": 75 + round(300 * 0.4 / 0.6) - round(225 * 0.4 / 0.6), "fine_tune": 75}
    assert refitted.rows - judged.rows == more[strategy]


def run_on(work: Any, window: str) -> Any:
    """As the flow does, the champion at hand."""
    from driftloop import deciding, following

    champion = work.champion()
    data = promoting.training_data(work, window, champion)
    candidate = promoting.train(work, data, champion)
    made = promoting.check_serving(work, candidate, promoting.register(work, candidate, window).number, data.holdout.X)
    details = promoting.asked_by(work, window, None)
    decision, entry = deciding.decide_and_record(work, made, data, window, details)
    following.follow(work, entry)
    return decision, entry


def test_a_fit_for_want_of_a_base_says_why_when_it_is_fitted_again_too(work: Workspace) -> None:
    model = {"estimator": "sklearn.linear_model.SGDClassifier", "params": {"loss": "log_loss", "random_state": 0}}
    work.loop = a_loop(model=model, training={"strategy": "fine_tune"})
    run(work, "2024-01")
    champion = work.champion()
    assert champion is not None
    adopted = Adopted(source="runs:/1/model", unit="window", until="2023-12")
    facts = champion.artifact.facts.model_copy(update={"recipe": None, "adopted": adopted})
    champion = replace(champion, artifact=replace(champion.artifact, facts=facts))
    data = promoting.training_data(work, "2024-03", work.champion())
    made = promoting.train(work, data, champion).facts
    assert (made.tuned_from, made.rows) == (None, sum(len(part.X) for part in data.parts))
    assert made.recipe is not None
    assert made.note == "champion 1 was adopted, and what it learnt from is not known: fitted on all rows"
    assert promoting.learnt_again(work, made, data.parts).note == made.note


def test_what_is_for_fine_tune_is_refused_without_it() -> None:
    with pytest.raises(ValueError, match=r"training\.epochs is for fine_tune, which training names nowhere"):
        a_loop(training={"strategy": "all", "epochs": 3})
    with pytest.raises(ContractError, match="--strategies bogus: bogus is none"):
        asked(a_loop(), ["bogus"])


def test_old_and_new_models_stand_side_by_side_and_nothing_is_registered(work: Workspace) -> None:
    found = comparison(work, None, ["all", "latest", "mix:0.7"])
    rows = found["models"]
    assert [(row["model"], row["holdout"]) for row in rows] == [
        ("old model", "2024-02"), ("old model", "2024-03"), ("all", "2024-03"), ("latest", "2024-03"),
        ("mix:0.7", "2024-03"),
    ]  # fmt: skip
    old, turned, _, latest, _ = (row["metrics"]["auc"] for row in rows)
    assert (old > 0.6, turned < 0.4, latest > 0.6) == (True, True, True)  # the last month is the other way round
    assert rows[0]["windows"] == ["2024-01", "2024-02"]
    assert (work.ledger.entries(), cast("FakeRegistry", work.registry).candidates) == ([], [])


def test_each_recipe_has_its_turn_and_the_old_model_is_what_learns_on(work: Workspace) -> None:
    linear, net = "sklearn.linear_model.SGDClassifier", "sklearn.neural_network.MLPClassifier"
    work.loop = a_loop(
        model={"candidates": [
            {"estimator": linear, "params": {"loss": "log_loss"}},
            {"estimator": net, "params": {"hidden_layer_sizes": [4], "tol": 0.01, "random_state": 0}},
        ]},
        training={"strategy": "fine_tune", "epochs": 2},
    )  # fmt: skip
    found = comparison(work, "2024-02", [])
    assert [row["estimator"] for row in found["models"]] == ["SGDClassifier"] * 3 + ["MLPClassifier"] * 3
    assert found["models"][2]["windows"] == ["2024-01", "2024-02"]
    old, _, tuned = found["models"][:3]
    assert tuned["rows"] == old["rows"] + tuned["new_rows"]
    assert found["models"][2]["note"] is None


def test_a_comparison_takes_two_windows_with_labels(work: Workspace) -> None:
    with pytest.raises(LabelsNotReady, match="1 windows of churn have usable labels; an old model and a new window"):
        comparison(work, "2024-01", [])
    with pytest.raises(ContractError, match="there is no window 2025-01; there are 2024-01"):
        comparison(work, "2025-01", [])
