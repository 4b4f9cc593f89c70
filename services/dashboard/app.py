"""The dashboard: where the loop stands, what each window came to, what the API serves. Run by Streamlit."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from driftloop import contract
from driftloop.errors import DriftloopError
from driftloop.ledger import Ledger
from driftloop.settings import Settings
from services.dashboard.months import COLUMNS, month_rows

REFRESH_SECONDS = 5


def serving(api_url: str | None) -> tuple[str, str | None]:
    """(the version the API answers with, what is wrong with it); a dash where there is no API or no model."""
    if api_url is None:
        return "–", "DRIFTLOOP_API_URL is not set"
    try:
        with urllib.request.urlopen(f"{api_url}/model", timeout=2) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        return "–", f"the API answers {error.code}: no model is loaded yet"
    except (urllib.error.URLError, OSError, ValueError):
        return "–", f"the API at {api_url} does not answer"
    return f"v{answer['version']}", None


@st.fragment(run_every=REFRESH_SECONDS)  # type: ignore[untyped-decorator]  # its stubs are not followed
def page(folder: Path, settings: Settings, api_url: str | None) -> None:
    """Drawn again every few seconds, so that a promotion shows without a reload."""
    try:
        _page(folder, settings, api_url)
    except DriftloopError as error:  # here: Streamlit shows a fragment's exceptions itself, with their traceback
        st.error(str(error))


def _page(folder: Path, settings: Settings, api_url: str | None) -> None:
    loop = contract.load(folder)
    rows = month_rows(Ledger(settings.ledger_url, loop.name).entries())
    _headline(rows, api_url)
    if not rows:
        st.info(f"No window was monitored yet. Start with `driftloop replay {folder}`.")
        return
    table = pd.DataFrame(rows).set_index("window")
    left, right = st.columns(2)
    left.subheader("Drift share by window")
    left.line_chart(table[["drift share"]].assign(threshold=loop.drift.threshold), color=["#d62728", "#999999"])
    right.subheader(f"Candidate and champion, val_{loop.promotion.metric}")
    right.altair_chart(_scores(table))
    st.dataframe(table[list(COLUMNS)], width="stretch", height="content")
    _drifted(rows)


def _headline(rows: list[dict[str, Any]], api_url: str | None) -> None:
    version, problem = serving(api_url)
    champion, api, last = st.columns(3)
    champion.metric("Champion in the ledger", rows[-1]["serving"] if rows else "–")
    api.metric("Served by the API", version)
    last.metric("Last window", rows[-1]["window"] if rows else "–")
    last.caption(rows[-1]["verdict"] if rows else "")
    if problem:
        st.caption(problem)


def _scores(table: pd.DataFrame) -> alt.Chart:
    """A point a model and window, on an axis that need not begin at 0: gains are small."""
    long = table[["candidate", "champion"]].reset_index().melt("window", var_name="model", value_name="score").dropna()
    x, y = alt.X("window", title=None), alt.Y("score", title=None, scale=alt.Scale(zero=False))
    color = alt.Color("model", scale=alt.Scale(range=["#1f77b4", "#ff7f0e"]), legend=alt.Legend(orient="bottom"))
    return alt.Chart(long).mark_point(size=90, filled=True).encode(x, y, color=color)


def _drifted(rows: list[dict[str, Any]]) -> None:
    window = st.selectbox("Drift by column in", [row["window"] for row in rows if row["columns"]][::-1])
    columns = next((row["columns"] for row in rows if row["window"] == window), None)
    if columns:
        st.dataframe(pd.DataFrame(columns).sort_values("drifted", ascending=False), hide_index=True)


def main() -> None:
    st.set_page_config(page_title="driftloop", layout="wide")
    folder = Path(os.environ.get("DRIFTLOOP_LOOP_DIR", "."))
    try:
        st.title(f"driftloop · {contract.load(folder).name}")
        page(folder, Settings.from_env(os.environ, Path.cwd()), os.environ.get("DRIFTLOOP_API_URL"))
    except DriftloopError as error:
        st.error(str(error))


main()
