"""schema.yaml: what is learnt from windows, written down, edited and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop import contract, frame, schema, schema_draft
from driftloop.cli.__main__ import cli
from driftloop.errors import ContractError, WindowError
from driftloop.schema import Categories, Column, Fresh, Nulls, Range, Rows, Unique, parse
from driftloop.schema_draft import learn
from driftloop.validation import Arrival, judge
from tests.fakes import a_loop, some_rows

TIMED = a_loop(timestamp="at")


def timed(month: int, n: int = 60) -> pd.DataFrame:
    return some_rows(n, seed=month).assign(at=pd.date_range(f"2024-{month:02}-01", periods=n, freq="h").astype(str))


# learning


def test_a_schema_is_what_all_windows_have_in_common() -> None:
    first, second = some_rows(60), some_rows(100, seed=1)
    first["fee"], second["fee"] = np.linspace(10, 20, 60), np.linspace(15, 30, 100)
    second.loc[0:9, "plan"] = None
    learnt = learn([("2024-01", first), ("2024-02", second)], a_loop()).schema
    assert learnt.rows == (Rows(min=30, max=200),)
    assert learnt.unique == (Unique(columns=("user_id",)),)
    assert learnt.fresh == ()
    assert learnt.columns == {
        "user_id": Column(type="category", nulls=(Nulls(max=0, level="error"),)),
        "fee": Column(type="number", nulls=(Nulls(max=0),), range=(Range(min=8, max=32),)),
        "plan": Column(type="category", nulls=(Nulls(max=0.15),), categories=(Categories(one_of=("basic", "family")),)),
        "left": Column(type="category", categories=(Categories(one_of=("False", "True"), level="error"),)),
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 12], Range(min=0, max=14, whole=True)),
        ([0.0, 0.5, 12.0], Range(min=0, max=13.2)),
        ([-5, -1], Range(min=-6, max=0, whole=True)),
        ([7.0, 7.0], Range(min=7, max=7, whole=True)),
        ([-1.7e308, 1.7e308], Range(min=-1.7e308, max=1.7e308, whole=True)),
        ([0.001, 0.00123], Range(min=0.000977, max=0.001253)),
    ],
)
def test_a_range_is_what_was_seen_with_a_margin_never_across_zero(values: list[float], expected: Range) -> None:
    seen = schema_draft.Seen("number")
    seen.add(pd.Series(values))
    assert seen.column(role="feature", level="warning").range == (expected,)


def test_more_categories_than_anybody_reads_are_not_listed() -> None:
    rows = some_rows(300).assign(plan=[f"p{i}" for i in range(300)])
    reference = learn([("2024-01", rows)], a_loop())
    assert reference.schema.columns["plan"].categories == ()
    assert "# 300 different values, never null\n  plan:" in reference.text


def test_times_that_rise_from_window_to_window_are_asked_for_from_then_on() -> None:
    months = [("2024-01", timed(1)), ("2024-02", timed(2))]
    assert learn(months, TIMED).schema.fresh == (Fresh(after_previous=True, level="error"),)
    assert learn(months[:1], TIMED).schema.fresh == (Fresh(after_previous=True, level="warning"),)
    assert learn([("2024-01", timed(2)), ("2024-02", timed(1))], TIMED).schema.fresh == ()


def test_a_regression_s_target_is_a_number_and_labels_may_be_missing() -> None:
    rows = some_rows().drop(columns="left").assign(left=np.linspace(0.5, 2, 60))
    column = learn([("2024-01", rows)], a_loop(task="regression")).schema.columns["left"]
    assert (column.type, column.nulls, column.range[0].level) == ("number", (), "warning")


def test_what_is_written_down_is_read_back_as_it_was_learnt() -> None:
    reference = learn([("2024-01", timed(1)), ("2024-02", timed(2))], TIMED)
    assert parse(reference.text, TIMED) == reference.schema
    assert "learnt from 2024-01 to 2024-02 (120 rows)" in reference.text


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name not in ("user_id", "left", "n")
)


@st.composite
def windows(draw: st.DrawFn) -> tuple[contract.Loop, pd.DataFrame]:
    """A loop with odd column names, and a window of odd values."""
    c, n = draw(NAMES), draw(st.integers(2, 8))

    def values(of: st.SearchStrategy) -> list:
        return draw(st.lists(of, min_size=n, max_size=n))

    numbers = (
        st.none() | st.floats(allow_nan=True, allow_infinity=False) | st.integers(-5, 5) | st.sampled_from(["7", ""])
    )
    names = (
        st.none() | st.booleans() | st.integers(0, 2) | st.text(max_size=6) | st.sampled_from(["no", "2.0", "~", "1e3"])
    )
    rows = pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(n)],
            "n": pd.Series(values(numbers), dtype=object),
            c: pd.Series(values(names), dtype=object),
            "left": [i % 2 == 0 for i in range(n)],
        }
    )
    return a_loop(features={"numeric": ["n"], "categorical": [c]}), rows


@settings(max_examples=25, deadline=None)
@given(windows())
def test_a_window_passes_the_schema_learnt_from_itself_and_written_down(
    made: tuple[contract.Loop, pd.DataFrame],
) -> None:
    loop, rows = made
    try:
        frame.check(rows, loop, "2024-01")
    except WindowError:
        return  # nothing is learnt from such a window
    reference = learn([("2024-01", rows)], loop)
    written = parse(reference.text, loop)
    assert written == reference.schema
    assert judge(rows, written, loop, Arrival()).findings == ()


# reading


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rows: {min: x}", "rows.min = 'x': expected a valid integer"),
        ("rows: {min: 5, max: 2}", "rows: min 5 is above max 2"),
        ("rows: {level: error}", "rows: expected min or max"),
        ("fresh: {level: warning}", "fresh: expected after_previous = true or max_age_days"),
        ("columns: {plan: {type: category, categories: {one_of: []}}}", "expected at least one value"),
        ("[" * 3000, "schema.yaml is nested too deeply to be a schema"),
        ("rows: {min: 1, level: fatal}", "rows.level = 'fatal': expected 'error' or 'warning'"),
        ("row: {min: 1}", "row is not a known key; expected rows, fresh, unique, columns"),
        ("columns: {fee: {type: numbr}}", "columns.fee.type = 'numbr': expected 'number', 'category' or 'time'"),
        ("columns: {fee: {}}", "columns.fee.type is missing; it is required"),
        (
            "columns: {fee: {type: number, nulls: {max: 2}}}",
            "columns.fee.nulls.max = '2': expected less than or equal to 1",
        ),
        (
            "columns: {fee: {type: number, rnge: {min: 1}}}",
            "columns.fee.rnge is not a known key; expected type, nulls, range",
        ),
        (
            "columns: {fee: {type: number, range: {low: 1}}}",
            "columns.fee.range.low is not a known key; expected min, max, whole",
        ),
        ("columns: {fee: {type: number, range: {min: 3, max: 1}}}", "columns.fee.range: min 3 is above max 1"),
        (
            "columns: {fee: {type: number, range: {level: error}}}",
            "columns.fee.range: expected min, max or whole = true",
        ),
        ("columns: {fee: {type: number, categories: {one_of: [a]}}}", "columns.fee: categories is for type: category"),
        (
            "columns: {plan: {type: category, range: {min: 1}}}",
            "columns.plan: range is for type: number, not for category",
        ),
        (
            "columns: {plan: {type: category, categories: {one_of: a}}}",
            "columns.plan.categories.one_of = 'a': expected a list",
        ),
        (
            "columns: {email: {type: category}}",
            "columns.email names email, which is no column of loop.toml; expected one of fee",
        ),
        ("unique: {columns: [mail]}", "unique.columns names mail, which is no column of loop.toml"),
        (
            "columns: {fee: {type: category}}",
            "columns.fee.type = 'category': loop.toml reads it as a number; expected number",
        ),
        ("columns:\n  fee: {type: number}\n  fee: {type: number}", "line 2: fee is given more than once; keep one"),
        ("fresh: {after_previous: true}", "fresh asks for the newest time, and loop.toml names no timestamp"),
        ("rows: [", "is not valid YAML, line 1"),
        ("- rows", "the whole = ['rows']: expected keys with values below it"),
    ],
)
def test_what_is_wrong_is_told_with_file_key_value_and_what_was_expected(text: str, told: str) -> None:
    with pytest.raises(ContractError) as error:
        parse(text, a_loop(), "my-loop/schema.yaml")
    assert str(error.value).startswith("my-loop/schema.yaml")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_check_may_come_once_or_as_a_list_with_levels_of_their_own() -> None:
    text = "columns: {fee: {type: number, range: [{min: 0, level: error}, {max: 100}]}}"
    assert parse(text, a_loop()).columns["fee"].range == (Range(min=0, level="error"), Range(max=100))


def test_categories_are_the_text_that_stands_there_and_spelled_as_a_window_s() -> None:
    text = "columns: {plan: {type: category, categories: {one_of: [no, 007, true, ~, '', 2.0]}}}"
    assert parse(text, a_loop()).columns["plan"].categories[0].one_of == ("no", "007", "True", "~", "", "2")


def test_an_empty_file_checks_nothing_and_comments_do_not_change_the_digest() -> None:
    assert parse("# all gone\n", a_loop()) == schema.Schema()
    assert parse("rows: {min: 1}", a_loop()).digest == parse("# why\nrows:\n  min: 1\n", a_loop()).digest
    assert parse("rows: {min: 1}", a_loop()).digest != parse("rows: {min: 2}", a_loop()).digest


def test_without_the_file_there_is_no_schema_unless_loop_toml_speaks_of_bad_rows(tmp_path: Path) -> None:
    assert schema.load(tmp_path, a_loop()) is None
    with pytest.raises(ContractError, match=r'on_bad_rows = "drop" says what .* schema.yaml, and there is none'):
        schema.load(tmp_path, a_loop(validation={"on_bad_rows": "drop"}))
    (tmp_path / "schema.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match="is not UTF-8"):
        schema.load(tmp_path, a_loop())


def test_the_example_of_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "validation.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    features = {"numeric": ["months_active"], "categorical": ["contract_type"]}
    written = parse(example, a_loop(features=features))
    assert (written.rows[0].max, written.columns["months_active"].range[0].whole) == (5120, True)


# driftloop init and check


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with two windows that hold their labels."""
    (tmp_path / "windows").mkdir()
    for month in (1, 2):
        some_rows(seed=month).to_csv(tmp_path / "windows" / f"2024-0{month}.csv", index=False)
    return tmp_path


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(a) for a in args])
    return (done.exit_code, done.output) if not done.exception else (1, f"{done.output}{done.exception}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--target", "left", "--entity", "left"), "expected a column of its own for each"),
        (("--target", "left", "--positive", "maybe"), "the positive label maybe is not among ['False', 'True']"),
        (("--target", "left", "--timestamp", "fee"), "timestamp fee: expected dates or ISO 8601 text"),
        (("--target", "fee", "--task", "binary"), "expected two labels for task binary"),
        (("--target", "plan", "--task", "regression"), "target plan: expected numbers"),
        (("--target", "left", "--name", "no name"), "name = 'no name'"),
    ],
)
def test_init_writes_nothing_that_the_next_command_would_refuse(
    options: tuple[str, ...], told: str, bench: Path
) -> None:
    code, said = run("init", bench, *options)
    assert code != 0
    assert told in said
    assert not (bench / "loop.toml").exists()


@pytest.mark.parametrize("names", [("8", "10"), ("2024-01", "2024-02")])
def test_check_notes_windows_whose_numbers_sort_as_text(names: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    for name in names:
        some_rows().to_csv(tmp_path / "windows" / f"{name}.csv", index=False)
    run("init", tmp_path, "--target", "left")
    assert ("in the order 10, 8, as text sorts" in run("check", tmp_path)[1]) == (names[0] == "8")


def test_check_finds_labels_that_are_spelled_otherwise(bench: Path) -> None:
    run("init", bench, "--target", "left")
    (bench / "schema.yaml").unlink()
    toml = (bench / "loop.toml").read_text().splitlines()
    (bench / "loop.toml").write_text("\n".join(line for line in toml if not line.startswith("positive")))
    newest = max((bench / "windows").iterdir())
    some_rows().assign(left=some_rows()["left"].map({True: "yes", False: "no"})).to_csv(newest, index=False)
    code, said = run("check", bench)
    assert code == 1
    assert "its labels are no and yes" in " ".join(said.split())


def test_init_writes_a_schema_that_all_windows_pass(bench: Path) -> None:
    code, said = run("init", bench, "--target", "left")
    assert (code, "schema.yaml: what rows look like, learnt from 120 rows of 2 windows" in said) == (0, True)
    assert "A window holds 60 rows: below 300 chance may look like drift." in said
    loop = contract.load(bench)
    learnt = schema.load(bench, loop)
    assert learnt is not None
    assert set(learnt.columns) == {"user_id", "fee", "plan", "left"}
    code, said = run("check", bench)
    assert (code, "warning" in said, said.count("ok")) == (0, False, 2)


def test_init_keeps_what_was_edited_and_says_so(bench: Path) -> None:
    run("init", bench, "--target", "left")
    file = bench / "schema.yaml"
    file.write_text("rows: {min: 7}\n")
    assert "Kept" in run("init", bench, "--target", "left", "--force")[1]
    assert "is there already" in run("init", bench, "--schema")[1]
    assert file.read_text() == "rows: {min: 7}\n"
    assert "takes the loop from loop.toml" in run("init", bench, "--schema", "--target", "left")[1]
    assert run("init", bench, "--schema", "--force")[0] == 0
    assert "columns:" in file.read_text()


def test_init_learns_nothing_from_windows_that_cannot_be_used(bench: Path) -> None:
    for file in (bench / "windows").iterdir():
        some_rows().assign(left="stayed").to_csv(file, index=False)
    assert "Wrote no" in run("init", bench, "--target", "left", "--task", "binary")[1]
    assert not (bench / "schema.yaml").exists()


def test_check_tells_errors_and_warnings_apart(bench: Path) -> None:
    run("init", bench, "--target", "left")
    odd = some_rows(seed=3).assign(plan=lambda d: ["premium", *d["plan"][1:]])
    odd.to_csv(bench / "windows/2024-03.csv", index=False)
    code, said = run("check", bench)
    assert (code, "warning: column plan: expected one of basic, family" in said) == (0, True)
    (bench / "windows/2024-04.csv").write_text(odd.to_csv(index=False).replace("u7,", "u7,cheap"))
    code, said = run("check", bench)
    assert code == 1
    assert "column fee: expected numbers, none of them infinite, not so in 1 row" in said
    assert "1 of 4 windows would be quarantined" in said
    toml = (bench / "loop.toml").read_text()
    (bench / "loop.toml").write_text(toml.replace('on_bad_rows = "fail"', 'on_bad_rows = "drop"'))
    code, said = run("check", bench)
    assert (code, "error: column fee: expected numbers" in said) == (0, True)
    assert '"bad_rows": 1, "kept_rows": 59, "on_bad_rows": "drop"' in run("check", bench, "--json")[1]
    (bench / "schema.yaml").unlink()
    assert "and there is none" in run("check", bench)[1]
