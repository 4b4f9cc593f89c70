"""What a look at the last requests reports, with everything but the ledger in memory and drift as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from driftloop import drift_worker
from driftloop.drift import DriftReport
from driftloop.entry import NEVER
from driftloop.errors import DriftloopError, WindowError
from driftloop.live_look import live_look, require_store
from driftloop.log_files import ParquetStore
from driftloop.prediction_log import Record, nanoseconds
from driftloop.retrain import ColumnDrift, Drift
from driftloop.settings import Settings
from tests.fakes import FakeRegistry, FakeWindows, ServingFrom, a_candidate, a_loop, a_workspace, some_rows

TRAINING = some_rows(400)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[ServingFrom]:
    made = a_workspace(tmp_path, a_loop(), FakeWindows({"2024-01": TRAINING}))
    yield made
    made.ledger._engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path / "log")


@pytest.fixture(autouse=True)
def drift(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Evidently would say, and the frames it was given."""
    told: dict[str, Any] = {"share": 0.0}

    def measure(reference: pd.DataFrame, current: pd.DataFrame, *_: object) -> DriftReport:
        told["frames"] = reference, current
        drifted = told["share"] > 0
        columns = tuple(ColumnDrift(name, "K-S p_value", 0.01, 0.05, drifted) for name in ("fee", "plan"))
        return DriftReport(Drift(told["share"], columns), "")

    monkeypatch.setattr(drift_worker, "measure", measure)
    return told


def reign(work: ServingFrom, statistics: dict[str, tuple[float, float]]) -> None:
    """Version 1 is champion, trained on 2024-01 with these statistics stored."""
    candidate = a_candidate(work.loop, [work.read("2024-01")])
    facts = candidate.facts.model_copy(update={"statistics": statistics})
    cast("FakeRegistry", work.registry).candidates.append(type(candidate)(candidate.estimator, facts))
    report = {"training": {"windows": ["2024-01"]}}
    work.ledger.promote(
        "1", expected=None, window="2024-01", reason="r", actor="a", details={"key": "k", "report": report}
    )


def serve(store: ParquetStore, rows: pd.DataFrame) -> None:
    features = rows[["fee", "plan"]].to_dict("records")
    start = nanoseconds(NEVER)
    store.append([Record(f"r{n}", 0, start + n * 10**9, "1", f, 0.5, "no", 0.2) for n, f in enumerate(features)])


OWN = {"fee": (float(TRAINING["fee"].mean()), float(TRAINING["fee"].std()))}


def test_requests_like_those_of_training_are_quiet(work: ServingFrom, store: ParquetStore, drift: dict) -> None:
    reign(work, OWN)
    serve(store, some_rows(300, seed=5))
    found = live_look(work, store, 200)
    assert (found["quiet"], found["reasons"], found["rows"], found["version"]) == (True, [], 200, "1")
    assert (found["since"], found["until"]) == ("1970-01-01T00:01:40+00:00", "1970-01-01T00:04:59+00:00")
    assert [mean["moved"] for mean in found["means"]] == [False]
    reference, current = drift["frames"]
    assert (len(reference), len(current)) == (400, 200)
    assert list(reference.columns) == list(current.columns) == ["fee", "plan"]


def test_a_mean_that_moved_is_a_reason_without_any_drift(work: ServingFrom, store: ParquetStore) -> None:
    reign(work, OWN)
    serve(store, some_rows(300, seed=5, shift=0.5))
    found = live_look(work, store, 1000)
    assert not found["quiet"]
    assert found["means"][0]["moved"]
    assert found["means"][0]["z"] > found["z_limit"]
    assert found["reasons"][0].startswith("means moved: fee ")


def test_drift_beyond_the_threshold_is_a_reason(work: ServingFrom, store: ParquetStore, drift: dict) -> None:
    reign(work, OWN)
    serve(store, some_rows(300, seed=5))
    drift["share"] = 1.0
    assert live_look(work, store, 1000)["reasons"] == ["drift share 1.00 is above 0.3"]


def test_a_version_without_statistics_says_so(work: ServingFrom, store: ParquetStore) -> None:
    reign(work, {})
    serve(store, some_rows(300, seed=5, shift=3))
    found = live_look(work, store, 1000)
    assert (found["means"], found["quiet"]) == (None, True)


def test_an_infinite_z_is_json_too(work: ServingFrom, store: ParquetStore) -> None:
    reign(work, {"fee": (5.0, 0.0)})
    serve(store, some_rows(300, seed=5))
    (mean,) = live_look(work, store, 1000)["means"]
    assert (mean["z"], mean["moved"]) == (None, True)


def test_requests_without_a_single_value_of_a_feature_are_refused(work: ServingFrom, store: ParquetStore) -> None:
    reign(work, OWN)
    serve(store, some_rows(40).assign(fee=None))
    with pytest.raises(WindowError, match="column fee is empty in all 40 rows"):
        live_look(work, store, 1000)


def test_without_champion_or_rows_nothing_is_said(work: ServingFrom, store: ParquetStore) -> None:
    with pytest.raises(DriftloopError, match="has no champion yet"):
        live_look(work, store, 1000)
    reign(work, OWN)
    serve(store, some_rows(29))
    with pytest.raises(DriftloopError, match=r"holds 29 rows; trigger\.min_rows asks for 30"):
        live_look(work, store, 1000)


def test_where_no_log_is_kept_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match="there is no prediction log"):
        require_store(a_loop(serving={"log": "off"}), Settings.from_env({}, tmp_path))
