"""A loop's own modules: where they are imported from, and what their being named lets a stored model hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import skops.io

from driftloop import artifact, own
from driftloop.errors import ArtifactError
from driftloop.own import Own
from tests.fakes import a_candidate, a_loop

LOOP = """
name = "own"
task = "binary"
target = "left"
[features]
numeric = ["fee"]
[model]
estimator = "shares_of_ours.Share"
preprocessing = "encoders_of_ours.scaled"
"""


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in own.NAMES:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("shares_of_ours", None)


def stored(file: Path) -> Path:
    candidate = a_candidate(a_loop(model={"estimator": "tests.own.Share"}))
    skops.io.dump(candidate.estimator, file)
    return file


def test_a_model_of_own_classes_loads_where_loop_toml_names_their_package(tmp_path: Path) -> None:
    file = stored(tmp_path / "model.skops")
    with pytest.raises(ArtifactError, match=r"tests\.own\.Known.*Trusted are the types .* that loop\.toml names"):
        artifact.load_skops(file)
    own.admit(tmp_path, a_loop(model={"estimator": "elsewhere.Share", "preprocessing": "tests.own.scaled"}))
    loaded = artifact.load_skops(file)
    assert {"tests.own.Share", "tests.own.Known"} <= set(artifact.trusted_types(loaded))


@pytest.mark.parametrize("estimator", ["sklearn.svm.SVC", "xgboost.XGBClassifier", "os.path.Share", "driftloop.x.Y"])
def test_a_package_whose_types_were_reviewed_one_by_one_is_not_trusted_whole(estimator: str) -> None:
    assert own.modules_of(a_loop(model={"estimator": estimator})) == set()


def test_only_a_folder_that_holds_the_module_is_searched(tmp_path: Path) -> None:
    loop = a_loop(model={"estimator": "shares_of_ours.Share"})
    own.admit(tmp_path, loop)
    assert Own.admitted() == Own(("shares_of_ours",), Own.admitted().folders)
    assert str(tmp_path) not in sys.path
    (tmp_path / "shares_of_ours.py").write_text("from tests.own import Share\n")
    own.admit(tmp_path, loop)
    own.admit(tmp_path, loop)
    assert sys.path.count(str(tmp_path)) == Own.admitted().folders.count(str(tmp_path)) == 1


def test_the_command_line_finds_modules_in_the_loops_folder_and_in_the_working_folder(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "loop", tmp_path / "elsewhere"
    (folder / "windows").mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "loop.toml").write_text(LOOP)
    (folder / "windows" / "2024-01.csv").write_text("fee,left\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    (folder / "shares_of_ours.py").write_text("from tests.own import Share\n")
    (elsewhere / "encoders_of_ours.py").write_text("from tests.own import scaled\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "DRIFTLOOP_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from driftloop.cli.__main__ import main; main()", "check", str(folder)]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
