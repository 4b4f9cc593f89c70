"""Make the loans loop's two windows: a made-up old and new population, or those of the FastIA brief's own files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
OLD, NEW = "1-old", "2-new"  # ids sort by time, and "new" comes before "old"
REAL = {OLD: "df_old.csv", NEW: "df_new.csv"}
ROWS, SEED = 2_000, 7
SMALLEST, LARGEST = 500.0, 40_000.0  # no loan is smaller or larger

STUDIES = ("aucun", "bac", "bac+2", "master", "doctorat")
REGIONS = (
    "Auvergne-Rhône-Alpes",
    "Bretagne",
    "Corse",
    "Hauts-de-France",
    "Normandie",
    "Occitanie",
    "Provence-Alpes-Côte d’Azur",
    "Île-de-France",
)
SURNAMES = ("Aubry", "Bernard", "Caron", "Delaunay", "Étienne", "Fabre", "Guérin", "Hamel", "Imbert", "Jacquet",
            "Lefèvre", "Moreau", "Noël", "Pélissier", "Renaud", "Sauvage", "Thévenot", "Vasseur")  # fmt: skip
FIRST_NAMES = ("Adèle", "Baptiste", "Céline", "Damien", "Élodie", "François", "Gisèle", "Hugo", "Inès", "Jérôme",
               "Laëtitia", "Mathéo", "Noémie", "Océane", "Quentin", "Rémi", "Solène", "Théo")  # fmt: skip

# what a loan depends on, in both populations alike
STUDIES_WORTH = dict(zip(STUDIES, (-8_600.0, -4_400.0, 0.0, 4_400.0, 8_600.0), strict=True))
REGION_WORTH = dict(
    zip(REGIONS, (2_200.0, 3_400.0, -8_100.0, -3_100.0, -1_200.0, 400.0, 2_500.0, 3_900.0), strict=True)
)
PER_EURO_OF_INCOME, MAN, SPORT, SMOKER, FRENCH, NOISE = 3.6, 4_700.0, 6_300.0, -9_000.0, 21_000.0, 3_600.0


@dataclass(frozen=True)
class Population:
    """Who applies: shares of those who have a property, of studies and of regions; bodies and ages."""

    men: float = 0.5
    sport: float = 0.5
    smokers: float = 0.5
    french: float = 0.6
    studies: tuple[float, ...] = field(default=(0.2,) * 5)
    regions: tuple[float, ...] = field(default=(0.125,) * 8)
    narrow: bool = False  # nobody young, small, tall, light or heavy


POPULATIONS = {
    OLD: Population(
        men=0.8,
        sport=0.8,
        smokers=0.2,
        french=0.8,
        studies=(0.05, 0.05, 0.25, 0.31, 0.34),
        regions=(0.1, 0.12, 0.05, 0.06, 0.22, 0.44, 0.006, 0.004),
        narrow=True,
    ),
    NEW: Population(),
}


def population(who: Population, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Applicants with what they were lent. ``nom`` and ``prenom`` are drawn like the rest and mean nothing."""
    if who.narrow:
        age, height, weight = rng.integers(36, 76, rows), rng.uniform(155, 175, rows), rng.uniform(50, 80, rows)
    else:
        age = np.clip(rng.normal(46, 20, rows), 18, 75).astype(int)
        height, weight = rng.normal(170, 10, rows), np.clip(rng.normal(70, 15, rows), 20, None)
    income = np.clip(rng.normal(2_500, 1_150, rows), 500, None).round().astype(int)
    men, sport, smoker, french = (rng.random(rows) < p for p in (who.men, who.sport, who.smokers, who.french))
    studies = rng.choice(STUDIES, rows, p=who.studies)
    region = rng.choice(REGIONS, rows, p=who.regions)
    worth = (
        -17_500
        + PER_EURO_OF_INCOME * income
        + MAN * men
        + SPORT * sport
        + SMOKER * smoker
        + FRENCH * french
        + pd.Series(studies).map(STUDIES_WORTH).to_numpy()
        + pd.Series(region).map(REGION_WORTH).to_numpy()
        + rng.normal(0, NOISE, rows)
    )
    return pd.DataFrame(
        {
            "nom": rng.choice(SURNAMES, rows),
            "prenom": rng.choice(FIRST_NAMES, rows),
            "age": age,
            "taille": height.round(1),
            "poids": weight.round(1),
            "sexe": np.where(men, "H", "F"),
            "sport_licence": np.where(sport, "oui", "non"),
            "niveau_etude": studies,
            "region": region,
            "smoker": np.where(smoker, "oui", "non"),
            "nationalité_francaise": np.where(french, "oui", "non"),
            "revenu_estime_mois": income,
            "montant_pret": np.clip(worth, SMALLEST, LARGEST),
        }
    )


@click.command()
@click.option("--from", "real", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="A folder with df_old.csv and df_new.csv, to be used in place of made-up rows.")  # fmt: skip
@click.option("--to", "folder", default=HERE, type=click.Path(path_type=Path), help="Where windows/ is made.")
@click.option("--rows", default=ROWS, type=click.IntRange(10), show_default=True, help="Made-up rows of a window.")
def main(real: Path | None, folder: Path, rows: int) -> None:
    """Put windows/1-old.csv and windows/2-new.csv into the loop's folder."""
    if real and (missing := [name for name in REAL.values() if not (real / name).exists()]):
        raise click.UsageError(f"--from {real}: there is no {', '.join(missing)}.")
    target = folder / "windows"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for number, (window, who) in enumerate(POPULATIONS.items()):
        file = target / f"{window}.csv"
        if real:
            shutil.copyfile(real / REAL[window], file)
        else:
            made = population(who, rows, np.random.default_rng([SEED, number]))
            made.to_csv(file, index=False, lineterminator="\n")
    click.echo(f"{target}: {OLD}, {NEW}, {'as ' + str(real) + ' has them' if real else 'made up'}")


if __name__ == "__main__":
    main()
