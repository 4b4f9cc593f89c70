"""LitServe's API, with and without its batching: ``lit.py MODEL PORT BATCH-SIZE``."""

from __future__ import annotations

import sys
from typing import Any

import joblib
import litserve
import pandas as pd


class Api(litserve.LitAPI):
    def setup(self, _device: str) -> None:
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request):  # noqa: ANN001, ANN201  # a type would tell it to read something else
        return request["rows"]

    def predict(self, rows: list[Any]) -> list[Any]:
        """The rows of a request; with batching a list of several requests' rows, each of one row."""
        one_by_one = isinstance(rows[0], list)
        flat = [row for request in rows for row in request] if one_by_one else rows
        scores = self.model.predict_proba(pd.DataFrame(flat))[:, 1].tolist()
        return [[score] for score in scores] if one_by_one else scores

    def encode_response(self, scores):  # noqa: ANN001, ANN201
        return {"scores": scores}


if __name__ == "__main__":
    size = int(sys.argv[3])
    api = Api(max_batch_size=size, batch_timeout=0.005) if size > 1 else Api()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error", num_api_servers=1
    )
