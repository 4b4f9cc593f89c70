"""BentoML's service, with and without its adaptive batching; the model's file is in BENCH_MODEL."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Plain:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        scores: list[float] = self.model.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
        return scores


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Batching:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=1000, max_latency_ms=1000)
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        scores: list[float] = self.model.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
        return scores
