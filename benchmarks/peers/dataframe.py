"""FastAPI around a DataFrame, as repositories have it: ``dataframe.py MODEL PORT``."""

from __future__ import annotations

import sys
from typing import Any

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import create_model

app = FastAPI()
model = joblib.load(sys.argv[1])
(_, _, numeric), (_, _, categorical) = model["encode"].transformers_[:2]
Row: Any = create_model("Row", **dict.fromkeys(numeric, (float, ...)), **dict.fromkeys(categorical, (str, ...)))


def predict(row: Row) -> dict[str, Any]:
    score = float(model.predict_proba(pd.DataFrame([row.model_dump()]))[0, 1])
    return {"prediction": int(score >= 0.5), "probability": score}


def predict_many(rows: list[Row]) -> list[float]:
    scores: list[float] = model.predict_proba(pd.DataFrame([row.model_dump() for row in rows]))[:, 1].tolist()
    return scores


# the annotations are strings here, and FastAPI has to see the type that was made above
predict.__annotations__["row"], predict_many.__annotations__["rows"] = Row, list[Row]
app.post("/predict")(predict)
app.post("/predict-many")(predict_many)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
