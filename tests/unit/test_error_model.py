"""A regression's errors told without labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from driftloop import error_model
from driftloop.contract import Loop
from driftloop.evidence import Evidence, keep
from driftloop.metrics import METRICS, Array, Predictions
from tests.fakes import a_loop


def priced(metric: str) -> Loop:
    return a_loop(
        task="regression", target="price", model={"estimator": "sklearn.linear_model.Ridge"},
        promotion={"metric": metric},
    )  # fmt: skip


def homes(rng: np.random.Generator, rows: int, shift: float = 0.0) -> tuple[pd.DataFrame, Array, Array]:
    """Features, what was predicted, and prices; where fee is large the prediction is far off."""
    fee, plan = rng.normal(shift, 1, rows), rng.choice(["basic", "family"], rows)
    X = pd.DataFrame({"fee": fee, "plan": plan})
    X.loc[::17, "fee"] = np.nan
    predicted = fee * 2
    return X, predicted, predicted + rng.normal(0, 1, rows) * (0.5 + np.abs(fee)) * np.where(plan == "basic", 1, 2)


def learnt(metric: str, X: pd.DataFrame, predicted: Array, y: Array) -> Evidence:
    kept = keep(y, predicted)
    return replace(kept, errors=error_model.learn(priced(metric), X, kept))


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_the_interval_holds_the_real_metric_about_as_often_as_it_says(metric: str) -> None:
    inside, alarms = 0, 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, predicted, y = homes(rng, 300)
        kept, promoted = learnt(metric, X, predicted, y), METRICS[metric](y, Predictions(predicted))
        for _ in range(4):
            X, predicted, y = homes(rng, 400)
            found = error_model.estimate(metric, kept, X, predicted, promoted, 0.95)
            inside += found.low <= METRICS[metric](y, Predictions(predicted)) <= found.high
            alarms += (found.drop_low or 0) > 0
    assert inside >= 10
    assert alarms <= 3


def test_rows_that_are_harder_raise_the_estimate_as_they_raise_the_metric() -> None:
    rng = np.random.default_rng(0)
    X, predicted, y = homes(rng, 1500)
    kept, promoted = learnt("mae", X, predicted, y), METRICS["mae"](y, Predictions(predicted))
    X, predicted, y = homes(rng, 3000, shift=0.7)
    found = error_model.estimate("mae", kept, X, predicted, promoted, 0.95)
    assert found.value == pytest.approx(METRICS["mae"](y, Predictions(predicted)), rel=0.1)
    assert found.drop is not None
    assert found.drop_low is not None
    assert 0 < found.drop_low < found.drop
    assert error_model.estimate("mae", kept, X, predicted, promoted, 0.0).drop_low is None
    assert error_model.estimate("mae", kept, X, predicted, None, 0.95).drop is None
    assert error_model.estimate("mae", kept, X, predicted, promoted, 0.95) == found


def test_of_a_handful_of_rows_no_errors_are_learnt() -> None:
    X, predicted, y = homes(np.random.default_rng(0), error_model.LEAST_ROWS - 1)
    assert error_model.learn(priced("mae"), X, keep(y, predicted)) is None


def test_a_model_without_errors_is_told_to_make_none() -> None:
    X, predicted, _ = homes(np.random.default_rng(0), 200)
    found = error_model.estimate("rmse", learnt("rmse", X, predicted, predicted), X, predicted, 0.0, 0.95)
    assert (found.value, found.drop) == (0.0, 0.0)


def test_of_a_large_window_a_seeded_part_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kept = learnt("mae", *homes(rng, 200))
    X, predicted, _ = homes(rng, 2000)
    whole = error_model.estimate("mae", kept, X, predicted, 1.0, 0.95)
    monkeypatch.setattr(error_model, "MOST_ROWS", 500)
    part = error_model.estimate("mae", kept, X, predicted, 1.0, 0.95)
    assert part == error_model.estimate("mae", kept, X, predicted, 1.0, 0.95)
    assert (part.rows, part.value) == (2000, pytest.approx(whole.value, rel=0.1))
    assert part.high - part.low > whole.high - whole.low
