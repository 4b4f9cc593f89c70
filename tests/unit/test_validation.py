"""A window judged by its schema, and what of it the rest of the loop gets to see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from driftloop import contract, monitoring, promoting, reading, references
from driftloop.errors import WindowError
from driftloop.report import window_report
from driftloop.schema import parse
from driftloop.schema_draft import learn
from driftloop.validation import Arrival, Judgement, Newest, judge
from services.dashboard.months import month_rows
from tests.fakes import FakeWindows, a_loop, a_workspace, some_rows


def judged(
    rows: pd.DataFrame, text: str, loop: contract.Loop | None = None, arrival: Arrival | None = None
) -> Judgement:
    loop = loop or a_loop()
    return judge(rows, parse(text, loop), loop, arrival or Arrival())


def sentences(found: Judgement) -> list[str]:
    return [f"{finding.rule.level}: {finding.sentence}" for finding in found.findings]


def fees(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [f"u{i}" for i in range(len(values))], "fee": pd.Series(values), "plan": "basic"})


NUMBERS = "error: column fee: expected numbers, none of them infinite"
FEE = "columns: {fee: {type: number, %s}}"


@pytest.mark.parametrize("others", [("basic", "family"), (True, False), ("basic", "unheard of")])
def test_a_null_among_categories(others: tuple[Any, ...]) -> None:
    rows = fees(1, 2, 3, 4).assign(plan=pd.Series([*others, None, pd.NA], dtype=object))
    found = judged(
        rows,
        "columns: {plan: {type: category, nulls: {max: 0, level: error}, categories: {one_of: [basic, family]}}}",
    )
    assert "error: column plan: expected no null, not so in 2 rows" in sentences(found)
    assert np.flatnonzero(found.bad).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("values", "check", "told", "bad"),
    [
        ((1, "cheap", 3), "", f"{NUMBERS}, not so in 1 row, e.g. cheap", [1]),
        ((1.0, np.inf, -np.inf), "", f"{NUMBERS}, not so in 2 rows, e.g. inf, -inf", [1, 2]),
        (("", "2", None), "", None, []),
        (("a", None, "b"), "", f"{NUMBERS}, found none", None),
        ((1, None, 3), "nulls: {max: 0, level: error}", "error: column fee: expected no null, not so in 1 row", [1]),
        ((1, None, 3), "nulls: {max: 0.2}", "warning: column fee: expected at most 20.0% null, found 33.3%", None),
        ((1, None, 3), "nulls: {max: 0.4}", None, []),
        (
            (1, 5, 9, None),
            "range: {min: 2, max: 8, level: error}",
            "error: column fee: expected numbers from 2 to 8, not so in 2 rows, e.g. 1, 9",
            [0, 2],
        ),
        ((2, 8), "range: {min: 2, max: 8}", None, []),
        ((1, -1), "range: {min: 0}", "warning: column fee: expected numbers from 0 on, not so in 1 row, e.g. -1", []),
        (
            (1, 1.5),
            "range: {whole: true, level: error}",
            "error: column fee: expected whole numbers, not so in 1 row, e.g. 1.5",
            [1],
        ),
        ((3, "x"), "range: {max: 2}", "warning: column fee: expected numbers up to 2, not so in 1 row, e.g. 3", [1]),
    ],
)
def test_numbers(values: tuple[Any, ...], check: str, told: str | None, bad: list[int] | None) -> None:
    found = judged(fees(*values), FEE % check)
    assert (told in sentences(found)) if told else (sentences(found) == [])
    if bad is None:
        assert found.findings[0].rows is None
    else:
        assert np.flatnonzero(found.bad).tolist() == bad


def test_dates_are_no_numbers() -> None:
    rows = fees(1, 2).assign(fee=pd.Timestamp("2024-01-01"))
    assert sentences(judged(rows, FEE % "")) == [f"{NUMBERS}, found none"]


def test_categories_are_compared_as_the_model_sees_them() -> None:
    rows = fees(1, 2, 3, 4, 5).assign(plan=pd.Series([True, "true", None, 2.0, "blue"], dtype=object))
    text = "columns: {plan: {type: category, categories: {one_of: [true, 2], level: error}}}"
    found = judged(rows, text)
    assert sentences(found) == ["error: column plan: expected one of True, 2, not so in 1 row, e.g. blue"]
    assert np.flatnonzero(found.bad).tolist() == [4]


def test_of_rows_with_one_key_none_is_known_to_be_right() -> None:
    rows = fees(1, 2, 3, 4).assign(user_id=["u0", "u1", "u1", None])
    found = judged(rows, "unique: {columns: [user_id]}")
    assert sentences(found) == ["error: expected each user_id once, not so in 2 rows, e.g. u1"]
    assert np.flatnonzero(found.bad).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rows: {min: 3, max: 5}", []),
        ("rows: {min: 4, level: error}", ["error: expected at least 4 rows, found 3"]),
        ("rows: {max: 2}", ["warning: expected 0 to 2 rows, found 3"]),
        (
            "rows: [{min: 4}, {min: 9, level: error}]",
            ["error: expected at least 9 rows, found 3", "warning: expected at least 4 rows, found 3"],
        ),
    ],
)
def test_the_number_of_rows(text: str, told: list[str]) -> None:
    assert sentences(judged(fees(1, 2, 3), text)) == told


TIMED = a_loop(timestamp="at")
TIMES = fees(1, 2).assign(at=["2024-01-30", "2024-01-31T06:00:00+02:00"])


@pytest.mark.parametrize(
    ("text", "before", "ends", "told"),
    [
        ("after_previous: true", "2024-01-31T03:59:59Z", None, None),
        ("after_previous: true", None, None, None),
        (
            "after_previous: true",
            "2024-01-31T04:00:00Z",
            None,
            "expected times after 2024-01-31 04:00:00, the newest of window 2023-12, found 2024-01-31 04:00:00",
        ),
        ("max_age_days: 1", None, "2024-02-01", None),
        (
            "max_age_days: 0.5",
            None,
            "2024-02-01",
            "expected times up to 0.5 days before 2024-02-01 00:00:00, where its period ends, found 2024-01-31",
        ),
        (
            "max_age_days: 1",
            None,
            None,
            "max_age_days counts from the end of the window's period, and its id names no month",
        ),
    ],
)
def test_freshness(text: str, before: str | None, ends: str | None, told: str | None) -> None:
    arrival = Arrival(
        ("2023-12", Newest(pd.Timestamp(before), None)) if before else None,
        pd.Timestamp(ends, tz="UTC").to_pydatetime() if ends else None,
    )
    found = judged(TIMES, f"fresh: {{{text}}}", TIMED, arrival)
    assert [sentence.startswith(f"error: {told}") for sentence in sentences(found)] == ([True] if told else [])


def test_a_time_that_is_none_is_a_matter_of_its_row() -> None:
    found = judged(TIMES.assign(at=["yesterday", "2024-01-31"]), "columns: {at: {type: time}}", TIMED)
    assert sentences(found) == ["error: column at: expected dates or ISO 8601 text, not so in 1 row, e.g. yesterday"]
    assert sentences(judged(TIMES.assign(at=[3, 4]), "columns: {at: {type: time}}", TIMED))[0].endswith("found none")


def test_a_missing_column_is_told_but_labels_may_come_later() -> None:
    text = "columns: {fee: {type: number}, left: {type: category}}"
    assert sentences(judged(fees(1), text)) == []
    found = judged(fees(1).drop(columns="fee"), text)
    assert sentences(found) == ["error: column fee is missing; the window has user_id, plan"]


def test_rows_told_apart_by_their_label_too_are_so_once_it_is_in() -> None:
    text = "unique: {columns: [plan, left]}"
    assert sentences(judged(fees(1, 2).assign(plan="a"), text)) == []
    found = judged(fees(1, 2).assign(plan="a", left=True), text)
    assert sentences(found)[0].startswith("error: expected each plan and left once, not so in 2 rows")


def test_a_table_without_a_header_is_told_without_its_first_row() -> None:
    headless = fees(1).set_axis(["Ada Lovelace", "58", "175.0"], axis=1)
    (said,) = sentences(judged(headless, "columns: {fee: {type: number}}"))
    assert said.startswith("error: column fee is missing; loop.toml knows none of the window's 3 columns")


# what the rest of the loop gets to see

RULES = """
columns:
  user_id: {type: category, nulls: {max: 0, level: error}}
  fee: {type: number, range: {min: -50, max: 50, level: error}}
  plan: {type: category, categories: {one_of: [basic, family]}}
"""


def spoilt() -> pd.DataFrame:
    """Sixty rows: two fees that are none or out of range, one unknown plan, and a column that is nobody's business."""
    rows = some_rows(60, seed=3).astype({"fee": object}).assign(email="a@example.org")
    rows.loc[4, "fee"], rows.loc[7, "fee"], rows.loc[9, "plan"] = "cheap", 999, "premium"
    return rows


def read(rows: pd.DataFrame, on_bad_rows: str, **validation: Any) -> reading.Reading:
    loop = a_loop(validation={"on_bad_rows": on_bad_rows, **validation})
    return reading.read(FakeWindows({"2024-01": rows}), "2024-01", loop, parse(RULES, loop), {})


def test_a_window_with_bad_rows_fails_unless_loop_toml_says_otherwise() -> None:
    found = read(spoilt(), "fail")
    assert found.window is None
    assert [p.partition(", not so")[0] for p in found.problems] == [
        "column fee: expected numbers, none of them infinite",
        "column fee: expected numbers from -50 to 50",
    ]
    report = found.report(a_loop())
    assert report is not None
    assert (report["errors"], report["warnings"], report["bad_rows"], report["kept_rows"]) == (2, 1, 2, 0)


@pytest.mark.parametrize("mode", ["drop", "quarantine"])
def test_bad_rows_are_left_out_with_the_reason_and_no_column_that_is_not_the_loop_s(mode: str) -> None:
    found = read(spoilt(), mode)
    assert found.window is not None
    assert (len(found.window.X), found.window.left_out, found.problems) == (58, 2, ())
    assert found.window.entity is not None
    assert not {"u4", "u7"} & set(found.window.entity)
    assert found.set_aside is not None
    assert set(found.set_aside.columns) == {"user_id", "fee", "plan", "left", "reason"}
    assert found.set_aside["reason"].tolist() == ["fee: type", "fee: range"]
    assert found.set_aside["fee"].tolist() == ["cheap", 999]
    kept = spoilt().drop(index=[4, 7])
    assert not judge(kept, parse(RULES, a_loop()), a_loop(), Arrival()).bad.any()
    report = found.report(a_loop())
    assert reading.notes(report)[1] == "2 of 60 rows break an error of schema.yaml and are left out"
    assert "expected one of basic, family" in reading.notes(report)[0]


def test_the_reason_leaves_a_column_of_that_name_alone() -> None:
    loop = a_loop(promotion={"slices": ["reason"]}, validation={"on_bad_rows": "quarantine"})
    windows = FakeWindows({"2024-01": spoilt().assign(reason="moved")})
    found = reading.read(windows, "2024-01", loop, parse(RULES, loop), {}).set_aside
    assert found is not None
    assert found["reason"].tolist() == ["moved", "moved"]
    assert found["reason_"].tolist() == ["fee: type", "fee: range"]


def test_a_window_with_too_many_bad_rows_fails_all_the_same() -> None:
    found = read(spoilt(), "drop", max_bad_share=0.02)
    assert found.window is None
    assert found.problems[0] == (
        "2 of 60 rows break an error of schema.yaml, more than validation.max_bad_share = 0.02 lets pass"
    )
    assert read(spoilt(), "drop", max_bad_share=2 / 60).window is not None


def test_what_is_no_matter_of_rows_always_fails_the_window() -> None:
    assert read(spoilt().assign(fee="cheap"), "drop").problems == (
        "column fee: expected numbers, none of them infinite, found none",
    )


def test_rows_of_no_window_and_windows_without_a_schema_are_checked_as_ever() -> None:
    assert read(spoilt().head(0), "drop").problems == ("it holds no rows",)
    found = reading.read(FakeWindows({"w": spoilt()}), "w", a_loop(), None, {})
    assert (found.judgement, found.report(a_loop()), len(found.problems)) == (None, None, 1)


def test_without_a_schema_pandera_is_not_even_imported() -> None:
    code = "import sys, driftloop.reading; print('pandera' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


@pytest.fixture
def work(tmp_path: Path) -> Any:
    windows = FakeWindows({"2024-01": some_rows(200, seed=1), "2024-02": spoilt()})
    loop = a_loop(validation={"on_bad_rows": "quarantine"})
    made = a_workspace(tmp_path, loop, windows)
    made.schema = parse(RULES, loop)
    yield made
    made.ledger._engine.dispose()


def test_training_and_drift_see_the_same_rows_and_the_card_counts_those_left_out(work: Any) -> None:
    assert len(work.read("2024-02").X) == 58
    assert [len(w.X) for w in references.read(work, ["2024-01", "2024-02"])] == [200, 58]
    data = promoting.training_data(work, "2024-02", None)
    assert len(data.training.X) + len(data.holdout.X) <= 258
    assert data.training.left_out == 2
    assert promoting.train(work, data).facts.left_out == 2
    work.loop = a_loop()
    work._readings.clear()
    data = promoting.training_data(work, "2024-02", None)
    assert (data.windows, [error.window for error in data.left_out]) == (("2024-01",), ["2024-02"])


def test_rows_set_aside_are_kept_in_a_file_until_the_window_is_delivered_again(work: Any) -> None:
    work.read("2024-02")
    file = work.aside("2024-02")
    assert pd.read_csv(file)["user_id"].tolist() == ["u4", "u7"]
    assert monitoring.validation(work, "2024-02")["file"] == str(file)
    work.windows.tables["2024-02"] = some_rows(60, seed=3)
    work.read("2024-02")
    assert not file.exists()
    assert "file" not in monitoring.validation(work, "2024-02")


@pytest.mark.parametrize("mode", ["drop", "fail"])
def test_rows_set_aside_go_with_the_mode_that_kept_them(work: Any, mode: str) -> None:
    work.read("2024-02")
    assert (file := work.aside("2024-02")).exists()
    work.loop = a_loop(validation={"on_bad_rows": mode})
    work._readings.clear()
    work.reading("2024-02")
    assert not file.exists()


def test_an_edited_schema_makes_a_window_worth_another_run(work: Any) -> None:
    before, first = monitoring.run_key(work, "2024-01"), work.read("2024-01")
    assert (monitoring.run_key(work, "2024-01"), work.read("2024-01") is first) == (before, True)
    work.schema = parse(RULES.replace("min: -50", "min: -60"), work.loop)
    assert monitoring.run_key(work, "2024-01") != before
    assert work.read("2024-01") is not first
    work.schema = None
    assert monitoring.run_key(work, "2024-01") != before


def test_a_quarantined_window_s_report_says_what_its_schema_found(work: Any) -> None:
    work.loop = a_loop()
    with pytest.raises(WindowError) as error:
        work.read("2024-02")
    assert monitoring.record_quarantine(work, error.value, None)["validation"]["bad_rows"] == 2


def test_the_dashboard_says_in_a_cell_what_the_schema_found(work: Any) -> None:
    for window in ("2024-01", "2024-02"):
        found = monitoring.validation(work, window)
        report = window_report("churn", window, reason="quiet", champion=None, validation=found)
        monitoring.record_verdict(work, "k", report)
    assert [row["schema.yaml"] for row in month_rows(work.ledger.entries())] == [
        "ok",
        "2 errors, 1 warning, 2 of 60 rows left out",
    ]


def month(number: int) -> pd.DataFrame:
    return some_rows(60, seed=number).assign(at=pd.date_range(f"2024-0{number}-01", periods=60, freq="h"))


def mistyped(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(at=rows["at"].where(rows.index != 9, pd.Timestamp("2062-01-05")))


@pytest.mark.parametrize("on_bad_rows", ["fail", "drop"])
def test_a_mistyped_time_of_the_window_before_does_not_tell_against_a_good_one(on_bad_rows: str) -> None:
    loop = a_loop(timestamp="at", validation={"on_bad_rows": on_bad_rows})
    rules = parse("{fresh: {after_previous: true}, columns: {fee: {type: number}}}", loop)
    before = mistyped(month(1)).astype({"fee": object})
    before.loc[9, "fee"] = "cheap" if on_bad_rows == "drop" else 1.0
    good = FakeWindows({"2024-01": before, "2024-02": month(2)})
    assert reading.read(good, "2024-02", loop, rules, {}).problems == ()
    for again in (before, month(1)):
        stale = FakeWindows({"2024-01": before, "2024-02": again})
        problems = reading.read(stale, "2024-02", loop, rules, {}).problems
        assert "expected times after 2062-01-05 00:00:00, the newest of window 2024-01, found" in problems[0]


def test_a_window_that_names_no_period_says_which_window_has_the_odd_time() -> None:
    rules = parse("fresh: {after_previous: true}", TIMED)
    (told,) = reading.read(FakeWindows({"a": mistyped(month(1)), "b": month(2)}), "b", TIMED, rules, {}).problems
    assert "after 2062-01-05 00:00:00, the newest of window a, found 2024-02-03 11:00:00 at most" in told


def test_a_window_is_held_against_the_one_before_it_that_its_schema_lets_pass() -> None:
    rules = parse("{fresh: {after_previous: true}, columns: {fee: {type: number}}}", TIMED)
    broken = mistyped(month(2)).assign(fee="cheap")
    seen: list[str] = []

    class Counted(FakeWindows):
        def read(self, window: str) -> pd.DataFrame:
            seen.append(window)
            return super().read(window)

    windows, known = Counted({"0": month(1), "a": month(1), "b": broken, "c": month(3), "d": month(3)}), {}
    assert reading.read(windows, "c", TIMED, rules, known).problems == ()
    assert sorted(seen) == ["a", "b", "c"]
    (told,) = reading.read(windows, "d", TIMED, rules, known).problems
    assert "the newest of window c" in told


def test_a_window_is_held_against_the_nearest_one_before_it_whose_times_can_be_read() -> None:
    windows = FakeWindows({"2024-01": month(1), "2024-02": month(2).assign(at="soon"), "2024-03": month(1)})
    rules, known = parse("fresh: {after_previous: true}", TIMED), {}
    assert reading.read(windows, "2024-01", TIMED, rules, known).problems == ()
    (told,) = reading.read(windows, "2024-03", TIMED, rules, known).problems
    assert "the newest of window 2024-01" in told
    before = reading.key(windows, "2024-03", TIMED, rules, known)
    windows.tables["2024-02"] = month(2)
    assert reading.key(windows, "2024-03", TIMED, rules, known) != before
    windows.tables["2024-03"] = month(3)
    assert reading.read(windows, "2024-03", TIMED, rules, known).problems == ()


def test_a_schema_is_learnt_from_the_first_labelled_window_on() -> None:
    tables = {f"2024-{n:02}": some_rows(60, seed=n) for n in range(1, 15)}
    tables["2024-01"] = tables["2024-01"].drop(columns="left")
    tables["2024-03"] = tables["2024-03"].assign(fee="broken")
    learnt = learn(reading.usable(FakeWindows(tables), a_loop()), a_loop())
    assert learnt.windows == ["2024-02", *(f"2024-{n:02}" for n in range(4, 14))]
