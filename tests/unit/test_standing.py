"""Where a loop stands, from its ledger and its windows alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driftloop.entry import Kind
from driftloop.ledger import Ledger
from driftloop.settings import Settings
from driftloop.standing import standing
from tests.fakes import some_rows

LOOP = """
name = "churn"
task = "binary"
target = "left"
[model]
estimator = "sklearn.svm.SVC"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "windows").mkdir()
    (tmp_path / "loop.toml").write_text(LOOP)
    some_rows().to_csv(tmp_path / "windows" / "2024-01.csv", index=False)
    some_rows().drop(columns="left").to_csv(tmp_path / "windows" / "2024-02.csv", index=False)
    return tmp_path


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    ledger = Ledger(Settings.from_env({}, folder).ledger_url, "churn")
    yield ledger
    ledger._engine.dispose()


def stands(folder: Path) -> dict[str, Any]:
    return standing(folder, Settings.from_env({}, folder))


def note(ledger: Ledger, kind: Kind, window: str) -> None:
    ledger.append(kind, window=window, version="1", reason=f"{kind} reason", actor="a", details={})


def test_a_loop_that_never_ran_has_windows_and_nothing_else(folder: Path) -> None:
    assert stands(folder) == {
        "loop": "churn",
        "champion": None,
        "challenger": None,
        "windows": [
            {"window": "2024-01", "labels": True, "state": "new"},
            {"window": "2024-02", "labels": False, "state": "new"},
        ],
        "last": None,
        "measured": None,
        "labelled": None,
    }


def test_the_champion_is_told_with_what_it_was_trained_on(folder: Path, ledger: Ledger) -> None:
    training = {"windows": ["2024-01"], "metrics": {"val_auc": 0.7}}
    entry = ledger.promote(
        "3",
        expected=None,
        window="2024-01",
        reason="no champion",
        actor="a",
        details={"report": {"training": training}},
    )
    note(ledger, Kind.VERDICT, "2024-02")
    assert stands(folder)["champion"] == {
        "version": "3",
        "since": entry.time.isoformat(timespec="seconds"),
        "window": "2024-01",
        "reason": "no champion",
        "trained_on": ["2024-01"],
        "metrics": {"val_auc": 0.7},
    }
    assert stands(folder)["last"] == {
        "kind": "verdict",
        "window": "2024-02",
        "reason": "verdict reason",
        "version": "1",
    }


def test_a_window_older_than_the_champions_data_that_was_never_monitored_is_passed_by(
    folder: Path, ledger: Ledger
) -> None:
    report = {"training": {"windows": ["2024-02"], "metrics": {}}}
    ledger.promote("1", expected=None, window="2024-02", reason="r", actor="a", details={"report": report})
    assert [w["state"] for w in stands(folder)["windows"]] == ["passed by", "monitored"]
    note(ledger, Kind.VERDICT, "2024-01")
    assert [w["state"] for w in stands(folder)["windows"]] == ["monitored", "monitored"]


def test_looking_leaves_no_ledger_behind(folder: Path) -> None:
    stands(folder)
    assert not (folder / ".driftloop").exists()


def test_a_window_is_new_monitored_or_quarantined_by_its_last_row(folder: Path, ledger: Ledger) -> None:
    note(ledger, Kind.VERDICT, "2024-01")
    note(ledger, Kind.QUARANTINE, "2024-02")
    assert [w["state"] for w in stands(folder)["windows"]] == ["monitored", "quarantined"]
    note(ledger, Kind.VERDICT, "2024-02")
    note(ledger, Kind.QUARANTINE, "2024-01")
    assert [w["state"] for w in stands(folder)["windows"]] == ["quarantined", "monitored"]


def test_a_verdict_that_asked_for_a_training_and_has_no_decision_behind_it_is_unfinished(
    folder: Path, ledger: Ledger
) -> None:
    asked = {"report": {"retrain": {"retrain": True, "reason": "first champion"}}}
    ledger.append(Kind.VERDICT, window="2024-01", version=None, reason="first champion", actor="a", details=asked)
    assert [window["state"] for window in stands(folder)["windows"]] == ["training unfinished", "new"]
    note(ledger, Kind.KEEP, "2024-01")
    assert [window["state"] for window in stands(folder)["windows"]] == ["monitored", "new"]
