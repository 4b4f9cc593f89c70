"""The made-up service: deterministic, the shape the contract asks for, labels one month late."""

from __future__ import annotations

import re
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from driftloop import contract, frame, generator, windows
from driftloop.errors import ContractError
from driftloop.generator import GeneratorSettings, Month

STREAMFLOW = Path(__file__).parents[2] / "data" / "streamflow"


@pytest.fixture(scope="module")
def settings() -> GeneratorSettings:
    """The bundled story with fewer customers."""
    return generator.load(STREAMFLOW).model_copy(update={"users": 300})


@pytest.fixture(scope="module")
def months(settings: GeneratorSettings) -> list[Month]:
    return list(generator.generate(settings))


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def users(month: Month) -> set[str]:
    return set(month.tables["users"]["user_id"])


def joined(month: Month) -> pd.DataFrame:
    return reduce(lambda left, right: left.merge(right, on="user_id", validate="1:1"), month.tables.values())


def test_the_same_seed_writes_the_same_bytes(settings: GeneratorSettings, tmp_path: Path) -> None:
    short = settings.model_copy(update={"months": 3})
    for name in ("one", "two"):
        generator.write(tmp_path / name, short)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_another_seed_makes_other_customers(settings: GeneratorSettings, months: list[Month]) -> None:
    other = next(generator.generate(settings.model_copy(update={"seed": settings.seed + 1})))
    assert not users(other) & users(months[0])


def test_a_year_of_five_tables_a_month_with_the_columns_of_the_loop(months: list[Month]) -> None:
    assert [m.id for m in months] == [f"2024-{n:02d}" for n in range(1, 13)]
    for month in months:
        assert {name: tuple(t.columns[1:]) for name, t in month.tables.items()} == generator.TABLES
        assert month.labels.columns.tolist() == ["user_id", "churn_label"]


def test_every_month_has_rows_that_join_one_to_one_and_pass_the_loops_check(months: list[Month]) -> None:
    loop = contract.load(STREAMFLOW)
    for month in months:
        rows = joined(month)
        assert len(rows) == len(month.labels) == len(users(month))
        checked = frame.check(rows.merge(month.labels, on="user_id", validate="1:1"), loop, month.id)
        assert checked.y is not None
        assert 0.15 < checked.y.mean() < 0.5


def test_user_ids_are_of_our_own_making(months: list[Month]) -> None:
    assert all(re.fullmatch(r"\d{4}-[A-Z]{5}", user) for month in months for user in users(month))


def test_customers_stay_and_a_few_join_and_leave(settings: GeneratorSettings, months: list[Month]) -> None:
    for before, after in pairwise(months):
        left, new = users(before) - users(after), users(after) - users(before)
        assert 0 < len(left) < 0.1 * len(users(before))
        assert len(new) == settings.joining
        churned = set(before.labels.loc[before.labels["churn_label"], "user_id"])
        assert left <= churned


def test_nobody_who_left_comes_back(months: list[Month]) -> None:
    gone: set[str] = set()
    for before, after in pairwise(months):
        gone |= users(before) - users(after)
        assert not gone & users(after)


def test_a_customer_keeps_what_is_theirs_and_grows_a_month_older(months: list[Month]) -> None:
    before, after = (joined(m).set_index("user_id") for m in months[:2])
    after = after.loc[after.index.intersection(before.index)]
    before = before.loc[after.index]
    for column in ("signup_date", "contract_type", "net_service", "paperless_billing", "has_family"):
        assert after[column].equals(before[column])
    assert (after["months_active"] == before["months_active"] + 1).all()
    assert ((after["total_paid"] - before["total_paid"] - before["monthly_fee"]).abs() < 0.02).all()


def test_stream_plans_are_blank_exactly_for_customers_without_the_service(months: list[Month]) -> None:
    rows = months[0].tables["subscriptions"]
    without = rows["net_service"] == "No"
    assert without.any()
    for plan in ("plan_stream_tv", "plan_stream_movies"):
        assert (rows[plan].isna() == without).all()


def test_signup_dates_agree_with_the_months_active(months: list[Month]) -> None:
    for month in months:
        rows = joined(month)
        signed = pd.to_datetime(rows["signup_date"]).dt.to_period("M")
        assert (signed + rows["months_active"].to_numpy() == pd.Period(month.id, "M")).all()


def test_labels_arrive_one_month_late_and_the_last_never(settings: GeneratorSettings, months: list[Month]) -> None:
    deliveries = list(generator.deliveries(settings))
    assert [d.window for d in deliveries] == settings.ids()
    assert [list(d.labels) for d in deliveries] == [[], *([w] for w in settings.ids()[:-1])]
    pd.testing.assert_frame_equal(deliveries[1].labels["2024-01"], months[0].labels)


def test_what_is_delivered_is_what_the_loop_reads(settings: GeneratorSettings, tmp_path: Path) -> None:
    loop = contract.load(STREAMFLOW)
    found = windows.open_windows(loop, tmp_path)
    for delivery, before in zip(generator.deliveries(settings), [None, *settings.ids()], strict=False):
        delivery.write(tmp_path)
        assert found.ids()[-1] == delivery.window
        assert not found.has_labels(delivery.window)
        assert before is None or found.has_labels(before)
    rows = frame.check(found.read("2024-11"), loop, "2024-11")
    assert rows.y is not None
    assert rows.y.notna().all()


def test_a_delivery_leaves_nothing_unfinished_and_can_be_repeated(settings: GeneratorSettings, tmp_path: Path) -> None:
    first, second, *_ = generator.deliveries(settings)
    for delivery in (first, second):
        delivery.write(tmp_path)
    once = files(tmp_path)
    second.write(tmp_path)
    assert files(tmp_path) == once
    assert not [name for name in once if "unfinished" in name]


def test_a_window_that_breaks_off_while_it_is_written_is_not_seen(settings: GeneratorSettings, tmp_path: Path) -> None:
    first = next(generator.deliveries(settings))
    broken = generator.Delivery(first.window, first.tables | {"no/such/folder": first.tables["users"]}, {})
    with pytest.raises(OSError, match="no"):
        broken.write(tmp_path)
    found = windows.open_windows(contract.load(STREAMFLOW), tmp_path)
    assert found.ids() == []
    first.write(tmp_path)
    assert found.ids() == [first.window]
    assert sorted(f.stem for f in (tmp_path / "windows" / first.window).iterdir()) == sorted(generator.TABLES)


def test_the_price_rise_and_the_new_app_show_in_the_means(months: list[Month]) -> None:
    april, may, july = (joined(months[n]).mean(numeric_only=True) for n in (3, 4, 6))
    assert may["monthly_fee"] > 1.08 * april["monthly_fee"]
    assert may["rebuffer_events_7d"] > 1.2 * july["rebuffer_events_7d"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("users = 2500", "users = 2500\nsede = 1", "sede: Extra inputs"),
        ("users = 2500", "users = -1", "users: .*greater than"),
        ("watch_hours_30d = 0.95", "watch_hrs = 0.95", "watch_hrs is not known"),
        ("tenure = -0.3", "loyalty = -0.3", "loyalty is not known"),
        ('"No" = 21.0', '"None" = 21.0', "None is not known"),
        ("has_family = 0.48\n", "", "has_family is missing"),
        ("[fees]", "[fees", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (STREAMFLOW / "generator.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "generator.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ContractError, match=message):
        generator.load(tmp_path)


def test_a_folder_without_a_generator_says_so(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="has no generator"):
        generator.load(tmp_path)
