"""Real API processes under load, and what breaks around them: nobody is refused, nothing that was answered is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import FunctionTransformer

from driftloop import artifact, contract, frame
from driftloop.promoting import compiled
from driftloop.registry import Registry
from driftloop.settings import Settings
from driftloop.spool import SpoolWriter
from driftloop.training import Candidate
from services.api.answers import encode
from tests.integration.api_fakes import ROW, SPEND, candidate, rows, wait_for
from tests.integration.api_process import (
    COMPILABLE,
    Answer,
    Api,
    Load,
    full_disk,
    is_alive,
    kill,
    logged,
    processes,
    require_logged,
    running,
    scribe_once,
    store_of,
    write_loop,
)
from tests.integration.conftest import Inbox, Loop, month, open_inbox
from tests.integration.spooling import line
from tests.integration.test_api_swap import is_subsequence, stored, truncate
from tests.integration.test_approval import champions

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")]
LOOKED = "driftloop_api_last_look_timestamp_seconds"
BATCH = 'log = "sqlite"\nflush_ms = 50'
SYNC = 'log = "sqlite"\ndurability = "sync"'
LATE = 2.0  # seconds by which an answer may have come too late to be flushed: forty times flush_ms, on a busy machine


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

    def ship(self) -> None:
        """Wait until the log holds all that was answered so far: it is shipped in the order of the answers."""
        last = self.api.client.post("/predict", json=ROW).json()["request_id"]
        wait_for(lambda: last in set(logged(self.api.settings)["request_id"]), 30)

    def load(self) -> Load:
        return Load(self.api.client.base_url)


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
    with open_inbox() as inbox, running(write_loop(settings, BATCH), settings, alerts=inbox.address) as api:
        yield Scene(api, registry, inbox)


@cache
def graph(seed: int) -> Candidate:
    loop = contract.parse(COMPILABLE)
    return compiled(candidate(COMPILABLE, seed), frame.check(rows(seed), loop, "rows").X)


def home_of(registry: Registry, folder: Path) -> Settings:
    """The registry's settings with a home of their own."""
    return replace(registry.settings, home=folder, ledger_url=f"sqlite:///{folder / 'ledger.db'}")


def in_order(answers: list[Answer], swaps: list[str]) -> bool:
    """Whether a client's versions follow the swaps: some may be left out, and none comes back."""
    return is_subsequence([version for version, _ in groupby(one.version for one in answers)], swaps)


# the registry


def test_twenty_swaps_under_load_fail_nobody_and_every_answer_is_in_the_log_once(scene: Scene) -> None:
    swaps = list("123132123132312132313")
    scene.point(swaps[0])
    with scene.load() as load:
        for place, number in enumerate(swaps[1:], 1):
            scene.registry.point("champion", number)
            load.see(5)
            if place % 5 == 0:  # so that it is more than the last one that is taken over
                wait_for(lambda number=number: scene.api.version() == number)
        for _ in range(2):  # an earlier 3 may serve while the 1 between them is on its way
            seen = scene.api.metric(LOOKED)
            wait_for(lambda seen=seen: scene.api.metric(LOOKED) > seen)
        wait_for(lambda: scene.api.version() == swaps[-1])
        load.see(5)
    assert load.failures == []
    assert all(in_order(mine, swaps) and mine[-1].version == swaps[-1] for mine in load.answers)
    assert {one.version for one in load.all} == {"1", "2", "3"}
    require_logged(scene.api.settings, load.all)


def test_a_registry_that_is_gone_for_a_while_is_told_of_and_followed_again(scene: Scene) -> None:
    scene.point("1")
    file = Path(scene.registry.settings.tracking_uri.removeprefix("sqlite:///"))
    with scene.load() as load:
        away = file.rename(file.with_suffix(".away"))
        try:
            wait_for(lambda: scene.api.trouble() == "the alias could not be read: MLflow does not answer")
            before = scene.api.metric(LOOKED)
            load.see(100)
            assert scene.api.version() == "1"
            assert scene.api.metric(LOOKED) == before
        finally:
            away.rename(file)
        wait_for(lambda: not scene.api.trouble())
        scene.point("2")
        load.see(1)
    assert load.failures == []
    assert all(in_order(mine, ["1", "2"]) for mine in load.answers)


def flip(model: Path, _: Registry) -> None:
    content = bytearray((model / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (model / "model.onnx").write_bytes(content)


def cut(model: Path, _: Registry) -> None:
    truncate(model)


def put_another_loops(model: Path, registry: Registry) -> None:
    other = Registry(registry.settings, "spend")
    number = other.register(candidate(SPEND.replace('"churn"', '"spend"'), 4), {}, {}, None).number
    shutil.rmtree(model)
    shutil.copytree(stored(other, number), model)


def put_a_strange_type(model: Path, _: Registry) -> None:
    skops.io.dump(FunctionTransformer(subprocess.call), model / "model.skops")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "its digest differs"),
        (cut, "cannot be loaded"),
        (put_another_loops, "trained for the loop spend, not for churn"),
        (put_a_strange_type, "subprocess.call"),
    ],
)
def test_a_version_that_is_not_what_was_stored_is_told_of_and_never_serves(
    scene: Scene, damage: Callable[[Path, Registry], None], said: str
) -> None:
    scene.point("1")
    failures = scene.api.metric("driftloop_api_swap_failures_total")
    bad = scene.registry.register(graph(3), {}, {}, None).number
    damage(stored(scene.registry, bad), scene.registry)
    with scene.load() as load:
        scene.registry.point("champion", bad)
        wait_for(lambda: scene.api.trouble().startswith(f"version {bad} could not be taken over"), 30)
        assert said in scene.api.trouble()
        assert str(scene.api.settings.home) not in scene.api.trouble()
        load.see(5)
        scene.point("2")
        load.see(1)
    assert load.failures == []
    assert all(in_order(mine, ["1", "2"]) for mine in load.answers)
    assert scene.api.trouble() == ""
    assert scene.api.metric("driftloop_api_swap_failures_total") > failures
    wait_for(lambda: any(f"version {bad} " in text and said in text for text in scene.inbox.messages()))


# labels and the challenger


def asked(seed: int, count: int) -> pd.DataFrame:
    """Rows on which the versions are of two minds."""
    rng = np.random.default_rng(seed)
    fee, usage = rng.normal(50, 6, count), rng.normal(20, 5, count)
    plan = rng.choice(["basic", "full"], count)
    return pd.DataFrame({"fee": fee, "monthly usage": usage, "plan": plan, "paperless": [True] * count})


def answered(api: Api, rows_: pd.DataFrame) -> tuple[str, list[float]]:
    """A batch's request id and its probabilities."""
    said = api.client.post("/predict", json={"rows": rows_.to_dict("records")}).json()
    return said["request_id"], [one["probability"] for one in said["predictions"]]


def truth(scores: list[float]) -> list[int]:
    """What happened: mostly what was expected."""
    return [int((score > 0.5) != (place % 4 == 0)) for place, score in enumerate(scores)]


def label(api: Api, request_id: str, events: list[int]) -> None:
    """Say what happened to each row of a batch."""
    labels = [
        {"request_id": request_id, "row": row, "label": "gone" if event else "stayed"}
        for row, event in enumerate(events)
    ]
    assert api.client.post("/feedback", json={"labels": labels}).status_code == 202


def live(api: Api, version: str) -> dict:
    return api.model()["live"].get(version, {})


def test_labels_that_come_before_their_rows_are_shipped_count_for_the_version_that_answered(scene: Scene) -> None:
    scene.point("3")
    one = scene.api.client.post("/predict", json=ROW | {"fee": 55.5}).json()
    batch, scores = answered(scene.api, asked(1, 40))
    events = truth(scores)
    label(scene.api, batch, events)
    single = {"request_id": one["request_id"], "label": "stayed"}
    assert scene.api.client.post("/feedback", json=single).status_code == 202
    wait_for(lambda: live(scene.api, "3").get("labelled") == 41, 40)

    assert live(scene.api, "3")["value"] == pytest.approx(roc_auc_score([*events, 0], [*scores, one["probability"]]))
    assert live(scene.api, "3")["rows"] == store_of(scene.api.settings).counts()["3"][0]
    assert scene.api.metric("driftloop_api_live_labelled", version="3") == 41
    assert scene.api.metric("driftloop_api_live_metric", version="3", metric="auc") == live(scene.api, "3")["value"]


@pytest.mark.parametrize(
    "body",
    [
        {"request_id": "a\0b", "label": "gone"},
        {"request_id": "r1", "row": 10**30, "label": "gone"},
        {"request_id": "r1", "label": 10**400},
    ],
)
def test_a_label_that_no_store_could_take_is_refused_and_holds_up_nothing(scene: Scene, body: dict) -> None:
    assert scene.api.client.post("/feedback", json=body).status_code == 422


def test_a_challenger_scores_what_the_champion_answered_and_can_fail_no_answer(scene: Scene) -> None:
    def shadow() -> dict:
        return scene.api.model()["shadow"] or {}

    scene.point("1")
    scene.ship()
    scene.registry.point("challenger", "2")
    try:
        wait_for(lambda: shadow().get("version") == "2" and shadow()["trouble"] is None, 40)
        batch, scores = answered(scene.api, asked(2, 60))
        wait_for(lambda: shadow()["rows"] == 60)
        first, second = (artifact.load(stored(scene.registry, number)).predict(asked(2, 60)) for number in ("1", "2"))
        assert scores == pytest.approx(first.scores)
        assert shadow()["difference"] == pytest.approx(np.abs(first.scores - second.scores).mean())
        said = [found.scores >= found.threshold for found in (first, second)]
        assert 0 < (said[0] != said[1]).sum() < 60
        assert shadow()["agreement"] == pytest.approx((said[0] == said[1]).mean())
        assert scene.api.metric("driftloop_api_shadow_agreement", version="2") == shadow()["agreement"]

        events = truth(scores)
        label(scene.api, batch, events)
        wait_for(lambda: live(scene.api, "2").get("labelled") == 60, 40)
        assert live(scene.api, "2")["value"] == pytest.approx(roc_auc_score(events, second.scores))

        bad = scene.registry.register(graph(3), {}, {}, None).number
        truncate(stored(scene.registry, bad))
        with scene.load() as load:
            scene.registry.point("challenger", bad)
            wait_for(lambda: shadow().get("version") == bad and shadow()["trouble"], 40)
            assert f"version {bad} cannot be loaded" in shadow()["trouble"]
            load.see(5)
        assert load.failures == []
    finally:
        scene.registry.point("challenger", None)
    wait_for(lambda: not shadow())
    assert scene.api.metric("driftloop_api_shadow_agreement") is None


# the log


def test_what_the_log_cannot_take_waits_on_disk_or_in_memory_and_is_told_of(registry: Registry, tmp_path: Path) -> None:
    settings = home_of(registry, tmp_path)
    registry.point("champion", "1")
    folder, file = write_loop(settings, BATCH), tmp_path / "predictions.db"
    file.mkdir()  # no database will open that
    with open_inbox() as inbox, running(folder, settings, alerts=inbox.address) as api:
        with Load(api.client.base_url) as load:
            wait_for(lambda: api.metric("driftloop_api_log_up") == 0)
            wait_for(lambda: api.metric("driftloop_api_log_waiting_bytes") > 0)
            assert api.model()["log"]["trouble"]
            wait_for(lambda: any("the prediction log takes nothing" in text for text in inbox.messages()))

            (scribe,) = processes(api.child.pid, "scribing")
            kill(scribe)
            wait_for(lambda: set(processes(api.child.pid, "scribing")) - {scribe})

            with full_disk(api.child.pid):
                wait_for(lambda: any("cannot be written to disk" in text for text in inbox.messages()))
                load.see(20)
            file.rmdir()
            wait_for(lambda: api.metric("driftloop_api_log_up") == 1, 30)
        assert load.failures == []
        require_logged(settings, load.all)
        wait_for(lambda: api.metric("driftloop_api_log_waiting_bytes") == 0)
        assert api.metric("driftloop_api_log_lost_total") == api.metric("driftloop_api_log_dropped") == 0

        (scribe,) = processes(api.child.pid, "scribing")
        with Load(api.client.base_url) as load:
            load.see(50)
            wait_for(lambda: load.all[-1].at - load.all[0].at > LATE + 1)
            api.kill()
        wait_for(lambda: not is_alive(scribe))
    assert load.refused == []
    last = max(one.at for one in load.all)
    assert {one.request_id for one in load.all if one.at < last - LATE} <= set(logged(settings)["request_id"])


def test_with_sync_an_answer_is_one_that_outlives_the_process(registry: Registry, tmp_path: Path) -> None:
    settings = home_of(registry, tmp_path)
    registry.point("champion", "1")
    folder = write_loop(settings, SYNC)
    with running(folder, settings) as api, Load(api.client.base_url) as load:
        load.see(10)
        with full_disk(api.child.pid):
            wait_for(lambda: len(load.refused) > 10)
        load.see(10)  # what was under way when there was room again is counted by now
        assert api.metric("driftloop_api_requests_total", path="/predict", status="503") == len(load.refused)
        for pid in processes(api.child.pid, "scribing"):
            kill(pid)
        api.kill()
    assert all("could not be recorded" in said for said in load.refused)
    scribe_once(folder, settings)
    require_logged(settings, load.all)


# several workers


@pytest.mark.long
def test_of_two_workers_one_may_be_killed_and_no_client_goes_back_to_an_older_version(
    registry: Registry, tmp_path: Path
) -> None:
    settings = home_of(registry, tmp_path)
    registry.point("champion", "1")
    folder = write_loop(settings, BATCH)
    with running(folder, settings, "--workers", "2") as api:

        def workers() -> set[int]:
            return set(processes(api.child.pid, "spawn_main"))

        def swap(load: Load, *numbers: str) -> None:
            for number in numbers:
                registry.point("champion", number)
                wait_for(lambda number=number: all(mine[-1].version == number for mine in load.answers), 30)

        with Load(api.client.base_url, connections="new") as calm:
            swap(calm, *"231")
            wait_for(lambda: len({one.worker for one in calm.all}) == 2, 60)
        assert calm.failures == []
        assert all(in_order(mine, list("1231")) for mine in calm.answers)
        # of either worker, whichever answers this; a request is counted when its answer is on its way
        wait_for(lambda: api.metric("driftloop_api_requests_total", path="/predict", status="200") == len(calm.all))

        with Load(api.client.base_url, connections="new") as load:
            victim = workers().pop()
            kill(victim)
            wait_for(lambda: len(workers() - {victim}) == 2, 30)
            swap(load, "2")
            before = {one.worker for one in calm.all}
            wait_for(lambda: {one.worker for one in load.all} - before, 60)
            swap(load, *"31")
        assert load.refused == []
        assert len(load.broken) <= load.clients, "only what the killed worker had in hand"
        assert all(in_order(mine, list("1231")) for mine in load.answers)

        left = [*workers(), *(pid for one in workers() for pid in processes(one, "scribing"))]
        api.kill()
        wait_for(lambda: not any(map(is_alive, left)), 30)
    scribe_once(folder, settings)
    survivors = [one for one in calm.all + load.all if one.worker != dead_worker(load.all)]
    require_logged(settings, survivors)


def dead_worker(answers: list[Answer]) -> str:
    """The one whose last answer came first."""
    last = {one.worker: one.at for one in sorted(answers, key=lambda one: one.at)}
    return min(last, key=lambda worker: last[worker])


# a version that fails


def spool(api_place: Path, name: str, lines: list[bytes]) -> None:
    """Put lines where a worker of the API would."""
    writer = SpoolWriter(api_place / "spool", "batch", 50, 100)
    assert all(writer.put(one) for one in lines), name
    assert writer.close()


def requests_of(version: str, answered_: int, failed: int) -> list[bytes]:
    """What a version of the churn loop answered, and what it failed to."""
    broken = [
        encode({"id": f"f{version}-{n}", "t": n, "v": version, "ms": 1.0, "rows": (), "p": (), "l": (), "status": 500})
        for n in range(failed)
    ]
    return [line(n, version=version) for n in range(answered_)] + broken


def test_a_version_whose_requests_fail_gives_way_to_its_predecessor_where_that_was_asked_for(
    loop: Loop, inbox: Inbox
) -> None:
    work = champions(loop, {"2024-01": month(1, turned=True), "2024-02": month(2)})
    place = loop.home / "serving" / "churn"

    def fail() -> None:
        spool(place, "before", requests_of("1", 300, 0))
        spool(place, "now", requests_of("2", 200, 100))

    loop.set("serving", flush_ms=50, auto_rollback=False)
    fail()
    scribe_once(loop.folder, work.settings)
    assert (work.ledger.champion(), inbox.titles()) == ("2", [])

    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace("auto_rollback = false", "auto_rollback = true"))
    with running(loop.folder, work.settings) as api:
        assert api.version() == "2"
        fail()
        wait_for(lambda: api.version() == "1", 60)
        wait_for(lambda: len(inbox.titles()) == 2)
    last = work.ledger.entries()[-1]
    assert (last.kind, last.version, last.actor) == ("rollback", "1", "auto_rollback")
    assert "33.3 % of its 300 requests failed" in last.reason
    assert work.registry.champion() == "1"
    assert sorted(inbox.titles()) == ["churn: serving trouble", "churn: version 1 is champion"]
