"""Make the churn loop's windows: the customers of a made-up telephone company, month by month."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06")
ROWS, SEED = 1_500, 7
DEARER = "2024-04"  # from this month on prices are higher: the fee decides who leaves, and support no longer does
GLITCH, HIT = "2024-05", 9  # a month in which the billing system writes that many charges below zero


def windows(rows: int = ROWS) -> Iterator[tuple[str, pd.DataFrame]]:
    """(id, customers) of each month; the same number of rows gives the same bytes."""
    for number, month in enumerate(MONTHS):
        yield month, customers(month, number * rows, rows, np.random.default_rng([SEED, number]))


def customers(month: str, first: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Customers numbered from ``first`` on, each with whether they left within the month."""
    dearer = month >= DEARER
    tenure = np.minimum(rng.exponential(18 if dearer else 28, rows), 72).round()
    contract = rng.choice(["monthly", "one year", "two years"], rows, p=[0.55, 0.25, 0.2])
    payment = rng.choice(["card", "transfer", "cheque"], rows, p=[0.45, 0.35, 0.2])
    internet = rng.choice(["fibre", "dsl", None], rows, p=[0.45, 0.35, 0.2])
    fee = np.select([internet == "fibre", internet == "dsl"], [70.0, 45.0], 20.0) * (1.25 if dearer else 1.0)
    fee = (fee * np.exp(rng.normal(0, 0.12, rows))).round(2)
    calls = rng.poisson(1.6 if dearer else 1.0, rows)
    paperless = rng.random(rows) < 0.6
    logit = (
        -2.0
        - 0.035 * tenure
        + 1.1 * (contract == "monthly")
        - 0.8 * (contract == "two years")
        + (0.05 * (fee - 62) if dearer else 0.005 * (fee - 50))
        + (0.0 if dearer else 0.8) * calls
        + 0.4 * (payment == "cheque")
    )
    hit = np.arange(rows) < (HIT if month == GLITCH else 0)
    return pd.DataFrame(
        {
            "customer_id": [f"c{number:05d}" for number in range(first, first + rows)],
            "tenure": tenure.astype(int),
            "monthly_charges": np.where(hit, -fee, fee),
            "total_charges": np.where(tenure > 0, (tenure * fee).round(2), np.nan),  # nothing was charged yet
            "support_calls": calls,
            "contract": contract,
            "internet": internet,
            "payment": payment,
            "paperless": paperless,
            "churned": np.where(rng.random(rows) < 1 / (1 + np.exp(-logit)), "yes", "no"),
        }
    )


@click.command()
@click.option("--to", "folder", default=HERE, type=click.Path(path_type=Path), help="Where windows/ is made.")
@click.option("--rows", default=ROWS, type=click.IntRange(10), show_default=True, help="Customers of a month.")
def main(folder: Path, rows: int) -> None:
    """Put windows/2024-01.csv … into the loop's folder."""
    target = folder / "windows"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for month, rows_of_month in windows(rows):
        rows_of_month.to_csv(target / f"{month}.csv", index=False, lineterminator="\n")
    click.echo(f"{target}: {len(MONTHS)} windows")


if __name__ == "__main__":
    main()
