"""Score the loop's candidates on a random fifth of all windows, as is usual, or on each window before it is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd

from driftloop import contract, frame
from driftloop.artifact import score
from driftloop.contract import Loop, Recipe
from driftloop.frame import Window
from driftloop.metrics import Predictions
from driftloop.recipe import build
from driftloop.scores import baseline, evaluate
from driftloop.windows import Windows, open_windows

SHARE, SEED = 0.2, 42


@click.command()
@click.argument("folder", default=Path(__file__).parent, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--forward", is_flag=True, help="RMSE on each window of models trained on all windows before it.")
def main(folder: Path, forward: bool) -> None:
    """Print what each candidate of FOLDER's loop.toml scores on a random split: neighbours lie on both sides of it."""
    loop = contract.load(folder)
    windows = open_windows(loop, folder)
    _forward(loop, windows) if forward else _random(loop, windows)


def _random(loop: Loop, windows: Windows) -> None:
    whole = _joined(loop, windows, windows.ids())
    rows = len(whole.X)
    held = np.zeros(rows, dtype=bool)
    held[np.random.default_rng(SEED).permutation(rows)[: round(SHARE * rows)]] = True
    training, holdout = whole.where(~held), whole.where(held)
    click.echo(f"{rows:,} rows of {len(windows.ids())} windows, {held.sum():,} of them held out at random\n")
    click.echo(_line(f"{'':28}", ["RMSE", "MAE", "R²"]))
    found = [("training mean", baseline(loop, training, holdout))]
    found += [(recipe.name, _scored(loop, recipe, training, holdout)) for recipe in loop.model.recipes]
    for name, metrics in found:
        click.echo(_line(f"{name:28}", [f"{metrics[metric]:.3f}" for metric in ("rmse", "mae", "r2")]))


def _forward(loop: Loop, windows: Windows) -> None:
    names = ["training mean", *(recipe.name.removesuffix("Regressor") for recipe in loop.model.recipes)]
    click.echo(_line("RMSE on ", names, width=18))
    ids, columns = windows.ids(), []
    for number, name in enumerate(ids[1:], 1):
        training, following = _joined(loop, windows, ids[:number]), _joined(loop, windows, [name])
        found = [baseline(loop, training, following)]
        found += [_scored(loop, recipe, training, following) for recipe in loop.model.recipes]
        columns.append([metrics["rmse"] for metrics in found])
        click.echo(_line(f"{name:8}", [f"{value:.3f}" for value in columns[-1]], width=18))
    click.echo(_line(f"{'mean':8}", [f"{value:.3f}" for value in np.mean(columns, axis=0)], width=18))


def _joined(loop: Loop, windows: Windows, ids: Sequence[str]) -> Window:
    rows = pd.concat([windows.read(name) for name in ids], ignore_index=True)
    return frame.check(rows, loop, ids[-1]).labelled


def _scored(loop: Loop, recipe: Recipe, training: Window, rows: Window) -> dict[str, float]:
    model = build(loop, recipe).fit(training.X, training.y)
    return evaluate(loop, rows, Predictions(score(model, rows.X, loop.task)))


def _line(head: str, cells: Sequence[str], width: int = 8) -> str:
    return head + "".join(f"{cell:>{width}}" for cell in cells)


if __name__ == "__main__":
    main()
