"""What a run holds in its hands: reading by content, and an alias that follows the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from driftloop import contract, workspace
from driftloop.errors import ContractError, DriftloopError
from driftloop.ledger import Ledger
from driftloop.registry import Registry
from driftloop.settings import Settings
from driftloop.workspace import Workspace, open_workspace
from tests.fakes import FakeRegistry, FakeWindows, a_loop, some_rows

LOOP = """
name = "churn"
task = "binary"
target = "left"
entity = "user_id"
[features]
numeric = ["fee"]
categorical = ["plan"]
[[model.candidates]]
estimator = "sklearn.tree.DecisionTreeClassifier"
[[model.candidates]]
estimator = "sklearn.tree.ExtraTreeClassifier"
[training]
strategies = ["all", "latest"]
"""


@pytest.fixture
def work(tmp_path: Path) -> Any:
    settings = Settings.from_env({}, tmp_path)
    ledger = Ledger(settings.ledger_url, "churn")
    windows = FakeWindows({"2024-01": some_rows(seed=1), "2024-02": some_rows(seed=2)})
    yield Workspace(tmp_path, settings, a_loop(), windows, ledger, cast("Registry", FakeRegistry()))
    ledger._engine.dispose()


def promote(work: Workspace, version: str, expected: str | None = None) -> None:
    work.ledger.promote(version, expected=expected, window="w", reason="r", actor="a", details={})


def test_a_window_is_checked_once_until_its_content_changes(work: Workspace) -> None:
    first = work.read("2024-01")
    assert work.read("2024-01") is first
    cast("FakeWindows", work.windows).tables["2024-01"] = some_rows(seed=3)
    assert work.read("2024-01").fingerprint != first.fingerprint


def test_a_training_on_more_rows_than_are_kept_has_their_memory(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = work.read("2024-01")
    work.make_room(300)
    assert work.read("2024-01") is kept
    monkeypatch.setattr(workspace, "CACHED_ROWS", 299)
    work.make_room(300)
    assert work.read("2024-01") is not kept


def test_the_newest_window_is_the_last_that_sorts(work: Workspace) -> None:
    assert work.newest() == "2024-02"


def test_without_windows_there_is_no_newest(work: Workspace) -> None:
    cast("FakeWindows", work.windows).tables.clear()
    with pytest.raises(ContractError, match="has no window yet; put the first one under windows/"):
        work.newest()


def test_without_a_promotion_there_is_no_champion(work: Workspace) -> None:
    assert (work.champion(), work.serving()) == (None, None)


def test_an_alias_that_agrees_needs_no_healing(work: Workspace) -> None:
    assert work.point_aliases() is None
    promote(work, "1")
    work.registry.point("champion", "1")
    assert work.point_aliases() is None


@pytest.mark.parametrize(("alias", "said"), [(None, "pointed at nothing"), ("1", "pointed at 1")])
def test_an_alias_left_behind_follows_the_ledger(work: Workspace, alias: str | None, said: str) -> None:
    promote(work, "1")
    promote(work, "2", "1")
    if alias:
        work.registry.point("champion", alias)
    assert said in str(work.point_aliases())
    assert work.registry.champion() == "2"
    assert work.point_aliases() is None


def test_an_alias_the_ledger_never_heard_of_is_an_error_and_stays(work: Workspace) -> None:
    work.registry.point("champion", "9")
    with pytest.raises(DriftloopError, match=r"points at version 9, but the ledger at sqlite:.* records no champion"):
        work.point_aliases()
    assert work.registry.champion() == "9"


def test_a_loop_with_candidates_and_strategies_is_opened_as_it_was_read(tmp_path: Path) -> None:
    candidates = [{"estimator": f"sklearn.tree.{name}"} for name in ("DecisionTreeClassifier", "ExtraTreeClassifier")]
    loop = a_loop(model={"candidates": candidates}, training={"strategies": ["all", "latest"]})
    (tmp_path / "windows").mkdir()
    (tmp_path / "loop.toml").write_text(LOOP)
    opened = open_workspace(tmp_path, Settings.from_env({}, tmp_path))
    assert opened.loop == loop == contract.load(tmp_path)
    assert opened.loop.digest == loop.digest
    opened.ledger._engine.dispose()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("params = { depth = 3 }\n[[model.candidates]]\nestimator = 'sklearn.svm.SVC'", "does not fit .*depth"),
        ("space = { depth = { low = 1, high = 3 } }\n[model.search]\ntrials = 2", "space of .* has depth"),
        ("preprocessing = 'nowhere.scaled'", "'nowhere.scaled' cannot be imported"),
    ],
)
def test_a_recipe_that_cannot_be_made_is_told_when_the_loop_is_opened(tmp_path: Path, model: str, told: str) -> None:
    section = "[[model.candidates]]" if "candidates" in model else "[model]"
    first, rest = (
        LOOP.partition("[[model.candidates]]")[0],
        f"estimator = 'sklearn.tree.DecisionTreeClassifier'\n{model}",
    )
    (tmp_path / "loop.toml").write_text(f"{first}{section}\n{rest}\n")
    with pytest.raises(ContractError, match=told):
        open_workspace(tmp_path, Settings.from_env({}, tmp_path))
