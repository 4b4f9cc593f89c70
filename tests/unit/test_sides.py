"""The sides of a comparison: what Parquet files give a column at a time is what windows read whole would give."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driftloop import columnar, frame, runs, sides, summaries
from driftloop.columnar import Column, Summary, summarise
from driftloop.contract import Loop
from driftloop.errors import ContractError, WindowError
from driftloop.runs import Files
from driftloop.sides import Rows, Stored, columns_of, stored
from driftloop.summaries import Kept, kept
from driftloop.windows import open_windows
from tests.fakes import a_loop, some_rows

NUMERIC = ["fee", "whole", "flag", "text", "price"]
CATEGORICAL = ["plan", "yes", "code", "ratio", "kind"]


def rows(count: int, seed: int) -> pd.DataFrame:
    """A column of each type that Parquet has and a loop may want."""
    rng = np.random.default_rng(seed)

    def some_null(values: Any) -> pd.Series:
        return pd.Series(values, dtype=object).where(rng.random(count) > 0.1)

    return pd.DataFrame(
        {
            "fee": rng.normal(size=count).round(2),
            "whole": some_null(rng.integers(0, 9, count)).astype("Int64"),
            "flag": rng.random(count) > 0.5,
            "text": some_null(rng.integers(0, 9, count).astype(str)),
            "price": rng.integers(0, 9, count).astype("float32"),
            "plan": some_null(rng.choice(["basic", "true", "True"], count)),
            "yes": some_null(rng.random(count) > 0.3),
            "code": some_null(rng.integers(0, 4, count)).astype("float64"),
            "ratio": rng.integers(0, 4, count) / 4,
            "kind": pd.Categorical(some_null(rng.choice(["a", "b"], count))),
            "left": some_null(rng.random(count) > 0.5),
        }
    )


@pytest.fixture
def loop() -> Loop:
    return a_loop(entity=None, features={"numeric": NUMERIC, "categorical": CATEGORICAL})


def written(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    (folder / "windows").mkdir()
    for window, table in tables.items():
        table.to_parquet(folder / "windows" / f"{window}.parquet", row_group_size=70)
    return folder


def both(folder: Path, loop: Loop, tables: dict[str, pd.DataFrame]) -> tuple[Stored, Rows]:
    windows = open_windows(loop, written(folder, tables))
    found = stored(windows, list(tables), loop, None)
    assert found is not None
    return found, Rows([frame.check(windows.read(window), loop, window) for window in tables], loop.task, loop.target)


def plain(summary: Summary) -> tuple[list[Any], list[int], int]:
    return summary.values.tolist(), summary.counts.tolist(), summary.nulls  # noqa: PD011


def test_columns_read_from_parquet_are_those_of_windows_read_whole(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "BATCH", 50)
    tables = {"2024-01": rows(200, 0), "2024-02": rows(120, 1), "2024-03": rows(40, 2).drop(columns="left")}
    ours, whole = both(tmp_path, loop, tables)
    assert ours.sizes == whole.sizes == [("2024-01", 200), ("2024-02", 120), ("2024-03", 40)]
    assert ours.rows == 360
    assert (ours.labelled, whole.labelled) == (True, True)
    for column in columns_of(loop, target=True):
        assert plain(summarise(ours, column)) == plain(summarise(whole, column)), column
    places = np.arange(0, 360, 7)
    columns = columns_of(loop, target=True)
    pd.testing.assert_frame_equal(ours.excerpt(columns, places), whole.excerpt(columns, places), check_dtype=False)
    labels = [pd.Series(np.concatenate(list(side.labels()))) for side in (ours, whole)]
    pd.testing.assert_series_equal(labels[0].isna(), labels[1].isna())


@pytest.mark.parametrize(
    "values", [pa.array([1, None, 2, 2], pa.float16()), pa.array(["a", "b", None, "a"], pa.string_view())]
)
def test_types_that_arrow_does_not_count_are_read_as_whole_windows_are(tmp_path: Path, values: pa.Array) -> None:
    (tmp_path / "windows").mkdir()
    table = pa.table({"fee": [1.0, 2.0, 3.0, 4.0], "plan": values, "left": values})
    pq.write_table(table, tmp_path / "windows" / "2024-01.parquet")
    loop = a_loop(entity=None)
    windows = open_windows(loop, tmp_path)
    whole = Rows([frame.check(windows.read("2024-01"), loop, "2024-01")], loop.task, loop.target)
    ours = stored(windows, ["2024-01"], loop, None)
    assert ours is not None
    columns = columns_of(loop, target=True)
    assert [plain(summarise(ours, column)) for column in columns] == [plain(summarise(whole, c)) for c in columns]
    places = np.array([0, 1, 2])
    pd.testing.assert_frame_equal(ours.excerpt(columns, places), whole.excerpt(columns, places), check_dtype=False)


@pytest.mark.parametrize("values", [pa.array([[1], [2], None, [1]]), pa.array([{"a": 1}] * 4)])
def test_a_column_of_lists_or_the_like_is_refused_as_in_a_whole_window(tmp_path: Path, values: pa.Array) -> None:
    (tmp_path / "windows").mkdir()
    pq.write_table(pa.table({"fee": [1.0] * 4, "plan": values, "left": values}), tmp_path / "windows/2024-01.parquet")
    loop = a_loop(entity=None)
    windows = open_windows(loop, tmp_path)
    with pytest.raises(WindowError, match="unhashable type"):
        frame.check(windows.read("2024-01"), loop, "2024-01")
    ours = stored(windows, ["2024-01"], loop, None)
    assert ours is not None
    with pytest.raises(WindowError, match="column plan: expected categories, unhashable type"):
        summarise(ours, Column("plan", numeric=False))
    with pytest.raises(WindowError, match="column left: expected categories, unhashable type"):
        assert ours.labelled


def test_a_regressions_target_is_read_as_numbers(tmp_path: Path) -> None:
    loop = a_loop(task="regression", target="fee", features={"categorical": ["plan"]})
    ours, whole = both(tmp_path, loop, {"2024-01": some_rows(60)})
    column = Column("fee", numeric=True)
    assert plain(summarise(ours, column)) == plain(summarise(whole, column))


def test_a_window_without_labels_is_not_labelled(tmp_path: Path) -> None:
    ours, whole = both(tmp_path, a_loop(), {"2024-01": some_rows(60).assign(left=None)})
    assert (ours.labelled, whole.labelled) == (False, False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fee": np.inf}, "column fee holds 60 infinite values"),
        ({"fee": np.nan}, "column fee is empty in all 60 rows"),
        ({"plan": None}, "column plan is empty in all 60 rows"),
        ({"fee": "dear"}, "column fee: expected numbers"),
        ({"fee": pd.Timestamp("2024-01-01")}, "column fee: expected numbers, found dates or durations"),
    ],
)
def test_what_a_check_of_the_whole_window_refuses_is_refused(tmp_path: Path, change: Any, problem: str) -> None:
    loop = a_loop()
    windows = open_windows(loop, written(tmp_path, {"2024-01": some_rows(60).assign(**change)}))
    with pytest.raises(WindowError, match=problem):
        frame.check(windows.read("2024-01"), loop, "2024-01")
    found = stored(windows, ["2024-01"], loop, None)
    assert found is not None
    with pytest.raises(WindowError, match=problem):
        [summarise(found, column) for column in columns_of(loop, target=False)]


@pytest.mark.parametrize(
    ("table", "problem"),
    [(some_rows(60).drop(columns="fee"), "column fee is missing"), (some_rows(60)[:0], "it holds no rows")],
)
def test_what_the_footer_tells_is_told_at_once(tmp_path: Path, table: pd.DataFrame, problem: str) -> None:
    loop = a_loop()
    windows = open_windows(loop, written(tmp_path, {"2024-01": table}))
    with pytest.raises(WindowError, match=problem):
        stored(windows, ["2024-01"], loop, None)


def test_a_file_that_was_cut_off_is_half_written(tmp_path: Path) -> None:
    loop = a_loop()
    windows = open_windows(loop, written(tmp_path, {"2024-01": some_rows(60)}))
    file = tmp_path / "windows" / "2024-01.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(WindowError, match="half-written"):
        stored(windows, ["2024-01"], loop, None)


def test_windows_that_have_to_be_read_whole_are_not_read_by_column(tmp_path: Path) -> None:
    loop = a_loop()
    folder = written(tmp_path, {"2024-01": some_rows(60)})
    some_rows(60).to_csv(folder / "windows" / "2024-02.csv", index=False)
    (folder / "windows" / "2024-03").mkdir()
    for name in ("a", "b"):
        some_rows(60).to_parquet(folder / "windows" / "2024-03" / f"{name}.parquet")
    windows = open_windows(loop, folder)
    assert stored(windows, ["2024-01"], loop, None)
    assert stored(windows, ["2024-01", "2024-02"], loop, None) is None
    assert stored(windows, ["2024-03"], loop, None) is None
    joined = a_loop(entity="plan", features={"numeric": ["fee"]}, windows={"labels": "labels"})
    (folder / "labels").mkdir()
    assert stored(open_windows(joined, folder), ["2024-01"], joined, None) is None


def test_a_stored_side_travels(tmp_path: Path) -> None:
    ours, _ = both(tmp_path, a_loop(), {"2024-01": some_rows(60)})
    column = Column("fee", numeric=True)
    assert plain(summarise(pickle.loads(pickle.dumps(ours)), column)) == plain(summarise(ours, column))


def test_a_column_of_many_row_groups_is_never_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "BATCH", 1000)
    table = pa.table({"fee": np.arange(20_000.0), "plan": ["a"] * 20_000})
    (tmp_path / "windows").mkdir()
    pq.write_table(table, tmp_path / "windows" / "2024-01.parquet")
    loop = a_loop(entity=None)
    found = stored(open_windows(loop, tmp_path), ["2024-01"], loop, None)
    assert found is not None
    assert (
        max(len(piece) for piece in found.batches(Column("fee", numeric=True)) if isinstance(piece, np.ndarray)) == 1000
    )


def test_many_runs_of_few_values_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BLOCK", 32)
    monkeypatch.setattr(runs, "STEP", 16)
    numbers = runs.Numbers(6)
    for seed in range(40):
        numbers.add(np.random.default_rng(seed).permutation(6).astype(float))
    values, counts = numbers.sorted()
    assert (values.tolist(), counts.tolist()) == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [40] * 6)


def test_names_that_come_in_many_pieces_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "NAMES", 50)
    most, together = [], columnar._together

    def counted(pieces: Any) -> Summary:
        most.append(sum(len(piece.values) for piece in pieces))
        return together(pieces)

    monkeypatch.setattr(columnar, "_together", counted)

    class Names:
        def batches(self, column: Column) -> Any:
            for start in range(100):
                names = np.array([f"n{n}" for n in range(start, start + 20)] + [None], dtype=object)
                yield names if start % 2 else columnar.summary(names, column)

    found = summarise(Names(), Column("plan", numeric=False))
    assert (found.rows, found.nulls, len(found.values)) == (2000, 100, 119)
    assert plain(found)[0] == sorted(plain(found)[0])
    assert max(most) <= 2 * 119 + 20


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell which files are open")
def test_many_runs_hold_one_file_open_and_none_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(runs, "BLOCK", 32)
    monkeypatch.setattr(runs, "STEP", 16)

    def held() -> int:
        assert list(tmp_path.iterdir()) == [], "a process that is killed leaves nothing behind"
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    merge, seen, before = runs.merge, [], held()
    monkeypatch.setattr(runs, "merge", lambda parts: seen.append(held()) or merge(parts))
    numbers = runs.Numbers(5)
    for seed in range(40):
        numbers.add(np.random.default_rng(seed).permutation(5) + seed / 64)
    assert held() == before + 1
    values, counts = numbers.sorted()
    assert seen[0] <= before + 4
    assert held() <= before + 2
    assert (len(values), counts.sum()) == (200, 200)
    assert (np.diff(values) > 0).all()


# what is kept


class Counted:
    """A side that counts how often it is read."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows, self.read = rows, 0

    def batches(self, column: Column) -> Any:
        self.read += 1
        yield self.rows[column.name].to_numpy()


COLUMNS = [Column("fee", numeric=True), Column("plan", numeric=False), Column("none", numeric=True)]


@pytest.fixture
def source() -> Counted:
    return Counted(pd.DataFrame({"fee": [3.0, 1.0, np.nan, 3.0], "plan": ["b", None, "a", "b"], "none": np.nan}))


def test_a_summary_is_made_once_and_the_same_from_its_files(tmp_path: Path, source: Counted) -> None:
    side = kept(source, tmp_path / "churn", ["key"])
    first = [plain(summarise(side, column)) for column in COLUMNS]
    assert first == [([1.0, 3.0], [1, 2], 1), (["a", "b"], [1, 2], 1), ([], [], 4)]
    assert [plain(summarise(kept(source, tmp_path / "churn", ["key"]), column)) for column in COLUMNS] == first
    assert source.read == 3


def test_another_key_is_another_summary_and_old_ones_go(tmp_path: Path, source: Counted) -> None:
    folders = []
    for place in range(4):
        side = kept(source, tmp_path, [f"key {place}"])
        summarise(side, COLUMNS[0])
        os.utime(side.folder, (place, place))
        folders.append(side.folder)
    assert source.read == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(folder.name for folder in folders[1:])
    summarise(kept(source, tmp_path, ["key 0"]), COLUMNS[0])
    assert source.read == 5


@pytest.mark.parametrize("left", [0, -3])
@pytest.mark.parametrize("damage", ["note", "numbers", "counts", "cells"])
def test_a_summary_that_is_damaged_is_made_again(tmp_path: Path, source: Counted, damage: str, left: int) -> None:
    side = kept(source, tmp_path, ["key"])
    whole = plain(summarise(side, COLUMNS[0]))
    files = Files.within(side.folder, Kept._name(COLUMNS[0]))
    beside = {"numbers": files.numbers, "counts": files.counts, "cells": side._cells(COLUMNS[0])}
    broken = {**beside, "note": side._note(COLUMNS[0])}[damage]
    broken.write_bytes(broken.read_bytes()[:left])
    assert plain(summarise(side, COLUMNS[0])) == whole
    assert source.read == 2


@pytest.mark.parametrize("damage", ["half of the cells is 0", "another grid", "another spread"])
def test_cells_that_are_not_as_they_were_are_made_again(tmp_path: Path, source: Counted, damage: str) -> None:
    side = kept(source, tmp_path, ["key"])
    whole = summarise(side, COLUMNS[0])
    note, cells = side._note(COLUMNS[0]), side._cells(COLUMNS[0])
    said = json.loads(note.read_text())
    if damage == "half of the cells is 0":
        half = cells.stat().st_size // 2
        cells.write_bytes(cells.read_bytes()[:half] + bytes(half))
    elif damage == "another grid":
        note.write_text(json.dumps(said | {"grid": said["grid"] | {"low": 0.5}}))
    else:
        note.write_text(json.dumps(said | {"moments": [2.0, 0.1]}))
    again = summarise(side, COLUMNS[0])
    assert (again.variance, again.grid) == (whole.variance, whole.grid)
    assert again.cells is not None
    assert whole.cells is not None
    assert again.cells.rests.tolist() == whole.cells.rests.tolist()
    assert source.read == 2


def test_the_same_name_as_another_kind_is_another_column(tmp_path: Path) -> None:
    source = Counted(pd.DataFrame({"code": [1.0, 2.0]}))
    side = kept(source, tmp_path, ["key"])
    assert summarise(side, Column("code", numeric=True)).rows == 2
    source.rows = pd.DataFrame({"code": ["1", "2"]})
    assert plain(summarise(side, Column("code", numeric=False)))[0] == ["1", "2"]


def test_rows_kept_beside_the_summaries_are_read_once(tmp_path: Path, source: Counted) -> None:
    side = kept(source, tmp_path, ["key"])
    asked = []

    def read() -> pd.DataFrame:
        asked.append(1)
        return pd.DataFrame({"fee": [1.5, np.nan], "plan": ["a", None]})

    first = side.frame(COLUMNS[:2], read)
    pd.testing.assert_frame_equal(side.frame(COLUMNS[:2], read), first)
    assert len(asked) == 1


def test_rows_of_as_many_other_columns_are_other_rows(tmp_path: Path, source: Counted) -> None:
    side = kept(source, tmp_path, ["key"])
    for columns in (COLUMNS[:1], COLUMNS[1:2], [Column("fee", numeric=False)]):
        found = side.frame(columns, lambda columns=columns: source.rows[[c.name for c in columns]])
        assert list(found) == [column.name for column in columns]
    assert len(list(side.folder.glob("*.parquet"))) == 3


@pytest.mark.parametrize("change", ["both cut to half", "counts of another kind", "other counts", "fewer names"])
def test_a_summary_that_is_not_all_there_is_made_again(tmp_path: Path, change: str) -> None:
    source = Counted(pd.DataFrame({"fee": [*np.arange(8.0), 7.0], "plan": list("abcdabcda")}))
    side, column = kept(source, tmp_path, ["key"]), COLUMNS[0]
    files = Files.within(side.folder, Kept._name(column))
    if change == "fewer names":
        column = COLUMNS[1]
    whole = plain(summarise(side, column))
    if change == "both cut to half":
        for file in (files.numbers, files.counts):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif change == "counts of another kind":
        files.numbers.write_bytes(files.numbers.read_bytes()[: 8 * 4])  # 4 values, and 8 counts that pass for 4 longer
    elif change == "other counts":
        files.counts.write_bytes(bytes(files.counts.stat().st_size))
    else:
        note = json.loads(side._note(column).read_text())
        side._note(column).write_text(json.dumps(note | {"values": note["values"][:2], "counts": note["counts"][:2]}))
    assert plain(summarise(side, column)) == whole
    assert source.read == 2
    assert plain(summarise(side, column)) == whole
    assert source.read == 2


@pytest.mark.parametrize("damage", ["cut", "folder", "other columns"])
def test_kept_rows_that_are_damaged_are_read_again(tmp_path: Path, source: Counted, damage: str) -> None:
    side = kept(source, tmp_path, ["key"])
    first = side.frame(COLUMNS[:2], lambda: source.rows[["fee", "plan"]])
    (file,) = side.folder.glob("*.parquet")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        source.rows[["none"]].to_parquet(file)
    again = side.frame(COLUMNS[:2], lambda: source.rows[["fee", "plan"]])
    pd.testing.assert_frame_equal(again, first, check_dtype=False)


@pytest.mark.parametrize("note", ["[]", "3", '{"nulls": 0}', '{"nulls": 0, "distinct": "2", "kind": "<i8"}', "\udcff"])
def test_a_note_that_says_something_else_is_not_believed(tmp_path: Path, source: Counted, note: str) -> None:
    side = kept(source, tmp_path, ["key"])
    whole = plain(summarise(side, COLUMNS[0]))
    side._note(COLUMNS[0]).write_bytes(note.encode(errors="surrogateescape"))
    assert plain(summarise(side, COLUMNS[0])) == whole
    assert plain(summarise(side, COLUMNS[0])) == whole
    assert source.read == 2, "and is written anew"


def test_where_nothing_can_be_kept_all_is_measured(tmp_path: Path, source: Counted) -> None:
    (tmp_path / "file").touch()
    side = kept(source, tmp_path / "file", ["key"])
    assert plain(summarise(side, COLUMNS[0])) == ([1.0, 3.0], [1, 2], 1)
    assert list(side.frame(COLUMNS[:1], lambda: source.rows[["fee"]])) == ["fee"]


def test_what_another_process_removes_meanwhile_is_gone(
    tmp_path: Path, source: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(3):
        os.utime(kept(source, tmp_path, [f"key {place}"]).folder, (place, place))
    stat, utime = Path.stat, os.utime

    def raced(self: Path, **how: Any) -> os.stat_result:
        if self.name in old:
            raise FileNotFoundError(self)
        return stat(self, **how)

    old = [folder.name for folder in tmp_path.iterdir()][:1]
    monkeypatch.setattr(Path, "stat", raced)
    summarise(kept(source, tmp_path, ["key 3"]), COLUMNS[0])
    monkeypatch.undo()

    def removed(path: Path, *_: Any) -> None:
        path.rmdir()
        utime(path)

    monkeypatch.setattr(os, "utime", removed)
    assert plain(summarise(kept(source, tmp_path, ["key 4"]), COLUMNS[0])) == ([1.0, 3.0], [1, 2], 1)


def test_what_a_killed_process_was_writing_goes_a_day_later(tmp_path: Path, source: Counted) -> None:
    side = kept(source, tmp_path, ["key"])
    for name in ("old", "new"):
        (side.folder / f"{summaries.UNFINISHED}{name}").mkdir()
        (side.folder / f"{summaries.UNFINISHED}{name}" / "new.values").touch()
    os.utime(side.folder / f"{summaries.UNFINISHED}old", (0, 0))
    kept(source, tmp_path, ["key"])
    assert [path.name for path in side.folder.iterdir()] == [f"{summaries.UNFINISHED}new"]


def test_a_loop_asks_for_each_columns_test_and_threshold() -> None:
    loop = a_loop(drift={"columns": {"fee": {"test": "ks", "threshold": 0.01}, "plan": {"threshold": 0.2}}})
    assert columns_of(loop, target=True) == [
        Column("fee", numeric=True, test="ks", threshold=0.01),
        Column("plan", numeric=False, threshold=0.2),
        Column("left", numeric=False),
    ]


# what loop.toml may ask for


@pytest.mark.parametrize(
    ("drift", "problem"),
    [
        ({"columns": {"fee": {"test": "kss"}}}, r"fee.test = 'kss': for a numeric column expected one of ks, "),
        ({"columns": {"fee": {"test": "chisquare"}}}, "for a numeric column expected one of"),
        ({"columns": {"plan": {"test": "ks"}}}, "for a categorical column expected one of jensenshannon, .*TVD"),
        ({"columns": {"left": {"test": "psi"}}}, "drift.columns names left, which is no feature; expected one of fee"),
        ({"engine": "columnar", "columns": {"plan": {"test": "TVD"}}}, 'and engine = "columnar" expected one of'),
        ({"columns": {"fee": {"threshold": -1.0}}}, "greater than or equal to 0"),
    ],
)
def test_a_test_that_a_column_cannot_have_is_refused(drift: Any, problem: str) -> None:
    with pytest.raises((ContractError, ValueError), match=problem):
        a_loop(drift=drift)


def test_evidently_has_tests_that_the_columnar_engine_has_not() -> None:
    assert a_loop(drift={"columns": {"plan": {"test": "TVD"}}}).drift.columns["plan"].test == "TVD"


def test_tests_need_features_to_be_listed() -> None:
    with pytest.raises(ValueError, match=r"drift.columns needs \[features\]"):
        a_loop(features=None, drift={"columns": {"fee": {"test": "ks"}}})
