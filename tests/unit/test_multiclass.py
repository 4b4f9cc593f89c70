"""A target of several labels, from the window to the answer."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop import draft, frame, golden, monitoring, promoting, training
from driftloop.artifact import Artifact, arrays, score
from driftloop.compiled import Compiled
from driftloop.contract import Loop
from driftloop.errors import ContractError, LabelsNotReady, WindowError
from driftloop.exporting import export
from driftloop.facts import Facts, Version
from driftloop.holdout import HoldoutRule
from driftloop.live import live_metrics
from driftloop.metrics import Predictions, metrics_of
from driftloop.prediction_log import Record
from driftloop.scores import baseline, comparable, compare, evaluate
from driftloop.slices import SlicePolicy, compare_slices
from driftloop.strategy import TrainingSet
from driftloop.training import Candidate
from services.api.answers import answer, answer_types
from services.api.champion import Champion
from services.api.explaining import explainer
from services.api.feedback import read_feedback
from services.api.metrics import Metrics
from services.api.schema import WrongInput
from services.api.shadow import _beside
from tests.fakes import FakeWindows, a_loop, a_window, a_workspace, some_facts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what SHAP imports deprecates parts of itself
    import shap  # noqa: F401

LABELS = ("high", "low", "mid")
TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3, "random_state": 0}}


def several(estimator: str = TREE["estimator"], params: Any = None, **changes: Any) -> Loop:  # type: ignore[assignment]
    model = {"estimator": estimator, "params": params or (TREE["params"] if estimator == TREE["estimator"] else {})}
    return a_loop(task="multiclass", target="left", model=model, **changes)


def raw(n: int = 240, *, seed: int = 0) -> pd.DataFrame:
    """Users whose label fee and plan explain in part; a tenth of them lack a fee."""
    rng = np.random.default_rng(seed)
    fee, plan = rng.normal(0, 1, n), rng.choice(["basic", "family"], n)
    signal = fee + (plan == "family") + rng.normal(0, 0.5, n)
    left = np.array(["low", "mid", "high"])[np.digitize(signal, [-0.2, 1])]
    rows = pd.DataFrame({"user_id": [f"u{i}" for i in range(n)], "fee": fee, "plan": plan, "left": left})
    rows.loc[::10, "fee"] = None
    return rows


def made(loop: Loop, rows: pd.DataFrame | None = None) -> tuple[Candidate, frame.Window]:
    """A candidate, and its holdout."""
    window = a_window(raw() if rows is None else rows, loop)
    learnt, holdout = training.split([window], HoldoutRule.of(loop))
    return training.fit(loop, [window.id], learnt, HoldoutRule.of(loop)), holdout


def said(scores: list[list[float]]) -> Predictions:
    return Predictions(np.array(scores))


# windows


def test_the_target_is_the_labels_place_in_sort_order_and_a_null_has_none() -> None:
    rows = raw(6).assign(left=["mid", "low", None, "high", "low", "mid"])
    window = a_window(rows, several())
    assert window.labels == LABELS
    assert window.y is not None
    np.testing.assert_array_equal(window.y, [2, 1, np.nan, 0, 1, 2])


def test_numbers_and_truth_values_are_labels_as_well() -> None:
    window = a_window(raw(6).assign(left=[2, 1, 3, 1, 2, 3]), several())
    assert window.labels == ("1", "2", "3")


def test_a_window_that_lacks_labels_is_told_in_those_of_all() -> None:
    window = a_window(raw(4).assign(left=["mid", "low", "mid", "low"]), several())
    assert window.labels == ("low", "mid")
    told = window.among(LABELS)
    assert told.y is not None
    assert (told.labels, told.y.tolist()) == (LABELS, [2, 1, 2, 1])


def test_a_label_that_the_champion_never_learnt_is_refused_by_name() -> None:
    window = a_window(raw(4).assign(left=["mid", "low", "odd", "low"]), several())
    with pytest.raises(WindowError, match="label odd is none of those that the model learnt, high, low, mid; for a"):
        window.among(LABELS)


def test_a_column_of_values_is_no_target_of_labels() -> None:
    rows = raw(240).assign(left=np.arange(240) / 8)
    with pytest.raises(WindowError, match="expected at most 100 labels for task multiclass, found 240"):
        a_window(rows, several())


def test_without_a_champion_the_labels_of_all_windows_count_and_one_spelled_otherwise_is_passed_by(
    tmp_path: Any,
) -> None:
    two = raw(60).query("left != 'high'")
    tables = {"1": raw(60).assign(left=1), "2": two, "3": raw(60)}
    work = a_workspace(tmp_path, several(), FakeWindows(tables))
    good, bad = monitoring.read_labelled(work, "3", limit=None, labels=None)
    assert [window.id for window in good] == ["2", "3"]
    assert [window.labels for window in good] == [LABELS, LABELS]
    assert good[0].y is not None
    assert set(good[0].y) == {1.0, 2.0}
    assert "its labels are 1, those of the other windows high and low and mid" in str(bad[0])


def test_one_label_only_is_nothing_to_learn_yet(tmp_path: Any) -> None:
    work = a_workspace(tmp_path, several(), FakeWindows({"1": raw(60).assign(left="low")}))
    with pytest.raises(LabelsNotReady, match="all labels up to 1 are low: there is nothing to tell apart yet"):
        promoting.training_data(work, "1", None)


# models


def test_scores_are_the_probabilities_of_all_labels_and_0_of_one_without_training_rows() -> None:
    loop, rows = several(), raw()
    window = a_window(rows, loop)
    assert window.y is not None
    learnt = window.where((window.y != 1).to_numpy())
    candidate = training.fit(loop, ["1"], learnt, HoldoutRule.of(loop))
    scores = score(candidate.estimator, window.X, "multiclass", LABELS)
    assert scores.shape == (240, 3)
    assert (scores[:, 1] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_array_equal(scores[:, [0, 2]], candidate.estimator.predict_proba(window.X))
    found = export(candidate.estimator, candidate.facts, window.X)
    assert found.content, found.facts
    np.testing.assert_allclose(Compiled(found.content).score(*arrays(window.X, candidate.facts)), scores, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "params", "tolerance"),
    [
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5, "random_state": 0}, 1e-12),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 5, "random_state": 0}, 1e-12),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 5, "random_state": 0}, 1e-12),
        ("sklearn.linear_model.LogisticRegression", {}, 1e-12),
        ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}, 1e-12),
        ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [4], "max_iter": 300, "tol": 0.01}, 1e-6),
    ],
)
def test_the_graph_of_several_classes_agrees(estimator: str, params: Any, tolerance: float) -> None:
    candidate, holdout = made(several(estimator, params))
    found = export(candidate.estimator, candidate.facts, holdout.X)
    assert found.facts.difference is not None, found.facts
    assert found.facts.difference < tolerance
    assert found.content
    scores = Compiled(found.content).score(*arrays(holdout.X, candidate.facts))
    np.testing.assert_allclose(scores, candidate.predict(holdout.X).scores, atol=tolerance)


def test_facts_come_back_from_json_as_they_were() -> None:
    facts = made(several())[0].facts
    assert (facts.labels, len(facts.sample_scores[0])) == (LABELS, 3)  # type: ignore[arg-type]
    assert Facts.model_validate(json.loads(facts.model_dump_json())) == facts


# comparison


def test_every_metric_is_told_and_the_calibration_of_the_label_it_says() -> None:
    loop, holdout = several(), made(several())[1]
    assert holdout.y is not None
    sure = np.eye(3)[holdout.y.astype(int)]
    values = evaluate(loop, holdout, Predictions(sure * 0.7 + 0.1))
    assert values.keys() == metrics_of("multiclass").keys() | {"calibration_error"}
    assert (values["accuracy"], values["auc_ovr"]) == (1, 1)
    assert values["calibration_error"] == pytest.approx(0.2)  # it is always right, and says 0.8


def test_a_metric_that_rows_without_a_class_do_not_have_is_left_out() -> None:
    loop, holdout = several(), made(several())[1]
    assert holdout.y is not None
    fewer = holdout.where((holdout.y != 0).to_numpy())
    values = evaluate(loop, fewer, Predictions(np.full((len(fewer.X), 3), 1 / 3)))
    assert "auc_ovr" not in values
    assert values["log_loss"] == pytest.approx(np.log(3))
    assert comparable(loop, fewer)
    assert not comparable(several(promotion={"metric": "auc_ovr"}), fewer)
    assert comparable(several(promotion={"metric": "auc_ovr"}), holdout)


def test_a_better_model_gains_over_a_worse_one_on_the_same_rows() -> None:
    loop = several()
    candidate, holdout = made(loop)
    ours, flat = candidate.predict(holdout.X), Predictions(np.full((len(holdout.X), 3), 1 / 3))
    found = compare(loop, holdout, ours, flat, {})
    assert found.gain > 0.1
    assert found.gain_low is not None
    assert found.gain_low > 0


def test_a_slice_with_few_rows_of_a_class_is_not_judged_by_auc() -> None:
    y = np.repeat([0.0, 1, 2], [50, 50, 9])
    scores = Predictions(np.random.default_rng(0).dirichlet([1, 1, 1], len(y)))
    X, policy = pd.DataFrame({"plan": ["a"] * len(y)}), SlicePolicy(("plan",), 0.0, 2)
    found = compare_slices("auc_ovr", X, y, scores, scores, {}, policy, 0.95)
    assert (found.judged, found.unjudged) == ((), ("plan = a (9 rows of one class)",))
    assert len(compare_slices("f1_macro", X, y, scores, scores, {}, policy, 0.95).judged) == 1


def test_champion_and_candidate_of_other_labels_do_not_compare(tmp_path: Any) -> None:
    loop = several()
    candidate, _ = made(loop)
    work = a_workspace(tmp_path, loop, FakeWindows({"2024-01": raw()}))
    data = promoting.training_data(work, "2024-01", None)
    facts = candidate.facts.model_copy(update={"labels": ("high", "low")})
    champion: Any = SimpleNamespace(version="1", artifact=SimpleNamespace(facts=facts))
    with pytest.raises(ContractError, match="champion 1 learnt the labels high, low, the candidate high, low, mid"):
        promoting.require_comparable(work, champion, data)


# known cases


def cases(*rows: dict[str, Any]) -> golden.Cases:
    columns = ["fee", "plan", "expect", "change", "to"]
    table = pd.DataFrame(rows, dtype=object).reindex(columns=columns)
    return golden.parse(table, several(), "golden.csv")


def test_a_known_case_is_a_label_even_one_that_is_called_rises() -> None:
    found = cases({"fee": "1", "plan": "a", "expect": "low"}, {"fee": "2", "plan": "a", "expect": "rises"})
    predicted = said([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    assert found.broken(lambda _: predicted, LABELS) == {1: "row 3: says high, expected rises"}
    with pytest.raises(ContractError, match=r"row 3: expect is 'rises'; expected high or low or mid\.$"):
        found.require_labels(LABELS, "multiclass", "golden.csv")
    found.require_labels((*LABELS, "rises"), "multiclass", "golden.csv")


def test_a_label_neither_rises_nor_falls() -> None:
    with pytest.raises(ContractError, match="row 2: change and to are for a prediction that rises or falls"):
        cases({"fee": "1", "plan": "a", "expect": "rises", "change": "fee", "to": "2"})


# init


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["a", "b", "c"] * 20, "multiclass"),
        ([1, 2, 3, 4, 5] * 20, "multiclass"),
        ([1, 2, 3, None] * 20, "multiclass"),
        ([1.0, 2.0, 3.0] * 20, "regression"),
        (list(range(21)) * 20, "regression"),
        ([1, 2, 3], "regression"),
        ([0, 1] * 20, "binary"),
    ],
)
def test_init_takes_a_few_words_or_whole_numbers_for_labels(target: list[Any], task: str) -> None:
    assert draft.guess_task(pd.Series(target, name="y")) == task


def test_words_that_hardly_repeat_are_no_labels() -> None:
    with pytest.raises(ContractError, match=r"3 to 20 that come again .multiclass. or numbers .regression."):
        draft.guess_task(pd.Series([f"w{i}" for i in range(30)], name="y"))


def test_the_draft_of_several_labels_is_a_loop() -> None:
    drawn = draft.infer(raw(), name="kinds", path="windows", target="left")
    loop = Loop.model_validate(tomllib.loads(drawn.toml))
    assert (loop.task, loop.promotion.metric, loop.positive) == ("multiclass", "log_loss", None)
    assert loop.model.estimator == "sklearn.ensemble.RandomForestClassifier"


# production


@pytest.fixture
def champion() -> Champion:
    facts = some_facts(task="multiclass", labels=LABELS, sample_scores=((0.2, 0.3, 0.5),))
    schema: Any = SimpleNamespace(max_rows=10)
    scorer: Any = SimpleNamespace(engine="onnx")
    return Champion(Version("3", "run"), facts, schema, scorer, datetime.now(UTC), "registry")


def test_an_answer_is_the_likeliest_label_with_the_probability_of_each(champion: Champion) -> None:
    scores = np.array([[0.25, 0.5, 0.25], [0.0, 0.25, 0.75]])
    body, values, words = answer(champion, scores, "r", batch=True)
    assert (values, words) == ([0.5, 0.75], ["low", "mid"])
    first = {"label": "low", "probabilities": {"high": 0.25, "low": 0.5, "mid": 0.25}}
    found = json.loads(body)
    assert (found["request_id"], found["predictions"][0]) == ("r", first)
    one, many = answer_types(champion.facts)
    assert many.model_validate(found).model_dump() == found
    alone = json.loads(answer(champion, scores[:1], "r", batch=False)[0])
    assert alone == {"request_id": "r", "version": "3"} | first
    assert one.model_validate(alone).model_dump() == alone
    assert (champion.describe()["labels"], champion.describe()["signature"]["outputs"]) == (LABELS, [{"type": "long"}])


def test_predictions_are_counted_by_label(champion: Champion) -> None:
    holder: Any = SimpleNamespace(current=None)
    metrics = Metrics(holder)
    metrics.predicted(champion, [0.5, 0.75, 0.5], ["low", "mid", "low"])
    text = metrics.text().decode()
    assert 'driftloop_api_predictions_total{kind="low",version="3"} 2.0' in text
    assert 'driftloop_api_predictions_total{kind="high",version="3"} 0.0' in text


def test_feedback_is_any_of_the_labels(champion: Champion) -> None:
    (one,) = read_feedback(b'{"request_id": "r", "label": "mid"}', champion.facts, 10)
    assert one.label == "mid"
    with pytest.raises(WrongInput) as refused:
        read_feedback(b'{"request_id": "r", "label": "odd"}', champion.facts, 10)
    assert refused.value.problems[0]["msg"] == "label: expected high or low or mid"


def test_live_is_the_share_of_right_labels() -> None:
    found = pd.DataFrame(
        {
            "prediction": [0.5, 0.6, 0.7, 0.8],
            "label": ["low", "mid", "high", "low"],
            "feedback": pd.Series(["low", "high", "high", "odd"], dtype=object),
        }
    )
    live = live_metrics(found, several(), version="1", rows=9, labelled=4, labels=LABELS)
    assert (live.metric, live.value, live.on, live.unread) == ("accuracy", pytest.approx(2 / 3), 3, 1)
    nothing = live_metrics(found[:0], several(), version="1", rows=9, labelled=0, labels=LABELS)
    assert (nothing.value, nothing.on) == (None, 0)


def test_the_shadow_is_held_against_the_label_that_was_answered(champion: Champion) -> None:
    records = [Record("r", n, 0, "2", {}, 0.9, label, 1.0) for n, label in enumerate(["mid", "high", "odd"])]
    scores = np.array([[0.2, 0.3, 0.5]] * 3)
    assert _beside(champion, scores, records).tolist() == [0.5, 0.2, 0.0]


@pytest.mark.parametrize("estimator", ["sklearn.ensemble.RandomForestClassifier", "sklearn.naive_bayes.GaussianNB"])
def test_what_is_explained_is_the_probability_of_the_label_that_is_answered(estimator: str) -> None:
    loop = several(estimator, {"n_estimators": 5, "random_state": 0} if "Forest" in estimator else {})
    candidate, holdout = made(loop)
    explain, found = explainer(Artifact(candidate.facts, candidate.estimator, signature=())), Counter[str]()
    rows = holdout.X.iloc[:: len(holdout.X) // 6]
    for row, scores in zip(rows.to_dict("records"), candidate.predict(rows).scores, strict=True):
        one = explain({str(name): value for name, value in row.items()})
        assert one["label"] == LABELS[int(scores.argmax())]
        assert one["probability"] == one["output"] == pytest.approx(scores.max())
        assert one["base"] + sum(one["values"].values()) == pytest.approx(one["output"])
        assert (one["scale"], one["method"]) == ("probability", "tree" if "Forest" in estimator else "kernel")
        found[one["label"]] += 1
    assert len(found) > 1, "rows of more than one label were explained"


def test_a_training_set_without_a_class_still_tells_a_baseline_of_all() -> None:
    loop = several()
    window = a_window(raw(), loop)
    assert window.y is not None
    learnt = TrainingSet("all", ("1",), replace(window, y=window.y.where(window.y != 1, 0)))
    assert baseline(loop, learnt.rows, window)["accuracy"] == pytest.approx((window.y == 0).mean())
