"""The dashboard: where the loop stands, what each window came to, what the API serves. Run by Streamlit."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from driftloop import contract
from driftloop.entry import Entry
from driftloop.errors import DriftloopError
from driftloop.ledger import Ledger
from driftloop.metrics import written
from driftloop.reigns import reigns, waiting
from driftloop.settings import Settings
from services.dashboard.client import Api, ApiError
from services.dashboard.months import COLUMNS, month_rows

REFRESH_SECONDS = 5
NOTHING = "–"  # in a cell: not measured, or not yet
ANSWER_SECONDS = 300  # an approval may refit


def serving(api: Api) -> tuple[str, str | None]:
    """(the version the API answers with, what is wrong with it); a dash where there is no API or no model."""
    try:
        return f"v{api.model()['version']}", None
    except ApiError as error:
        return "–", str(error)


@st.fragment(run_every=REFRESH_SECONDS)  # type: ignore[untyped-decorator]  # its stubs are not followed
def page(folder: Path, settings: Settings, api: Api) -> None:
    """Drawn again every few seconds, so that a promotion shows without a reload."""
    try:
        _page(folder, settings, api)
    except DriftloopError as error:  # here: Streamlit shows a fragment's exceptions itself, with their traceback
        st.error(str(error))


def _page(folder: Path, settings: Settings, api: Api) -> None:
    loop = contract.load(folder)
    entries = Ledger(settings.ledger_url, loop.name).entries()
    rows = month_rows(entries)
    _headline(rows, api)
    if asked := waiting(entries):
        _challenger(asked)
    if not rows:
        st.info(f"No window was monitored yet. Start with `driftloop replay {folder}`.")
        return
    table = pd.DataFrame(rows).set_index("window")
    left, right = st.columns(2)
    left.subheader("Drift share by window")
    left.altair_chart(_shares(table, loop.drift.threshold))
    right.subheader(f"Candidate and champion, val_{loop.promotion.metric}")
    right.altair_chart(_scores(table))
    found = ["schema.yaml"] * bool(table["schema.yaml"].notna().any())
    st.dataframe(table[[*COLUMNS, *found]], width="stretch", height="content", placeholder=NOTHING)
    _reigns(entries)
    _drifted(rows)


def _headline(rows: list[dict[str, Any]], api: Api) -> None:
    version, problem = serving(api)
    champion, served, last = st.columns(3)
    champion.metric("Champion in the ledger", rows[-1]["serving"] if rows else "–")
    served.metric("Served by the API", version)
    last.metric("Last window", rows[-1]["window"] if rows else "–")
    last.caption(rows[-1]["verdict"] if rows else "")
    if problem:
        st.caption(problem)


def _challenger(asked: Entry) -> None:
    """Who waits, on what evidence, and a form to answer with."""
    decision = asked.details["report"]["decision"]
    against = "" if decision["champion"] is None else f" against {written(decision['champion'])}"
    with st.container(border=True):
        st.subheader(f"Version {asked.version} waits for approval")
        st.write(
            f"Since {asked.time:%Y-%m-%d %H:%M} UTC, from {asked.window}: {asked.reason}; {decision['metric']} "
            f"{written(decision['candidate'])}{against} on {decision['holdout_rows']:,} holdout rows."
        )
        if judged := decision["slices"]["judged"]:
            st.dataframe(pd.DataFrame(judged), hide_index=True)
        with st.expander("Model card"):
            st.markdown(asked.details["card"])
        with st.form("answer"):
            by = st.text_input("Your name, for the ledger")
            why = st.text_input("Why")
            yes, no, _ = st.columns([1, 1, 6])
            approved = yes.form_submit_button("Approve", type="primary")
            rejected = no.form_submit_button("Reject")
        if approved or rejected:
            ok, said = answer("approve" if approved else "reject", by, why, str(asked.version))
            (st.success if ok else st.error)(said)


def answer(word: str, by: str, why: str, version: str) -> tuple[bool, str]:
    """Ask the approvals service; (whether it was done, what it says)."""
    url, token = os.environ.get("DRIFTLOOP_APPROVALS_URL"), os.environ.get("DRIFTLOOP_APPROVAL_TOKEN", "")
    if not by.strip():
        return False, "Say who you are; it goes into the ledger."
    if url is None:
        return False, f"DRIFTLOOP_APPROVALS_URL is not set. Answer with `driftloop {word}` instead."
    request = urllib.request.Request(
        f"{url}/challenger/{word}",
        json.dumps({"by": by, "why": why, "version": version}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            done: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        return False, _detail(error)
    except (urllib.error.URLError, OSError, ValueError):
        return False, f"the approvals service at {url} does not answer"
    return True, f"{done['kind'].capitalize()} of version {done['version']} is ledger row {done['row']}."


def _detail(error: urllib.error.HTTPError) -> str:
    """What the service says is wrong; a proxy before it says so in its own way."""
    try:
        said = json.load(error)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"the approvals service answers {error.code}"
    return said if isinstance(said, str) else "; ".join(str(problem["msg"]) for problem in said)


def _reigns(entries: Sequence[Entry]) -> None:
    st.subheader("Champions")
    rows = [
        {"version": f"v{r.version}", "from": r.since, "to": r.until, "by": r.by.actor, "because": r.by.reason}
        for r in reversed(reigns(entries))
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, placeholder=NOTHING)


def _shares(table: pd.DataFrame, threshold: float) -> alt.LayerChart:
    """A point a window, joined where there are several, and the threshold they are held against."""
    points = alt.Chart(table.reset_index()).mark_line(point=True, color="#d62728")
    shares = points.encode(
        alt.X("window:N", title=None), alt.Y("drift share:Q", title=None, scale=alt.Scale(domain=[0, 1]))
    )
    return shares + alt.Chart(pd.DataFrame({"threshold": [threshold]})).mark_rule(color="#999999").encode(y="threshold")


def _axis(scores: pd.Series) -> alt.Scale:
    """With room above and below where all scores are one, as a first champion's: else the axis would have no length."""
    if scores.nunique() != 1:
        return alt.Scale(zero=False)
    only = float(scores.iloc[0])
    room = abs(only) / 10 or 1.0
    return alt.Scale(domain=[only - room, only + room])


def _scores(table: pd.DataFrame) -> alt.Chart:
    """A point a model and window, on an axis that need not begin at 0: gains are small."""
    long = table[["candidate", "champion"]].reset_index().melt("window", var_name="model", value_name="score").dropna()
    x, y = alt.X("window", title=None), alt.Y("score", title=None, scale=_axis(long["score"]))
    color = alt.Color("model", scale=alt.Scale(range=["#1f77b4", "#ff7f0e"]), legend=alt.Legend(orient="bottom"))
    return alt.Chart(long).mark_point(size=90, filled=True).encode(x, y, color=color)


def _drifted(rows: list[dict[str, Any]]) -> None:
    window = st.selectbox("Drift by column in", [row["window"] for row in rows if row["columns"]][::-1])
    shown = next((row for row in rows if row["window"] == window), None)
    if shown is None:
        return
    st.dataframe(pd.DataFrame(shown["columns"]).sort_values("drifted", ascending=False), hide_index=True)
    if shown["moved"]:
        st.subheader("Data quality that moved")
        st.dataframe(pd.DataFrame(shown["moved"]).drop(columns="moved"), hide_index=True)


def overview() -> None:
    folder = Path(os.environ.get("DRIFTLOOP_LOOP_DIR", "."))
    try:
        st.title(f"driftloop · {contract.load(folder).name}")
        page(folder, Settings.from_env(os.environ, Path.cwd()), Api.of(os.environ))
    except DriftloopError as error:
        st.error(str(error))


def main() -> None:
    st.set_page_config(page_title="driftloop", layout="wide")
    pages = [st.Page(overview, title="Loop", default=True), st.Page("prediction.py", title="Predict")]
    st.navigation(pages, position="top").run()


main()
