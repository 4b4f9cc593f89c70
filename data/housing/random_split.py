"""Score the loop's recipes the usual way: on a random fifth of all windows together, trained on the rest."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd

from driftloop import contract, frame
from driftloop.artifact import score
from driftloop.metrics import Predictions
from driftloop.recipe import build
from driftloop.training import baseline, evaluate
from driftloop.windows import open_windows

SHARE, SEED = 0.2, 42


@click.command()
@click.argument("folder", default=Path(__file__).parent, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Print RMSE, MAE and R² of each candidate in FOLDER's loop.toml. No window, no time: neighbours on both sides."""
    loop = contract.load(folder)
    windows = open_windows(loop, folder)
    rows = pd.concat([windows.read(name) for name in windows.ids()], ignore_index=True)
    whole = frame.check(rows, loop, "all")
    held = np.zeros(len(rows), dtype=bool)
    held[np.random.default_rng(SEED).permutation(len(rows))[: round(SHARE * len(rows))]] = True
    training, holdout = whole.where(~held), whole.where(held)
    click.echo(f"{len(rows):,} rows of {len(windows.ids())} windows, {held.sum():,} of them held out at random\n")
    click.echo(f"{'':28}{'RMSE':>8}{'MAE':>8}{'R²':>8}")
    click.echo(_line("training mean", baseline(loop, training, holdout)))
    for recipe in loop.model.recipes:
        model = build(loop, recipe).fit(training.X, training.y)
        found = evaluate(loop, holdout, Predictions(score(model, holdout.X, loop.task)))
        click.echo(_line(recipe.name, found))


def _line(name: str, metrics: dict[str, float]) -> str:
    return f"{name:28}" + "".join(f"{metrics[metric]:8.3f}" for metric in ("rmse", "mae", "r2"))


if __name__ == "__main__":
    main()
