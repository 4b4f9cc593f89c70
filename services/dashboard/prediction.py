"""The prediction page: a form made of the served model's signature, and files. It asks the API and nothing else."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from driftloop.category import MISSING
from services.dashboard import upload
from services.dashboard.client import Api, ApiError, Json, Row
from services.dashboard.learnt import strange, strange_columns
from services.dashboard.upload import Upload, WrongFile
from services.dashboard.waterfall import bars, chart, shown

COLUMNS = 3
PREVIEWED = 100
REFRESH_SECONDS = 5
LIKELIEST = 5  # labels whose probability is told
# what may mean something in Markdown; a label is read out as it is written, so what means nothing there stays
MARKDOWN = re.compile(r"((?<!\w)[-_.]|[-_.](?!\w)|[!-+/:-@\[-^`{-~])")


def plain(text: str) -> str:
    r"""``text`` as Markdown that shows it as it is.

    >>> print(plain("monthly_fee [eur]*"))
    monthly_fee \[eur\]\*
    """
    return MARKDOWN.sub(r"\\\1", text)


@dataclass(frozen=True)
class Answer:
    """What came of one row. ``why`` is its explanation, the sentence that says why there is none, or None before."""

    model: Json
    row: Row
    version: str
    prediction: Json
    why: Json | str | None = None


def main() -> None:
    st.title("Predict")
    api = Api.of(os.environ)
    _look(api)
    model: Json | None = st.session_state.get("model")
    if model is None:
        return
    st.caption(_about(model))
    one, file = st.tabs(["One row", "A file"])
    with one:
        _one(api, model)
    with file:
        _file(api, model)


@st.fragment(run_every=REFRESH_SECONDS)  # type: ignore[untyped-decorator]  # its stubs are not followed
def _look(api: Api) -> None:
    """Which version serves, every few seconds: where there is no answer the last one's form stays, below the reason."""
    drawn: Json | None = st.session_state.get("model")
    try:
        model = api.model()
    except ApiError as error:
        st.error(f"No prediction now: {plain(str(error))}.")
        return
    st.session_state["model"] = model
    if drawn is None or drawn["version"] != model["version"]:
        st.rerun()


def _about(model: Json) -> str:
    return plain(f"{model['loop']} · version {model['version']} · {model['task']} · predicts {model['target']}")


def _one(api: Api, model: Json) -> None:
    form, result = st.columns([5, 4], gap="large")
    with form, st.form("row"):
        row = _inputs(model["signature"]["inputs"])
        asked = st.form_submit_button("Predict", type="primary")
    with result:
        if asked:
            st.session_state["answer"] = _ask(api, model, row)
        answer: Answer | str | None = st.session_state.get("answer")
        if isinstance(answer, str):
            st.error(f"No prediction now: {plain(answer)}.")
        elif answer:
            _show(answer)
            _explain(api, answer)  # the number does not wait for it


def _inputs(inputs: Sequence[Json]) -> Row:
    """A field a feature, in lines of equal height; an empty field is a null."""
    row: dict[str, float | str | None] = {}
    for start in range(0, len(inputs), COLUMNS):
        line = inputs[start : start + COLUMNS]
        for column, one in zip(st.columns(COLUMNS, vertical_alignment="bottom"), line, strict=False):
            with column:
                row[one["name"]] = _number(one) if one["type"] == "double" else _category(one)
    return row


def _number(one: Json) -> float | None:
    key, low, high = f"number:{one['name']}", one["low"], one["high"]
    # not as the field's own default, with which it could not be emptied
    _fill(key, _brief(one["default"]))
    whole = all(value is not None and float(value).is_integer() for value in (low, high, one["default"]))
    span = "" if low is None else f", {shown(low)}\u00a0–\u00a0{shown(high)}"
    found = st.number_input(
        plain(one["name"] + span), value=None, step=1.0 if whole else 0.1, format="%g", key=key, placeholder="unknown"
    )
    st.session_state["fields"][key] = found
    return None if found is None else float(found)


def _brief(value: float | None) -> float | None:
    """As many decimals as make six digits, so that it can be read."""
    return round(value, max(0, 5 - math.floor(math.log10(abs(value))))) if value else value


def _category(one: Json) -> str | None:
    key, known = f"category:{one['name']}", [*(one["categories"] or ()), MISSING]
    chosen = _fill(key, one["default"] or MISSING)
    options = known if chosen in known else [*known, chosen]  # chosen before another version came
    found = st.selectbox(plain(one["name"]), options, key=key)
    st.session_state["fields"][key] = found
    return None if found == MISSING else str(found)


def _fill(key: str, default: float | str | None) -> float | str | None:
    """The field's value, as it was left: Streamlit forgets a field while another page is drawn, but no other value."""
    kept = st.session_state.setdefault("fields", {})
    value: float | str | None = st.session_state.setdefault(key, kept.get(key, default))
    return value


def _ask(api: Api, model: Json, row: Row) -> Answer | str:
    """The answer, or the sentence that says why there is none."""
    try:
        scored = api.predict([row])
    except ApiError as error:
        return str(error)
    return Answer(model, row, scored.version, scored.predictions[0])


def _show(answer: Answer) -> None:
    model, prediction = answer.model, answer.prediction
    said = prediction["label"] if "label" in prediction else shown(prediction["prediction"])
    st.metric(plain(f"{model['target']}, predicted by version {answer.version}"), plain(said))
    if "label" in prediction:
        likely = sorted(upload.probabilities(model, prediction).items(), key=lambda one: -one[1])[:LIKELIEST]
        st.caption(
            plain("Probability of " + ", ".join(f"{word}: {shown(value)}" for word, value in likely) + _from(model))
        )
    if found := _strange(model["signature"]["inputs"], answer.row):
        st.warning(f"Outside what the model learnt from: {plain(', '.join(found))}.")


def _explain(api: Api, answer: Answer) -> None:
    """The chart, kept with the answer."""
    why = answer.why
    if why is None:
        try:
            with st.spinner("Explaining …"):
                why = api.explain(answer.row)
        except ApiError as error:
            why = str(error)
        st.session_state["answer"] = replace(answer, why=why)
    if isinstance(why, str):
        st.info(f"No explanation: {plain(why)}.")
        return
    st.altair_chart(chart(bars(why, answer.row), _scale(answer.model, why)))
    st.caption("SHAP values: what moved this row away from the average, the largest first.")


def _from(model: Json) -> str:
    """Where a binary model begins to say yes."""
    if model["task"] != "binary":
        return ""
    threshold = 0.5 if model["threshold"] is None else model["threshold"]
    return f"; the model says {model['labels'][1]} from {shown(threshold)} on"


def _strange(inputs: Sequence[Json], row: Row) -> list[str]:
    """Features of which no training row held such a value, with it."""
    return [
        f"{one['name']} {value if isinstance(value, str) else shown(value, 6)}"
        for one in inputs
        if (value := row[one["name"]]) is not None and strange(one, value)
    ]


def _scale(model: Json, why: Json) -> str:
    """What the bars are measured in."""
    return str(model["target"]) if why["label"] is None else f"{why['scale']} of {why['label']}"


def _file(api: Api, model: Json) -> None:
    inputs = model["signature"]["inputs"]
    names = plain(", ".join(one["name"] for one in inputs))
    given = st.file_uploader("A CSV file", type="csv")
    st.caption(f"It needs the columns {names}. Others are kept, and an empty cell is an unknown value.")
    if given is None:
        return
    try:
        table = upload.read(given.getvalue(), inputs)
        _rows(api, model, table, given.file_id)
    except WrongFile as error:
        st.error(plain(error.summary))
        st.text("\n".join(error.problems))
    except ApiError as error:
        st.error(f"No predictions: {plain(str(error))}.")


def _rows(api: Api, model: Json, table: Upload, file_id: str) -> None:
    st.caption(plain(_read(table)))
    if told := strange_columns(model["signature"]["inputs"], table.rows):
        st.warning("\n\n".join(map(plain, ["Outside what the model learnt from:", *told])))
    if st.button("Predict all rows", type="primary"):
        st.session_state["file"] = file_id, _predicted(api, model, table)
    done, columns = st.session_state.get("file", (None, {}))
    if done != file_id:
        return
    head = pd.DataFrame(table.cells[:PREVIEWED], columns=table.titles())
    head = head.assign(**{name: values[:PREVIEWED] for name, values in columns.items()})
    pinned = {name: st.column_config.Column(pinned=True) for name in columns}
    st.dataframe(head, hide_index=True, column_config=pinned)
    if len(table.rows) > PREVIEWED:
        st.caption(f"The first {PREVIEWED} rows; the download has all {len(table.rows):,}.")
    made = upload.to_csv(table, columns)
    st.download_button("Download all rows", made, "predictions.csv", "text/csv", on_click="ignore")


def _read(table: Upload) -> str:
    """How the file was taken."""
    told = [f"{len(table.rows):,} row{'s' * (len(table.rows) > 1)}."]
    if table.decimal == ",":
        told.append("Numbers are read with decimal commas.")
    if unused := table.unused():
        told.append(f"Not used by the model: {', '.join(unused)}.")
    return " ".join([*told, *(f"Column {place} has no name." for place in table.unnamed())])


def _predicted(api: Api, model: Json, table: Upload) -> dict[str, list[str | float]]:
    progress, scored, done = st.progress(0.0), [], 0
    for some in upload.predict(api, table, model["max_rows"]):
        scored.append(some)
        done += len(some.predictions)
        progress.progress(done / len(table.rows), f"{done:,} of {len(table.rows):,} rows")
    progress.empty()
    return upload.answers(model, scored, table.header)


main()
