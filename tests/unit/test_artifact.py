"""A stored model serves only while it scores its sample rows as it did when it was stored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml

from driftloop.artifact import SAMPLE_TOLERANCE, Artifact, load, score
from driftloop.errors import ArtifactError
from driftloop.facts import Facts
from tests.fakes import a_candidate, a_loop, a_window, some_rows, stored

CANDIDATE = a_candidate()


def moved(by: float) -> Artifact:
    """The candidate as if its first sample score had been stored ``by`` higher."""
    first, *rest = CANDIDATE.facts.sample_scores
    return stored(CANDIDATE, sample_scores=(first + by, *rest))


def test_a_model_that_scores_its_sample_as_it_did_may_serve() -> None:
    stored(CANDIDATE).verify()


def test_a_difference_below_the_tolerance_is_none() -> None:
    moved(SAMPLE_TOLERANCE / 2).verify()


@pytest.mark.parametrize("by", [2 * SAMPLE_TOLERANCE, -0.1, math.nan])
def test_a_model_that_scores_its_sample_differently_does_not_serve(by: float) -> None:
    with pytest.raises(ArtifactError, match=r"the stored sample rows score up to .* away"):
        moved(by).verify()


def test_another_model_in_its_place_does_not_serve() -> None:
    other = a_candidate(windows=[a_window(some_rows(seed=9))])
    with pytest.raises(ArtifactError, match="away from what they did when stored"):
        Artifact(CANDIDATE.facts, other.estimator, stored(CANDIDATE).signature).verify()


@pytest.mark.parametrize("names", [["plan", "fee"], ["fee"], ["fee", "plan", "left"], []])
def test_a_signature_of_other_columns_does_not_serve(names: list[str]) -> None:
    with pytest.raises(ArtifactError, match="the model was trained on other columns"):
        Artifact(CANDIDATE.facts, CANDIDATE.estimator, tuple(names)).verify()


def test_a_sample_with_nothing_in_a_column_is_reproduced() -> None:
    rows = some_rows(200).assign(fee=None, plan=None).astype({"fee": float, "plan": object})
    rows.loc[57, "fee"], rows.loc[57, "plan"] = 3.0, "basic"  # one value that the sample may miss
    stored(a_candidate(windows=[a_window(rows)])).verify()


def test_the_facts_survive_being_stored_as_json() -> None:
    rows = some_rows()
    rows.loc[::3, ["fee", "plan"]] = None
    candidate = a_candidate(windows=[a_window(rows)])
    again = Facts.model_validate_json(candidate.facts.model_dump_json())
    assert again == candidate.facts
    stored(candidate, **{name: getattr(again, name) for name in ("sample", "sample_scores")}).verify()


def test_a_score_is_the_probability_of_the_event() -> None:
    window = a_window()
    expected = CANDIDATE.estimator.predict_proba(window.X)[:, 1]
    assert np.array_equal(score(CANDIDATE.estimator, window.X, "binary"), expected)


def test_a_regressions_score_is_its_prediction() -> None:
    loop = a_loop(task="regression", model={"estimator": "sklearn.linear_model.LinearRegression"})
    window = a_window(some_rows().assign(left=lambda rows: 2 * rows["fee"]), loop)
    found = score(a_candidate(loop, [window]).estimator, window.X, "regression")
    assert found == pytest.approx(2 * window.X["fee"].to_numpy())


def test_rows_are_scored_as_a_client_sends_them() -> None:
    artifact = stored(CANDIDATE)
    plain = artifact.score(pd.DataFrame([{"fee": 1.0, "plan": "basic"}]))
    assert artifact.score(pd.DataFrame([{"colour": "red", "plan": "basic", "fee": "1"}])) == plain


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(ValueError, match="column fee: expected numbers"):
        stored(CANDIDATE).score(pd.DataFrame([{"fee": "much", "plan": "basic"}]))


def test_rows_are_scored_alike_alone_and_together() -> None:
    window, artifact = a_window(), stored(CANDIDATE)
    alone = [artifact.score(window.X.iloc[[i]])[0] for i in range(5)]
    assert artifact.score(window.X)[:5] == pytest.approx(alone, abs=1e-12)


def test_facts_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CANDIDATE.facts.rows = 0  # type: ignore[misc]


SIGNATURE = {
    "inputs": json.dumps([{"type": "double", "name": "fee"}, {"type": "string", "name": "plan"}]),
    "outputs": json.dumps([{"type": "long"}]),
}


def folder_of(place: Path, signature: Any) -> Path:
    skops.io.dump(CANDIDATE.estimator, place / "model.skops")
    model = {"metadata": {"driftloop": json.loads(CANDIDATE.facts.model_dump_json())}, "signature": signature}
    (place / "MLmodel").write_text(yaml.safe_dump(model), encoding="utf-8")
    return place


def test_a_folder_of_what_was_stored_loads(tmp_path: Path) -> None:
    found = load(folder_of(tmp_path, SIGNATURE))
    found.verify()
    assert found.facts == CANDIDATE.facts
    assert found.signature == ("fee", "plan")


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (None, "has no signature"),
        ([], "the signature in .*MLmodel cannot be read"),
        ("inputs", "the signature in .*MLmodel cannot be read"),
        ({"inputs": 3}, "the signature in .*MLmodel cannot be read"),
        ({"inputs": "[" * 100_000}, "the signature in .*MLmodel cannot be read"),
        ({"inputs": "{"}, "the signature in .*MLmodel cannot be read"),
        ({"inputs": '[{"type": "fee"}]'}, "the signature in .*MLmodel cannot be read"),
        ({"inputs": '[{"name": "fee"}]'}, "the signature in .*MLmodel cannot be read"),
        ({"inputs": '[{"type": "double", "name": "fee"}, {"type": "double"}]'}, "the signature in .*cannot be read"),
    ],
)
def test_a_signature_that_is_not_one_does_not_load(tmp_path: Path, signature: Any, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        load(folder_of(tmp_path, signature))
