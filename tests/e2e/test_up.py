"""`driftloop up` from its first line to Ctrl-C."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest

from flows.server import free_port
from tests.e2e.conftest import command_line, descendants, interrupt, until

pytestmark = pytest.mark.e2e

PARTS = ("prefect", "mlflow", "api", "dashboard")
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "api": "/health", "dashboard": "/_stcore/health"}


@pytest.fixture
def ports():
    return {part: free_port() for part in (*PARTS, "approvals")}


def up(shell, ports):
    return shell.start("up", "loop", *(f"--{part}-port={port}" for part, port in ports.items()))


def answer(url, body=None):
    request = urllib.request.Request(
        url, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read()
    except OSError as error:
        return None, str(error).encode()


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def read_until(stream, text):
    lines = []
    while line := stream.readline():
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


@pytest.mark.long
def test_up_answers_at_four_addresses_runs_the_loop_and_ctrl_c_ends_it_all(shell, loop, ports):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text() + '\n[schedule]\ncron = "0 6 1 * *"\n')
    running = up(shell, ports)
    shown = read_until(running.stdout, "Ctrl-C ends everything.")
    assert "Ctrl-C ends everything." in shown, running.stderr.read()
    for part in PARTS:
        url = f"http://127.0.0.1:{ports[part]}"
        assert url in shown
        assert answer(f"{url}{HEALTH[part]}")[0] == 200, part

    prefect = f"http://127.0.0.1:{ports['prefect']}/api"

    def deployed():
        found = json.loads(answer(f"{prefect}/deployments/filter", {})[1])
        return sorted(d["entrypoint"].rpartition(":")[2] for d in found if d["name"] == loop.name) == [
            "approval_flow",
            "monitor_flow",
            "train_and_compare_flow",
        ]

    until(deployed, "the three deployments")

    monitored = shell.run("monitor", "loop", "--window", "2024-01", "--json")
    assert monitored.returncode == 0, monitored.stderr
    assert json.loads(monitored.stdout)["champion"] == {"version": "1"}
    runs = json.loads(answer(f"{prefect}/flow_runs/filter", {})[1])
    assert f"monitor 2024-01 of {loop.folder.name}" in {run["name"] for run in runs}
    api = f"http://127.0.0.1:{ports['api']}"
    until(lambda: answer(f"{api}/ready")[0] == 200, "the champion in the API")
    assert json.loads(answer(f"{api}/model")[1])["version"] == "1"

    children = descendants(running.pid)
    assert len(children) >= 5
    assert not any("mlflow.server.jobs" in command_line(pid) for pid in children)
    interrupt(running)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    until(lambda: not any(command_line(pid) for pid in children), f"the end of {children}")
    assert not any(listening(port) for port in ports.values())
    assert not (loop.home / "prefect" / "server.json").exists()


def test_up_says_which_port_is_taken_and_starts_nothing(shell, loop, ports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["api"]))
        taken.listen()
        running = up(shell, ports)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert f"port {ports['api']} for API is taken" in err
    assert "--api-port" in err
    assert out == ""
    assert not (loop.home / "logs").exists()


def test_a_killed_up_takes_its_children_along(shell, loop, ports):
    running = up(shell, ports)
    until(lambda: listening(ports["prefect"]), "Prefect", 90)
    children = descendants(running.pid)
    assert children
    running.kill()
    running.communicate()
    until(lambda: not any(command_line(pid) for pid in children), f"the end of {children}")
