"""What people are told, once an event, at an address whose secret stays with us."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.logging.handlers import APILogHandler

from driftloop import alerts, approving, following
from driftloop.errors import HoldoutMismatch
from flows import server
from flows.train_and_compare_flow import train_and_compare_flow
from services.api.app import create_app
from tests.fakes import FakeChecks
from tests.integration.api_fakes import CHURN, Switched, candidate, serving, source_here, version, wait_for
from tests.integration.conftest import month
from tests.integration.test_api_swap import stored, truncate
from tests.integration.test_approval import train

TOKEN = b"t0ps3cret"


def files_with(token: bytes, *folders: Path) -> list[Path]:
    """Every file below the folders that holds the token."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files, "there was nothing to look at"
    return [file for file in files if token in file.read_bytes()]


def test_people_are_told_of_every_event_once_in_a_phone_s_words_and_the_address_is_told_nobody(
    loop, monitor, inbox, prefect_api, caplog, capfd
):
    caplog.set_level(logging.INFO)
    loop.set("promotion", approval="always")
    loop.deliver("2031-01", month(1))
    monitor()
    work = replace(loop.open(), checks=FakeChecks())
    approving.approve(work, None, "ada", "")
    assert following.tell(work, os.environ) == 1
    assert inbox.titles() == ["churn: version 1 waits for you", "churn: version 1 promoted by ada"]

    loop.deliver("2031-02", month(2).drop(columns="fee"))
    monitor()
    loop.deliver("2031-03", month(3, shift=1, turned=True))
    monitor()
    assert inbox.titles()[2:] == [
        "churn 2031-02: quarantined", "churn 2031-03: drift", "churn: version 2 waits for you",
    ]  # fmt: skip
    approving.approve(work, None, "ada", "")
    approving.roll_back(work, None, "bob", "complaints since Tuesday")
    assert following.tell(work, os.environ) == 2
    assert inbox.titles()[5:] == ["churn: version 2 promoted by ada", "churn: version 1 is champion"]

    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + "[holdout]\nshare = 0.3\n")
    with pytest.raises(HoldoutMismatch):
        train_and_compare_flow(loop.folder)
    assert inbox.titles()[7:] == ["churn: train for the newest window of loop failed"]
    toml.write_text(toml.read_text().replace("[holdout]\nshare = 0.3\n", ""))

    told = len(inbox.posted)
    monitor()
    assert following.tell(work, os.environ) == 0
    assert len(inbox.posted) == told, "told again what was told before"

    texts = {post["title"]: post["message"] for post in inbox.posted}
    assert all(len(title) < 100 and len(text) <= 300 for title, text in texts.items())
    assert texts["churn: version 1 promoted by ada"].startswith("approved, auc 0.")
    assert "column fee is missing" in texts["churn 2031-02: quarantined"]
    assert texts["churn 2031-03: drift"] == "share 0.67, limit 0.3: fee, usage. drift above threshold."
    assert texts["churn: version 2 waits for you"].endswith(" rows. driftloop approve or reject.")
    assert texts["churn: version 1 is champion"] == "rolled back from version 2: complaints since Tuesday"
    assert "under the holdout rule" in texts["churn: train for the newest window of loop failed"]

    APILogHandler().flush()
    assert set(inbox.paths) == {f"/{TOKEN.decode()}"}, "the address was filled in"
    prefect_home = Path(os.environ["PREFECT_HOME"])
    assert files_with(b"window.quarantined", prefect_home), "the server's log is somewhere else"
    assert files_with(TOKEN, loop.home, loop.folder, prefect_home) == []
    assert files_with(b"INBOX_TOKEN", loop.folder) == [toml], "only loop.toml names the variable"
    out, err = capfd.readouterr()
    for said in (caplog.text, out, err):
        assert TOKEN.decode() not in said


def test_a_run_that_is_part_of_another_is_not_told_of_twice_when_it_fails(loop, monitor, inbox):
    loop.set("model.params", C=-1.0)
    loop.deliver("2031-01", month(1))
    with pytest.raises(Exception, match="C"):
        monitor()
    assert inbox.titles() == ["churn: monitor the newest window of loop failed"]
    assert len(inbox.posted[0]["message"]) <= 300


def test_a_loop_that_had_a_ledger_before_it_had_an_address_tells_no_old_news(loop, inbox):
    loop.deliver("2024-01", month(1))
    work = replace(loop.open(), checks=FakeChecks())
    train(work, "2024-01")
    assert following.tell(work, os.environ) == 0
    assert inbox.posted == []
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    train(work, "2024-02")
    assert following.tell(work, os.environ) == 1
    assert inbox.titles() == ["churn: version 2 promoted"]
    assert inbox.posted[0]["message"].startswith("beats the margin, auc 0.")


# addresses


@pytest.mark.parametrize(
    ("address", "logged"),
    [
        (lambda: f"json://127.0.0.1:{server.free_port()}/{TOKEN.decode()}", "understood=1"),
        (lambda: f"json://nowhere.invalid/{TOKEN.decode()}", "understood=1"),
        (lambda: f"gibberish://{TOKEN.decode()}", "understood=0"),
        (lambda: f"json://[::{TOKEN.decode()}", "alert."),
        (TOKEN.decode, "alert."),
    ],
    ids=["refuses", "does not resolve", "unknown kind", "does not parse", "no address at all"],
)
def test_an_address_that_takes_no_alert_fails_nothing_and_is_not_named(loop, monkeypatch, caplog, address, logged):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DRIFTLOOP_ALERT_URLS", address())
    loop.deliver("2024-01", month(1))
    work = replace(loop.open(), checks=FakeChecks())
    following.heal(work)
    train(work, "2024-01")
    assert following.tell(work, os.environ) == 1
    assert following.tell(work, os.environ) == 0
    (line,) = [r.getMessage() for r in caplog.records if r.name == "driftloop.alerts"]
    assert logged in line
    assert TOKEN.decode() not in caplog.text


def test_not_even_the_most_talkative_log_holds_the_address(loop, inbox, caplog):
    caplog.set_level(logging.DEBUG)
    assert alerts.send(alerts.Alert("drift", "a title", "a text"), alerts.addresses(loop.open().loop, os.environ))
    assert inbox.paths == [f"/{TOKEN.decode()}"]
    assert TOKEN.decode() not in caplog.text


def test_an_address_that_takes_no_alert_does_not_keep_the_others_from_theirs(loop, inbox, monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_ALERT_URLS", f"gibberish://x json://127.0.0.1:{server.free_port()}/")
    urls = alerts.addresses(loop.open().loop, os.environ)
    assert len(urls) == 3
    assert not alerts.send(alerts.Alert("drift", "a title", "a text"), urls)
    assert inbox.titles() == ["a title"]


def test_an_address_whose_variable_is_not_set_is_left_out_and_the_variable_named(loop, inbox, monkeypatch, caplog):
    monkeypatch.delenv("INBOX_TOKEN")
    monkeypatch.setenv("DRIFTLOOP_ALERT_URLS", "json://127.0.0.1/one json://${EMPTY}.invalid")
    monkeypatch.setenv("EMPTY", "")
    assert alerts.addresses(loop.open().loop, os.environ) == ["json://127.0.0.1/one"]
    lines = [r.getMessage() for r in caplog.records if r.name == "driftloop.alerts"]
    assert lines == [
        "alert.address_left_out number=1 unset=INBOX_TOKEN", "alert.address_left_out number=3 unset=EMPTY",
    ]  # fmt: skip


def test_a_run_fails_as_it_would_though_nobody_can_be_told_of_it(loop, monitor, monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_ALERT_URLS", "gibberish://x")
    toml = loop.folder / "loop.toml"
    toml.write_text("name = ")
    with pytest.raises(Exception, match=r"loop\.toml is not valid TOML"):
        monitor()


# serving trouble


def test_the_api_tells_once_of_a_version_that_it_cannot_take_over(api_registry, api_settings, loop, inbox, monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_ALERT_URLS", loop.open().loop.alerts.urls[0])
    api_registry.point("champion", "1")
    bad = api_registry.register(candidate(CHURN, 9), {}, {}, None).number
    truncate(stored(api_registry, bad))
    source = Switched(source_here(api_settings))
    with serving(create_app(api_settings, "churn", 0.02, source)) as client:
        wait_for(lambda: version(client) == "1")
        api_registry.point("champion", bad)
        wait_for(lambda: source.downloads.count(bad) >= 3)
        wait_for(lambda: inbox.posted)
        api_registry.point("champion", "2")
        wait_for(lambda: version(client) == "2")
        source.on = False
        looks = source.looks
        wait_for(lambda: source.looks > looks + 5)
    (post,) = inbox.posted
    assert post["title"] == "churn: serving trouble"
    assert post["message"].startswith(f"version {bad} could not be taken over: version {bad}/model.skops cannot be ")
    assert post["message"].endswith("version 1 goes on serving.")
    assert len(post["message"]) <= 300
    assert str(api_settings.home) not in post["message"]
