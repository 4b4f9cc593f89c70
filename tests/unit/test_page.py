"""What a page is drawn on and what it says, without Evidently."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop import page
from driftloop.page import CATEGORIES, COLUMNS, Excerpt, allotted, chosen, draw
from driftloop.retrain import ColumnDrift, Drift

FEE = ColumnDrift("fee", "K-S p_value", 0.43219, 0.05, drifted=False)
PLAN = ColumnDrift("plan", "Jensen-Shannon distance", 0.25, 0.1, drifted=True)
FOUND = Drift(0.5, (FEE, PLAN))


def side(rows: int, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"fee": np.arange(rows, dtype=float), "plan": [f"p{(start + n) % 3}" for n in range(rows)]})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[str]]]:
    """What Evidently was asked to draw, instead of Evidently."""
    asked: list[tuple[Any, list[str]]] = []

    def plots(sides: Any, columns: Any, numeric: Any) -> str:
        asked.append((sides, [column.name for column in columns]))
        return f'<html><body>\n{page.PLACE}metric_1">{"x" * page.COLUMNS * len(columns)}</div></body></html>'

    monkeypatch.setattr(page, "_plots", plots)
    return asked


def text(html: str) -> str:
    body = html[html.index("<section") : html.index("</section>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


# which rows


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12), st.integers(1, 3000))
def test_strata_are_in_by_their_share(sizes: list[int], most: int) -> None:
    shares = allotted(sizes, most)
    assert sum(shares) == min(most, sum(sizes))
    if sum(sizes) > most:
        assert all(abs(share - most * size / sum(sizes)) < 1 for share, size in zip(shares, sizes, strict=True))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))


MONTHS = [("2024-01", 3000), ("2024-02", 1000)]


def labels() -> Iterator[Any]:
    """Three rows of ten are yes; a piece of a thousand rows at a time."""
    for _ in range(4):
        yield np.array(["yes", "yes", "yes", *["no"] * 7] * 100, dtype=object)


def test_every_window_and_label_is_in_by_its_share() -> None:
    places = chosen("churn", MONTHS, 400, labels)
    assert (np.diff(places) > 0).all(), "in order, each once"
    assert (places < 3000).sum() == 300
    said = np.concatenate(list(labels()))[places] == "yes"
    assert (said[:300].sum(), said[300:].sum()) == (90, 30)


def test_rows_without_a_label_are_a_stratum_too() -> None:
    def some() -> Iterator[Any]:
        return (np.where(np.arange(1000) % 2, piece, None) for piece in labels())

    places = chosen("churn", MONTHS, 400, some)
    assert (places % 2 == 0).sum() == 200


def test_without_labels_the_windows_are_the_strata() -> None:
    places = chosen("homes", MONTHS, 400)
    assert len(set(places.tolist())) == 400
    assert ((places < 3000).sum(), (places >= 3000).sum()) == (300, 100)
    assert (np.diff(places) > 0).all()


@given(st.integers(1, 2500))
def test_how_labels_come_in_pieces_does_not_matter(size: int) -> None:
    def pieces() -> Iterator[Any]:
        every = np.concatenate(list(labels()))
        for window in (every[:3000], every[3000:]):
            yield from (window[start : start + size] for start in range(0, len(window), size))

    assert list(chosen("churn", MONTHS, 400, pieces)) == list(chosen("churn", MONTHS, 400, labels))


@pytest.mark.parametrize("of", [labels, None])
def test_the_sample_is_the_same_each_time_and_another_for_another_loop_or_window(of: Any) -> None:
    def sample(loop: str, window: str) -> tuple[int, ...]:
        return tuple(chosen(loop, [(window, 4000)], 50, of))

    assert sample("churn", "2024-01") == sample("churn", "2024-01")
    others = [("churn", "2024-01"), ("churn", "2024-02"), ("homes", "2024-01")]
    assert len({sample(*other) for other in others}) == 3


def test_a_windows_rows_do_not_depend_on_those_of_the_others() -> None:
    one, other = (chosen("churn", [*MONTHS[:1], (window, 1000)], 100, labels) for window in ("2024-02", "2024-03"))
    assert list(one[one < 3000]) == list(other[other < 3000])
    assert list(one) != list(other)


def test_few_rows_are_all_in() -> None:
    assert list(chosen("churn", [("2024-01", 30), ("2024-02", 12)], 42, list)) == list(range(42))


# what it says


def test_the_banner_has_the_exact_verdict_and_what_the_plots_are_of(drawn: Any) -> None:
    html = draw(Excerpt(side(200), side(100), 800_000, 200_000), FOUND, ["fee"], "columnar")
    said = text(html)
    assert "Drawn on 300 of 1,000,000 rows; the verdict is over all rows" in said
    assert (
        "Drift share 0.500: 1 of 2 features drifted , measured over all 1,000,000 rows by the columnar engine" in said
    )
    assert "200 of 800,000 rows of the reference and 100 of 200,000 current rows" in said
    assert html.index("</section>") < html.index(page.PLACE), "before anything that Evidently draws"
    assert "not drawn" not in said
    assert "categories" not in said


def test_the_banner_lists_every_columns_exact_score_drifted_ones_first(drawn: Any) -> None:
    said = text(draw(Excerpt(side(9), side(9), 99, 99), FOUND, ["fee"], "evidently"))
    plan = "plan Jensen-Shannon distance 0.25 0.1 Data drift detected"
    fee = "fee K-S p_value 0.4322 0.05 Data drift not detected"
    assert 0 < said.index(plan) < said.index(fee)
    ((_, columns),) = drawn
    assert columns == ["plan", "fee"]


def test_the_target_is_told_apart_in_the_table(drawn: Any) -> None:
    rows = side(9).assign(left="yes")
    said = text(
        draw(Excerpt(rows, rows, 99, 99), replace(FOUND, target=replace(FEE, name="left")), ["fee"], "columnar")
    )
    assert "left K-S p_value 0.4322 0.05 Data drift not detected target" in said
    assert "1 of 2 features drifted" in said
    assert sorted(drawn[0][1]) == ["fee", "left", "plan"]


def test_names_are_escaped(drawn: Any) -> None:
    rows = side(9).rename(columns={"plan": "<script>alert(1)</script>"})
    found = Drift(0.5, (FEE, replace(PLAN, name="<script>alert(1)</script>")))
    html = draw(Excerpt(rows, rows, 99, 99), found, ["fee"], "columnar")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_rare_and_long_categories_are_drawn_as_few_and_short(drawn: Any) -> None:
    rows = pd.DataFrame({"fee": 1.0, "plan": [f"{n:03} {'x' * 500}" for n in range(200)] + ["a"] * 100})
    said = text(draw(Excerpt(rows, rows, 999, 999), FOUND, ["fee"], "columnar"))
    assert f"{CATEGORIES} most frequent categories are drawn, the others as one: plan (151 others)." in said
    ((sides, _),) = drawn
    plans = sides[0]["plan"]
    assert plans.nunique() == CATEGORIES + 1
    assert (plans == "(151 other categories)").sum() == 151
    assert plans.str.len().max() == page.LONGEST
    assert (plans == "a").sum() == 100
    assert rows["plan"].nunique() == 201, "the rows themselves stay as they are"


def test_a_null_label_stays_null(drawn: Any) -> None:
    rows = side(9).assign(left=["yes", None, "no"] * 3)
    draw(Excerpt(rows, rows, 99, 99), replace(FOUND, target=replace(FEE, name="left")), ["fee"], "columnar")
    assert drawn[0][0][0]["left"].isna().sum() == 3


def test_a_column_of_nothing_but_nulls_in_the_sample_is_not_drawn_and_named(drawn: Any) -> None:
    said = text(draw(Excerpt(side(9).assign(fee=np.nan), side(9), 99, 99), FOUND, ["fee"], "columnar"))
    assert "Not drawn, for one side of the sample holds nothing but nulls: fee." in said
    assert "fee K-S p_value 0.4322" in said
    assert drawn[0][1] == ["plan"]


def test_a_column_that_evidently_cannot_plot_is_named(drawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plots = page._plots

    def picky(sides: Any, columns: Any, numeric: Any) -> str:
        if any((sides[0][column.name] == 1e15).any() for column in columns):
            raise ValueError("Too many bins for data range. Cannot create 10 finite-sized bins.")
        return plots(sides, columns, numeric)

    monkeypatch.setattr(page, "_plots", picky)
    said = text(draw(Excerpt(side(9).assign(fee=1e15), side(9), 99, 99), FOUND, ["fee"], "columnar"))
    assert "Not drawn, for Evidently cannot plot values of such a size and range: fee." in said
    assert "columns are not drawn" not in said
    assert "fee K-S p_value 0.4322" in said
    assert drawn[-1][1] == ["plan"]


def test_of_many_columns_those_that_drifted_are_drawn(drawn: Any) -> None:
    names = [f"c{n}" for n in range(300)]
    found = Drift(0.1, tuple(ColumnDrift(n, "K-S p_value", 0.01, 0.05, int(n[1:]) % 10 == 9) for n in names))
    rows = pd.DataFrame(1.0, index=range(3), columns=names)
    said = text(draw(Excerpt(rows, rows, 3, 3), found, names, "evidently"))
    assert "Drawn on all 6 rows" in said
    assert f"{300 - COLUMNS} columns are not drawn, so that browsers open the page." in said
    ((_, columns),) = drawn
    assert len(columns) == COLUMNS
    assert set(columns) > {n for n in names if int(n[1:]) % 10 == 9}
    assert all(f" {name} K-S p_value" in said for name in names), "every score is in the table"


def test_a_page_that_is_still_too_large_is_drawn_with_half_the_columns(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{n}" for n in range(8)]
    found = Drift(0.0, tuple(ColumnDrift(n, "K-S p_value", 0.5, 0.05, drifted=False) for n in names))
    rows = pd.DataFrame(1.0, index=range(3), columns=names)
    html = draw(Excerpt(rows, rows, 3, 3), found, names, "columnar")
    monkeypatch.setattr(page, "MOST_BYTES", len(html) - 5 * page.COLUMNS)
    smaller = draw(Excerpt(rows, rows, 3, 3), found, names, "columnar")
    assert len(smaller) <= page.MOST_BYTES
    assert [len(columns) for _, columns in drawn] == [8, 8, 4, 2]
    assert "6 columns are not drawn" in text(smaller)
