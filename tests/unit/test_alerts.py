"""What a verdict is worth telling."""

from __future__ import annotations

from typing import Any

import pytest

from driftloop.alerts import alert_of
from driftloop.entry import NEVER, Entry, Kind
from driftloop.report import trigger_json, window_report
from driftloop.retrain import Drift, RetrainReason, RetrainVerdict

DRIFT = Drift(0.5, ())


def entry(verdict: RetrainVerdict, needed: int = 1) -> Entry:
    report = window_report(
        "churn", "2024-03", drift=DRIFT, threshold=0.3, retrain=verdict.retrain, reason=str(verdict.reason),
        columns=verdict.columns, trigger=trigger_json(verdict, needed, ["2024-01"], None, 0.3), champion="1",
    )  # fmt: skip
    return Entry("churn", 1, NEVER, Kind.VERDICT, "2024-03", "1", "monitor_flow", "r", {"report": report})


def verdict(reason: RetrainReason, *on: str, **more: Any) -> RetrainVerdict:
    return RetrainVerdict(True, reason, 0.4, on=on, **{"in_a_row": 1, "lasted": on, **more})


def test_drift_is_told_with_the_share_that_counts_and_its_columns() -> None:
    found = alert_of(entry(verdict(RetrainReason.DRIFT, "drift", columns=("fee", "usage"))))
    assert found is not None
    assert (found.title, found.text) == (
        "churn 2024-03: drift",
        "share 0.40, limit 0.3: fee, usage. drift above threshold.",
    )


def test_another_finding_is_told_by_its_name() -> None:
    found = alert_of(entry(verdict(RetrainReason.ESTIMATED, "estimated", "prediction")))
    assert found is not None
    assert found.title == "churn 2024-03: estimated performance fell"
    assert found.text == "estimated performance fell, predictions drifted. estimated performance fell."


def test_what_shows_but_has_not_lasted_is_not_told() -> None:
    said = verdict(RetrainReason.PERFORMANCE, "drift", "performance", lasted=("performance",), in_a_row=2)
    found = alert_of(entry(said, needed=2))
    assert found is not None
    assert (found.title, found.text) == ("churn 2024-03: performance fell", "performance fell. performance fell.")


def test_an_alert_of_an_earlier_versions_report_is_of_what_shows() -> None:
    row = entry(verdict(RetrainReason.DRIFT, "drift", columns=("fee",)))
    del row.details["report"]["retrain"]["trigger"]["lasted"]
    found = alert_of(row)
    assert found is not None
    assert found.title == "churn 2024-03: drift"


def test_a_training_that_is_held_back_is_told_all_the_same() -> None:
    found = alert_of(entry(verdict(RetrainReason.LABELS_NOT_READY, "drift", columns=("fee",))))
    assert found is not None
    assert found.text.endswith("labels not ready.")


@pytest.mark.parametrize("said", [verdict(RetrainReason.QUIET), verdict(RetrainReason.NOT_YET, "drift")])
def test_what_the_trigger_makes_nothing_of_is_not_told(said: RetrainVerdict) -> None:
    assert alert_of(entry(said, needed=2)) is None, "although Evidently's share is above the threshold"
    assert alert_of(entry(verdict(RetrainReason.DRIFT, "drift", in_a_row=2), needed=2)) is not None


def test_a_first_champion_and_a_report_of_an_earlier_version_are_not_told() -> None:
    for retrain in ({"retrain": True, "reason": "first champion", "columns": [], "trigger": None}, {"reason": "x"}):
        report = {"drift": None, "retrain": retrain}
        row = Entry("churn", 1, NEVER, Kind.VERDICT, "w", "1", "monitor_flow", "r", {"report": report})
        assert alert_of(row) is None
