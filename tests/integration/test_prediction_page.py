"""The prediction page's script, run by Streamlit's own test harness before an API that says what each test needs."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import services.dashboard
from flows import server

SCRIPT = Path(services.dashboard.__file__).parent / "prediction.py"


def number(name, low=None, high=None, default=None):
    return {"name": name, "type": "double", "low": low, "high": high, "default": default, "categories": None}


def category(name, known, default):
    return {"name": name, "type": "string", "low": None, "high": None, "default": default, "categories": known}


CHURN = {
    "loop": "churn", "version": "3", "task": "binary", "target": "left_[x]", "labels": ["stayed", "gone"],
    "threshold": 0.4, "max_rows": 2,
    "signature": {"inputs": [number("fee", 10.0, 99.5, 50.2500001234), number("visits", 0.0, 9.0, 3.0), number("old"),
                             category("plan", ["basic", "full"], "full"), category("city", ["Lyon"], None)]},
}  # fmt: skip
DEFAULTS = {"fee": 50.25, "visits": 3.0, "old": None, "plan": "full", "city": None}
SPEND = CHURN | {"task": "regression", "target": "spend", "labels": None, "threshold": None}
KIND = CHURN | {"task": "multiclass", "target": "kind", "labels": ["a", "b", "c"], "threshold": None}
WHY = {
    "version": "3", "label": "gone", "scale": "log-odds", "method": "linear", "base": 0.5, "output": 0.75,
    "values": {"fee": 0.5, "visits": -0.25, "old": 0.0, "plan": 0.0, "city": 0.0},
}  # fmt: skip
LIKELY = {"label": "gone", "probability": 0.68}


@contextmanager
def api(model=CHURN, prediction=LIKELY, explained=(200, WHY), status=200):
    """An API; yields its address and what it was asked: (path, key, body)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(status, model if status == 200 else {"version": None})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["X-API-Key"], body))
            if self.path == "/explain":
                self._answer(*explained)
            elif any(row["plan"] == "odd" for row in body["rows"]):
                self._answer(422, {"detail": [{"loc": ["body", "rows", 0, "plan"], "msg": "plan: no such plan"}]})
            else:
                self._answer(200, {"version": "3", "predictions": [prediction] * len(body["rows"])})

        def _answer(self, code, said):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


@pytest.fixture
def opened(monkeypatch):
    """Opens the page on an API's address."""

    def opened(url):
        monkeypatch.setenv("DRIFTLOOP_API_URL", url)
        monkeypatch.setenv("DRIFTLOOP_API_KEY", "s3same")
        return ran(AppTest.from_file(str(SCRIPT), default_timeout=60))

    return opened


def ran(page):
    page.run()
    assert not page.exception
    return page


def press(page, label):
    next(button for button in page.button if button.label == label).click()
    return ran(page)


def uploaded(page, text):
    page.file_uploader[0].upload("rows.csv", text.encode(), "text/csv")
    return ran(page)


def shown(element):
    """What a reader sees of escaped Markdown."""
    return re.sub(r"\\(.)", r"\1", element.value)


def test_the_form_begins_with_usual_values_and_shows_what_training_held(opened):
    with api() as (url, _):
        page = opened(url)
    assert [(n.label, n.value) for n in page.number_input] == [
        ("fee, 10\u00a0–\u00a099.5", 50.25), ("visits, 0\u00a0–\u00a09", 3.0), ("old", None),
    ]  # fmt: skip
    assert [(s.label, s.options, s.value) for s in page.selectbox] == [
        ("plan", ["basic", "full", "(missing)"], "full"), ("city", ["Lyon", "(missing)"], "(missing)"),
    ]  # fmt: skip


def test_a_row_is_predicted_and_explained_as_it_was_given(opened):
    with api() as (url, asked):
        page = opened(url)
        page.number_input[0].set_value(120.5)
        page.number_input[1].set_value(None)
        page.selectbox[0].set_value("basic")
        press(page, "Predict")
    row = DEFAULTS | {"fee": 120.5, "visits": None, "plan": "basic"}
    assert asked == [("/predict", "s3same", {"rows": [row]}), ("/explain", "s3same", row)]
    assert [(m.label, m.value) for m in page.metric] == [("left\\_\\[x\\], predicted by version 3", "gone")]
    assert shown(page.caption[1]) == "Probability of gone: 0.68; the model says gone from 0.4 on"
    assert shown(page.warning[0]) == "Outside what the model learnt from: fee 120.5."
    spec = json.loads(page.get("vega_lite_chart")[0].proto.spec)
    assert spec["layer"][1]["encoding"]["x"]["title"] == "log-odds of gone"


def test_a_value_is_predicted_in_the_targets_unit(opened):
    with api(SPEND, {"prediction": 412345.7}, (200, WHY | {"scale": "value", "label": None})) as (url, _):
        page = press(opened(url), "Predict")
    assert [(m.label, m.value) for m in page.metric] == [("spend, predicted by version 3", "412,346")]
    assert not any("robability" in caption.value for caption in page.caption)
    assert json.loads(page.get("vega_lite_chart")[0].proto.spec)["layer"][1]["encoding"]["x"]["title"] == "spend"


def test_of_several_labels_the_likeliest_stands_first(opened):
    several = {"label": "b", "probabilities": {"a": 0.2, "b": 0.7, "c": 0.1}}
    with api(KIND, several, (200, WHY | {"scale": "probability", "label": "b"})) as (url, _):
        page = press(opened(url), "Predict")
    assert page.metric[0].value == "b"
    assert shown(page.caption[1]) == "Probability of b: 0.7, a: 0.2, c: 0.1"
    spec = json.loads(page.get("vega_lite_chart")[0].proto.spec)
    assert spec["layer"][1]["encoding"]["x"]["title"] == "probability of b"


def test_a_prediction_stands_without_its_explanation(opened):
    missing = {"detail": "explanations need the extra: pip install 'driftloop[explain]'"}
    with api(explained=(501, missing)) as (url, _):
        page = press(opened(url), "Predict")
    assert page.metric[0].value == "gone"
    assert shown(page.info[0]) == f"No explanation: the API answers 501: {missing['detail']}."
    assert not page.error


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the API answers 401: DRIFTLOOP_API_KEY holds no key that it knows"),
        (503, "the API answers 503: no model is loaded yet"),
        (502, "the API answers 502"),
    ],
)
def test_an_api_that_cannot_answer_is_told_in_one_sentence(opened, status, said):
    with api(status=status) as (url, _):
        page = opened(url)
    assert [shown(error) for error in page.error] == [f"No prediction now: {said}."]
    assert not page.button


def test_the_form_and_the_file_stay_while_the_api_is_away(opened, monkeypatch):
    with api() as (url, _):
        page = uploaded(opened(url), FILE)
        page.number_input[0].set_value(70.5)
        press(page, "Predict")
    ran(page)
    assert [shown(error) for error in page.error] == [f"No prediction now: the API at {url} does not answer."]
    assert page.number_input[0].value == 70.5
    assert page.metric[0].value == "gone"
    assert page.file_uploader[0].value.name == "rows.csv"
    with api(CHURN | {"version": "4"}) as (url, _):
        monkeypatch.setenv("DRIFTLOOP_API_URL", url)
        ran(page)
    assert not page.error
    assert "version 4" in page.caption[0].value
    assert page.number_input[0].value == 70.5


def test_an_api_that_is_away_is_told_in_one_sentence(opened):
    page = opened(f"http://127.0.0.1:{server.free_port()}")
    assert len(page.error) == 1
    assert page.error[0].value.endswith("does not answer.")


def test_an_api_that_went_away_since_is_told_and_the_older_answer_is_gone(opened, monkeypatch):
    with api() as (url, _):
        page = press(opened(url), "Predict")
        monkeypatch.setattr("services.dashboard.client.ANSWER_SECONDS", 0.0)  # too little for any answer
        press(page, "Predict")
    assert shown(page.error[0]) == f"No prediction now: the API at {url} does not answer."
    assert not page.metric


FILE = "id,fee,visits,old,plan,city\n=1+1,1.5,2,,basic,Lyon\n007,2.5,,4,full,\n008,3.5,1,1,,Lyon\n"


def test_a_files_rows_are_predicted_in_requests_that_the_api_takes(opened):
    with api() as (url, asked):
        page = uploaded(opened(url), FILE)
        assert not asked  # nothing is sent before it is asked for: predictions are logged
        assert shown(page.caption[-1]) == "3 rows. Not used by the model: id."
        press(page, "Predict all rows")
    assert [len(body["rows"]) for _, _, body in asked] == [2, 1]
    assert asked[0][2]["rows"][0] == {"fee": 1.5, "visits": 2.0, "old": None, "plan": "basic", "city": "Lyon"}
    table = page.dataframe[0].value
    assert table["id"].tolist() == ["=1+1", "007", "008"]
    assert table["predicted_left_[x]"].tolist() == ["gone"] * 3
    assert table["probability_gone"].tolist() == [0.68] * 3
    assert [button.label for button in page.download_button] == ["Download all rows"]


def test_how_a_spreadsheets_file_was_read_is_told(opened):
    with api() as (url, _):
        page = uploaded(opened(url), "sep=;\nfee;visits;old;plan;city;;*\n50,25;2;;basic;Lyon;;\n")
        assert shown(page.caption[-1]) == (
            "1 row. Numbers are read with decimal commas. Not used by the model: *. Column 6 has no name."
        )
        assert not page.warning
        press(page, "Predict all rows")
    assert list(page.dataframe[0].value)[5:7] == ["column 6", "*"]


def test_what_lies_outside_the_training_rows_is_told_of_a_file_before_it_is_predicted(opened):
    with api() as (url, asked):
        page = uploaded(opened(url), FILE.replace("008,3.5,1,1,,Lyon", "008,50,1,1,none,*Paris*"))
    assert shown(page.warning[0]).split("\n\n") == [
        "Outside what the model learnt from:",
        "fee: 2 of 3 rows lie outside 10–99.5.",
        "plan: 1 of 3 rows holds a value that the model never learnt (none).",
        "city: 1 of 3 rows holds a value that the model never learnt (*Paris*).",
    ]
    assert "*Paris" not in page.warning[0].value.replace("\\*", "")
    assert not asked


def test_a_category_that_was_chosen_before_another_version_came_is_told(opened, monkeypatch):
    fee, visits, old, _, city = CHURN["signature"]["inputs"]
    next_inputs = [fee, visits, old, category("plan", ["basic"], "basic"), city]
    with api() as (url, _):
        page = opened(url)
    with api(CHURN | {"version": "4", "signature": {"inputs": next_inputs}}) as (url, _):
        monkeypatch.setenv("DRIFTLOOP_API_URL", url)
        press(ran(page), "Predict")
    assert shown(page.warning[0]) == "Outside what the model learnt from: plan full."


@pytest.mark.parametrize(
    ("text", "summary", "told"),
    [
        (FILE.replace("2.5", "<b>x</b>"), "One cell holds",
         'Row 2, column fee: expected a finite number or nothing, found "<b>x</b>".'),
        (FILE.replace("city", "town"), "The file lacks columns",
         "Missing: city.\nThe file has: id, fee, visits, old, plan, town."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_and_shown_as_text(opened, text, summary, told):
    with api() as (url, asked):
        page = uploaded(opened(url), text)
    assert page.error[0].value.startswith(summary)
    assert page.text[0].value == told
    assert not asked
    assert not page.dataframe


def test_what_the_api_refuses_of_a_file_is_told(opened):
    with api() as (url, _):
        page = press(uploaded(opened(url), FILE.replace("008,3.5,1,1,", "008,3.5,1,1,odd")), "Predict all rows")
    assert page.text[0].value == "Row 3, column plan: no such plan."
    assert not page.dataframe


def test_the_loop_and_the_prediction_are_pages_of_one_dashboard(monkeypatch, tmp_path):
    monkeypatch.setenv("DRIFTLOOP_LOOP_DIR", str(tmp_path))
    with api() as (url, _):
        monkeypatch.setenv("DRIFTLOOP_API_URL", url)
        page = ran(AppTest.from_file(str(SCRIPT.parent / "app.py"), default_timeout=60))
        assert "loop.toml does not exist" in page.error[0].value
        page.switch_page("prediction.py")
        assert ran(page).title[0].value == "Predict"


def test_the_form_is_as_it_was_left_when_one_comes_back_from_the_loop(monkeypatch, tmp_path):
    monkeypatch.setenv("DRIFTLOOP_LOOP_DIR", str(tmp_path))
    with api() as (url, asked):
        monkeypatch.setenv("DRIFTLOOP_API_URL", url)
        page = ran(AppTest.from_file(str(SCRIPT.parent / "app.py"), default_timeout=60))
        loop = page._finished_page_script_hash  # switch_page knows only pages that are files
        ran(page.switch_page("prediction.py"))
        page.number_input[0].set_value(70.5)
        page.number_input[1].set_value(None)
        page.selectbox[0].set_value("basic")
        press(page, "Predict")
        for away in range(1, 3):
            page._page_hash = loop
            for _ in range(away):
                assert "loop.toml does not exist" in ran(page).error[0].value
            ran(page.switch_page("prediction.py"))
            assert [field.value for field in page.number_input] == [70.5, None, None]
            assert [field.value for field in page.selectbox] == ["basic", "(missing)"]
            assert page.metric[0].value == "gone"
        press(page, "Predict")
    assert [body for path, _, body in asked if path == "/explain"][1] == DEFAULTS | {
        "fee": 70.5, "visits": None, "plan": "basic",
    }  # fmt: skip
