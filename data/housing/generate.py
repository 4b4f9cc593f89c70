"""Make the housing loop's windows: made-up blocks of California, or the real ones where a folder holds them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
WINDOWS, ROWS, SEED = 10, 1_500, 1990
# how far each window has moved, from the blocks around San Francisco (0) to those around Los Angeles (1)
SOUTH = (0.0, 0.0, 0.02, 0.2, 0.45, 0.7, 0.9, 0.9, 0.9, 1.0)
COAST = ((32.5, 33.7, 34.4, 35.6, 36.8, 37.8, 39.0, 41.9), (117.2, 118.2, 119.7, 121.1, 121.9, 122.5, 123.7, 124.2))
CITIES = ((37.8, -122.4, 2.0), (34.05, -118.4, 1.8))  # latitude, longitude, and what being there is worth
NULLS = 0.01  # of AveBedrms, as in the census


def windows(rows: int = ROWS) -> Iterator[tuple[str, pd.DataFrame]]:
    """(id, blocks) of each window; the same number of rows gives the same bytes."""
    for number, south in enumerate(SOUTH):
        yield f"2024-{number + 1:02d}", blocks(number * rows, rows, south, np.random.default_rng([SEED, number]))


def blocks(first: int, rows: int, south: float, rng: np.random.Generator) -> pd.DataFrame:
    """Blocks numbered from ``first`` on; the further south, the richer, newer, fuller and denser built."""
    latitude = np.clip(rng.normal(37.4 - 3.4 * south, 1.2 - 0.6 * south, rows), 32.55, 41.9)
    inland = rng.exponential(0.5, rows)  # degrees from the coast
    longitude = inland - np.interp(latitude, *COAST)
    income = np.clip(rng.lognormal(1.2 + 0.12 * south, 0.43, rows), 0.5, 15)
    age = np.clip(rng.normal(31 - 5 * south, 12.5, rows), 1, 52).round()
    rooms = np.clip(rng.lognormal(1.3 - 0.12 * south + 0.27 * np.log(income), 0.2), 1, 50)
    bedrooms = rng.lognormal(0.06 - 0.05 * south, 0.1, rows)
    occupancy = np.clip(rng.lognormal(1.0 + 0.12 * south, 0.22, rows), 0.7, 20)
    nearness = sum(worth * np.exp(-np.hypot(latitude - north, longitude - east) / 0.5) for north, east, worth in CITIES)
    value = 0.36 * income + nearness + 0.5 * np.exp(-inland / 0.2) + 0.005 * age - 0.15 * (occupancy - 2.8)
    return pd.DataFrame(
        {
            "block": np.arange(first, first + rows),
            "MedInc": income.round(4),
            "HouseAge": age,
            "AveRooms": rooms.round(6),
            "AveBedrms": np.where(rng.random(rows) < NULLS, np.nan, bedrooms.round(6)),
            "Population": rng.lognormal(7.0 + 0.3 * south, 0.7, rows).round() + 3,
            "AveOccup": occupancy.round(6),
            "Latitude": latitude.round(2),
            "Longitude": longitude.round(2),
            "MedHouseVal": np.clip(value * rng.lognormal(0, 0.12, rows), 0.15, 5.00001).round(3),
        }
    )


@click.command()
@click.option("--from", "source", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Real windows.")
@click.option("--to", "folder", default=HERE, type=click.Path(path_type=Path), help="Where windows/ is made.")
@click.option("--rows", default=ROWS, type=click.IntRange(10), show_default=True, help="Blocks of a made-up window.")
def main(source: Path | None, folder: Path, rows: int) -> None:
    """Put windows/2024-01.csv … into the loop's folder: made up, or copied from a folder that has such files."""
    target = folder / "windows"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if source is None:
        for name, rows_of_window in windows(rows):
            rows_of_window.to_csv(target / f"{name}.csv", index=False, lineterminator="\n")
    else:
        real = source / "windows" if (source / "windows").is_dir() else source
        for file in sorted(real.glob("*.csv")):
            shutil.copyfile(file, target / file.name)
    click.echo(f"{target}: {len(list(target.glob('*.csv')))} windows")


if __name__ == "__main__":
    main()
