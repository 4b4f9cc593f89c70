"""Real API processes under load, and what breaks around them: nothing that was answered is lost, nobody is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pytest

from driftloop import contract, frame
from driftloop.promoting import compiled
from driftloop.registry import Registry
from driftloop.settings import Settings
from driftloop.training import Candidate
from tests.integration.api_fakes import candidate, rows, wait_for
from tests.integration.api_process import COMPILABLE, Api, Load, require_logged, running
from tests.integration.conftest import Inbox, open_inbox
from tests.integration.test_api_swap import is_subsequence

pytestmark = pytest.mark.e2e
BATCH = 'log = "sqlite"\nflush_ms = 50'


@dataclass(frozen=True)
class Scene:
    """One API for many tests: where it runs, its registry with versions 1 to 3, and where its alerts arrive."""

    api: Api
    registry: Registry
    inbox: Inbox

    def point(self, number: str) -> None:
        """Let a version be champion, and wait until it serves."""
        self.registry.point("champion", number)
        wait_for(lambda: self.api.version() == number, 30)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Versions 1 to 3, compiled as the flows leave them."""
    home = tmp_path_factory.mktemp("faults-mlflow")
    made = Registry(Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd()), "churn")
    for seed in (1, 2, 3):
        made.register(graph(seed), {}, {}, None)
    return made


@pytest.fixture(scope="module")
def scene(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    settings = home_of(registry, tmp_path_factory.mktemp("faults"))
    registry.point("champion", "1")
    with open_inbox() as inbox, running(settings, BATCH, alerts=inbox.address) as api:
        yield Scene(api, registry, inbox)


def graph(seed: int) -> Candidate:
    loop = contract.parse(COMPILABLE)
    return compiled(candidate(COMPILABLE, seed), frame.check(rows(seed), loop, "rows").X)


def home_of(registry: Registry, folder: Path) -> Settings:
    """The registry's settings with a home of their own."""
    return replace(registry.settings, home=folder, ledger_url=f"sqlite:///{folder / 'ledger.db'}")


def test_twenty_swaps_under_load_fail_nobody_and_every_answer_is_in_the_log_once(scene: Scene) -> None:
    scene.point("1")
    swaps = list("123132123132312132313")
    with Load(scene.api.client.base_url) as load:
        for place, number in enumerate(swaps[1:], 1):
            scene.registry.point("champion", number)
            load.see(5)
            if place % 5 == 0:  # so that it is more than the last one that is taken over
                wait_for(lambda number=number: scene.api.version() == number)
        wait_for(lambda: scene.api.version() == swaps[-1])
        load.see(5)
    assert load.failures == []
    for mine in load.answers:
        assert is_subsequence([version for version, _ in groupby(one.version for one in mine)], swaps)
        assert mine[-1].version == swaps[-1]
    require_logged(scene.api.settings, load.all)
