"""The flows as Prefect deployments, and the one slot that runs of a loop share."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from driftloop.entry import Kind
from driftloop.errors import ContractError
from flows.approval_flow import approval_flow
from flows.deployments import deployments
from flows.orchestration import one_run_at_a_time
from tests.integration.conftest import month
from tests.integration.test_approval import asking

SCHEDULE = '\n[schedule]\ncron = "0 6 1 * *"\ntimezone = "Europe/Paris"\n'
SECONDS = 60
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def scheduled(loop):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + SCHEDULE)
    return loop


def test_a_loop_has_three_deployments_named_after_it(scheduled):
    made = deployments(scheduled.folder)
    assert [(d.flow_name, d.name) for d in made] == [
        ("monitor_flow", "churn"), ("train_and_compare_flow", "churn"), ("approval_flow", "churn"),
    ]  # fmt: skip
    assert all(d.tags == ["driftloop", "churn"] for d in made)
    assert all(d.parameters == {"loop_dir": str(scheduled.folder)} for d in made)
    assert all("churn" in d.description for d in made)


def test_monitoring_runs_on_the_loop_s_schedule_and_the_others_by_hand_only(scheduled):
    monitor, *others = deployments(scheduled.folder)
    (schedule,) = [s.schedule for s in monitor.schedules]
    assert (schedule.cron, schedule.timezone) == ("0 6 1 * *", "Europe/Paris")
    assert not any(deployment.schedules for deployment in others)


def test_a_loop_without_schedule_is_run_by_hand_only(loop):
    assert not any(deployment.schedules for deployment in deployments(loop.folder))


def test_a_schedule_without_timezone_is_in_utc(loop):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + '\n[schedule]\ncron = "@daily"\n'.replace("@daily", "0 0 * * *"))
    (schedule,) = [s.schedule for s in deployments(loop.folder)[0].schedules]
    assert schedule.timezone == "UTC"


def test_a_person_who_starts_a_run_sees_what_each_parameter_means(scheduled):
    monitor, train, approve = (deployment._parameter_openapi_schema for deployment in deployments(scheduled.folder))
    assert list(monitor.properties) == ["loop_dir", "window", "force"]
    assert all(p["description"] for p in (monitor.properties | train.properties | approve.properties).values())
    assert monitor.properties["loop_dir"]["format"] == "path"
    assert monitor.properties["force"]["type"] == "boolean"
    assert monitor.required == ["loop_dir"]
    assert list(approve.properties) == ["loop_dir", "answer", "by", "why", "version"]
    assert approve.properties["answer"]["enum"] == ["approve", "reject"]
    assert approve.required == ["loop_dir", "answer", "by"]


@pytest.mark.parametrize("cron", ["61 6 1 * *", "0 6 1 * whenever", "0 6 1"])
def test_a_cron_line_that_is_none_is_named(loop, cron):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + f'\n[schedule]\ncron = "{cron}"\n')
    with pytest.raises(ContractError, match=r"schedule\.cron = ") as told:
        deployments(loop.folder)
    assert repr(cron) in str(told.value)


def test_a_timezone_that_is_none_is_named(loop):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + '\n[schedule]\ncron = "0 6 1 * *"\ntimezone = "Mars/Olympus"\n')
    with pytest.raises(ContractError, match="Mars/Olympus"):
        deployments(loop.folder)


def run_deployed(deployment, parameters):
    """Ask the server for a run, as its form does, and carry it out in a process of its own, as `driftloop up` does."""
    number = deployment.apply()
    with get_client(sync_client=True) as client:
        asked = client.create_flow_run_from_deployment(number, parameters=parameters)
        command = [sys.executable, "-W", "ignore", "-m", "prefect.engine", str(asked.id)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
        found = client.read_flow_run(asked.id)
    assert found.state.is_completed(), done.stdout + done.stderr
    return found


@pytest.mark.usefixtures("prefect_api")
def test_a_run_of_the_approval_deployment_makes_the_candidate_champion(loop):
    work = asking(loop, {"2024-01": month(1)})
    *_, approval = deployments(loop.folder)
    found = run_deployed(approval, {"answer": "approve", "by": "ada", "why": "seen on staging"})
    assert found.name == "approve by ada"
    entry = work.ledger.entries()[-1]
    assert (entry.kind, entry.version, entry.actor) == (Kind.PROMOTION, "1", "ada")
    assert entry.details["approved"]["why"] == "seen on staging"
    assert work.registry.aliases() == {"champion": "1"}


@pytest.mark.usefixtures("prefect_api")
def test_a_form_without_a_name_or_with_another_word_is_refused(loop):
    work = asking(loop, {"2024-01": month(1)})
    with pytest.raises(ContractError, match="say who answers"):
        approval_flow(loop.folder, "approve", "  ")
    with pytest.raises(ParameterTypeError, match="Input should be 'approve' or 'reject'"):
        approval_flow(loop.folder, "aprove", "ada")
    assert approval_flow(loop.folder, "reject", "bob", "not yet")["reason"] == "not yet"
    assert work.registry.aliases() == {}


@flow
def holding(loop: str, inside: threading.Event, release: threading.Event) -> str:
    with one_run_at_a_time(loop):
        inside.set()
        assert release.wait(SECONDS)
    return "done"


class Run(threading.Thread):
    """A flow run of its own that holds the loop's slot until it is released."""

    def __init__(self, loop: str, starts: Flow | None = None) -> None:
        super().__init__(daemon=True)
        self.context = contextvars.copy_context()  # where Prefect keeps which server it talks to
        self.starts = starts or holding
        self.loop, self.inside, self.release = loop, threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        unchecked = self.starts.with_options(validate_parameters=False)
        self.context.run(unchecked, self.loop, self.inside, self.release)


@pytest.mark.usefixtures("prefect_api")
def test_a_second_run_of_the_same_loop_starts_only_when_the_first_one_ended():
    first = Run("shared")
    assert first.inside.wait(SECONDS)
    second = Run("shared")
    other = Run("another")
    assert other.inside.wait(SECONDS), "another loop's run does not wait"
    assert not second.inside.wait(5), "two runs of one loop at once"
    first.release.set()
    first.join(SECONDS)
    assert second.inside.wait(SECONDS)
    for run in (second, other):
        run.release.set()
        run.join(SECONDS)
        assert not run.is_alive()


@flow
def somebody_s(loop: str, inside: threading.Event, release: threading.Event) -> str:
    return holding.with_options(validate_parameters=False)(loop, inside, release)


@pytest.mark.usefixtures("prefect_api")
def test_a_run_that_somebody_s_own_flow_started_waits_its_turn_too():
    first = Run("called")
    assert first.inside.wait(SECONDS)
    second = Run("called", somebody_s)
    assert not second.inside.wait(5), "two runs of one loop at once"
    for run in (first, second):
        run.release.set()
        run.join(SECONDS)
        assert not run.is_alive()
