"""The tour runs from its first cell to its last, and says what it was committed with, numbers aside."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[2] / "docs" / "tour.ipynb"


def outputs(notebook):
    """What each cell gave: its kinds, and its printed words."""
    return [
        [(one.output_type, sorted(one.get("data", ())), words(one.get("text", ""))) for one in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def words(text):
    """Without numbers, and without which feature matters most."""
    return re.sub(r"[-+]?\d[\d.,]*", "#", re.sub(r"(?<=the candidate rests on ).*", "…", text))


@pytest.fixture
def committed():
    return nbformat.read(TOUR, as_version=4)


def test_the_committed_page_is_small_shows_plots_and_knows_no_machine(committed):
    assert TOUR.stat().st_size < 400_000
    nbformat.validate(committed)
    kinds = [kind for cell in outputs(committed) for _, data, _ in cell for kind in data]
    assert kinds.count("image/png") == 4
    text = re.sub(r'"image/png": "[^"]*"', "", nbformat.writes(committed))
    assert not re.findall(r"/(?:tmp|home|root|work|Users|usr|var)\b|site-packages|Warning|Traceback", text)


def test_every_feature_that_drifted_is_drawn(committed):
    told, drawn = (
        next(str(cell.outputs) for cell in committed.cells if cell.cell_type == "code" and word in cell.source)
        for word in ("drift_between(", "ax.hist(")
    )
    (drifted,) = re.findall(r"(\d+) of \d+ features drifted", told)
    (axes,) = re.findall(r"with (\d+) Axes", drawn)
    assert int(axes) == int(drifted) + 1  # one for the legend


def test_the_tour_runs_and_says_what_it_said(committed, tmp_path, monkeypatch):
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):  # nothing is left behind in the user's own
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("DRIFTLOOP_LEDGER_URL", "MPLBACKEND"):  # Streamlit, in this process, names one that shows nothing
        monkeypatch.delenv(name, raising=False)
    again = nbformat.from_dict(committed)
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    before = outputs(committed)
    NotebookClient(again, timeout=300, kernel_name="python3", resources={"metadata": {"path": TOUR.parent}}).execute()
    assert outputs(again) == before
    assert any("promote: beats the margin" in text for cell in outputs(again) for *_, text in cell)
    assert not (TOUR.parent / ".driftloop").exists()
