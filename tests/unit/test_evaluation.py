"""The page of plots beside a version's run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from driftloop.evaluation import EDGE, MOST_POINTS, SIZE, page
from driftloop.metrics import Predictions
from tests.fakes import some_facts

REGRESSION = {"task": "regression", "labels": None, "metrics": {"rmse": 0.51, "r2": 0.8}, "baseline": {"rmse": 1.2}}


def plots(made: str) -> dict[str, str]:
    """The plots by their titles."""
    return dict(re.findall(r'<svg[^>]*><text class="title"[^>]*>([^<]*)</text>(.*?)</svg>', made, re.DOTALL))


def line(plot: str, kind: str) -> list[tuple[float, float]]:
    """A line's corners as shares of the axes, upwards."""
    found = re.search(rf'<polyline class="{kind}" points="([^"]*)"', plot)
    assert found
    corners = [corner.split(",") for corner in found[1].split()]
    return [((float(x) - EDGE) / SIZE, 1 - (float(y) - EDGE) / SIZE) for x, y in corners]


def dots(plot: str) -> list[tuple[float, float]]:
    found = re.findall(r'cx="([^"]*)" cy="([^"]*)"', plot)
    return [((float(x) - EDGE) / SIZE, 1 - (float(y) - EDGE) / SIZE) for x, y in found]


def test_a_regression_shows_predicted_against_true_and_residuals() -> None:
    y, predicted = np.array([0.0, 10.0, 5.0]), np.array([0.0, 5.0, 10.0])
    drawn = plots(page(some_facts(**REGRESSION), y, Predictions(predicted)))
    assert list(drawn) == ["predicted against true", "residuals"]
    assert sorted(dots(drawn["predicted against true"])) == [(0, 0), (0.5, 1), (1, 0.5)]
    assert line(drawn["predicted against true"], "ideal") == [(0, 0), (1, 1)]
    assert sorted(dots(drawn["residuals"])) == [(0, 0.5), (0.5, 1), (1, 0)]
    assert line(drawn["residuals"], "ideal") == [(0, 0.5), (1, 0.5)]


def test_metrics_stand_beside_the_baselines_where_there_is_one() -> None:
    made = page(some_facts(**REGRESSION), np.array([1.0, 2.0]), Predictions(np.array([1.0, 2.0])))
    assert "<tr><td>rmse<td>0.510<td>1.200</tr>" in made
    assert "<tr><td>r2<td>0.800<td>–</tr>" in made
    assert "churn, trained up to 2024-02: predictions on 2 holdout rows, made before" in made


def test_a_binary_model_shows_its_roc_and_calibration_curves() -> None:
    y, probability = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])
    drawn = plots(page(some_facts(), y, Predictions(probability)))
    assert list(drawn) == ["ROC", "calibration"]
    assert line(drawn["ROC"], "curve") == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    assert all(rate in (0, 1) for _, rate in dots(drawn["calibration"]))


def test_rows_of_one_probability_are_one_corner_of_the_roc() -> None:
    drawn = plots(page(some_facts(), np.array([0.0, 1.0, 0.0, 1.0]), Predictions(np.full(4, 0.3))))
    assert line(drawn["ROC"], "curve") == [(0, 0), (1, 1)]
    assert [(round(x, 3), round(y, 3)) for x, y in dots(drawn["calibration"])] == [(0.3, 0.5)]


def test_rows_of_one_class_have_no_roc() -> None:
    assert list(plots(page(some_facts(), np.ones(3), Predictions(np.array([0.2, 0.4, 0.9]))))) == ["calibration"]


def test_several_classes_are_counted_by_what_they_were_taken_for() -> None:
    facts = some_facts(labels=("low", "<high>")).model_copy(update={"task": "multiclass"})
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    made = page(facts, np.array([0.0, 0.0, 1.0]), Predictions(scores))
    assert "<tr><td>low<td>1<td>1</tr>\n<tr><td>&lt;high&gt;<td>0<td>1</tr>" in made


@pytest.mark.parametrize("changes", [{}, REGRESSION])
def test_many_rows_make_a_small_page_that_asks_for_nothing_from_elsewhere(changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200_000).astype(float)
    made = page(some_facts(**changes), y, Predictions(rng.random(len(y))))
    assert len(made) < 100_000
    assert all(len(dots(plot)) <= MOST_POINTS for plot in plots(made).values())
    assert "http" not in made
    assert "<script" not in made
    HTMLParser().feed(made)


@pytest.mark.parametrize(("y", "said"), [([2.0, 2.0], [2.0, 2.0]), ([1e9, -1e9], [0.0, 0.0])])
def test_a_span_of_nothing_is_no_division_by_zero(y: list[float], said: list[float]) -> None:
    drawn = plots(page(some_facts(**REGRESSION), np.array(y), Predictions(np.array(said))))
    assert all(0 <= x <= 1 and 0 <= up <= 1 for plot in drawn.values() for x, up in dots(plot))
