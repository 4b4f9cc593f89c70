"""What init infers from the windows, and that what it writes down is read back as it was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop import contract, draft, frame
from driftloop.contract import Features
from driftloop.draft import Draft
from driftloop.errors import ContractError
from tests.fakes import a_loop

N = 40


def table(**columns: Any) -> pd.DataFrame:
    """Customers with an id, a time, a number, a category and a label; some columns replaced or added."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(N)],
            "event_time": pd.date_range("2024-01-01", periods=N, freq="h").astype(str),
            "fee": rng.normal(size=N),
            "plan": ["basic", "family"] * (N // 2),
            "churn": [True, False] * (N // 2),
        }
        | columns
    )


def infer(rows: pd.DataFrame, **given: Any) -> Draft:
    return draft.infer(rows, name="churn", path="windows", **given)


def test_a_plain_table_is_understood() -> None:
    assert infer(table()) == Draft(
        name="churn",
        task="binary",
        target="churn",
        positive=True,
        entity="user_id",
        timestamp="event_time",
        path="windows",
        labels=None,
        features=Features(numeric=("fee",), categorical=("plan",)),
        holdout="entity",
        unused=(),
        fewest=N,
    )


def test_what_is_given_wins_over_what_is_inferred() -> None:
    drawn = infer(table(), target="fee", task="regression", entity="plan", timestamp="user_id")
    assert (drawn.target, drawn.task, drawn.entity, drawn.timestamp) == ("fee", "regression", "plan", "user_id")
    assert drawn.positive is None


@pytest.mark.parametrize("role", ["target", "entity", "timestamp"])
def test_a_given_column_that_is_not_there_is_named(role: str) -> None:
    with pytest.raises(ContractError, match=rf"--{role} gone: there is no such column; the window has user_id, "):
        infer(table(), **{role: "gone"})


@pytest.mark.parametrize(
    ("columns", "target"),
    [
        (["a", "target"], "target"),
        (["Label", "b"], "Label"),
        (["a", "b"], None),
        (["target", "label"], None),
        (["y", "x"], "y"),
        (["years", "classes"], None),
    ],
)
def test_a_target_is_guessed_by_name_when_one_only_has_such_a_name(columns: list[str], target: str | None) -> None:
    assert draft.guess_target(columns) == target


def test_a_target_that_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(ContractError, match="Say so with --target, one of: user_id, event_time, fee, plan, left"):
        infer(table().rename(columns={"churn": "left"}))


@pytest.mark.parametrize(
    ("columns", "entity"),
    [
        ({"id": [1, 2, 3]}, "id"),
        ({"ID": ["a", "b", "c"]}, "ID"),
        ({"Customer_Id": [1, 2, 3]}, "Customer_Id"),
        ({"shop_id": [1, 1, 2], "user_id": [1, 2, 3]}, "user_id"),
        ({"user_id": [1, 2, None]}, None),
        ({"paid": [1, 2, 3], "idle": [1, 2, 3]}, None),
        ({"CustomerId": [1, 2, 3]}, "CustomerId"),
        ({"customerID": [1, 2, 3]}, "customerID"),
        ({"customer id": [1, 2, 3]}, "customer id"),
    ],
)
def test_an_entity_is_an_id_that_is_there_and_differs_in_every_row(columns: dict[str, Any], entity: str | None) -> None:
    assert draft.guess_entity(pd.DataFrame(columns), None) == entity


@pytest.mark.parametrize(("customers", "entity"), [(40, "customer_id"), (9, None)])
def test_an_entity_may_come_again_at_other_times(customers: int, entity: str | None) -> None:
    days = pd.date_range("2024-01-01", periods=28)
    rows = pd.DataFrame([{"customer_id": c, "day": day} for c in range(customers) for day in days])
    assert draft.guess_entity(rows, "day") == entity
    assert draft.guess_entity(rows, None) is None


@pytest.mark.parametrize(
    ("columns", "timestamp"),
    [
        ({"at": pd.date_range("2024", periods=3)}, "at"),
        ({"event_time": ["2024-01-01", "2024-01-02", "2024-01-03T10:00"]}, "event_time"),
        ({"signup_date": ["2020-01-01"] * 3}, None),
        ({"event_time": ["2024-01-01", "soon", "2024-01-03"]}, None),
        ({"when": ["2024-01-01", "2024-01-02", "2024-01-03"]}, None),
        ({"watch_time": [1.5, 2.5, 3.5]}, None),
    ],
)
def test_a_timestamp_is_a_time_that_moves(columns: dict[str, Any], timestamp: str | None) -> None:
    assert draft.guess_timestamp(pd.DataFrame(columns), None) == timestamp


@pytest.mark.parametrize(
    ("first", "later", "timestamp"),
    [
        (["2024-01-01", "2024-01-31"], ["2024-02-01", "2024-02-28"], "when"),
        (["2024-01-31", "2024-01-31"], ["2024-02-29", "2024-02-29"], "when"),
        (["2019-05-01", "2023-01-31"], ["2020-02-01", "2024-02-28"], None),
        (["2024", "2025"], ["2026", "2027"], None),
    ],
    ids=["within the month", "the month's end", "a sign-up", "years are numbers"],
)
def test_with_two_windows_a_timestamp_is_what_lies_before_the_next(
    first: list[str], later: list[str], timestamp: str | None
) -> None:
    windows = [pd.DataFrame({"when": dates}) for dates in (first, later)]
    assert draft.guess_timestamp(*windows) == timestamp


def test_dates_and_ids_are_no_features() -> None:
    rows = table(signup_date=["2020-01-01", "2021-01-01"] * (N // 2), shop_id=["a", "b"] * (N // 2))
    drawn = infer(rows)
    assert {"signup_date", "shop_id"} <= set(drawn.unused)


def test_a_target_of_words_that_do_not_come_again_is_of_no_task_there_is() -> None:
    told = rf"churn holds {N} different values, e\.g\. w0, w1, w2: expected two labels"
    with pytest.raises(ContractError, match=told):
        infer(table(churn=[f"w{i}" for i in range(N)]))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False] * (N // 2), "categorical"),
        ([True, None] * (N // 2), "categorical"),
        (["a", "b"] * (N // 2), "categorical"),
        (["a"] * N, "categorical"),
        (pd.Categorical(["a", "b"] * (N // 2)), "categorical"),
        ([1, 2] * (N // 2), "numeric"),
        ([1.5, None] * (N // 2), "numeric"),
        (np.linspace(0, 1, N), "numeric"),
        (list(range(N)), "unused"),
        ([f"name {i}" for i in range(N)], "unused"),
        ([None] * N, "unused"),
        (pd.date_range("2024", periods=N), "unused"),
    ],
)
def test_a_column_is_a_number_a_category_or_of_no_use(values: Any, kind: str) -> None:
    drawn = infer(table(column=values), timestamp="event_time")
    found = {"numeric": drawn.features.numeric, "categorical": drawn.features.categorical, "unused": drawn.unused}
    assert [name for name, columns in found.items() if "column" in columns] == [kind]


def test_another_id_is_no_feature() -> None:
    assert "shop_id" in infer(table(shop_id=[3, 1] * (N // 2))).unused


def test_target_entity_and_timestamp_are_never_features() -> None:
    drawn = infer(table())
    assert not {"churn", "user_id", "event_time"} & {*drawn.features.names, *drawn.unused}


@pytest.mark.parametrize(
    ("labels", "task", "positive"),
    [
        ([True, False], "binary", True),
        ([0, 1], "binary", 1),
        ([0.0, 1.0], "binary", 1),
        (["no", "yes"], "binary", "yes"),
        ([1.5, 2.5], "binary", "2.5"),
        ([1.0, 2.0, 3.0, 4.0], "regression", None),
    ],
)
def test_two_values_are_a_binary_target_and_more_a_regressions(labels: list[Any], task: str, positive: Any) -> None:
    drawn = infer(table(churn=labels * (N // len(labels))))
    assert (drawn.task, drawn.positive, type(drawn.positive)) == (task, positive, type(positive))


@pytest.mark.parametrize(
    ("columns", "holdout"),
    [
        ({}, "entity"),
        ({"user_id": [1.5] * N}, "time"),
        ({"user_id": [1.5] * N, "event_time": ["2024-01-01"] * N}, "row"),
    ],
)
def test_the_holdout_is_by_owner_else_by_time_else_by_row(columns: dict[str, Any], holdout: str) -> None:
    assert infer(table(**columns)).holdout == holdout


def test_where_a_given_timestamp_is_constant_the_holdout_is_by_row() -> None:
    rows = table(user_id=1.5, event_time="2024-01-01")
    assert infer(rows, timestamp="event_time").holdout == "row"


# what is written is read back


@pytest.mark.parametrize(
    "labels",
    [
        [True, False],
        [0, 1],
        [0.0, 1.0],
        [1, 2],
        [1.5, 2.5],
        ["no", "yes"],
        ["0", "1"],
        ["true", "false"],
        ["TRUE", "FALSE"],
        ["01", "02"],
        ["-1", "1"],
        ['a"b', "c\\d"],
    ],
    ids=str,
)
def test_the_rows_a_loop_was_drawn_up_from_pass_its_check(labels: list[Any]) -> None:
    rows = table(churn=labels * (N // 2))
    loop = contract.parse(infer(rows).toml)
    checked = frame.check(rows, loop, "2024-01")
    assert checked.y is not None
    assert checked.y.mean() == 0.5


@pytest.mark.parametrize(
    "name",
    [
        'the "fee"',
        "montant payé",
        "d'été",
        "back\\slash",
        "#hash",
        "del\x7fete",
        "a = 1",
        "[x]",
        "tab\there",
        "línea\nnueva",
        "日本",
        "😀",
    ],
)
@pytest.mark.parametrize("column", ["user_id", "event_time", "fee", "plan", "churn", "unused"])
def test_a_column_of_any_name_is_read_back(name: str, column: str) -> None:
    rows = table(unused=[f"note {i}" for i in range(N)]).rename(columns={column: name})
    given = {role: name for role, of in (("target", "churn"), ("entity", "user_id")) if of == column}
    given |= {"timestamp": name} if column == "event_time" else {}
    drawn = infer(rows, **given)
    loop = contract.parse(drawn.toml)
    assert (loop.target, loop.entity, loop.timestamp) == (drawn.target, drawn.entity, drawn.timestamp)
    assert loop.features == drawn.features
    assert loop.holdout.by == drawn.holdout


@settings(max_examples=25)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8))
def test_any_name_a_file_can_hold_is_read_back(name: str) -> None:
    if name in table():
        return
    drawn = infer(table().rename(columns={"fee": name}))
    assert contract.parse(drawn.toml).features == drawn.features


def test_the_written_loop_says_what_was_inferred() -> None:
    text = infer(table(note=[f"note {i}" for i in range(N)]), labels="labels").toml
    loop = contract.parse(text)
    assert "# not used: note" in text
    assert (loop.task, loop.positive, loop.windows.labels) == ("binary", True, "labels")
    assert (loop.model.estimator, loop.promotion.metric) == ("sklearn.ensemble.RandomForestClassifier", "auc")


def test_the_tuned_trigger_is_there_as_a_comment_that_can_be_taken_up() -> None:
    text = infer(table()).toml
    assert contract.parse(text).trigger == a_loop().trigger
    head, _, rest = text.partition("# [trigger]")
    hint = "".join(f"{line.removeprefix('# ')}\n" for line in rest.splitlines()[1:4])
    trigger = contract.parse(f"{head}[trigger]\n{hint}").trigger
    assert (trigger.on, trigger.consecutive, trigger.min_rows) == (("drift", "performance", "estimated"), 2, 300)


@pytest.mark.parametrize(("rows", "later", "small"), [(300, None, False), (299, None, True), (400, 299, True)])
def test_windows_in_which_chance_looks_like_drift_are_told_of(rows: int, later: int | None, small: bool) -> None:
    drawn = infer(pd.concat([table()] * 10)[:rows], later=None if later is None else pd.concat([table()] * 10)[:later])
    assert (drawn.small is not None) == small
    assert ("# A window holds 299 rows: below 300 chance" in drawn.toml) == small


@pytest.mark.parametrize("labels", [["no", "yes"], ["low", "middle", "high"]])
def test_a_classifier_s_leaves_hold_several_rows_and_no_weights_bend_their_shares(labels: list[str]) -> None:
    loop = contract.parse(infer(table(churn=[labels[i % len(labels)] for i in range(N)])).toml)
    assert loop.model.params == {"n_estimators": 100, "min_samples_leaf": 5, "random_state": 42}


def test_a_regressions_loop_has_a_regressor() -> None:
    loop = contract.parse(infer(table(churn=np.arange(N) / 7)).toml)
    assert (loop.model.estimator, loop.promotion.metric) == ("sklearn.ensemble.RandomForestRegressor", "rmse")
    assert loop.model.params == {"n_estimators": 100, "random_state": 42}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("churn", "churn"), ("my loop!", "my-loop"), ("été", "t"), ("...", "loop"), ("a/b.c_d-e", "b.c_d-e")],
)
def test_a_loop_is_named_after_its_folder(folder: str, name: str) -> None:
    assert draft.loop_name(Path("/somewhere") / folder) == name


# the survey of a folder


def write(rows: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(file, index=False)


def test_windows_in_their_own_folder_are_found(tmp_path: Path) -> None:
    write(table(), tmp_path / "windows" / "2024-02.csv")
    write(table(), tmp_path / "windows" / "2024-01.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    assert (found.path, found.labels, found.ids) == ("windows", None, ("2024-01", "2024-02"))
    assert found.rows.columns.tolist() == table().columns.tolist()


def test_windows_right_in_the_folder_are_found(tmp_path: Path) -> None:
    write(table(), tmp_path / "2024-01.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    assert (found.path, found.ids) == (".", ("2024-01",))


@pytest.mark.parametrize("place", ["windows", "."])
def test_the_first_window_with_labels_is_looked_at(place: str, tmp_path: Path) -> None:
    rows = table()
    for n, window in enumerate(("2024-01", "2024-02")):
        write(rows.drop(columns="churn").assign(fee=n), tmp_path / place / f"{window}.csv")
    write(rows[["user_id", "churn"]], tmp_path / "labels" / "2024-02.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    assert (found.labels, found.ids) == ("labels", ("2024-01", "2024-02"))
    assert (found.entity, found.target) == ("user_id", "churn")
    assert (found.rows["fee"] == 1).all()
    assert found.rows["churn"].tolist() == rows["churn"].tolist()


def test_the_entity_is_what_all_tables_share(tmp_path: Path) -> None:
    rows = table()
    write(rows[["plan", "user_id", "fee"]], tmp_path / "windows/2024-01/fees.csv")
    write(rows[["user_id", "churn"]], tmp_path / "windows/2024-01/churn.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    assert found.entity == "user_id"
    assert set(found.rows) == {"user_id", "fee", "plan", "churn"}


def test_tables_that_share_no_key_are_refused_in_words(tmp_path: Path) -> None:
    write(table()[["fee"]], tmp_path / "windows/2024-01/fees.csv")
    write(table()[["plan"]], tmp_path / "windows/2024-01/plans.csv")
    with pytest.raises(ContractError, match="entity"):
        draft.survey(tmp_path, entity=None, target=None)


def test_numbers_with_a_leading_zero_are_codes(tmp_path: Path) -> None:
    """Also where the first window holds no letter among them; the target's are what the loop will read them as."""
    half = N // 2
    coded = table(level=["0", "12"] * half, rate=["0.5", "07.5"] * half, churn=["00", "01"] * half)
    coded = coded.assign(steps=["00", "123"] * half)  # of one width are codes
    write(coded.assign(store=[None, "02"] * half), tmp_path / "windows" / "2024-01.csv")
    write(coded.assign(store=["10", "11"] * half), tmp_path / "windows" / "2024-02.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    drawn = draft.infer(found.rows, found.later, name="x", path=found.path, target=found.target)
    assert (drawn.target, drawn.positive) == ("churn", 1)
    assert "store" in drawn.features.categorical
    assert {"level", "rate", "steps"} <= set(drawn.features.numeric)


def test_numbers_of_many_kinds_are_none(tmp_path: Path) -> None:
    rows = pd.DataFrame({"amount": [f"{n * 7919 % 1000:04}" for n in range(200)], "churn": [True, False] * 100})
    write(rows, tmp_path / "windows" / "2024-01.csv")
    found = draft.survey(tmp_path, entity=None, target=None)
    assert draft.infer(found.rows, name="x", path=found.path).features.numeric == ("amount",)


@pytest.mark.parametrize("make", [None, "windows", "labels"])
def test_a_folder_without_windows_says_what_was_expected(make: str | None, tmp_path: Path) -> None:
    if make:
        (tmp_path / make).mkdir()
    with pytest.raises(ContractError, match="holds no windows"):
        draft.survey(tmp_path, entity=None, target=None)


def test_features_left_out_of_loop_toml_are_inferred_from_the_first_window(tmp_path: Path) -> None:
    write(table(), tmp_path / "windows" / "2024-01.csv")
    write(table(extra=1.5), tmp_path / "windows" / "2024-02.csv")
    (tmp_path / "loop.toml").write_text(
        'name = "churn"\ntask = "binary"\ntarget = "churn"\nentity = "user_id"\ntimestamp = "event_time"\n'
        '[model]\nestimator = "sklearn.linear_model.LogisticRegression"\n'
    )
    assert draft.resolved(tmp_path).columns == Features(numeric=("fee",), categorical=("plan",))


def test_features_cannot_be_inferred_without_a_window(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    (tmp_path / "loop.toml").write_text(
        'name = "churn"\ntask = "binary"\ntarget = "churn"\n[model]\nestimator = "sklearn.svm.SVC"\n'
    )
    with pytest.raises(ContractError, match="there is no window to infer them from"):
        draft.resolved(tmp_path)


def test_the_features_of_a_loop_are_those_that_init_would_write() -> None:
    rows = table().rename(columns={"churn": "left"})
    loop = a_loop(features=None, timestamp="event_time")
    assert draft.infer_features(rows, loop) == infer(rows, target="left").features


@pytest.mark.parametrize(
    ("text", "label"), [("true", True), ("False", False), ("1", 1), ("-1", -1), ("yes", "yes"), ("1.5", "1.5"), (3, 3)]
)
def test_a_label_given_as_text_is_spelled_as_toml_would(text: str | int, label: bool | int | str) -> None:
    assert (draft.spelled(text), type(draft.spelled(text))) == (label, type(label))


@pytest.mark.parametrize(
    ("prices", "delta"), [([1e5, 2e5, 4e5], 1000), ([0.001, 0.002, 0.003], 8e-6), ([7, 7, 7], 0.01)]
)
def test_a_regressions_margin_is_a_hundredth_of_what_its_target_varies_by(prices: list[float], delta: float) -> None:
    drawn = infer(table(price=np.resize(prices, N)), target="price", task="regression")
    assert drawn.delta == delta
    assert contract.parse(drawn.toml).promotion.delta == delta
