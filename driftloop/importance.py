"""How much a version's features matter to its score: what it loses when a column's values change owners."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from driftloop.metrics import METRICS, Array, Predictions

MOST_ROWS, REPEATS, SEED = 500, 3, 0
AT_ONCE = 10  # columns; a forest takes long for each call, and some models much memory for each row
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Permutation importance</title>
<style>
body {{ font: 14px sans-serif; margin: 2em; }}
td {{ padding: 2px 8px; }} td.number {{ text-align: right; }}
div {{ height: 14px; background: #3b6fb6; }}
</style>
<h1>Permutation importance</h1>
<p>{sentence}</p>
<table>
<tr><th>feature<th><th>loss of {metric}<th>± over shuffles</tr>
{rows}
</table>
"""


@dataclass(frozen=True)
class Feature:
    """Mean and standard deviation over the shuffles of what the score lost, in the metric's unit."""

    name: str
    mean: float
    std: float


@dataclass(frozen=True)
class Importance:
    """``features`` by what they matter, most first; ``score`` is the ``metric`` before anything was shuffled."""

    metric: str
    score: float
    rows: int
    shuffles: int
    features: tuple[Feature, ...]

    @property
    def means(self) -> dict[str, float]:
        return {feature.name: feature.mean for feature in self.features}

    @property
    def sentence(self) -> str:
        return (
            f"What {self.metric} ({self.score:.4f}) loses on {self.rows:,} holdout rows when one feature's values are "
            f"shuffled among them, {self.shuffles} times. Features that say the same hide each other."
        )

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def page(self) -> str:
        """HTML with a horizontal bar a feature; it asks for nothing from elsewhere."""
        longest = max((feature.mean for feature in self.features), default=0.0)
        rows = "\n".join(_bar(feature, longest) for feature in self.features)
        return PAGE.format(sentence=html.escape(self.sentence), metric=html.escape(self.metric), rows=rows)


def permutation_importance(
    metric: str, X: pd.DataFrame, y: Array, predict: Callable[[pd.DataFrame], Predictions]
) -> Importance | None:
    """What ``metric`` loses on at most MOST_ROWS of the rows when each column is shuffled, REPEATS times.

    The same rows give the same answer. A column with one value on them says nothing and is left out. None where the
    metric is undefined on those rows.
    """
    rng, judge = np.random.default_rng(SEED), METRICS[metric]
    rows = np.sort(rng.permutation(len(X))[:MOST_ROWS])
    X, y = X.iloc[rows].reset_index(drop=True), y[rows]
    score = judge(y, predict(X))
    order = np.concatenate([rng.permutation(len(X)) for _ in range(REPEATS)])
    repeated, names = pd.concat([X] * REPEATS, ignore_index=True), [str(n) for n in X if X[n].nunique(dropna=False) > 1]
    features: list[Feature] = []
    for some in (names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)):
        shuffled = predict(pd.concat([repeated.assign(**{name: X[name].to_numpy()[order]}) for name in some]))
        parts = np.split(shuffled.scores, len(some) * REPEATS)
        scores = np.array([judge(y, Predictions(part, shuffled.threshold)) for part in parts])
        lost = (score - scores.reshape(len(some), REPEATS)) * (1 if judge.higher_is_better else -1)
        features += map(Feature, some, lost.mean(axis=1).tolist(), lost.std(axis=1).tolist())
    if not np.isfinite([score, *(feature.mean for feature in features)]).all():
        return None
    features.sort(key=lambda feature: -feature.mean)
    return Importance(metric, float(score), len(X), REPEATS, tuple(features))


def _bar(feature: Feature, longest: float) -> str:
    width = 0 if longest <= 0 else max(0, round(400 * feature.mean / longest))
    return (
        f'<tr><td>{html.escape(feature.name)}<td><div style="width: {width}px"></div>'
        f'<td class="number">{feature.mean:.4f}<td class="number">{feature.std:.4f}</tr>'
    )
