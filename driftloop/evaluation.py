"""A page of plots of a version's predictions on its holdout, beside its metrics and the baseline's."""

from __future__ import annotations

import html

import numpy as np

from driftloop.calibration import reliability
from driftloop.facts import Facts
from driftloop.metrics import Array, Predictions, written

MOST_POINTS, SEED = 500, 0
SIZE, EDGE = 320, 56  # pixels of a plot's square, and of the margin that holds its ticks
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Evaluation</title>
<style>
body {{ font: 14px sans-serif; margin: 2em; }}
td, th {{ padding: 2px 8px; text-align: right; }} td:first-child, th:first-child {{ text-align: left; }}
svg {{ margin-right: 2em; }} text {{ font: 11px sans-serif; }} text.title {{ font-size: 14px; }}
.axis {{ stroke: #999; fill: none; }} .ideal {{ stroke: #999; stroke-dasharray: 4; fill: none; }}
.curve {{ stroke: #3b6fb6; stroke-width: 2; fill: none; }} .point {{ fill: #3b6fb6; fill-opacity: 0.4; }}
</style>
<h1>Evaluation</h1>
<p>{sentence}</p>
<table>
<tr><th>metric<th>value<th>baseline</tr>
{metrics}
</table>
{plots}
"""


def page(facts: Facts, y: Array, predictions: Predictions) -> str:
    """HTML that asks for nothing from elsewhere. ``y`` and ``predictions`` are those of the labelled holdout rows.

    Regression: predicted against true, and residuals. Binary: ROC and calibration curves. Else how often each class
    was taken for which.
    """
    draw = {"regression": _regression, "binary": _binary}.get(facts.task)
    rows = "\n".join(
        f"<tr><td>{html.escape(name)}<td>{written(value)}<td>{_or_dash(facts.baseline.get(name))}</tr>"
        for name, value in sorted(facts.metrics.items())
    )
    sentence = (
        f"{facts.loop}, trained up to {facts.windows[-1]}: predictions on {len(y):,} holdout rows, made before any of "
        f"them was trained on."
    )
    plots = draw(y, predictions.scores) if draw else _confusion(y, predictions.scores, facts.labels or ())
    return PAGE.format(sentence=html.escape(sentence), metrics=rows, plots=plots)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else written(value)


def _regression(y: Array, predicted: Array) -> str:
    drawn = np.random.default_rng(SEED).permutation(len(y))[:MOST_POINTS]
    y, predicted = y[drawn], predicted[drawn]
    both, residuals = _span(y, predicted), y - predicted
    against = _Plot("predicted against true", "true", "predicted", both, both)
    left = _Plot("residuals", "predicted", "true − predicted", _span(predicted), _span(residuals))
    return against.svg(against.points(y, predicted), against.line(both, both, "ideal")) + left.svg(
        left.points(predicted, residuals), left.line(_span(predicted), (0.0, 0.0), "ideal")
    )


def _binary(y: Array, probability: Array) -> str:
    unit = (0.0, 1.0)
    calibration = _Plot("calibration", "mean probability", "event rate", unit, unit)
    means, rates = reliability(y, probability)
    plots = calibration.svg(
        calibration.line(means, rates, "curve"), calibration.points(means, rates), calibration.line(unit, unit, "ideal")
    )
    if y.min() == y.max():
        return plots  # one class only has no ROC curve
    roc = _Plot("ROC", "false positive rate", "true positive rate", unit, unit)
    return roc.svg(roc.line(*_roc(y, probability), "curve"), roc.line(unit, unit, "ideal")) + plots


def _roc(y: Array, probability: Array) -> tuple[Array, Array]:
    """(false, true positive rates) at some MOST_POINTS thresholds, from none to all."""
    order = np.argsort(-probability, kind="stable")
    hits, ranked = y[order], probability[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # a threshold takes all rows of one probability
    last = last[np.unique(np.linspace(0, len(last) - 1, MOST_POINTS, dtype=int))]
    true, false = np.cumsum(hits)[last] / hits.sum(), np.cumsum(1 - hits)[last] / (1 - hits).sum()
    return np.append(0.0, false), np.append(0.0, true)


def _confusion(y: Array, scores: Array, labels: tuple[str, ...]) -> str:
    said, names = scores.argmax(axis=1), [html.escape(label) for label in labels]
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (y.astype(int), said), 1)
    rows = [f"<tr><td>{name}<td>{'<td>'.join(map(str, row))}</tr>" for name, row in zip(names, counts, strict=True)]
    head = f"<tr><th>true \\ predicted<th>{'<th>'.join(names)}</tr>"
    return "\n".join(["<table>", head, *rows, "</table>"])


def _span(*values: Array) -> tuple[float, float]:
    """From the lowest to the highest, and something where they are one."""
    low, high = float(min(v.min() for v in values)), float(max(v.max() for v in values))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


class _Plot:
    """A square with a tick at each quarter of its axes; what is drawn on it is given in the data's units."""

    def __init__(self, title: str, x: str, y: str, x_span: tuple[float, float], y_span: tuple[float, float]) -> None:
        self.title, self.x, self.y, self.x_span, self.y_span = title, x, y, x_span, y_span

    def points(self, x: Array, y: Array) -> str:
        return "".join(f'<circle class="point" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in self._at(x, y))

    def line(self, x: Array | tuple[float, ...], y: Array | tuple[float, ...], kind: str) -> str:
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in self._at(np.asarray(x), np.asarray(y)))
        return f'<polyline class="{kind}" points="{corners}"/>'

    def svg(self, *marks: str) -> str:
        ticks = []
        for place in (0.0, 0.25, 0.5, 0.75, 1.0):
            at, up = EDGE + place * SIZE, EDGE + (1 - place) * SIZE
            x, y = (low + place * (high - low) for low, high in (self.x_span, self.y_span))
            ticks.append(f'<text x="{at}" y="{EDGE + SIZE + 16}" text-anchor="middle">{x:.3g}</text>')
            ticks.append(f'<text x="{EDGE - 6}" y="{up + 4}" text-anchor="end">{y:.3g}</text>')
        middle, full = EDGE + SIZE / 2, SIZE + 2 * EDGE
        return (
            f'<svg width="{full}" height="{full}"><text class="title" x="{EDGE}" y="24">{self.title}</text>'
            f'<rect class="axis" x="{EDGE}" y="{EDGE}" width="{SIZE}" height="{SIZE}"/>{"".join(ticks)}{"".join(marks)}'
            f'<text x="{middle}" y="{full - 14}" text-anchor="middle">{self.x}</text>'
            f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{self.y}</text></svg>\n'
        )

    def _at(self, x: Array, y: Array) -> list[tuple[float, float]]:
        """Pixels; an SVG's y grows downwards."""
        across, up = ((v - low) / (high - low) for v, (low, high) in ((x, self.x_span), (y, self.y_span)))
        return list(zip((EDGE + SIZE * across).tolist(), (EDGE + SIZE * (1 - up)).tolist(), strict=True))
