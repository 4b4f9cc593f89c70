"""Pictures of a timeline, in memory and on disk."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop import plots
from driftloop.change import change_of
from driftloop.columnar import Column, Summary
from driftloop.errors import ContractError
from driftloop.retrain import ColumnDrift
from driftloop.timeline import Arrival, Cell, Timeline, Track, monitored

MONTHS = tuple(f"2024-{month:02}" for month in range(1, 7))


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def pixels(png: bytes, folder: Path) -> np.ndarray:
    from matplotlib.image import imread

    file = folder / "read.png"
    file.write_bytes(png)
    return np.asarray(imread(file))[:, :, :3]


def cell(window: str, score: float) -> Cell:
    return Cell(window, ColumnDrift("fee", "Wasserstein distance (normed)", score, 0.1, score >= 0.1), newer=True)


def column(name: str = "fee", scores: tuple[float, ...] = (0.02, 0.03, 0.4, 0.5), *, numeric: bool = True) -> Track:
    cells = tuple(cell(month, score) for month, score in zip((*MONTHS[1:3], *MONTHS[4:]), scores, strict=True))
    drifted = max(scores) >= 0.1
    if numeric:
        sides = [Summary(np.arange(20.0) + by, np.full(20, 50), 0) for by in (0, 5)]
    else:
        sides = [Summary(np.array(["a", "b"], dtype=object), np.array(counts), 0) for counts in ([50, 50], [20, 80])]
    change = change_of(Column(name, numeric), *sides, "2024-05") if drifted else None
    return Track(name, numeric, cells, change)


def timeline(*columns: Track) -> Timeline:
    arrivals = [Arrival(month, MONTHS[:1], newer=month > MONTHS[0]) for month in MONTHS]
    arrivals[3] = Arrival(MONTHS[3], problems=("column fee is missing",))
    return Timeline("homes", "2024-01", tuple(arrivals), columns)


def test_the_heat_map_is_a_png_whose_drifted_cells_are_brown(tmp_path: Path) -> None:
    quiet = plots.heat_map(plots.grid_of(timeline(column(scores=(0.01, 0.01, 0.01, 0.01)))))
    drifted = plots.heat_map(plots.grid_of(timeline(column(scores=(0.01, 0.01, 0.9, 0.9)))))
    width, height = size(drifted)
    assert width > 400
    assert height > 200
    brown = np.array([0x7F, 0x27, 0x04]) / 255
    found = [np.isclose(pixels(png, tmp_path), brown, atol=0.02).all(axis=2) for png in (quiet, drifted)]
    beside_the_bar = [picture[:, : int(width * 0.7)].sum() for picture in found]
    assert beside_the_bar[0] == 0
    assert beside_the_bar[1] > 2 * 20 * 20


def test_a_heat_map_says_which_windows_are_the_reference_quarantined_or_without_one() -> None:
    grid = plots.grid_of(timeline(column()))
    assert grid.windows == ("2024-01 (ref.)", *MONTHS[1:])
    assert grid.notes[3] == "quarantined"
    assert np.isnan(grid.excess[0][3])
    assert grid.drifted[0] == (False, False, False, False, True, True)


def test_of_many_columns_the_heat_map_holds_those_that_drifted_most_and_says_how_many_it_leaves_out() -> None:
    grid = plots.grid_of(timeline(*(column(f"c{n}") for n in range(50))))
    assert (len(grid.names), grid.left) == (40, 10)
    _, height = size(plots.heat_map(grid))
    assert height < 2500


@pytest.mark.parametrize(("name", "numeric"), [("price in $ and $ again", True), ("a" * 200, False)])
def test_a_drifted_column_has_a_picture_of_before_and_after(name: str, numeric: bool) -> None:
    width, height = size(plots.before_and_after(column(name, numeric=numeric)))
    assert width > 700
    assert height > 400


def test_pictures_lie_in_a_folder_and_their_names_are_told(tmp_path: Path) -> None:
    found = timeline(column("fee/€"), column("plan", numeric=False), column("quiet", (0.0, 0.0, 0.0, 0.0)))
    drawn = plots.write(found, tmp_path / "new" / "folder")
    assert drawn.heat_map == tmp_path / "new" / "folder" / "heat_map.png"
    assert list(drawn.columns) == ["fee/€", "plan"]
    assert all(size(file.read_bytes()) for file in (drawn.heat_map, *drawn.columns.values()))
    assert drawn.json()["plots"]["plan"] == str(drawn.columns["plan"])


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ContractError, match=r"the plots cannot be written to .*taken"):
        plots.write(timeline(column()), tmp_path / "taken")


def test_a_page_needs_no_file_beside_it() -> None:
    page = plots.page(timeline(column("fee|net"), replace(column(), name="plan")))
    [picture] = re.findall(r"data:image/png;base64,([^)]+)\)", page)
    assert size(base64.b64decode(picture))[0] > 300
    assert "| column | drifted since | 2024-01 | 2024-02 | 2024-03 | 2024-04 | 2024-05 | 2024-06 |" in page
    assert r"| fee\|net | 2024-05 | – | 0.02 | 0.03 | – | **0.40** | **0.50** |" in page
    assert len(page) < 60_000


def test_what_was_found_when_windows_were_monitored_makes_a_timeline() -> None:
    def report(window: str, score: float | None, **more: object) -> dict[str, object]:
        columns = [{"name": "fee", "method": "m", "score": score, "threshold": 0.1, "drifted": (score or 0) >= 0.1}]
        return {"window": window, "reference": ["2024-01"], "drift": {"columns": columns} if score else None, **more}

    reports = [
        report("2024-01", None),
        report("2024-02", 0.05),
        report("2024-03", None, quarantine={"problems": ["column fee is missing"]}),
        report("2024-04", 0.5),
    ]
    found = monitored("homes", ["fee"], reports)
    assert [arrival.state for arrival in found.windows] == ["no reference", "measured", "quarantined", "measured"]
    assert [(c.name, c.numeric, c.first, c.last) for c in found.drifted] == [("fee", True, "2024-04", "2024-04")]
