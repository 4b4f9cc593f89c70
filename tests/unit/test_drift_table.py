"""A timeline as the terminal shows it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from driftloop.cli import drift_table
from driftloop.plots import Plots
from driftloop.timeline import Arrival, Timeline
from tests.unit.test_plots import MONTHS, column, timeline


def shown(found: Timeline, width: int) -> tuple[list[str], list[str]]:
    """The table's lines and the notes below it, at a terminal's width."""
    console = Console(width=width, record=True, file=StringIO())
    made, notes = drift_table.table(found, console)
    console.print(made)
    lines = [line.rstrip() for line in console.export_text().splitlines() if line.strip()]
    assert all(len(line) <= width for line in lines)
    return lines, notes


def test_scores_by_column_and_window_with_a_star_where_it_drifted() -> None:
    lines, notes = shown(timeline(column(), column("plan", (0.0, 0.0, 0.05, 0.099))), 100)
    assert lines[0].split() == ["2024-"] * 6
    assert lines[1].split() == ["column", "(01)", "02", "03", "04", "05", "06"]
    assert lines[3].split() == ["fee", "–", "0.02", "0.03", "×", "0.40*", "0.50*"]
    assert lines[4].split() == ["plan", "–", "0.00", "0.00", "×", "0.05", "0.10"]
    assert notes == [
        "* drifted; windows in brackets are the reference's own",
        "× 2024-04 is quarantined: column fee is missing",
    ]


def test_where_scores_do_not_fit_each_window_has_a_mark() -> None:
    lines, notes = shown(timeline(column()), 40)
    assert lines[0].split() == ["column", "2024-01", "to", "2024-06"]
    assert lines[2].split() == ["fee", "–··×██"]
    assert notes[0] == "█ drifted, · did not"


def test_windows_that_do_not_even_fit_as_marks_are_left_out_and_counted() -> None:
    months = tuple(f"{year}-{month:02}" for year in range(2010, 2025) for month in range(1, 13))
    windows = tuple(Arrival(month, ("2009-12",), newer=True) for month in months)
    lines, notes = shown(Timeline("homes", "2009-12", windows, (column(),)), 60)
    assert lines[0].endswith("to 2024-12")
    assert "120 earlier windows are left out" not in notes[0]
    assert [note for note in notes if "earlier windows are left out; a wider terminal, --from and --to show" in note]


def test_of_many_columns_the_top_ones_are_shown_and_the_others_counted() -> None:
    lines, notes = shown(timeline(*(column(f"c{n}") for n in range(50))), 100)
    assert sum(line.split()[0].startswith("c") for line in lines) == 21  # their heading among them
    assert "30 columns that drifted less are left out; --column NAME shows those you name." in notes


def test_below_the_table_each_drifted_column_has_its_sentence_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    found = timeline(column("fee [net]"), column("plan", numeric=False), column("quiet", (0.0, 0.0, 0.0, 0.0)))
    drift_table.show(found, Plots(Path("home/heat_map.png"), {"fee": Path("home/columns/01-fee.png")}))
    said = " ".join(capsys.readouterr().out.split())
    assert "homes, 2024-01 to 2024-06 against 2024-01: 2 of 3 columns drifted." in said
    assert "• fee [net] drifted from 2024-05 on: its mean rose from 9.5 to 14.5 (Wasserstein distance 0.4, " in said
    assert "mean 9.5 → 14.5, std 5.77 → 5.77, 5% 0 → 5, median 9 → 14, 95% 18 → 23; " in said
    assert "mean 100%, spread 0%, shape 0% of the change" in said
    assert "• plan drifted from 2024-05 on: the share of a fell from 50.0% to 20.0%, of b rose" in said
    assert "Heat map: home/heat_map.png" in said
    assert "Before and after of each drifted column: home/columns/" in said
    assert "• quiet" not in said


def test_where_nothing_can_have_started_it_is_said_how_to_look_further_back(capsys: pytest.CaptureFixture[str]) -> None:
    windows = tuple(Arrival(month, MONTHS) for month in MONTHS)
    drift_table.show(Timeline("homes", "training", windows, ()), Plots(Path("h.png"), {}))
    said = " ".join(capsys.readouterr().out.split())
    assert "against 2024-01 to 2024-06, the champion's training: 0 of 0 columns drifted." in said
    assert "No window here is newer than its reference" in said
    assert "--reference 2024-01" in said
