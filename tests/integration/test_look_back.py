"""`driftloop drift` on small real loops: CSV with labels apart, and Parquet of which a column is read at a time."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from driftloop import monitoring
from driftloop.cli.__main__ import cli
from driftloop.errors import ContractError, DriftloopError, WindowError
from driftloop.ledger import Ledger
from driftloop.look_back import look_back
from driftloop.windows import FolderWindows
from tests.integration.conftest import Loop, month

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["drift", *map(str, arguments)], catch_exceptions=False)


def told(loop: Loop, **asked: Any) -> dict[str, Any]:
    """What the command prints as JSON, without the plots."""
    return look_back(loop.folder, loop.settings, **asked).json()


def columns(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in found["columns"]}


def states(found: dict[str, Any]) -> list[str]:
    return [window["state"] for window in found["windows"]]


def promoted(loop: Loop, *trained_on: str) -> None:
    report = {"champion": {"version": "1"}, "training": {"windows": list(trained_on)}, "retrain": {"retrain": True}}
    ledger = Ledger(loop.settings.ledger_url, loop.name)
    details = {"key": "k", "report": report}
    ledger.promote("1", expected=None, window=trained_on[-1], reason="r", actor="a", details=details)
    ledger._engine.dispose()


@pytest.fixture
def shifted(loop: Loop) -> Loop:
    """Four months; fee and usage moved in the third and are back in the fourth."""
    for seed, window in enumerate(MONTHS):
        loop.deliver(window, month(seed, shift=window == "2024-03"))
    return loop


@pytest.fixture
def parquet(loop: Loop) -> Loop:
    """The same with a Parquet file each and the target inside."""
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace('labels = "labels"\n', ""))
    for seed, window in enumerate(MONTHS):
        stored(loop, window, month(seed, shift=window == "2024-03"))
    return loop


def stored(loop: Loop, window: str, rows: pd.DataFrame) -> None:
    rows.to_parquet(loop.folder / "windows" / f"{window}.parquet")


def test_without_a_champion_the_first_window_is_the_reference(shifted: Loop) -> None:
    found = told(shifted)
    assert (found["loop"], found["by"], found["reference"]) == ("churn", "first", ["2024-01"])
    assert states(found) == ["reference", "measured", "measured", "measured"]
    fee, usage, plan = (columns(found)[name] for name in ("fee", "usage", "plan"))
    assert (fee["kind"], fee["first"], fee["last"], fee["came_back"]) == ("numeric", "2024-03", "2024-03", True)
    assert [cell["drifted"] for cell in fee["cells"]] == [False, False, True, False]
    assert fee["cells"][2]["method"] == "K-S p_value"
    assert (fee["change"]["window"], fee["change"]["what"]) == ("2024-03", "mean")
    assert fee["change"]["after"]["mean"] - fee["change"]["before"]["mean"] == pytest.approx(30, abs=2)
    assert usage["change"]["after"]["mean"] - usage["change"]["before"]["mean"] == pytest.approx(-15, abs=2)
    assert (plan["kind"], plan["first"], plan["change"]) == ("categorical", None, None)


def test_with_a_champion_windows_are_compared_with_all_that_it_was_trained_on(shifted: Loop) -> None:
    promoted(shifted, "2024-01", "2024-02")
    found = told(shifted)
    assert (found["by"], found["reference"]) == ("training", ["2024-01", "2024-02"])
    assert states(found) == ["reference", "reference", "measured", "measured"]
    assert columns(found)["fee"]["first"] == "2024-03"


@pytest.mark.parametrize(
    ("reference", "own", "drifted"),
    [
        ("previous", [[], ["2024-01"], ["2024-02"], ["2024-03"]], [False, True, True]),
        ("2024-03", [["2024-03"]] * 4, [True, True, False, True]),
    ],
)
def test_another_reference_is_taken_at_request(
    shifted: Loop, reference: str, own: list[list[str]], drifted: list[bool]
) -> None:
    found = told(shifted, reference=reference)
    assert [window["reference"] for window in found["windows"]] == own
    assert [cell["drifted"] for cell in columns(found)["fee"]["cells"]] == drifted


def test_a_year_ago_is_the_same_months_window_where_there_is_one(loop: Loop) -> None:
    for seed, window in enumerate(("2023-06", "2023-12", "2024-06", "2024-12")):
        loop.deliver(window, month(seed, shift=window.endswith("12")))
    found = told(loop, reference="year_ago")
    assert [window["reference"] for window in found["windows"]] == [[], [], ["2023-06"], ["2023-12"]]
    assert columns(found)["fee"]["first"] is None
    assert columns(told(loop, reference="previous"))["fee"]["first"] == "2023-12"


def test_what_loop_toml_says_of_reference_and_columns_is_kept(shifted: Loop) -> None:
    shifted.set("drift", reference="previous")
    shifted.set("drift.columns.fee", threshold=0.0)
    found = told(shifted)
    assert found["by"] == "previous"
    assert columns(found)["fee"]["first"] is None
    assert columns(found)["usage"]["first"] == "2024-03"


def test_a_range_and_some_columns_are_looked_at_only(shifted: Loop) -> None:
    found = told(shifted, first="2024-02", last="2024-03", columns=["fee", "plan"])
    assert [window["window"] for window in found["windows"]] == ["2024-02", "2024-03"]
    assert sorted(columns(found)) == ["fee", "plan"]
    assert found["reference"] == ["2024-01"]


def test_a_quarantined_window_is_marked_and_passed_by(shifted: Loop) -> None:
    shifted.deliver("2024-02", month(2).drop(columns="fee"))
    found = told(shifted, reference="previous")
    assert states(found) == ["no reference", "quarantined", "measured", "measured"]
    assert found["windows"][1]["problems"][0].startswith("column fee is missing; the window has customer, usage, plan")
    assert found["windows"][2]["reference"] == ["2024-01"]


def test_of_parquet_files_columns_are_read_one_at_a_time(parquet: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderWindows, "read", lambda *_: pytest.fail("read whole"))
    found = told(parquet)
    assert columns(found)["fee"]["first"] == "2024-03"


def test_parquet_and_csv_say_the_same(parquet: Loop, tmp_path: Path) -> None:
    other = Loop(tmp_path / "other", parquet.home, "churn")
    for seed, window in enumerate(MONTHS):
        other.deliver(window, month(seed, shift=window == "2024-03"))
    one, two = (columns(told(each)) for each in (parquet, other))
    for name in one:
        assert (one[name]["first"], one[name]["kind"]) == (two[name]["first"], two[name]["kind"])
        for cell, same in zip(one[name]["cells"], two[name]["cells"], strict=True):
            assert cell == pytest.approx(same)  # CSV's numbers lose their last digit


def test_a_parquet_window_whose_column_turns_out_bad_is_quarantined_too(parquet: Loop) -> None:
    stored(parquet, "2024-02", month(1).assign(usage=np.inf))
    found = told(parquet)
    assert states(found) == ["reference", "quarantined", "measured", "measured"]
    assert "infinite" in found["windows"][1]["problems"][0]
    assert [cell["window"] for cell in columns(found)["fee"]["cells"]] == ["2024-01", "2024-03", "2024-04"]


def test_a_parquet_window_that_monitor_quarantined_is_quarantined_until_it_is_mended(parquet: Loop) -> None:
    stored(parquet, "2024-02", month(1).assign(customer=lambda rows: rows["customer"].replace("c00001", "c00000")))
    assert states(told(parquet))[1] == "measured", "owners are no column of drift's"
    with pytest.raises(WindowError, match="customer") as error:
        parquet.open().read("2024-02")
    monitoring.record_quarantine(parquet.open(), error.value, None)
    found = told(parquet)
    assert states(found) == ["reference", "quarantined", "measured", "measured"]
    assert found["windows"][1]["problems"] == error.value.problems
    stored(parquet, "2024-02", month(1))
    assert states(told(parquet))[1] == "measured"


def test_windows_of_a_database_are_looked_at_too(loop: Loop) -> None:
    toml = loop.folder / "loop.toml"
    source = 'sql = "sqlite:///rows.db"\ntable = "rows"\nperiod = "as_of"\n'
    toml.write_text(toml.read_text().replace('labels = "labels"\n', source))
    rows = [month(seed, shift=window == "2024-03").assign(as_of=window) for seed, window in enumerate(MONTHS)]
    with closing(sqlite3.connect(loop.folder / "rows.db")) as database:
        pd.concat(rows).to_sql("rows", database, index=False)
    assert columns(told(loop))["fee"]["first"] == "2024-03"


def test_where_all_windows_asked_for_are_quarantined_that_is_what_is_shown(shifted: Loop, tmp_path: Path) -> None:
    shifted.deliver("2024-02", month(2).drop(columns="fee"))
    done = run(shifted.folder, "--from", "2024-02", "--to", "2024-02", "--out", tmp_path / "plots")
    assert done.exit_code == 0
    assert "0 of 3 columns drifted" in done.stdout
    assert (tmp_path / "plots" / "heat_map.png").exists()


def test_rows_that_schema_yaml_sets_aside_are_not_looked_at(parquet: Loop) -> None:
    parquet.set("validation", on_bad_rows="drop")
    (parquet.folder / "schema.yaml").write_text(
        "columns:\n  fee:\n    type: number\n    range: {max: 200, level: error}\n"
    )
    rows = month(1)
    rows.loc[:50, "fee"] = 10_000.0
    stored(parquet, "2024-02", rows)
    assert columns(told(parquet))["fee"]["first"] == "2024-03"


def test_the_command_prints_a_table_and_writes_plots_below_the_home_anew_each_time(shifted: Loop) -> None:
    shifted.deliver("2024-02", month(2).drop(columns="usage"))
    home = shifted.home / "drift" / "churn"
    (home / "columns").mkdir(parents=True)
    (home / "columns" / "01-old.png").write_text("")
    done = run(shifted.folder)
    assert done.exit_code == 0
    files = sorted(re.sub(r"^\d+-", "", file.name) for file in (home / "columns").iterdir())
    assert files == ["fee.png", "usage.png"]
    width, height = struct.unpack(">II", (home / "heat_map.png").read_bytes()[16:24])
    assert (width > 400, height > 200) == (True, True)
    said = " ".join(done.stdout.split())
    assert "churn, 2024-01 to 2024-04 against 2024-01, the first window: 2 of 3 columns drifted." in said
    assert "× 2024-02 is quarantined: column usage is missing" in said
    assert "• fee drifted in 2024-03 only: its mean rose from " in said
    assert f"Heat map: {home}/heat_map.png" in said


def test_the_command_prints_json_and_writes_plots_where_asked(shifted: Loop, tmp_path: Path) -> None:
    done = run(shifted.folder, "--column", "fee", "--reference", "2024-01", "--out", tmp_path / "mine", "--json")
    found = json.loads(done.stdout)
    assert found["heat_map"] == str(tmp_path / "mine" / "heat_map.png")
    assert list(found["plots"]) == ["fee"]
    assert all(Path(file).stat().st_size > 10_000 for file in (found["heat_map"], *found["plots"].values()))
    assert found["columns"] == told(shifted, columns=["fee"], reference="2024-01")["columns"]
    assert not (shifted.home / "drift").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--column", "fare"], "fare is no feature of churn; expected some of fee, usage, plan."),
        (["--from", "2025-01"], "there is no window 2025-01; there are 2024-01, 2024-02, 2024-03, 2024-04."),
        (["--from", "2024-03", "--to", "2024-02"], "no window lies from 2024-03 to 2024-02"),
        (["--reference", "2020-01"], "there is no reference 2020-01; expected training, previous, year_ago or one of"),
        (["--reference", "training"], "churn has no champion yet, so nothing was trained on. Name a window: --ref"),
    ],
)
def test_what_is_not_there_is_wrong_usage_and_one_paragraph(shifted: Loop, arguments: Sequence[str], said: str) -> None:
    with pytest.raises(ContractError, match=re.escape(said)):
        run(shifted.folder, *arguments)
    assert not (shifted.home / "drift").exists()


def test_a_loop_without_windows_says_where_to_put_them(loop: Loop) -> None:
    with pytest.raises(ContractError, match="has no window yet; put the first one under windows/"):
        told(loop)


def test_a_reference_that_cannot_be_read_any_more_is_named(shifted: Loop) -> None:
    promoted(shifted, "2023-12", "2024-01")
    with pytest.raises(DriftloopError, match="what drift is compared with cannot be read: window 2023-12: it is gone"):
        told(shifted)
    for window in MONTHS:
        shifted.deliver(window, month(1).drop(columns="fee"))
    with pytest.raises(DriftloopError, match="window 2024-01: column fee is missing"):
        told(shifted, reference="2024-01")


def test_where_no_window_can_be_used_there_is_nothing_to_tell(loop: Loop) -> None:
    loop.deliver("2024-01", month(1).drop(columns="fee"))
    with pytest.raises(DriftloopError, match="none of 2024-01 can be used; `driftloop check` says what is wrong"):
        told(loop)


def test_a_test_that_needs_rows_is_refused_for_the_columns_it_judges(shifted: Loop) -> None:
    shifted.set("drift.columns.plan", test="TVD")
    with pytest.raises(ContractError, match="has plan judged by a test that draws from the rows"):
        told(shifted)
    assert columns(told(shifted, columns=["fee"]))["fee"]["first"] == "2024-03"
