"""Uploaded files: what is sent to the API of them, what is told, and what comes back."""

from __future__ import annotations

import csv
import io
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dashboard import upload
from services.dashboard.client import Api, ApiError, Refused, Scored, TooLarge
from services.dashboard.upload import WrongFile

INPUTS = [{"name": "fee", "type": "double"}, {"name": "plan", "type": "string"}]
BINARY = {"target": "left", "labels": ["no", "yes"]}


class FakeApi(Api):
    """Scores a row by its fee; takes at most ``most`` rows, refuses a plan that is "odd", goes away after ``lives``."""

    def __init__(self, most: int = 10_000, lives: int = 99) -> None:
        super().__init__("http://nowhere")
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "most", most)
        object.__setattr__(self, "lives", lives)

    def predict(self, rows):
        self.asked.append(len(rows))
        if len(rows) > self.most:
            raise TooLarge("the API answers 413: too much")
        if len(self.asked) > self.lives:
            raise ApiError("the API at http://nowhere does not answer")
        wrong = [i for i, row in enumerate(rows) if row["plan"] == "odd"]
        if wrong:
            raise Refused([{"loc": ["body", "rows", i, "plan"], "msg": "plan: no such plan"} for i in wrong])
        return Scored("3", [{"label": "yes", "probability": row["fee"] or 0.0} for row in rows])


def read(text):
    return upload.read(text.encode(), INPUTS)


def problems(text):
    with pytest.raises(WrongFile) as caught:
        read(text)
    return caught.value.summary, caught.value.problems


def test_cells_become_what_the_api_takes_and_nulls_where_there_is_nothing():
    table = read("id,plan,fee\n007,basic,1.5\n008,,\n009,full,1e3\n")
    assert table.rows == [
        {"fee": 1.5, "plan": "basic"}, {"fee": None, "plan": None}, {"fee": 1000.0, "plan": "full"},
    ]  # fmt: skip
    assert table.unused() == ["id"]


@pytest.mark.parametrize(
    ("cells", "plans"),
    [
        (["true", "False", ""], ["True", "False", None]),
        (["01", "02"], ["01", "02"]),  # digits only, which pandas would take for numbers
        (["01", "x"], ["01", "x"]),
        (["1e3", "0x1", "+5"], ["1e3", "0x1", "+5"]),
        (["2", "", "3"], ["2", None, "3"]),
        (["2.0", "3.5", ""], ["2", "3.5", None]),
        (["007", "x", "NA"], ["007", "x", None]),
        (["(missing)", "a,b", ' "q" '], [None, "a,b", ' "q" ']),
    ],
)
def test_categories_are_spelled_as_training_spells_them(cells, plans):
    text = io.StringIO()
    csv.writer(text).writerows([["fee", "plan"], *([1, cell] for cell in cells)])
    assert [row["plan"] for row in read(text.getvalue()).rows] == plans


@pytest.mark.parametrize("text", ["fee;plan\n1;a\n", "fee\tplan\r\n1\ta\r\n", "\ufefffee,plan\n1,a\n\n"])
def test_other_separators_line_ends_and_a_byte_order_mark_are_read(text):
    assert read(text).rows == [{"fee": 1.0, "plan": "a"}]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_read_where_columns_have_another_separator(separator):
    table = read("fee;plan\n-1,5;a,b\n1e3;\n;0,5\n7;1.5\n".replace(";", separator))
    assert [row["fee"] for row in table.rows] == [-1.5, 1000.0, None, 7.0]
    assert [row["plan"] for row in table.rows] == ["a,b", None, "0,5", "1.5"]
    assert table.decimal == ","


def test_a_file_writes_its_numbers_one_way_so_thousands_are_not_taken_for_decimals():
    _, told = problems("fee;plan\n0,5;a\n0,7;a\n1.234;b\n1.234,5;b\n")
    assert told == [
        'Row 3, column fee: expected a finite number or nothing, found "1.234".',
        'Row 4, column fee: expected a finite number or nothing, found "1.234,5".',
    ]
    assert problems('fee,plan\n"0,5",a\n')[0].startswith("One cell holds")


@pytest.mark.parametrize("preface", ["sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_a_first_line_that_names_the_separator_is_skipped_and_kept_for_the_download(preface):
    table = read(f"{preface}fee;plan;x,y,z\n1,5;a;\n")
    assert table.rows == [{"fee": 1.5, "plan": "a"}]
    made = upload.to_csv(table, {"predicted": [0.25], "model_version": ["1.2"]}).decode()
    assert made == f"{preface}fee;plan;x,y,z;predicted;model_version\n1,5;a;;0,25;1.2\n"


def test_columns_without_a_name_are_told_by_their_place_and_kept():
    table = read(",fee,plan, \n0,1,a,x\n")
    assert (table.unnamed(), table.unused()) == ([1, 4], [])
    assert table.titles() == ["column 1", "fee", "plan", "column 4"]
    assert upload.to_csv(table, {"p": [1.0]}).decode() == ",fee,plan, ,p\n0,1,a,x,1.0\n"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_is_the_same_whether_it_is_apart_from_its_letter_or_not(form):
    inputs = [{"name": normalize(form, "année"), "type": "double"}]
    for written in (normalize("NFC", "année"), normalize("NFD", "année")):
        table = upload.read(f"{written},é\n1,2\n".encode(), inputs)
        assert table.rows == [{inputs[0]["name"]: 1.0}]
        assert table.unused() == ["é"]
        assert upload.to_csv(table, {"p": [0]}).decode().startswith(written)
    with pytest.raises(WrongFile, match="more than once"):
        upload.read(f"{normalize('NFC', 'année')},{normalize('NFD', 'année')}\n1,2\n".encode(), inputs)


def test_text_in_numbers_is_told_by_row_and_column_and_in_the_files_words():
    summary, told = problems("fee,plan\n1,a\na lot,b\ninf,c\n")
    assert summary == "2 cells hold what the model cannot take. Rows are counted from the one below the header."
    assert told == [
        'Row 2, column fee: expected a finite number or nothing, found "a lot".',
        'Row 3, column fee: expected a finite number or nothing, found "inf".',
    ]


def test_of_many_problems_the_first_are_told_and_the_rest_are_counted():
    summary, told = problems("fee,plan\n" + "x,a\n" * 50)
    assert summary.startswith("50 cells")
    assert len(told) == 21
    assert told[-1] == "… and 30 more."


@pytest.mark.parametrize(
    ("text", "summary", "told"),
    [
        ("", "The file is empty.", []),
        ("fee,plan\n", "The file has a header and no rows.", []),
        ("fees,plan\n1,a\n", "The file lacks columns that the model needs.",
         ["Missing: fee.", "The file has: fees, plan."]),
        ("fee,plan,fee\n1,a,2\n", "The file names a column more than once.", ["Column fee."]),
        ("fee,plan\n1\n2,a\n3,a,b\n", "Every row needs as many cells as the header has, 2.",
         ["Row 1 has 1.", "Row 3 has 3."]),
        ('fee,plan\n1,"a\n', "The file is not CSV: unexpected end of data.", []),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_of_the_models_columns_is_told(text, summary, told):
    assert problems(text) == (summary, told)


def test_a_file_that_is_no_text_is_told():
    with pytest.raises(WrongFile, match="not UTF-8 text"):
        upload.read(b"\xff\xfe\x00f", INPUTS)


def test_rows_go_to_the_api_in_chunks_and_in_halves_of_those_it_finds_too_large(monkeypatch):
    monkeypatch.setattr(upload, "AT_ONCE", 10)
    api, table = FakeApi(most=5), read("fee,plan\n" + "".join(f"{i},a\n" for i in range(23)))
    scored = list(upload.predict(api, table, max_rows=8))
    assert [p["probability"] for some in scored for p in some.predictions] == list(range(23))
    assert api.asked == [8, 4, 4, 8, 4, 4, 7, 3, 4]


def test_one_row_that_is_too_large_is_told():
    with pytest.raises(TooLarge):
        list(upload.predict(FakeApi(most=0), read("fee,plan\n1,a\n"), 10))


def test_what_the_api_refuses_is_told_by_the_files_row():
    table = read("fee,plan\n" + "1,a\n" * 5 + "1,odd\n")
    with pytest.raises(WrongFile) as caught:
        list(upload.predict(FakeApi(most=2), table, max_rows=4))
    assert caught.value.problems == ["Row 6, column plan: no such plan."]


def test_an_api_that_goes_away_midway_leaves_no_half_result():
    with pytest.raises(ApiError, match="does not answer"):
        list(upload.predict(FakeApi(lives=1), read("fee,plan\n" + "1,a\n" * 9), max_rows=4))


def test_predictions_stand_beside_the_files_own_cells_which_nothing_changes():
    table = read('probability_yes;plan;fee;note\n=1+1;a;1.50;@x\n007;;;"two\nlines"\n')
    columns = upload.answers(BINARY, list(upload.predict(FakeApi(), table, 10)), table.header)
    made = list(csv.reader(io.StringIO(upload.to_csv(table, columns).decode(), newline=""), delimiter=";"))
    assert made == [
        ["probability_yes", "plan", "fee", "note", "predicted_left", "probability_yes_2", "model_version"],
        ["=1+1", "a", "1.50", "@x", "yes", "1.5", "3"],
        ["007", "", "", "two\nlines", "yes", "0.0", "3"],
    ]


def test_each_task_has_its_columns():
    several = [{"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}]
    assert upload.answers({"target": "kind"}, [Scored("1", several)], []) == {
        "predicted_kind": ["b"], "probability_a": [0.2], "probability_b": [0.8], "model_version": ["1"],
    }  # fmt: skip
    values = [Scored("1", [{"prediction": 7.5}]), Scored("2", [{"prediction": 8.0}])]
    assert upload.answers({"target": "spend"}, values, []) == {
        "predicted_spend": [7.5, 8.0], "model_version": ["1", "2"],
    }  # fmt: skip


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.text("ab=+-@,;\"'\n\t é", max_size=8)), min_size=1, max_size=5))
def test_any_cells_come_back_as_they_were(cells):
    text = io.StringIO()
    csv.writer(text).writerows([["fee", "plan"], *cells])
    table = upload.read(text.getvalue().encode(), INPUTS)
    made = upload.to_csv(table, {"predicted": list(range(len(cells)))}).decode()
    assert list(csv.reader(io.StringIO(made, newline=""))) == [
        ["fee", "plan", "predicted"], *([str(fee), plan, str(i)] for i, (fee, plan) in enumerate(cells)),
    ]  # fmt: skip
