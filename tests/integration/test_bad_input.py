"""Every kind of bad window is put aside with its reason, and the next one still runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from driftloop.entry import Kind
from tests.integration.conftest import month

pytestmark = pytest.mark.usefixtures("prefect_api")


def missing_column(rows):
    return rows.drop(columns="fee")


def wrong_type(rows):
    return rows.assign(fee="cheap")


def duplicate_entity(rows):
    return pd.concat([rows, rows.head(3)])


def null_entity(rows):
    return rows.assign(customer=[None, *rows["customer"][1:]])


def empty(rows):
    return rows.head(0)


def one_class(rows):
    return rows.assign(churned=False)


def all_null(rows):
    return rows.assign(usage=np.nan)


def infinite(rows):
    return rows.assign(usage=[np.inf, *rows["usage"][1:]])


REFUSED = {
    missing_column: "column fee is missing",
    wrong_type: "column fee: expected numbers",
    duplicate_entity: "customer appear more than once",
    null_entity: "customer is null in 1 rows",
    empty: "holds no rows",
    one_class: "one class only",
    all_null: "column usage is empty",
    infinite: "column usage holds 1 infinite",
}


@pytest.mark.usefixtures("begun")
def test_bad_windows_are_quarantined_and_the_next_one_runs(loop, monitor):
    for number, (spoil, told) in enumerate(REFUSED.items(), start=2):
        window, bad = f"2024-{number:02}", spoil(month(2))
        bad.drop(columns="churned").to_csv(loop.folder / f"windows/{window}.csv", index=False)
        if spoil is one_class:
            loop.label(window, bad)
        report = monitor()
        assert report["window"] == window
        assert (report["retrain"]["retrain"], report["retrain"]["reason"]) == (False, "quarantined"), spoil
        assert told in "; ".join(report["quarantine"]["problems"])
        entry = loop.open().ledger.entries(window)[-1]
        assert entry.kind is Kind.QUARANTINE, spoil
        assert told in entry.reason

    loop.deliver("2024-12", month(3))
    after = monitor()
    assert (after["window"], after["retrain"]["reason"]) == ("2024-12", "quiet")


@pytest.mark.usefixtures("begun")
def test_a_half_written_file_is_quarantined_once_and_runs_when_it_is_whole(loop, monitor):
    (loop.folder / "windows/2024-02.parquet").write_bytes(b"PAR1 cut off here")
    for _ in range(2):
        assert "half-written" in monitor()["quarantine"]["problems"][0]
    assert len(loop.open().ledger.entries("2024-02")) == 1
    month(2).drop(columns="churned").to_parquet(loop.folder / "windows/2024-02.parquet")
    assert monitor()["retrain"]["reason"] == "quiet"


def empty_folder(loop):
    (loop.folder / "windows/2024-02").mkdir()


def cut_off(loop):
    whole = month(2).drop(columns="churned").to_csv(index=False)
    (loop.folder / "windows/2024-02.csv").write_text(whole[: len(whole) // 2].rstrip("\n").rpartition(",")[0])


def relabelled(loop):
    loop.deliver("2024-02", month(2).assign(churned=lambda d: d["churned"].map({True: "yes", False: "no"})))


@pytest.mark.parametrize(
    ("deliver", "told"),
    [
        (empty_folder, "holds no .csv or .parquet table"),
        (cut_off, "is it half-written?"),
        (relabelled, "its labels are no and yes, those of the other windows False and True"),
    ],
)
@pytest.mark.usefixtures("begun")
def test_a_month_that_was_badly_delivered_is_quarantined_and_the_next_one_runs(loop, monitor, deliver, told):
    deliver(loop)
    assert told in monitor()["quarantine"]["problems"][0]
    loop.deliver("2024-03", month(3, shift=1, turned=True))
    after = monitor()
    assert (after["window"], after["decision"]["outcome"]) == ("2024-03", "promote")
    assert after["training"]["windows"] == ["2024-01", "2024-03"]


def test_tables_that_do_not_join_one_to_one_are_quarantined(loop, monitor):
    rows = month(1).drop(columns="churned")
    folder = loop.folder / "windows/2024-01"
    folder.mkdir()
    rows[["customer", "fee", "plan"]].to_csv(folder / "bills.csv", index=False)
    rows[["customer", "usage"]].iloc[5:].to_csv(folder / "usage.csv", index=False)
    assert "do not join one-to-one on customer" in monitor()["quarantine"]["problems"][0]


def test_labels_of_unknown_entities_put_their_window_aside_for_training(loop, monitor):
    loop.deliver("2024-01", month(1), labels=False)
    loop.label("2024-01", month(1).assign(customer=lambda d: "x" + d["customer"]))
    assert "labels 600 unknown entities" in monitor()["quarantine"]["problems"][0]


def test_a_window_older_than_the_champion_s_data_is_quarantined(loop, monitor):
    loop.deliver("2024-03", month(3))
    monitor()
    loop.deliver("2024-01", month(1))
    assert "older than 2024-03" in monitor("2024-01")["quarantine"]["problems"][0]


@pytest.mark.usefixtures("begun")
def test_what_is_only_unusual_is_monitored(loop, monitor):
    harmless = {
        "an extra column": lambda rows: rows.assign(comment="new"),
        "an unseen category": lambda rows: rows.assign(plan=["premium", *rows["plan"][1:]]),
        "a null category": lambda rows: rows.assign(plan=[None, *rows["plan"][1:]]),
        "a constant column": lambda rows: rows.assign(plan="full"),
    }
    for number, (what, change) in enumerate(harmless.items(), start=2):
        loop.deliver(f"2024-{number:02}", change(month(2)))
        report = monitor()
        assert report["window"] == f"2024-{number:02}"
        assert "quarantine" not in report, what


def test_partial_labels_are_used_as_far_as_they_are_in(loop, monitor):
    loop.deliver("2024-01", month(1), labels=False)
    loop.label("2024-01", month(1).head(400))
    report = monitor()
    assert report["retrain"]["reason"] == "first champion"
    assert report["training"]["rows"] + report["decision"]["holdout_rows"] == 400
