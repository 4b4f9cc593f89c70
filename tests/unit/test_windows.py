"""Windows as files, folders of tables, labels beside them, and tables of a database."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from driftloop.errors import ContractError, Unreachable, WindowError
from driftloop.frame import categories
from driftloop.windows import FolderWindows, SqlWindows, Windows, none_yet, open_windows
from tests.fakes import FakeWindows, a_loop

ROWS = pd.DataFrame({"user_id": ["a", "b"], "fee": [1.5, 2.5]})
PLANS = pd.DataFrame({"user_id": ["b", "a"], "plan": ["family", "basic"]})
LABELS = pd.DataFrame({"user_id": ["a", "b"], "left": [True, False]})


def put(table: pd.DataFrame | str | bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(table, str | bytes):
        file.write_bytes(table.encode() if isinstance(table, str) else table)
    elif file.suffix == ".csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file)


def windows(folder: Path, **changes: object) -> FolderWindows:
    found = open_windows(a_loop(windows={"labels": "labels"}, **changes), folder)
    assert isinstance(found, FolderWindows)
    return found


def refused(folder: Path, window: str = "2024-01", **changes: object) -> list[str]:
    with pytest.raises(WindowError, match=f"window {window}") as caught:
        windows(folder, **changes).read(window)
    return caught.value.problems


# files


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_a_window(suffix: str, tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows" / f"2024-01.{suffix}")
    found = windows(tmp_path)
    assert found.ids() == ["2024-01"]
    pd.testing.assert_frame_equal(found.read("2024-01"), ROWS)


def test_windows_are_named_by_file_or_folder_and_sorted(tmp_path: Path) -> None:
    for name in ("2024-03.csv", "2024-01.parquet", "2024-02/users.csv"):
        put(ROWS, tmp_path / "windows" / name)
    assert windows(tmp_path).ids() == ["2024-01", "2024-02", "2024-03"]


def test_a_name_with_dots_keeps_all_but_the_suffix(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows" / "2024.01.05.csv")
    assert windows(tmp_path).ids() == ["2024.01.05"]


def test_what_is_no_window_is_passed_over(tmp_path: Path) -> None:
    for name in ("README.md", ".hidden.csv", "_SUCCESS", "_tmp.parquet", "2024-02.csv.part", ".git/x.csv"):
        put("x", tmp_path / "windows" / name)
    assert windows(tmp_path).ids() == []


def test_a_window_there_twice_is_a_contract_error(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        put(ROWS, tmp_path / "windows" / f"2024-01.{suffix}")
    with pytest.raises(ContractError, match=r"holds 2024-01 twice, as .*; keep one"):
        windows(tmp_path).ids()


def test_a_missing_folder_is_a_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"windows\.path = '.*windows' does not exist"):
        windows(tmp_path).ids()


def test_an_unknown_window_is_a_contract_error(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows" / "2024-01.csv")
    with pytest.raises(ContractError, match=r"there is no window 2024-02 under .*`driftloop status`"):
        windows(tmp_path).read("2024-02")


def test_an_absolute_path_need_not_lie_beside_loop_toml(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "elsewhere" / "2024-01.csv")
    loop = a_loop(windows={"path": str(tmp_path / "elsewhere")})
    assert open_windows(loop, tmp_path / "loop").ids() == ["2024-01"]


def test_beside_windows_in_the_folder_itself_its_labels_are_no_window(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "2024-01.csv")
    put(LABELS, tmp_path / "labels" / "2024-01.csv")
    loop = a_loop(windows={"path": ".", "labels": "labels"})
    assert open_windows(loop, tmp_path).ids() == ["2024-01"]


# damaged files


def test_a_half_written_parquet_is_refused(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "whole.parquet")
    put((tmp_path / "whole.parquet").read_bytes()[:-20], tmp_path / "windows" / "2024-01.parquet")
    (problem,) = refused(tmp_path)
    assert "2024-01.parquet cannot be read, is it half-written?" in problem


def test_a_number_for_an_owner_is_the_same_beside_a_null(tmp_path: Path) -> None:
    """A null among whole numbers makes floats of them, which pandas writes as 7.0."""
    rows = ROWS.assign(user_id=[1000.0 + n for n in range(len(ROWS))])
    put(rows, tmp_path / "windows" / "2024-01.csv")
    put(
        rows.assign(user_id=rows["user_id"].astype(int), left=True)[["user_id", "left"]],
        tmp_path / "labels/2024-01.csv",
    )
    found = windows(tmp_path).read("2024-01")
    assert found["user_id"].tolist() == [str(1000 + n) for n in range(len(ROWS))]
    assert found["left"].all()


def test_a_column_that_pandas_kept_as_its_index_is_one(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    ROWS.set_index("user_id").to_parquet(tmp_path / "windows" / "2024-01.parquet")
    assert set(windows(tmp_path).read("2024-01")) == set(ROWS)


def test_an_index_without_a_name_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    rows = pd.concat([ROWS.assign(code=pd.array([2**60 + 1] * len(ROWS), dtype="Int64"))] * 2)
    rows[1:].to_parquet(tmp_path / "windows" / "2024-01.parquet")
    found = windows(tmp_path).read("2024-01")
    assert set(found) == {*ROWS, "code"}
    assert found["code"].iloc[0] == 2**60 + 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_empty_file_is_refused(suffix: str, tmp_path: Path) -> None:
    put("", tmp_path / "windows" / f"2024-01.{suffix}")
    (problem,) = refused(tmp_path)
    assert f"2024-01.{suffix}" in problem


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"user_id,fee\na,1\nb,2,3,4\n", "is it half-written? row 3: expected 2 fields as in its header, found 4"),
        (b"user_id,fee,age\na,1,30\nb,2", "is it half-written? row 3: expected 3 fields as in its header, found 2"),
        (b'user_id,fee\n"a,1\nb,2\n', "is it half-written?"),
        (b"user_id,fee\n\xff\xfe,1\n", "is not UTF-8 (byte 0xff at 12); save it as UTF-8"),
        ("user_id,fee\na,1\n".encode("utf-16"), "is not UTF-8 but UTF-16; save it as UTF-8"),
        (b"user_id,fee,fee\na,1,2\n", "has the column fee more than once"),
        (b"user_id;fee\na;1,5\n", "separates its columns by semicolons; expected commas"),
        (b"user_id\tfee\na\t1.5\n", "separates its columns by tabs; expected commas"),
    ],
    ids=["ragged", "cut off", "open quote", "not utf-8", "utf-16", "twice", "semicolons", "tabs"],
)  # fmt: skip
def test_a_damaged_or_foreign_csv_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    put(content, tmp_path / "windows" / "2024-01.csv")
    (problem,) = refused(tmp_path)
    assert told in problem


def test_a_broken_row_is_counted_and_never_quoted(tmp_path: Path) -> None:
    put("user_id,fee,plan\na,1,x\nAda Lovelace,2\n", tmp_path / "windows" / "2024-01.csv")
    (problem,) = refused(tmp_path)
    assert "row 3: expected 3 fields as in its header, found 2" in problem
    assert "Lovelace" not in problem


def test_a_category_is_the_same_text_whatever_else_its_column_holds(tmp_path: Path) -> None:
    put("user_id,fee,plan\na,1,01\nb,2,2A\n", tmp_path / "windows" / "2024-01.csv")
    put("user_id,fee,plan\na,1,01\nb,2,2\n", tmp_path / "windows" / "2024-02.csv")
    put("user_id,fee,plan\na,1,2.0\nb,2,\n", tmp_path / "windows" / "2024-03.csv")  # whole numbers and a null
    found = windows(tmp_path)
    read = {month: categories(found.read(month)["plan"]).tolist() for month in found.ids()}
    assert read == {"2024-01": ["01", "2A"], "2024-02": ["01", "2"], "2024-03": ["2", "(missing)"]}


def test_a_csv_may_hold_line_breaks_quotes_and_no_last_newline(tmp_path: Path) -> None:
    put('user_id,fee,plan\na,1.5,"one,\ntwo"\nb,2.5,""""', tmp_path / "windows" / "2024-01.CSV")
    assert windows(tmp_path).read("2024-01")["plan"].tolist() == ["one,\ntwo", '"']


def test_an_entity_is_the_same_text_in_every_kind_of_file(tmp_path: Path) -> None:
    put("user_id,fee\n007,1\n8,2\n", tmp_path / "windows" / "2024-01.csv")
    put("user_id,fee\n007,1\nA8,2\n", tmp_path / "windows" / "2024-02.csv")
    put(pd.DataFrame({"user_id": [7, 8], "fee": [1.0, 2.0]}), tmp_path / "windows" / "2024-03.parquet")
    put("user_id,left\n7,True\n8,False\n", tmp_path / "labels" / "2024-03.csv")
    found = windows(tmp_path)
    read = {month: found.read(month)["user_id"].tolist() for month in found.ids()}
    assert read == {"2024-01": ["007", "8"], "2024-02": ["007", "A8"], "2024-03": ["7", "8"]}
    assert found.read("2024-03")["left"].tolist() == [True, False]


def test_an_empty_folder_is_a_window_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "windows" / "2024-01").mkdir(parents=True)
    assert not windows(tmp_path).has_labels("2024-01")
    assert windows(tmp_path).digest("2024-01")
    (problem,) = refused(tmp_path)
    assert "holds no .csv or .parquet table" in problem


def test_a_damaged_window_has_a_digest_all_the_same(tmp_path: Path) -> None:
    put("", tmp_path / "windows" / "2024-01.parquet")
    found = windows(tmp_path)
    assert found.digest("2024-01")
    assert not found.has_labels("2024-01")


# folders of tables


def test_tables_are_joined_one_to_one_on_the_entity(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows/2024-01/fees.csv")
    put(PLANS, tmp_path / "windows/2024-01/plans.parquet")
    expected = ROWS.assign(plan=["basic", "family"])
    pd.testing.assert_frame_equal(windows(tmp_path).read("2024-01"), expected, check_dtype=False)


def test_a_folder_of_one_table_is_that_table(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows/2024-01/fees.csv")
    pd.testing.assert_frame_equal(windows(tmp_path, entity=None).read("2024-01"), ROWS)


@pytest.mark.parametrize(
    ("plans", "problem"),
    [
        (PLANS.rename(columns={"user_id": "id"}), "plans.csv has no column user_id to be joined on"),
        (
            PLANS.assign(user_id=["a", "c"]),
            "one-to-one on user_id: 1 only in plans.csv, 1 only in fees.csv",
        ),
        (PLANS.iloc[:1], "one-to-one on user_id: 0 only in plans.csv, 1 only in fees.csv"),
        (PLANS.assign(user_id=["a", None]), "plans.csv holds a null user_id"),
        (pd.concat([PLANS, PLANS.iloc[:1]]), "plans.csv holds 1 user_id more than once"),
        (PLANS.assign(fee=1), "column fee stands in more than one table"),
    ],
)
def test_tables_that_do_not_join_one_to_one_are_refused(plans: pd.DataFrame, problem: str, tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows/2024-01/fees.csv")
    put(plans, tmp_path / "windows/2024-01/plans.csv")
    assert any(problem in found for found in refused(tmp_path))


def test_several_tables_without_an_entity_are_refused(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows/2024-01/fees.csv")
    put(PLANS, tmp_path / "windows/2024-01/plans.csv")
    with pytest.raises((ContractError, WindowError), match="entity"):
        windows(tmp_path, entity=None).read("2024-01")


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    put("x", tmp_path / "windows/2024-01/notes.txt")
    assert "holds no .csv or .parquet table" in refused(tmp_path)[0]


# labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(ROWS, tmp_path / "windows" / "2024-01.csv")
    return tmp_path


def test_without_its_labels_a_window_has_no_target(folder: Path) -> None:
    found = windows(folder)
    assert not found.has_labels("2024-01")
    assert "left" not in found.read("2024-01")


def test_labels_of_another_window_are_not_its_own(folder: Path) -> None:
    put(LABELS, folder / "labels" / "2024-02.csv")
    assert not windows(folder).has_labels("2024-01")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_are_joined_by_entity_in_whatever_order(suffix: str, folder: Path) -> None:
    put(LABELS.iloc[::-1].assign(note="x"), folder / "labels" / f"2024-01.{suffix}")
    found = windows(folder)
    assert found.has_labels("2024-01")
    pd.testing.assert_frame_equal(found.read("2024-01"), ROWS.assign(left=[True, False]))


def test_an_entity_whose_label_is_not_in_has_none(folder: Path) -> None:
    put(LABELS.iloc[1:], folder / "labels" / "2024-01.csv")
    assert windows(folder).read("2024-01")["left"].isna().tolist() == [True, False]


def test_a_label_file_with_a_header_only_labels_nobody(folder: Path) -> None:
    put("user_id,left\n", folder / "labels" / "2024-01.csv")
    assert windows(folder).read("2024-01")["left"].isna().all()


def test_a_label_file_with_a_header_only_labels_nobody_with_numeric_ids(tmp_path: Path) -> None:
    put(ROWS.assign(user_id=[1, 2]), tmp_path / "windows" / "2024-01.csv")
    put("user_id,left\n", tmp_path / "labels" / "2024-01.csv")
    assert windows(tmp_path).read("2024-01")["left"].isna().all()


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (LABELS.assign(user_id=["a", "z"]), "labels 1 unknown entities, e.g. z"),
        (pd.concat([LABELS, LABELS.iloc[:1]]), "labels 1 entities more than once"),
        (LABELS.assign(user_id=["a", None]), "holds a null user_id"),
        (LABELS.drop(columns="left"), "2024-01.csv has no column left"),
        (LABELS.drop(columns="user_id"), "2024-01.csv has no column user_id"),
        (LABELS.assign(user_id=[1, 2]), "labels 2 unknown entities, e.g. 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: pd.DataFrame, problem: str, folder: Path) -> None:
    put(labels, folder / "labels" / "2024-01.csv")
    assert any(problem in found for found in refused(folder))


def test_a_target_in_the_window_and_in_its_labels_is_refused(folder: Path) -> None:
    put(ROWS.assign(left=True), folder / "windows" / "2024-01.csv")
    put(LABELS, folder / "labels" / "2024-01.csv")
    assert "is in the window and in" in refused(folder)[0]


def test_labels_need_an_entity_to_be_joined_on(folder: Path) -> None:
    put(LABELS, folder / "labels" / "2024-01.csv")
    with pytest.raises(ContractError, match=r"windows.labels needs entity"):
        windows(folder, entity=None).read("2024-01")


def test_half_written_labels_are_refused(folder: Path) -> None:
    put("PAR1", folder / "labels" / "2024-01.parquet")
    assert "cannot be read" in refused(folder)[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_target_among_the_columns_is_a_label(suffix: str, tmp_path: Path) -> None:
    put(ROWS.assign(left=[True, False]), tmp_path / "windows" / f"2024-01.{suffix}")
    assert windows(tmp_path).has_labels("2024-01")


# digests


def test_the_digest_changes_with_content_and_labels_and_back(folder: Path) -> None:
    found = windows(folder)
    bare = found.digest("2024-01")
    put(LABELS, folder / "labels" / "2024-01.csv")
    labelled = found.digest("2024-01")
    put(LABELS.assign(left=[False, True]), folder / "labels" / "2024-01.csv")
    relabelled = found.digest("2024-01")
    put(ROWS.assign(fee=0), folder / "windows" / "2024-01.csv")
    assert len({bare, labelled, relabelled, found.digest("2024-01")}) == 4
    put(ROWS, folder / "windows" / "2024-01.csv")
    (folder / "labels" / "2024-01.csv").unlink()
    assert found.digest("2024-01") == bare


def test_the_digest_changes_with_a_table_that_came_in(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows/2024-01/fees.csv")
    before = windows(tmp_path).digest("2024-01")
    put(PLANS, tmp_path / "windows/2024-01/plans.csv")
    assert windows(tmp_path).digest("2024-01") != before


@pytest.mark.parametrize(("just_now", "hashed"), [(-1, [2, 1, 2]), (10**18, [2, 2, 2])])
def test_a_file_is_hashed_once_until_it_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, just_now: int, hashed: list[int]
) -> None:
    """As many hashes are begun as there are contents, and one of them all; a file written just now is no help."""
    monkeypatch.setattr("driftloop.digests.JUST_NOW", just_now)
    sha256, begun = hashlib.sha256, []
    monkeypatch.setattr("hashlib.sha256", lambda: begun.append(1) or sha256())
    found, file, other = windows(tmp_path), tmp_path / "windows" / "2024-01.csv", tmp_path / "other"
    put("a\n1\n", file)
    counts, digests = [], []
    for change in (False, False, True):
        if change:  # by one of the same name, size and time
            put("a\n2\n", other)
            os.utime(other, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
            other.replace(file)
        begun.clear()
        digests.append(found.digest("2024-01"))
        counts.append(len(begun))
    assert counts == hashed
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_does_not_change_with_another_window(folder: Path) -> None:
    before = windows(folder).digest("2024-01")
    put(ROWS, folder / "windows" / "2024-02.csv")
    assert windows(folder).digest("2024-01") == before


# a database


def database(tmp_path: Path, table: pd.DataFrame) -> SqlWindows:
    url = f"sqlite:///{tmp_path / 'snapshots.db'}"
    engine = sa.create_engine(url)
    table.to_sql("snapshots", engine, index=False, if_exists="replace")
    engine.dispose()
    return SqlWindows(a_loop(windows={"sql": url, "table": "snapshots", "period": "as_of"}), Path.cwd())


SNAPSHOTS = pd.concat(
    [ROWS.assign(as_of="2024-02", left=[1, 0]), ROWS.assign(as_of="2024-01", fee=9.0, left=[None, None])]
)


def test_a_table_holds_a_window_a_period(tmp_path: Path) -> None:
    found = database(tmp_path, SNAPSHOTS)
    assert found.ids() == ["2024-01", "2024-02"]
    assert found.read("2024-02").to_dict("list") == {"user_id": ["a", "b"], "fee": [1.5, 2.5], "left": [1, 0]}


def test_a_window_of_a_table_has_labels_when_one_is_not_null(tmp_path: Path) -> None:
    found = database(tmp_path, SNAPSHOTS)
    assert [found.has_labels(i) for i in found.ids()] == [False, True]


@pytest.mark.parametrize("periods", [[202402, 202401], [202402, None]], ids=["all given", "one null"])
def test_periods_may_be_whole_numbers(periods: list[int | None], tmp_path: Path) -> None:
    found = database(tmp_path, pd.DataFrame({"as_of": pd.array(periods, dtype="Int64"), "fee": [1.0, 2.0]}))
    assert found.ids()[-1] == "202402"
    assert found.read("202402")["fee"].tolist() == [1.0]


def test_the_digest_of_a_table_is_of_its_rows_and_not_of_their_order(tmp_path: Path) -> None:
    digest = database(tmp_path, SNAPSHOTS).digest("2024-02")
    assert database(tmp_path, SNAPSHOTS.iloc[::-1]).digest("2024-02") == digest
    assert database(tmp_path, SNAPSHOTS.assign(fee=0.0)).digest("2024-02") != digest


def test_a_period_with_a_quote_in_it_is_only_a_value(tmp_path: Path) -> None:
    found = database(tmp_path, SNAPSHOTS.assign(as_of="it's; drop table snapshots"))
    assert len(found.read(found.ids()[0])) == 4


@pytest.mark.parametrize("period", ["../x", "..", ".", "/etc/x", "a/b", "a\\b"])
def test_a_period_that_would_lead_out_of_a_folder_names_no_window(period: str, tmp_path: Path) -> None:
    found = database(tmp_path, pd.concat([SNAPSHOTS, ROWS.assign(as_of=period)]))
    for asked in (found.ids, lambda: found.read(period), lambda: found.digest(period)):
        with pytest.raises(ContractError, match=r"'.+' cannot name a window.*the column as_of of snapshots"):
            asked()


def test_a_table_that_is_not_there_is_a_contract_error(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    loop = a_loop(windows={"sql": f"sqlite:///{tmp_path / 'empty.db'}", "table": "snapshots", "period": "as_of"})
    with pytest.raises(ContractError, match=r"windows\.table = 'snapshots' cannot be read"):
        SqlWindows(loop, Path.cwd()).ids()


def test_a_database_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    loop = a_loop(windows={"sql": f"sqlite:///{tmp_path}", "table": "t", "period": "p"})  # a folder
    with pytest.raises(Unreachable, match=r"the windows' database sqlite:///.* does not answer"):
        SqlWindows(loop, Path.cwd()).ids()


def test_a_sqlite_file_lies_beside_loop_toml_and_is_not_made(tmp_path: Path) -> None:
    loop = a_loop(windows={"sql": "sqlite:///snapshots.db", "table": "snapshots", "period": "as_of"})
    with pytest.raises(
        ContractError, match=r"windows\.sql = sqlite:///snapshots\.db: there is no file .*snapshots\.db"
    ):
        SqlWindows(loop, tmp_path)
    assert list(tmp_path.iterdir()) == []
    database(tmp_path, SNAPSHOTS)
    assert SqlWindows(loop, tmp_path).ids() == ["2024-01", "2024-02"]


@pytest.mark.parametrize("address", ["postgres:/x", "nosuchbase://host/name"])
def test_an_address_that_is_no_databases_is_a_contract_error(address: str, tmp_path: Path) -> None:
    loop = a_loop(windows={"sql": address, "table": "t", "period": "p"})
    with pytest.raises(ContractError, match=f"windows.sql = {address}: expected a database's address"):
        SqlWindows(loop, tmp_path)


@pytest.mark.parametrize(("path", "told"), [("s3x://bucket/x", "s3x"), ("file.csv", "is a file; expected the folder")])
def test_a_path_that_is_no_folders_is_a_contract_error(path: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").touch()
    with pytest.raises(ContractError, match=f"windows.path = '{path}'.*{told}"):
        FolderWindows(tmp_path, path, None, entity=None, target=None)


def test_labels_in_a_csv_in_capitals_are_seen(tmp_path: Path) -> None:
    put(ROWS.assign(left=[True, False]).to_csv(index=False), tmp_path / "windows" / "2024-01.CSV")
    assert windows(tmp_path).has_labels("2024-01")


# the port


def test_all_windows_come_through_one_port(tmp_path: Path) -> None:
    put(ROWS, tmp_path / "windows" / "2024-01.csv")
    ports: list[Windows] = [windows(tmp_path), FakeWindows({"2024-01": ROWS})]
    for port in ports:
        assert port.ids() == ["2024-01"]
        assert not port.has_labels("2024-01")
        pd.testing.assert_frame_equal(port.read("2024-01"), ROWS)


def test_a_table_without_a_window_says_so() -> None:
    loop = a_loop(windows={"sql": "sqlite:///none.db", "table": "snapshots", "period": "as_of"})
    assert none_yet(loop, Path("homes")) == "homes has no window yet: table snapshots holds no row."
