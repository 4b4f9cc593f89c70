"""Evidently's report as a page that a browser opens: drawn on a sample of a large window, with the exact verdict."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from driftloop.retrain import ColumnDrift, Drift

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

Array = npt.NDArray[Any]
Stratum = tuple[str, str | None]  # a window, and a label where those are told apart

ROWS = 20_000  # of both sides together; where there are more, each side is drawn on at most half as many
MOST_BYTES = 10_000_000
COLUMNS = 100  # some 30 kB each, beside 3.7 MB of Evidently's own scripts
CATEGORIES = 50  # of one column
LONGEST = 60  # characters of a category, and of a column's name in the banner
LISTED = 1000  # columns in the table of scores
NAMED = 10  # columns in a sentence
REFUSALS = (
    ArithmeticError,
    MemoryError,
    ValueError,
)  # as numbers that cannot be cut into bins: a constant 1e15
PLACE = '<div id="root_'  # where Evidently draws; its data before that has its quotes escaped
STYLE = """<style>
.driftloop { font: 15px/1.5 system-ui, sans-serif; margin: 24px auto; max-width: 1100px; padding: 16px 24px;
  border: 2px solid #b7791f; border-radius: 8px; background: #fffbea; color: #222 }
.driftloop h1 { font-size: 20px; margin: 0 0 8px }
.driftloop p { margin: 6px 0 }
.driftloop div { margin-top: 10px; max-height: 420px; overflow: auto }
.driftloop table { border-collapse: collapse }
.driftloop td, .driftloop th { padding: 2px 18px 2px 0; text-align: left; border-bottom: 1px solid #e8dfc0 }
.driftloop .drifted { color: #b00020; font-weight: 600 }
</style>"""


@dataclass(frozen=True)
class Excerpt:
    """The rows of both sides that a page is drawn on, and how many there are of each in all."""

    reference: pd.DataFrame
    current: pd.DataFrame
    reference_rows: int
    current_rows: int

    @property
    def drawn(self) -> int:
        return len(self.reference) + len(self.current)

    @property
    def total(self) -> int:
        return self.reference_rows + self.current_rows


def allotted(sizes: Sequence[int], most: int) -> list[int]:
    """``most`` rows among strata of these sizes, in proportion and by largest remainder; all rows where they fit.

    >>> allotted([700, 200, 100], 10), allotted([3, 4], 10)
    ([7, 2, 1], [3, 4])
    """
    total = sum(sizes)
    if total <= most:
        return list(sizes)
    shares = [most * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda place: -(most * sizes[place] % total))
    for place in by_remainder[: most - sum(shares)]:
        shares[place] += 1
    return shares


def chosen(
    loop: str,
    windows: Sequence[tuple[str, int]],
    most: int,
    labels: Callable[[], Iterable[Array]] | None = None,
) -> npt.NDArray[np.int64]:
    """Which rows stand for a side of ``windows``, ids and numbers of rows: at most ``most`` places, in order.

    Each window, and where ``labels`` gives them each label of each window, is in by its share of the side's rows.
    ``labels`` are all rows', in pieces of one window each, and asked for twice. What is drawn depends on these, on the
    loop's name and the windows' ids, and on nothing else.
    """
    ends = np.cumsum([rows for _, rows in windows])
    if ends[-1] <= most:
        return np.arange(ends[-1])
    sizes: Counter[Stratum] = Counter()
    if labels is None:
        sizes.update({(window, None): rows for window, rows in windows})
    else:
        for _, stratum, places in _strata(windows, ends, labels()):
            sizes[stratum] += len(places)
    rng = {window: np.random.default_rng(_seed(loop, window)) for window, _ in windows}
    order = sorted(sizes, key=str)
    picks = {
        stratum: np.sort(rng[stratum[0]].choice(sizes[stratum], share, replace=False))
        for stratum, share in zip(order, allotted([sizes[stratum] for stratum in order], most), strict=True)
    }
    if labels is None:
        return np.concatenate(
            [picks[window, None] + end - rows for (window, rows), end in zip(windows, ends, strict=True)]
        )
    found, passed = [], Counter[Stratum]()
    for start, stratum, places in _strata(windows, ends, labels()):
        first, last = np.searchsorted(picks[stratum], [passed[stratum], passed[stratum] + len(places)])
        found.append(start + places[picks[stratum][first:last] - passed[stratum]])
        passed[stratum] += len(places)
    return np.sort(np.concatenate(found))


def _strata(
    windows: Sequence[tuple[str, int]], ends: Array, labels: Iterable[Array]
) -> Iterator[tuple[int, Stratum, npt.NDArray[np.intp]]]:
    """Of each piece of the labels: where it starts, and for each label in it the stratum and the places in it."""
    start = 0
    for piece in labels:
        window = windows[int(np.searchsorted(ends, start, "right"))][0]
        codes, names = pd.factorize(piece)
        for code in np.unique(codes):
            yield start, (window, None if code < 0 else str(names[code])), np.flatnonzero(codes == code)
        start += len(piece)


def _seed(loop: str, window: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{loop}\n{window}".encode(), digest_size=8).digest(), "big")


def draw(excerpt: Excerpt, drift: Drift, numeric: Sequence[str], engine: str) -> str:
    """The page, at most MOST_BYTES: the exact verdict and scores, then Evidently's plots of the excerpt. Slow.

    The plots' headings carry the exact scores too. Columns that drifted come first, as many as there is room for.
    """
    found = [*drift.columns, *([drift.target] if drift.target else [])]
    empty = [column.name for column in found if _empty(excerpt, column.name)]
    left = sorted((c for c in found if c.name not in empty), key=lambda column: not column.drifted)
    most, refused = COLUMNS, list[str]()
    while True:
        columns = left[:most]
        sides, rare = _folded(excerpt, [column.name for column in columns if column.name not in numeric])
        try:
            plots = _plots(sides, columns, numeric)
        except REFUSALS:
            if not columns:
                raise
            own = [column.name for column in columns if not _drawable(sides, column, numeric)]
            refused += own or [column.name for column in columns]
            left = [column for column in left if column.name not in refused]
            continue
        before, place, after = plots.partition(PLACE)
        banner = _banner(excerpt, drift, engine, len(left) - len(columns), empty, refused, rare)
        page = f"{before}{banner}{place}{after}"
        if len(page.encode()) <= MOST_BYTES or not columns:
            return page
        most = len(columns) // 2


def _drawable(sides: Sequence[pd.DataFrame], column: ColumnDrift, numeric: Sequence[str]) -> bool:
    try:
        _plots(sides, [column], numeric)
    except REFUSALS:
        return False
    return True


def _empty(excerpt: Excerpt, name: str) -> bool:
    """Evidently refuses a column without a value, as a nearly empty one may be in a sample."""
    return not (excerpt.reference[name].notna().any() and excerpt.current[name].notna().any())


def _folded(excerpt: Excerpt, names: Sequence[str]) -> tuple[list[pd.DataFrame], dict[str, int]]:
    """Reference and current, of each named column all but the most frequent categories as one; how many those are."""
    sides, rare = [excerpt.reference.copy(deep=False), excerpt.current.copy(deep=False)], {}
    for name in names:
        counts = pd.concat([side[name] for side in sides]).value_counts()
        frequent = counts.sort_index().sort_values(ascending=False, kind="stable").index[:CATEGORIES]
        if others := len(counts) - len(frequent):
            rare[name] = others
        written = dict.fromkeys(counts.index, f"({others:,} other categories)") | {c: _short(c) for c in frequent}
        for side in sides:
            side[name] = side[name].map(written)
    return sides, rare


def _plots(sides: Sequence[pd.DataFrame], columns: Sequence[ColumnDrift], numeric: Sequence[str]) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    names = [column.name for column in columns]
    numbers = [name for name in names if name in numeric]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in names if name not in numbers]
    )
    reference, current = (Dataset.from_pandas(side[names], data_definition=definition) for side in sides)
    snapshot = Report([ValueDrift(column=name) for name in names]).run(current, reference)
    for column, result in zip(columns, snapshot.metric_results.values(), strict=True):
        heading = f"Drift in column '{column.name}', over all rows"
        said = f"{_found(column)}. Drift detection method: {column.method}. Drift score: {column.score:.4g}"
        for widget in result.widget:
            if widget.type == "counter":  # which has the score of the excerpt
                widget.params = {"counters": [{"value": said, "label": heading}]}
    return saved(snapshot)


def saved(snapshot: Snapshot) -> str:
    """Evidently's own page of what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        snapshot.save_html(str(file))
        return file.read_text(encoding="utf-8")


def _banner(
    excerpt: Excerpt,
    drift: Drift,
    engine: str,
    left_out: int,
    empty: Sequence[str],
    refused: Sequence[str],
    rare: Mapping[str, int],
) -> str:
    """What the page is drawn on, the verdict and every score over all rows, and what is not drawn."""
    total, whole = f"{excerpt.total:,}", excerpt.drawn == excerpt.total
    title = f"Drawn on all {total} rows" if whole else f"Drawn on {excerpt.drawn:,} of {total} rows"
    verdict = (
        f"<strong>Drift share {drift.share:.3f}: {drift.drifted:,} of {len(drift.columns):,} features drifted"
        f"</strong>, measured over all {total} rows by the {escape(engine)} engine, and so is every score below."
    )
    said = [verdict]
    if not whole:
        said.append(
            f"The plots are of a sample, the same each time: {len(excerpt.reference):,} of "
            f"{excerpt.reference_rows:,} rows of the reference and {len(excerpt.current):,} of "
            f"{excerpt.current_rows:,} current rows. Each window, and in a classification each label, is in it by its "
            f"share of the rows."
        )
    if left_out:
        said.append(
            f"{left_out:,} columns are not drawn, so that browsers open the page. Those that drifted come first."
        )
    if empty:
        said.append(f"Not drawn, for one side of the sample holds nothing but nulls: {_named(empty)}.")
    if refused:
        said.append(f"Not drawn, for Evidently cannot plot values of such a size and range: {_named(refused)}.")
    if rare:
        said.append(
            f"Each column's {CATEGORIES} most frequent categories are drawn, the others as one: "
            f"{_named([f'{name} ({count:,} others)' for name, count in rare.items()])}."
        )
    text = "".join(f"<p>{sentence}</p>" for sentence in said)
    head = f"<h1>{title}; the verdict is over all rows</h1>"
    return f'{STYLE}<section class="driftloop">{head}{text}{_table(drift)}</section>'


def _table(drift: Drift) -> str:
    """Every column's score, those that drifted first, the target's apart."""
    listed = sorted(drift.columns, key=lambda column: not column.drifted)[:LISTED]
    rows = [*((column, "") for column in listed), *([(drift.target, "target")] if drift.target else [])]
    body = "".join(
        f"<tr{' class=drifted' * column.drifted}><td>{escape(_short(column.name))}</td><td>{escape(column.method)}</td>"
        f"<td>{column.score:.4g}</td><td>{column.threshold:g}</td><td>{_found(column)}</td><td>{note}</td></tr>"
        for column, note in rows
    )
    heads = "".join(f"<th>{head}</th>" for head in ("column", "method", "score", "threshold", "", ""))
    more = len(drift.columns) - len(listed)
    return f"<div><table><tr>{heads}</tr>{body}</table>{f'and {more:,} columns more' * bool(more)}</div>"


def _found(column: ColumnDrift) -> str:
    return "Data drift detected" if column.drifted else "Data drift not detected"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return escape(", ".join(map(_short, names[:NAMED]))) + f" and {more:,} more" * (more > 0)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
