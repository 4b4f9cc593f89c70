"""The champion's answers on a window, with windows and registry in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from driftloop import answers, error_model, evidence, promoting
from driftloop.artifact import load_evidence
from driftloop.errors import ArtifactError
from driftloop.evidence import Evidence, keep
from driftloop.facts import Facts
from driftloop.metrics import METRICS, Predictions
from driftloop.paired import EXACT, Spread, lower_bound, spread
from driftloop.registry import _stored_beside
from driftloop.training import Candidate
from driftloop.workspace import Champion, Workspace
from tests.fakes import FakeWindows, a_loop, a_workspace, some_facts, some_rows, stored

ROWS = 400
RIDGE = {"estimator": "sklearn.linear_model.Ridge"}


def opened(folder: Path, loop: Any = None, **tables: pd.DataFrame) -> Workspace:
    rows = {"2024-01": some_rows(ROWS), "2024-02": some_rows(ROWS, seed=1)}
    return a_workspace(folder, loop or a_loop(), FakeWindows(rows | tables))


@pytest.fixture
def work(tmp_path: Path) -> Any:
    found = opened(tmp_path)
    yield found
    found.ledger._engine.dispose()


def trained(work: Workspace) -> Candidate:
    return promoting.train(work, promoting.training_data(work, "2024-01", None))


def champion(candidate: Candidate, **changes: Any) -> Champion:
    return Champion("1", replace(stored(candidate), **changes))


def moved(work: Workspace, rows: pd.DataFrame) -> answers.Findings:
    """What is found of rows that arrive as the second window."""
    cast("FakeWindows", work.windows).tables["2024-02"] = rows
    return answers.findings(work, champion(trained(work)), work.read("2024-02"))


def test_a_window_like_the_last_drifts_in_no_way_and_is_estimated_as_it_turns_out(work: Workspace) -> None:
    candidate = trained(work)
    found = answers.findings(work, champion(candidate), work.read("2024-02"))
    assert found.notes == ()
    assert found.prediction is not None
    assert (found.prediction.name, found.prediction.drifted) == ("prediction", False)
    assert found.performance is not None
    assert found.performance.note is None
    assert found.estimated is not None
    assert found.estimated.low < found.performance.value < found.estimated.high
    assert found.estimated.drop == pytest.approx(candidate.facts.metrics["auc"] - found.estimated.value)
    assert (found.estimated.metric, found.estimated.rows) == ("auc", ROWS)


def test_without_labels_there_is_no_performance_and_everything_else(work: Workspace) -> None:
    found = moved(work, some_rows(ROWS, seed=1).drop(columns="left"))
    assert found.performance is None
    assert found.estimated is not None
    assert found.prediction is not None


def test_other_customers_have_other_answers(work: Workspace) -> None:
    found = moved(work, some_rows(ROWS, seed=1).assign(fee=lambda rows: rows["fee"] + 2))
    assert found.prediction is not None
    assert found.prediction.drifted


def test_a_version_that_kept_nothing_is_measured_as_before_and_says_what_is_missing(work: Workspace) -> None:
    found = answers.findings(work, champion(trained(work), evidence=None), work.read("2024-02"))
    assert (found.prediction, found.estimated) == (None, None)
    (note,) = found.notes
    assert note.startswith("champion 1 kept no scores of its holdout: the drift of its answers cannot be told")
    assert found.performance is not None
    assert found.performance.note == "its score at promotion counts as exact: no scores of its holdout were kept"
    assert found.performance.drop is not None
    assert found.performance.drop_low is not None
    assert found.performance.drop_low < found.performance.drop


def test_on_a_window_it_was_trained_on_only_the_holdout_tells(work: Workspace) -> None:
    candidate, window = trained(work), work.read("2024-01")
    found = answers.findings(work, champion(candidate), window)
    held = int(work.rule.mask(window, newest=True).sum())
    assert found.performance is not None
    assert (found.performance.rows, found.performance.drop) == (held, pytest.approx(0))
    assert found.estimated is not None
    assert found.estimated.rows == held
    again = candidate.facts.model_copy(update={"refit_of": "1"})
    found = answers.findings(work, champion(replace(candidate, facts=again)), window)
    assert found == answers.Findings(notes=("champion 1 has learnt from all rows of this window",))


def test_a_confidence_of_0_asks_for_the_drop_alone(tmp_path: Path) -> None:
    work = opened(tmp_path, a_loop(trigger={"confidence": 0}))
    found = answers.findings(work, champion(trained(work)), work.read("2024-02"))
    work.ledger._engine.dispose()
    assert found.performance is not None
    assert found.estimated is not None
    assert (found.performance.drop_low, found.estimated.drop_low) == (None, None)


def test_a_holdout_of_one_class_tells_no_auc_and_a_note_says_so(work: Workspace) -> None:
    candidate = trained(work)
    assert candidate.evidence is not None
    one = Evidence(np.ones(2), candidate.evidence.scores[:2], 2)
    found = answers.findings(work, champion(candidate, evidence=one), work.read("2024-02"))
    assert found.performance is not None
    assert found.performance.note == (
        "its score at promotion counts as exact: the bound on an AUC gain needs at least two rows of each class"
    )


def priced(metric: str) -> Any:
    columns = {"numeric": ["fee"], "categorical": ["plan"]}
    return a_loop(task="regression", target="price", features=columns, model=RIDGE, promotion={"metric": metric})


def prices(seed: int) -> pd.DataFrame:
    noise = np.random.default_rng(seed + 7).normal(0, 1, ROWS)
    return some_rows(ROWS, seed=seed).assign(price=lambda rows: 3 * rows["fee"] + noise).drop(columns="left")


@pytest.mark.parametrize(("metric", "told"), [("mae", "mae"), ("r2", "rmse")])
def test_a_regression_is_estimated_by_what_its_errors_were(tmp_path: Path, metric: str, told: str) -> None:
    work = opened(tmp_path, priced(metric), **{"2024-01": prices(0), "2024-02": prices(1)})
    cast("FakeWindows", work.windows).target = "price"
    candidate = trained(work)
    serving, current = champion(candidate), work.read("2024-02")
    found = answers.findings(work, serving, current)
    assert found.estimated is not None
    assert (found.estimated.metric, found.estimated.method) == (told, "error model")
    assert current.y is not None
    real = METRICS[told](current.y.to_numpy(), serving.artifact.predict(current.X))
    assert found.estimated.low < real < found.estimated.high
    other = work.loop.model_copy(update={"promotion": priced("rmse" if metric == "mae" else "mae").promotion})
    work.loop = other
    changed = answers.findings(work, serving, current).estimated
    assert changed is not None
    assert changed.metric == told, "what its errors were learnt for"
    assert candidate.evidence is not None
    bare = answers.findings(work, champion(candidate, evidence=replace(candidate.evidence, errors=None)), current)
    work.ledger._engine.dispose()
    assert bare.estimated is None
    assert "holdout rows are too few for a model" in bare.notes[0]


def test_of_several_labels_the_one_that_is_said_may_drift() -> None:
    facts = some_facts(task="multiclass", labels=("a", "b", "c"), threshold=None)
    scores = np.eye(3)[np.random.default_rng(0).integers(0, 3, 600)]
    kept = keep(scores.argmax(axis=1).astype(float), scores)
    same, other = Predictions(scores[::-1]), Predictions(np.tile([[0.1, 0.8, 0.1]], (200, 1)))
    found = [answers.prediction_drift(facts, kept, said) for said in (same, other)]
    assert [one.drifted for one in found] == [False, True]


@pytest.mark.parametrize(
    ("before", "now", "drifted"),
    [
        ("a" * 300 + "b" * 300, "a" * 1500 + "b" * 1499 + "c", False),
        ("a" * 300 + "b" * 300, "a" * 1500 + "b" * 1497 + "cde", False),
        ("a" * 300 + "b" * 299 + "c", "a" * 1500 + "b" * 1480 + "c" * 20, False),
        ("a" * 600, "a" * 2999 + "c", False),
        ("a" * 600, "a" * 2800 + "c" * 200, True),
        ("a" * 300 + "b" * 300, "c" * 3000, True),
        ("a" * 300 + "b" * 300, "a" * 1500 + "b" * 1300 + "c" * 200, True),
        ("a" * 300 + "b" * 300, "a" * 1000 + "b" * 2000, True),
    ],
)
def test_a_few_rare_labels_are_no_drift_and_many_new_ones_are(before: str, now: str, drifted: bool) -> None:
    labels = ("a", "b", "c", "d", "e")
    facts = some_facts(task="multiclass", labels=labels, threshold=None)
    sides = [np.eye(5)[[labels.index(label) for label in side]] for side in (before, now)]
    kept = keep(sides[0].argmax(axis=1).astype(float), sides[0])
    assert answers.prediction_drift(facts, kept, Predictions(sides[1])).drifted == drifted


# the bound of a drop


def test_the_bound_is_as_far_below_the_drop_as_both_scores_are_unsure() -> None:
    one, other = Spread(0.0009, 1e9), Spread(0.0016, 1e9)
    assert lower_bound(0.08, one, other, 0.95) == pytest.approx(0.08 - 1.6448536 * 0.05)
    assert lower_bound(0.08, one, EXACT, 0.95) == pytest.approx(0.08 - 1.6448536 * 0.03)
    assert lower_bound(0.08, EXACT, EXACT, 0.95) == 0.08
    assert lower_bound(0.08, one, other, 0) is None
    few = lower_bound(0.08, Spread(0.0009, 3), EXACT, 0.95)
    assert few is not None
    assert few < 0.08 - 2.3 * 0.03, "few rows are told by Student's t"


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "log_loss", "rmse", "r2", "mae"])
def test_the_spread_is_that_of_the_metric_over_samples(metric: str) -> None:
    drawn, told = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        p = rng.random(200)
        y = (rng.random(200) < p).astype(float) if metric not in ("rmse", "r2", "mae") else p + rng.normal(0, 0.3, 200)
        drawn.append(METRICS[metric](y, Predictions(p)))
        told.append(spread(metric, y, Predictions(p)).variance)
    assert np.mean(told) == pytest.approx(np.var(drawn), rel=0.25)


# what is kept


def written(folder: Path, candidate: Candidate) -> Facts:
    facts, files = _stored_beside(candidate)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return facts


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path, work: Workspace) -> None:
    candidate = trained(work)
    facts = written(tmp_path, candidate)
    found, kept = load_evidence(tmp_path, facts), candidate.evidence
    assert found is not None
    assert kept is not None
    assert np.array_equal(found.y, kept.y)
    assert np.array_equal(found.scores, kept.scores)
    assert (found.rows, found.errors) == (kept.rows, None)
    assert facts.evidence is not None
    assert (facts.evidence.rows, facts.evidence.of) == (len(kept.y), kept.rows)
    assert load_evidence(tmp_path, candidate.facts) is None, "from before versions kept anything"


def test_an_error_model_comes_back_as_it_was(tmp_path: Path) -> None:
    loop, X = priced("mae"), pd.DataFrame({"fee": np.arange(80.0), "plan": ["basic", "family"] * 40})
    kept = keep(np.arange(80.0), np.arange(80.0) + np.tile([1.0, 3.0], 40))
    kept = replace(kept, errors=error_model.learn(loop, X, kept))
    candidate = Candidate(cast("Any", None), some_facts(), evidence=kept)
    found = load_evidence(tmp_path, written(tmp_path, candidate))
    assert found is not None
    assert found.errors is not None
    assert kept.errors is not None
    assert (found.errors.loss, found.errors.told.tolist()) == ("absolute", kept.errors.told.tolist())
    assert np.array_equal(found.errors(X, kept.scores), kept.errors(X, kept.scores))


def test_what_was_altered_or_is_gone_is_refused(tmp_path: Path, work: Workspace) -> None:
    facts = written(tmp_path, trained(work))
    (tmp_path / evidence.FILE).write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"holdout.npz is not what was stored"):
        load_evidence(tmp_path, facts)
    (tmp_path / evidence.FILE).unlink()
    with pytest.raises(ArtifactError, match=r"holdout.npz cannot be read"):
        load_evidence(tmp_path, facts)


def test_of_a_large_holdout_a_seeded_part_is_kept() -> None:
    y, scores = np.arange(50_000) % 2.0, np.arange(50_000.0)
    one, other = keep(y, scores), keep(y, scores)
    assert (len(one.y), one.rows) == (evidence.MOST_ROWS, 50_000)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.y, one.scores % 2), "each with its own label"
    assert len(evidence.drawn(50_000, 100)) == 10_000
