"""The peer: the same steps the usual way. Run in a process of its own: ``python -m benchmarks.naive_loop DIR HOME``.

Whole-Evidently preset, Prefect's own temporary server, log_model that infers signature and requirements. What the
usual loop gets wrong (see README) is left right here, so that both do the same work: same features, same holdout.
"""

from __future__ import annotations

import os
import sys
import time
from functools import reduce
from pathlib import Path

BEGAN = time.monotonic()
NUMERIC = [
    "months_active",
    "monthly_fee",
    "watch_hours_30d",
    "avg_session_mins_7d",
    "unique_devices_30d",
    "skips_7d",
    "rebuffer_events_7d",
    "failed_payments_90d",
    "support_tickets_90d",
    "ticket_avg_resolution_hrs_90d",
]
CATEGORICAL = ["paperless_billing", "plan_stream_tv", "plan_stream_movies", "net_service"]


def main(folder: Path, home: Path) -> None:
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    import mlflow
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset
    from prefect import flow, task
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    mlflow.set_experiment("naive")

    @task
    def read(month: str) -> pd.DataFrame:
        tables = [pd.read_csv(file) for file in sorted((folder / month).glob("*.csv"))]
        rows = reduce(lambda left, right: left.merge(right, on="user_id"), tables)
        rows[CATEGORICAL] = rows[CATEGORICAL].astype(object).where(rows[CATEGORICAL].notna(), "missing").astype(str)
        return rows

    @task
    def drift(reference: pd.DataFrame, current: pd.DataFrame) -> None:
        columns = NUMERIC + CATEGORICAL
        Report([DataDriftPreset()]).run(current[columns], reference[columns]).save_html(str(home / "report.html"))

    @task
    def train(rows: pd.DataFrame, previous: str | None) -> str:
        held = pd.util.hash_pandas_object(rows["user_id"], index=False) % 5 == 0
        encode = ColumnTransformer(
            [("n", SimpleImputer(), NUMERIC), ("c", OneHotEncoder(handle_unknown="ignore"), CATEGORICAL)]
        )
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=42, n_jobs=-1)
        model = Pipeline([("encode", encode), ("model", forest)])
        X, y = rows[NUMERIC + CATEGORICAL], rows["churn_label"]
        with mlflow.start_run():
            model.fit(X[~held], y[~held])
            mlflow.log_metric("val_auc", roc_auc_score(y[held], model.predict_proba(X[held])[:, 1]))
            trusted = ["sklearn.tree._tree.Tree", "numpy.dtype"]
            info = mlflow.sklearn.log_model(
                model, name="model", input_example=X.head(), registered_model_name="naive", skops_trusted_types=trusted
            )
        if previous:
            champion = mlflow.sklearn.load_model(f"models:/naive/{previous}")
            roc_auc_score(y[held], champion.predict_proba(X[held])[:, 1])
        mlflow.MlflowClient().set_registered_model_alias("naive", "champion", info.registered_model_version)
        return str(info.registered_model_version)

    @flow
    def month(current: str, reference: str | None, previous: str | None) -> str:
        rows = read(current)
        if reference:
            drift(read(reference), rows)
        return train(rows, previous)

    months = sorted(f.name for f in folder.iterdir() if f.is_dir())[:2]
    first = month(months[0], None, None)
    month(months[1], months[0], first)
    print(f"cold {time.monotonic() - BEGAN:.3f}")
    again = time.monotonic()
    month(months[1], months[0], first)
    print(f"warm {time.monotonic() - again:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
