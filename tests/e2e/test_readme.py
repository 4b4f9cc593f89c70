"""README and docs against the program."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from driftloop.cli.__main__ import cli
from driftloop.contract import Loop
from driftloop.promotion import Outcome, PromotionReason
from driftloop.retrain import RetrainReason
from tests.integration.conftest import month

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [README, *(f.read_text(encoding="utf-8") for f in sorted((ROOT / "docs").glob("*.md")))]


def commands(text: str) -> list[list[str]]:
    """Every `driftloop …` that stands in a code block or between backticks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(driftloop [^`]+)`", text)
    return [shlex.split(line) for line in lines if line.startswith("driftloop ")]


def first_cells(heading: str) -> list[str]:
    """The backticked first cells of the table under a header row."""
    table = README.split(heading, 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE)


def sections(model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = []
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found.append((name, kind))
    return found


@pytest.mark.parametrize("words", [words for text in DOCS for words in commands(text)], ids=" ".join)
def test_every_command_in_the_docs_exists_with_its_options(words):
    command = cli.commands[words[1].rstrip(",")]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[2:] if word.startswith("--")} <= known


def test_the_commands_table_lists_every_command():
    listed = [cell.split()[1] for cell in first_cells("| command | does |")]
    assert sorted(listed) == sorted(cli.commands)


def test_the_decision_tables_list_every_reason():
    assert first_cells("| verdict on a window") == [str(reason) for reason in RetrainReason]
    rows = first_cells("| decision on a candidate")
    assert sorted(rows) == sorted(str(reason) for reason in PromotionReason)
    assert set(Outcome) == {"promote", "keep", "ask"}


def test_the_reference_of_loop_toml_names_every_key():
    text = (ROOT / "docs" / "loop-toml.md").read_text(encoding="utf-8")
    for name, section in sections(Loop):
        part = text.split(f"## [{name}]", 1)[1].split("\n## ", 1)[0]
        assert [key for key in section.model_fields if f"`{key}`" not in part] == []
    top = text.split("## [windows]")[0]
    plain = set(Loop.model_fields) - {name for name, _ in sections(Loop)}
    assert [key for key in sorted(plain) if f"`{key}`" not in top] == []


@pytest.mark.e2e
@pytest.mark.long
def test_own_data_in_five_minutes(tmp_path, shell):
    """The block's commands in their order, on windows and labels as it describes them, and what they say to scripts."""
    folder = tmp_path / "my-loop"
    (folder / "windows").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, window in enumerate(("2024-01", "2024-02", "2024-03")):
        rows = month(number, shift=float(number == 2)).rename(columns={"customer": "customer_id"})
        rows.drop(columns="churned").to_csv(folder / "windows" / f"{window}.csv", index=False)
        rows[["customer_id", "churned"]].to_csv(folder / "labels" / f"{window}.csv", index=False)
    part = README.split("## Your own data in five minutes", 1)[1].split("\n## ", 1)[0]
    steps = commands(re.search(r"```sh\n.*?```", part, flags=re.DOTALL)[0])
    assert [step[1] for step in steps] == ["init", "check", "replay", "status", "history"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "DRIFTLOOP"))}
    for step in steps:
        done = subprocess.run(
            [str(Path(sys.executable).parent / step[0]), *step[1:]],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout
    assert "beats the margin" in done.stdout

    def said(*arguments: str) -> list[dict]:
        done = shell.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (checked,) = said("check", "my-loop")
    assert (checked["loop"], checked["ok"]) == ("my-loop", True)
    assert [row["labelled"] for row in checked["windows"]] == [600, 600, 600]
    (status,) = said("status", "my-loop")
    assert status["champion"]["version"] == "2"
    assert [w["state"] for w in status["windows"]] == ["monitored"] * 3
    rows = said("history", "my-loop")
    assert [row["kind"] for row in rows] == ["verdict", "promotion", "verdict", "verdict", "promotion"]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]


def played(text: str) -> list[tuple[str, list[float]]]:
    """The story's lines without their numbers, and the numbers: floats may differ a little between machines."""
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s+(2024-|the API)", line)]
    number = r"\d\.\d{3}"
    return [(re.sub(number, "#", line), [float(n) for n in re.findall(number, line)]) for line in lines]


@pytest.mark.e2e
@pytest.mark.long
def test_the_demo_plays_the_story_that_the_readme_tells(tmp_path):
    folder = tmp_path / "streamflow"
    folder.mkdir()
    for name in ("loop.toml", "generator.toml"):
        shutil.copyfile(ROOT / "data" / "streamflow" / name, folder / name)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "DRIFTLOOP"))}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "driftloop"), "demo", "--folder", str(folder)],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = played(re.search(r"```text\ndriftloop demo.*?```", README, flags=re.DOTALL)[0])
    assert len(told) == 15
    shown = played(done.stdout)[: len(told)]
    assert [line for line, _ in shown] == [line for line, _ in told]
    for (line, numbers), (_, expected) in zip(shown, told, strict=True):
        assert numbers == pytest.approx(expected, abs=0.02), line
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stdout + done.stderr
