"""The champion is swapped under traffic, and nothing that goes wrong takes it away."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import pytest
import yaml

from driftloop.registry import Registry
from driftloop.settings import Settings
from services.api.app import create_app
from services.api.champion import Champion, Holder
from services.api.metrics import Metrics
from services.api.store import Store
from services.api.watcher import Watcher
from tests.integration.api_fakes import (
    CHURN,
    ROW,
    SPEND_ROW,
    WARNINGS_ARE_ERRORS,
    Switched,
    candidate,
    error,
    serving,
    source_here,
    version,
    wait_for,
)

pytestmark = WARNINGS_ARE_ERRORS
FAST = 0.05


def is_subsequence(seen: Iterable[str], swaps: Iterable[str]) -> bool:
    remaining = iter(swaps)
    return all(one in remaining for one in seen)


@pytest.mark.long
def test_a_hundred_clients_see_no_failure_and_versions_only_in_the_order_of_the_swaps(
    api_registry: Registry, api_settings: Settings
) -> None:
    swaps = ["1", "2", "3", "1", "3", "2"]
    api_registry.point("champion", swaps[0])
    stop, failures, filters = threading.Event(), [], list(warnings.filters)
    seen: list[list[str]] = [[] for _ in range(100)]

    def ask(url: httpx.URL, mine: list[str]) -> None:
        with httpx.Client(base_url=url, timeout=60) as own:
            while not stop.is_set():
                try:
                    answered = own.post("/predict", json=ROW)
                except httpx.HTTPError as problem:
                    failures.append(repr(problem))
                    return
                if answered.status_code != 200:
                    failures.append(answered.text)
                mine.append(answered.json()["version"])

    with serving(create_app(api_settings, "churn", FAST)) as client:
        wait_for(lambda: version(client) == swaps[0])
        threads = [threading.Thread(target=ask, args=(client.base_url, mine)) for mine in seen]
        for thread in threads:
            thread.start()
        for number in swaps[1:]:
            wait_for(lambda: all(seen), 60)
            api_registry.point("champion", number)
            wait_for(lambda number=number: version(client) == number, 60)
        answered = sum(map(len, seen))
        wait_for(lambda: sum(map(len, seen)) > answered + 100, 60)
        stop.set()
        for thread in threads:
            thread.join(60)
        swapped = client.get("/metrics").text
    assert failures == []
    assert warnings.filters == filters, "scoring in parallel would have cleared the process's warning filters"
    assert {one for mine in seen for one in mine} == {"1", "2", "3"}
    assert all(is_subsequence([key for key, _ in groupby(mine)], swaps) for mine in seen)
    assert f"driftloop_api_swaps_total {len(swaps)}.0" in swapped


def test_a_champion_is_served_within_three_seconds_of_its_alias_at_the_default_poll(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    with serving(create_app(api_settings, "churn", source=source_here(api_settings))) as client:
        wait_for(lambda: version(client) == "1")
        api_registry.point("champion", "2")
        assert wait_for(lambda: client.post("/predict", json=ROW).json()["version"] == "2") < 3


def test_a_rollback_is_followed_like_a_promotion(api_registry: Registry, api_settings: Settings) -> None:
    api_registry.point("champion", "3")
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        wait_for(lambda: version(client) == "3")
        api_registry.point("champion", "1")
        wait_for(lambda: version(client) == "1")
        assert client.post("/predict", json=ROW).json()["version"] == "1"


def test_docs_and_model_show_the_fields_of_whatever_serves(api_registry: Registry, api_settings: Settings) -> None:
    api_registry.point("champion", "1")
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        wait_for(lambda: version(client) == "1")
        schema = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
        assert list(schema["properties"]) == schema["required"] == ["fee", "monthly usage", "plan", "paperless"]
        assert client.get("/docs").status_code == 200

        api_registry.point("champion", "4")
        wait_for(lambda: version(client) == "4")
        assert list(client.get("/openapi.json").json()["components"]["schemas"]["Row"]["properties"]) == ["age", "plan"]
        assert set(client.post("/predict", json=SPEND_ROW).json()) == {"request_id", "version", "prediction"}
        about = client.get("/model").json()
        assert [column["name"] for column in about["signature"]["inputs"]] == ["age", "plan"]
        assert (about["loop"], about["windows"], about["metrics"]) == ("churn", ["month_004"], {"score": 0.54})
        assert about["baseline"] == {"score": 0.5}
        assert about["last_error"] is None
        assert about["since"]


def truncate(model: Path) -> None:
    (model / "model.skops").write_bytes((model / "model.skops").read_bytes()[:2000])


def damage_manifest(model: Path) -> None:
    (model / "MLmodel").write_text("flavors: [half")


def lose_file(model: Path) -> None:
    (model / "model.skops").unlink()


def change_predictions(model: Path) -> None:
    manifest = yaml.safe_load((model / "MLmodel").read_text())
    manifest["metadata"]["driftloop"]["sample_scores"][0] = 0.123
    (model / "MLmodel").write_text(yaml.safe_dump(manifest))


def change_signature(model: Path) -> None:
    manifest = yaml.safe_load((model / "MLmodel").read_text())
    manifest["signature"]["inputs"] = manifest["signature"]["inputs"].replace("fee", "price")
    (model / "MLmodel").write_text(yaml.safe_dump(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "model.skops cannot be loaded"),
        (damage_manifest, "MLmodel cannot be read"),
        (lose_file, "model.skops"),
        (change_predictions, "the stored sample rows score up to"),
        (change_signature, "the signature names ['price'"),
    ],
)
def test_a_damaged_artifact_keeps_the_old_champion_and_says_why(
    damage: Callable[[Path], None],
    said: str,
    api_registry: Registry,
    api_settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api_registry.point("champion", "1")
    bad = api_registry.register(candidate(CHURN, 9), {}, {}, None).number
    damage(stored(api_registry, bad))
    with (
        serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client,
        caplog.at_level(logging.INFO, logger="driftloop.api"),
    ):
        wait_for(lambda: version(client) == "1")
        api_registry.point("champion", bad)
        wait_for(lambda: error(client))
        assert f"version {bad} could not be taken over" in error(client)
        assert said in error(client)
        assert str(api_settings.home) not in error(client)
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        assert "driftloop_api_swap_failures_total 0.0" not in client.get("/metrics").text
        assert f"champion.swap_failed version={bad} serving=1" in caplog.text

        api_registry.point("champion", "2")
        wait_for(lambda: version(client) == "2")
        assert error(client) is None
    assert not list((api_settings.home / "serving" / "churn").glob(".incoming-*"))


def test_a_version_that_fails_is_not_downloaded_again_at_every_poll(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    bad = api_registry.register(candidate(CHURN, 9), {}, {}, None).number
    (stored(api_registry, bad) / "model.skops").unlink()
    source = Switched(source_here(api_settings))
    with serving(create_app(api_settings, "churn", FAST, source)) as client:
        wait_for(lambda: version(client) == "1")
        api_registry.point("champion", bad)
        wait_for(lambda: bad in source.downloads)
        looks = source.looks
        wait_for(lambda: source.looks > looks + 20)
        assert source.downloads.count(bad) <= 5


def test_an_unreachable_registry_never_means_no_champion(
    api_registry: Registry, api_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    api_registry.point("champion", "1")
    source = Switched(source_here(api_settings))
    with serving(create_app(api_settings, "churn", FAST, source)) as client:
        wait_for(lambda: version(client) == "1")
        source.on = False
        wait_for(lambda: error(client))
        looks = source.looks
        wait_for(lambda: source.looks > looks + 5)
        assert error(client) == "the alias could not be read: MLflow does not answer"
        assert client.get("/ready").status_code == 200
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        assert [r.message.split()[0] for r in caplog.records if r.name == "driftloop.api"].count(
            "champion.unreachable"
        ) == 1, "an outage is said once, not at every poll"
        source.on = True
        wait_for(lambda: error(client) is None)


def test_an_alias_that_is_taken_away_leaves_the_last_champion_serving(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    with serving(create_app(api_settings, "churn", FAST, source_here(api_settings))) as client:
        wait_for(lambda: version(client) == "1")
        api_registry.client.delete_registered_model_alias("churn", "champion")
        wait_for(lambda: error(client))
        assert error(client) == "no version has the alias champion, the last one goes on serving"
        assert client.post("/predict", json=ROW).status_code == 200


class Kept(Holder):
    """A holder that keeps which versions it held, one after the other."""

    def __init__(self) -> None:
        super().__init__("churn")
        self.versions: list[str] = []

    def swap(self, champion: Champion) -> None:
        super().swap(champion)
        self.versions.append(champion.version.number)


@contextmanager
def workers(settings: Settings, *polls: float) -> Iterator[list[Kept]]:
    """Watchers as so many worker processes have them, each with its own poll; what they hold."""
    store, source = Store(settings.home / "serving" / "churn"), source_here(settings)
    holders = [Kept() for _ in polls]
    watchers = [
        Watcher(source, store, holder, Metrics(holder), poll, workers=len(polls))
        for holder, poll in zip(holders, polls, strict=True)
    ]
    for watcher in watchers:
        watcher.start()
    try:
        wait_for(lambda: all(holder.versions for holder in holders))
        yield holders
    finally:
        for watcher in watchers:
            watcher.stop()


def test_a_worker_whose_next_look_is_far_swaps_with_the_one_that_looked(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    with workers(api_settings, FAST, 600) as (often, seldom):
        for number in ("2", "3", "1"):
            api_registry.point("champion", number)
            wait_for(lambda number=number: often.versions[-1] == seldom.versions[-1] == number)
    assert often.versions == seldom.versions == ["1", "2", "3", "1"]


def test_workers_leave_out_one_and_the_same_version_where_the_alias_moves_on_before_all_have_it(
    api_registry: Registry, api_settings: Settings
) -> None:
    api_registry.point("champion", "1")
    store = Store(api_settings.home / "serving" / "churn")
    with workers(api_settings, FAST, FAST, FAST) as holders:
        for number in ("2", "3", "2", "1", "3"):
            api_registry.point("champion", number)
            wait_for(lambda number=number: store.newest().version.number == number)
        wait_for(lambda: all(holder.versions[-1] == "3" for holder in holders))
    assert len({tuple(holder.versions) for holder in holders}) == 1


def stored(registry: Registry, number: str) -> Path:
    """Where MLflow keeps the model of a version, to be damaged."""
    model_id = registry.client.get_model_version(registry.name, number).source.removeprefix("models:/")
    return Path(url2pathname(urlsplit(registry.client.get_logged_model(model_id).artifact_location).path))
