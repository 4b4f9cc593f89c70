"""The commands as a user types them: what they print, where, and how they end."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.e2e.conftest import command_line, descendants, interrupt, until
from tests.integration.conftest import month
from tests.integration.test_approval import asking

pytestmark = pytest.mark.e2e

HEAVY = ("pandas", "numpy", "prefect", "mlflow", "sklearn", "evidently", "sqlalchemy", "fastapi", "streamlit")
ESTIMATOR = """
import os, signal
from pathlib import Path
from sklearn.linear_model import LogisticRegression

def regression(**params):
    if Path("deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return LogisticRegression(**params)
"""


def one_paragraph(text):
    lines = text.strip().splitlines()
    return len(lines) == 1 and "Traceback" not in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from driftloop.cli.__main__ import main\n"
        "sys.argv = ['driftloop', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code\n"
        f"print('loaded:', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Keep a tabular model in production fresh." in done.stdout
    assert "loaded: []" in done.stdout


def test_version_is_told_with_exit_code_0(shell):
    done = shell.run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("driftloop, version ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["monitr", "loop"], "No such command 'monitr'"),
        (["monitor"], "Missing argument 'DIR'"),
        (["monitor", "loop", "--windw", "2024-01"], "Did you mean '--window'?"),
        (["status", "nowhere"], "nowhere/loop.toml does not exist. Write one with `driftloop init nowhere`"),
        (["init", "nowhere"], "nowhere is not a folder"),
        (["init", "loop"], "loop.toml is there already"),
        (["replay", "loop", "--from", "2024-02", "--to", "2024-01"], "--from 2024-02 lies after --to 2024-01"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2_and_says_what_is_wrong(shell, loop, arguments, told):
    done = shell.call(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "monitor", "status", "replay", "train", "history", "up", "serve"])
def test_a_typo_in_loop_toml_is_one_paragraph_that_names_file_and_key(shell, loop, command):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace("threshold = 0.3", "treshold = 0.3"))
    done = shell.call(command, "loop")
    assert done.returncode == 2
    assert "loop/loop.toml: drift.treshold is not a known key" in done.stderr
    assert one_paragraph(done.stderr)
    assert done.stdout == ""


def test_a_wrong_value_names_key_value_and_what_was_expected(shell, loop):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace("threshold = 0.3", "threshold = 3"))
    done = shell.call("check", "loop")
    assert done.returncode == 2
    assert "drift.threshold = 3: Input should be less than or equal to 1" in done.stderr
    assert one_paragraph(done.stderr)


def test_a_traceback_is_shown_with_debug_only(shell):
    assert "Traceback" not in shell.call("status", "nowhere").stderr
    assert "Traceback" in shell.call("--debug", "status", "nowhere").stderr


def test_a_replay_of_no_window_says_where_to_put_the_first_one(connected_shell, loop):
    for window in (loop.folder / "windows").iterdir():
        window.unlink()
    done = connected_shell.call("replay", "loop", "--from", "2024-01")
    assert done.returncode == 2
    assert "loop has no window yet; put the first one under windows/" in done.stderr
    assert one_paragraph(done.stderr)


def test_a_folder_with_a_space_is_named_as_a_shell_takes_it(shell):
    (shell.folder / "my loop").mkdir()
    assert "Write one with `driftloop init 'my loop'`" in shell.call("status", "my loop").stderr


@pytest.mark.parametrize("caught", [KeyboardInterrupt, ValueError])
def test_an_error_that_ctrl_c_brought_about_ends_as_ctrl_c_does(shell, monkeypatch, caught):
    def monitored(**_):
        try:
            raise caught
        finally:
            raise ValueError("Task run is not set")  # what Prefect says of a Ctrl-C that comes while a task starts

    monkeypatch.setattr("driftloop.cli.__main__.cli", monitored)
    done = shell.call("monitor", "loop")
    stopped = caught is KeyboardInterrupt
    assert done.returncode == (130 if stopped else 1)
    assert done.stderr.startswith("Stopped." if stopped else "Error: Unexpected ValueError: Task run is not set.")


@pytest.mark.parametrize("option", [("monitor", "--window"), ("train", "--window"), ("replay", "--to")])
def test_an_unknown_window_is_wrong_usage_told_before_a_flow_starts(connected_shell, loop, option):
    command, name = option
    done = connected_shell.call(command, "loop", name, "2025-01")
    assert done.returncode == 2
    assert "there is no window 2025-01; there are 2, from 2024-01 to 2024-02. `driftloop status loop`" in done.stderr
    assert one_paragraph(done.stderr)


def test_a_quarantined_window_ends_with_exit_code_1_and_its_report_on_standard_output(shell, loop):
    loop.deliver("2024-02", month(2).drop(columns="fee"))
    done = shell.run("monitor", "loop", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["quarantine"] == {
        "problems": ["column fee is missing; the window has customer, usage, plan, churned"]
    }
    assert "Window 2024-02 is quarantined: column fee is missing" in done.stderr
    assert "`driftloop monitor loop --window 2024-02` again" in done.stderr
    assert one_paragraph(done.stderr)


def test_check_names_the_window_that_would_be_quarantined(shell, loop):
    loop.deliver("2024-02", month(2).drop(columns="fee"))
    done = shell.call("check", "loop", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [bool(row["problems"]) for row in found["windows"]] == [False, True]
    assert "1 of 2 windows would be quarantined" in done.stderr


@pytest.fixture
def waiting_loop(loop):
    """Version 1 is champion, version 2 waits for approval: in the state folder that the commands find."""
    loop.set("promotion", slices=["plan"], min_slice_rows=20)
    asking(loop, {"2024-01": month(1), "2024-02": month(2, shift=1, turned=True)})
    return loop


def test_approve_rollback_and_what_they_leave_behind(shell, waiting_loop):
    for arguments, told in (
        (["approve", "loop"], "Missing option '--by'"),
        (["approve", "loop", "--by", " "], "say who answers"),
        (["history", "loop", "--at", "yesterday"], "--at yesterday: expected a time such as 2024-05-03T10:00Z"),
    ):
        wrong = shell.call(*arguments)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert told in wrong.stderr
    refused = shell.call("reject", "loop", "--by", "bob", "--version", "9")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "version 9 does not wait for approval; version 2 does." in refused.stderr
    assert one_paragraph(refused.stderr)

    approved = shell.call("approve", "loop", "--by", "ada", "--why", "seen on staging", "--json")
    assert approved.returncode == 0, approved.stderr
    found = json.loads(approved.stdout)
    assert (found["kind"], found["version"], found["by"]) == ("promotion", "2", "ada")
    rolled_back = shell.run("rollback", "loop", "--by", "bob", "--why", "complaints")
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert rolled_back.stdout == (
        f"Version 1 is champion again: rolled back from version 2: complaints. (ledger row {found['row'] + 1})\n"
    )
    rows = [json.loads(line) for line in shell.call("history", "loop", "--json").stdout.splitlines()]
    assert [(row["kind"], row["version"]) for row in rows[-3:]] == [
        ("ask", "2"), ("promotion", "2"), ("rollback", "1"),
    ]  # fmt: skip
    assert (rows[-1]["actor"], rows[-1]["details"]["why"]) == ("bob", "complaints")
    then = shell.call("history", "loop", "--at", found["time"], "--json")
    assert then.returncode == 0, then.stderr
    served = json.loads(then.stdout)
    assert (served["version"], served["by"], served["until"]) == ("2", "ada", rows[-1]["time"])
    table = shell.call("history", "loop").stdout
    assert "champion" in table
    assert "rolled back from version 2: complaints" in table


def test_a_candidate_is_rejected_by_the_command(shell, waiting_loop):
    done = shell.call("reject", "loop", "--by", "bob", "--why", "trained on the outage")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Version 2 was rejected by bob; the champion stays. (ledger row ")
    assert waiting_loop.open().registry.aliases() == {"champion": "1"}


def test_diff_puts_two_versions_side_by_side(shell, waiting_loop):
    done = shell.call("diff", "loop", "1", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"] == ["1", "2"]
    assert found["compared"]["gain"] > 0
    assert [s["name"] for s in found["compared"]["slices"]] == ["plan = basic", "plan = full"]
    assert found["drift"]["drifted"] == 2
    unknown = shell.call("diff", "loop", "1", "9")
    assert unknown.returncode == 1
    assert "holds no version 9 of" in unknown.stderr
    assert one_paragraph(unknown.stderr)


def test_history_verify_finds_a_row_changed_behind_the_ledger_s_back(shell, waiting_loop):
    whole = shell.call("history", "loop", "--verify")
    assert whole.returncode == 0, whole.stderr
    assert "3 rows, each follows the one before. The last one's hash: " in whole.stdout
    with closing(sqlite3.connect(waiting_loop.home / "ledger.db")) as connection, connection:
        connection.execute("UPDATE ledger SET actor = 'nobody' WHERE seq = 2")
    done = shell.call("history", "loop", "--verify", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["rows"], found["ok"], found["problems"]) == (3, False, ["row 2 is not what was written"])
    assert "was changed behind its back: row 2 is not what was written" in done.stderr
    assert one_paragraph(done.stderr)


@pytest.mark.long
def test_ctrl_c_ends_a_replay_with_130_and_the_next_run_completes_it(shell, connected_shell, loop):
    replay = shell.start("replay", "loop", "--json")
    assert json.loads(replay.stdout.readline())["window"] == "2024-01"  # the second window is under way
    children = descendants(replay.pid)
    interrupt(replay)
    _, err = replay.communicate(timeout=60)
    assert replay.returncode == 130
    assert "Stopped. What was under way is picked up by the next run." in err
    assert "Traceback" not in err
    until(lambda: not any(command_line(pid) for pid in children), f"the end of {children}")

    after = connected_shell.run("replay", "loop", "--json")
    assert after.returncode == 0, after.stderr
    reports = [json.loads(line) for line in after.stdout.splitlines()]
    assert "repeated" in reports[0]
    assert reports[1]["champion"] == {"version": reports[1]["training"]["version"]}


@pytest.mark.long
def test_a_killed_monitor_leaves_no_process_behind_and_the_next_run_completes(shell, loop):
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace("sklearn.linear_model.LogisticRegression", "deadly_model.regression"))
    (shell.folder / "deadly_model.py").write_text(ESTIMATOR)
    (shell.folder / "deadly").touch()
    monitor = shell.start("monitor", "loop", "--window", "2024-01", "--json")
    started: dict[int, str] = {}

    def ended():
        started.update(descendants(monitor.pid))
        return monitor.poll() is not None

    until(ended, "the kill in the middle of the training", 150)
    assert monitor.returncode == -signal.SIGKILL
    named = " ".join(started.values())
    assert "flows.server" in named
    assert "driftloop.drift_worker" in named
    until(lambda: not any(command_line(pid) for pid in started), f"the end of {started}")

    (shell.folder / "deadly").unlink()
    after = shell.run("monitor", "loop", "--window", "2024-01", "--json", seconds=200)
    assert after.returncode == 0, after.stderr
    report = json.loads(after.stdout)
    assert "repeated" not in report
    assert report["champion"] == {"version": "1"}
