"""nannyml's estimates on its own bundled data, chunk by chunk, into a folder: ``python estimates.py FOLDER``.

Run by ``benchmarks.estimated`` in nannyml's own environment. A set is written as Parquet without pandas' types, for us
to estimate on the same rows; ``chunks.json`` holds what nannyml says of each chunk.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nannyml
import pandas as pd

SETS: dict[str, dict[str, Any]] = {
    "car_loan": {
        "load": nannyml.load_synthetic_car_loan_dataset, "target": "repaid", "scores": "y_pred_proba", "rows": 5000,
    },
    "work_from_home": {
        "load": nannyml.load_synthetic_binary_classification_dataset, "target": "work_home_actual",
        "scores": "y_pred_proba", "rows": 5000,
    },
    "california_housing": {
        "load": nannyml.load_modified_california_housing_dataset, "target": "clf_target", "scores": "y_pred_proba",
        "rows": 1000,
    },
    "employment": {
        "load": nannyml.load_us_census_ma_employment_data, "target": "employed", "scores": "predicted_probability",
        "label": "prediction", "rows": 5000,
    },
    "car_price": {
        "load": nannyml.load_synthetic_car_price_dataset, "target": "y_true", "scores": "y_pred", "rows": 5000,
    },
}  # fmt: skip


def main(folder: Path) -> None:
    found = {name: estimated(name, folder, **known) for name, known in SETS.items()}
    (folder / "chunks.json").write_text(json.dumps(found), encoding="utf-8")


def estimated(
    name: str, folder: Path, load: Any, target: str, scores: str, rows: int, label: str = "y_pred"
) -> list[dict[str, Any]]:
    """Of each chunk its first and last row and the estimated metrics."""
    reference, analysis, truth = load()
    regression = scores == "y_pred"
    told = {target, scores, label, "id", "timestamp", "period", "year"}
    features = [column for column in reference if column not in told]
    if regression:
        metrics = {"mae": "mae", "rmse": "rmse"}
        estimator = nannyml.DLE(features, scores, target, chunk_size=rows, metrics=list(metrics))
    else:
        metrics = {"auc": "roc_auc"}
        estimator = nannyml.CBPE(
            y_pred_proba=scores, y_pred=label, y_true=target, problem_type="classification_binary", chunk_size=rows,
            metrics=list(metrics.values()),
        )  # fmt: skip
    result = estimator.fit(reference).estimate(analysis).filter(period="analysis").to_df()
    labelled = analysis.merge(truth, on="id") if target not in analysis else analysis
    for part, table in (("reference", reference), ("analysis", labelled)):
        plain(table, features, target, scores).to_parquet(folder / f"{name}_{part}.parquet")
    return [
        {
            "first": int(row["chunk", "start_index"]),
            "last": int(row["chunk", "end_index"]),
            **{ours: float(row[theirs, "value"]) for ours, theirs in metrics.items()},
        }
        for _, row in result.iterrows()
    ]


def plain(table: pd.DataFrame, features: list[str], target: str, scores: str) -> pd.DataFrame:
    """Numbers and words."""
    columns = {f"x_{name}": table[name] for name in features}
    numbers = {name: column.astype(float) for name, column in columns.items() if column.dtype.kind in "fiu"}
    words = {name: column.astype(str) for name, column in columns.items() if name not in numbers}
    return pd.DataFrame({**numbers, **words, "y": table[target].astype(float), "score": table[scores].astype(float)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
