"""A timeline as pictures: the heat map of all columns, and before and after of one. Colours for every eye."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driftloop.change import NumericChange, ShareChange
from driftloop.errors import ContractError
from driftloop.progress import tell
from driftloop.timeline import Cell, Timeline, Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
BEFORE, AFTER, QUIET, INK = "#0072B2", "#D55E00", "#999999", "#222222"  # Okabe and Ito's
RAMP = ("#f3f6fa", "#c3d3e6", "#fdc98a", "#7f2704")  # pale blue up to the threshold, orange to brown above it
REACH = 3.0  # the colours end at 2**3 times the threshold, and at its eighth part
ROWS = 40  # columns that a heat map holds, those that drifted most
LABEL = 32  # characters of a name
LONGEST = 100  # characters of a name in a file's name
MONTHS = 48  # windows that get a label each and full width
DPI, PAGE_DPI = 120, 80


@dataclass(frozen=True)
class Plots:
    """Where the pictures of a timeline are; ``columns`` are those that drifted."""

    heat_map: Path
    columns: dict[str, Path]

    def json(self) -> Json:
        return {"heat_map": str(self.heat_map), "plots": {name: str(file) for name, file in self.columns.items()}}


def write(timeline: Timeline, folder: Path) -> Plots:
    """Draw the heat map, and before and after of each drifted column. Raises ContractError."""
    drawn = Plots(folder / "heat_map.png", {})
    try:
        (folder / "columns").mkdir(parents=True, exist_ok=True)
        tell("drawing the heat map")
        drawn.heat_map.write_bytes(heat_map(grid_of(timeline)))
        for place, column in enumerate(timeline.drifted, 1):
            tell(f"drawing {column.name}, {place} of {len(timeline.drifted)} drifted columns")
            file = folder / "columns" / f"{place:02}-{re.sub(r'[^0-9A-Za-z._-]+', '-', column.name)[:LONGEST]}.png"
            file.write_bytes(before_and_after(column))
            drawn.columns[column.name] = file
    except OSError as error:
        raise ContractError(f"the plots cannot be written to {folder}: {error.strerror}.") from None
    return drawn


def page(timeline: Timeline) -> str:
    """The heat map and the scores as Markdown that needs no file beside it."""
    picture = b64encode(heat_map(grid_of(timeline), dpi=PAGE_DPI)).decode()
    head = ["column", "drifted since", *(arrival.window for arrival in timeline.windows)]
    lines = [" | ".join(head), " | ".join(["---", "---", *["--:"] * len(timeline.windows)])]
    for column in timeline.columns[:ROWS]:
        cells = {cell.window: cell.drift for cell in column.cells}
        scores = [
            "–" if drift is None else f"**{drift.score:.2f}**" if drift.drifted else f"{drift.score:.2f}"
            for drift in (cells.get(arrival.window) for arrival in timeline.windows)
        ]
        since = f"{column.first}{', came back' if column.came_back else ''}" if column.first else ""
        lines.append(" | ".join([column.name.replace("|", r"\|"), since, *scores]))
    table = "\n".join(f"| {line} |" for line in lines)
    return f"![drift by column and window](data:image/png;base64,{picture})\n\n{table}\n\nBold: drifted.\n"


@dataclass(frozen=True)
class Grid:
    """What a heat map shows: each row's ``excess`` over its threshold, NaN where nothing was measured.

    ``notes`` say of each window what it is, quarantined for one. ``left``: how many rows the grid leaves out.
    """

    title: str
    windows: tuple[str, ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]
    excess: tuple[tuple[float, ...], ...]
    drifted: tuple[tuple[bool, ...], ...]
    left: int = 0


def grid_of(timeline: Timeline) -> Grid:
    shown = timeline.columns[:ROWS]
    cells: list[dict[str, Cell]] = [{cell.window: cell for cell in column.cells} for column in shown]
    windows = tuple(arrival.window for arrival in timeline.windows)
    return Grid(
        title=f"Drift of {timeline.loop} against {timeline.against}",
        windows=tuple(f"{a.window} (ref.)" if a.state == "reference" else a.window for a in timeline.windows),
        notes=tuple(arrival.state for arrival in timeline.windows),
        names=tuple(column.name for column in shown),
        excess=tuple(tuple(row[w].drift.excess if w in row else np.nan for w in windows) for row in cells),
        drifted=tuple(tuple(w in row and row[w].drift.drifted for w in windows) for row in cells),
        left=len(timeline.columns) - len(shown),
    )


def heat_map(grid: Grid, dpi: int = DPI) -> bytes:
    """A PNG of columns by windows: the darker, the further beyond the threshold; drifted cells are ringed."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    names, windows = [_short(name) for name in grid.names], grid.windows
    every = max(1, -(-len(windows) // MONTHS))
    width = 2.2 + 0.085 * max(map(len, names)) + min(max(0.42 * len(windows), 2.5), 0.42 * MONTHS)
    figure = _figure(width, 1.9 + 0.3 * len(names))
    axes = figure.add_subplot()
    with np.errstate(divide="ignore"):
        levels = np.clip(np.log2(np.array(grid.excess, dtype=float)), -REACH, REACH)
    colours = LinearSegmentedColormap.from_list("drift", list(zip((0, 0.5, 0.5, 1), RAMP, strict=True)))
    image = axes.imshow(levels, cmap=colours, vmin=-REACH, vmax=REACH, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.array(grid.drifted)):
        axes.add_patch(Rectangle((column - 0.44, row - 0.42), 0.88, 0.84, fill=False, edgecolor=INK, linewidth=1.4))
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(0, len(windows), every), windows[::every], rotation=90)
    for place in np.flatnonzero(np.isnan(levels).all(axis=0)).tolist():
        axes.axvspan(place - 0.5, place + 0.5, facecolor="#f4f4f4", hatch="///", edgecolor="#d8d8d8", linewidth=0)
        axes.text(place, (len(names) - 1) / 2, grid.notes[place], rotation=90, ha="center", va="center", fontsize=8)
    axes.set_xticks(np.arange(len(windows) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    more = f" ({grid.left} columns that drifted less are left out)" if grid.left else ""
    axes.set_title(f"{grid.title}{more}", loc="left", fontsize=10, wrap=True)
    bar = figure.colorbar(image, ax=axes, ticks=[-3, -2, -1, 0, 1, 2, 3], fraction=0.04, pad=0.02)
    bar.ax.set_yticklabels(["⅛", "¼", "½", "threshold", "2×", "4×", "8×"])
    bar.outline.set_visible(False)
    return _png(figure, dpi)


def before_and_after(column: Track) -> bytes:
    """A PNG of a drifted column: the reference beside its first drifted window, and below it the scores in time."""
    change = column.change
    assert change is not None, "asked of columns that drifted"
    figure = _figure(7.2, 4.6)
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1))
    _draw_shares(top, change) if isinstance(change, ShareChange) else _draw_numbers(top, change)
    _draw_scores(bottom, column.cells, change.window)
    figure.suptitle(f"{_short(column.name)}: {change.what} changed in {change.window}", x=0.01, ha="left", fontsize=11)
    return _png(figure)


def _draw_numbers(axes: Axes, change: NumericChange) -> None:
    edges = change.histogram.edges
    axes.stairs(change.histogram.before, edges, fill=True, color=BEFORE, alpha=0.45, label="reference")
    axes.stairs(change.histogram.after, edges, color=AFTER, linewidth=1.8, label=change.window)
    axes.axvline(change.before.mean, color=BEFORE, linestyle="--", linewidth=1.2)
    axes.axvline(change.after.mean, color=AFTER, linestyle="--", linewidth=1.2, label="means")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("share of rows")
    _bare(axes)
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Axes, change: ShareChange) -> None:
    shown = [*change.shares, *([change.rest] if change.categories > len(change.shares) else [])]
    names, before, after = zip(*((_short(s.name), s.before, s.after) for s in shown), strict=True)
    places = np.arange(len(names))
    axes.barh(places - 0.2, before, 0.38, color=BEFORE, alpha=0.6, label="reference")
    axes.barh(places + 0.2, after, 0.38, color=AFTER, label=change.window)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("share of rows")
    _bare(axes)
    axes.legend(frameon=False, fontsize=8)


def _draw_scores(axes: Axes, cells: Sequence[Cell], first: str) -> None:
    """The score in each window and the thresholds, the first drifted window marked."""
    windows = [cell.window for cell in cells]
    scores = [cell.drift.score for cell in cells]
    places = np.arange(len(cells))
    axes.axvline(windows.index(first), color=AFTER, alpha=0.25, linewidth=8, solid_capstyle="butt")
    axes.step(places, [cell.drift.threshold for cell in cells], where="mid", color=INK, linestyle=":", linewidth=1)
    axes.plot(places, scores, color=QUIET, linewidth=1, zorder=1)
    colours = [AFTER if cell.drift.drifted else BEFORE for cell in cells]
    axes.scatter(places, scores, c=colours, s=28, zorder=2)
    every = max(1, -(-len(cells) // 12))
    axes.set_xticks(places[::every], windows[::every])
    axes.set_xlim(-0.5, len(cells) - 0.5)
    axes.text(len(cells) - 0.55, cells[-1].drift.threshold, "threshold", fontsize=7, ha="right", va="bottom", color=INK)
    axes.set_ylabel(_wrapped(cells[0].drift.method), fontsize=8)
    _bare(axes)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, without pyplot, which keeps all it made and is not for threads."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure, dpi: int = DPI) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    page = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(page, format="png", dpi=dpi)
    return page.getvalue()


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _short(name: str) -> str:
    """A name that fits beside a plot; a dollar would begin a formula."""
    cut = name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"
    return cut.replace("$", r"\$")


def _wrapped(method: str) -> str:
    return method.replace(" (normed)", "").replace(" ", "\n", 1)
