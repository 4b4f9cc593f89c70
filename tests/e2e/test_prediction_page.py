"""The prediction page in a real browser, before a real API: both as `driftloop up` runs them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import httpx
import pytest

from driftloop.cli.children import children
from driftloop.cli.stack import Ports, stack
from driftloop.registry import CHAMPION, Registry
from driftloop.settings import Settings
from flows.server import free_port
from tests.e2e.conftest import until
from tests.integration.api_fakes import candidate
from tests.integration.api_process import COMPILABLE

pytestmark = pytest.mark.e2e

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
ROW = {"fee": 70.5, "monthly usage": None, "plan": "basic", "paperless": "True"}
FILE = 'id,fee,monthly usage,plan,paperless\n=1+1,70.5,,basic,True\n007,20,3,,false\n"a,b",44.25,1e1,full,\n'


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """Addresses of a dashboard and of the API it asks, and what starts the API."""
    home = tmp_path_factory.mktemp("home")
    (home / "windows").mkdir()
    (home / "loop.toml").write_text(f'{COMPILABLE}[serving]\nlog = "off"\n')  # no process that writes it
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(home)}, Path.cwd())
    registry = Registry(settings, "churn")
    registry.point(CHAMPION, registry.register(candidate(COMPILABLE, 1), {}, {}, None).number)
    ports = Ports(*(free_port() for _ in range(5)))
    parts = {part.name: part for part in stack(home, settings, ports)}
    with children() as group:

        def serve():
            group.start(parts["API"])
            group.wait_ready("API")
            until(lambda: httpx.get(f"{ports.url('api')}/ready").status_code == 200, "the champion in the API")

        group.start(parts["dashboard"])
        group.wait_ready("dashboard")
        yield ports.url("dashboard"), ports.url("api"), serve


@pytest.fixture
def page():
    """A page of the machine's Chromium. Nothing is fetched from elsewhere than this machine."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page(viewport={"width": 1400, "height": 950}, accept_downloads=True)
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_a_row_and_a_file_are_predicted_as_the_api_predicts_them(urls, page, tmp_path):
    from playwright.sync_api import expect

    dashboard, api, serve = urls
    expect.set_options(timeout=60_000)
    page.goto(dashboard)
    page.get_by_role("link", name="Predict").click()
    expect(page.get_by_text("does not answer")).to_be_visible()
    serve()  # nothing is pressed: the page looks again by itself

    inputs = {one["name"]: one for one in httpx.get(f"{api}/model").json()["signature"]["inputs"]}
    fee, usage = page.get_by_role("spinbutton", name="fee"), page.get_by_role("spinbutton", name="monthly usage")
    for field in (fee, usage):
        expect(field).not_to_have_value("")  # drawn before it is filled
    assert float(fee.input_value()) == pytest.approx(inputs["fee"]["default"], rel=1e-5)
    fee.fill("70.5")
    usage.fill("")
    for name in ("plan", "paperless"):
        page.get_by_role("combobox", name=name).click()
        page.get_by_role("option", name=ROW[name], exact=True).click()
    page.get_by_role("button", name="Predict", exact=True).click()

    said = httpx.post(f"{api}/predict", json=ROW).json()
    expect(page.get_by_test_id("stMetricValue")).to_have_text(said["label"])
    expect(page.get_by_text(f"Probability of gone: {said['probability']:.4g};")).to_be_visible()
    expect(page.get_by_text("Explaining …")).to_be_visible()  # the number did not wait for it
    expect(page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first).to_be_visible()
    expect(page.get_by_text("SHAP values")).to_be_visible()

    page.get_by_role("link", name="Loop").click()
    expect(page.get_by_text("Champion in the ledger")).to_be_visible()
    page.get_by_role("link", name="Predict").click()
    expect(page.get_by_text("SHAP values")).to_be_visible()
    assert (fee.input_value(), usage.input_value()) == ("70.5", "")

    page.get_by_role("tab", name="A file").click()
    bad = {"name": "bad.csv", "mimeType": "text/csv", "buffer": FILE.replace("44.25", "<b>lots</b>").encode()}
    page.locator("input[type=file]").set_input_files(bad)
    told = 'Row 3, column fee: expected a finite number or nothing, found "<b>lots</b>".'
    expect(page.get_by_text(told)).to_be_visible()

    page.locator("input[type=file]").set_input_files(bad | {"name": "good.csv", "buffer": FILE.encode()})
    page.get_by_role("button", name="Predict all rows").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all rows").click()
    download.value.save_as(tmp_path / "made.csv")

    rows = [ROW, {"fee": 20, "monthly usage": 3, "plan": None, "paperless": False},
            {"fee": 44.25, "monthly usage": 10, "plan": "full", "paperless": None}]  # fmt: skip
    answers = httpx.post(f"{api}/predict", json={"rows": rows}).json()["predictions"]
    made = list(csv.DictReader((tmp_path / "made.csv").read_text().splitlines()))
    assert [row["id"] for row in made] == ["=1+1", "007", "a,b"]
    assert [row["predicted_churned"] for row in made] == [answer["label"] for answer in answers]
    assert [float(row["probability_gone"]) for row in made] == [answer["probability"] for answer in answers]
    assert {row["model_version"] for row in made} == {"1"}
