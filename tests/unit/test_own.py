"""A loop's own modules: where they are imported from, and what their being named lets a stored model hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import skops.io
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.preprocessing import FunctionTransformer

from driftloop import artifact, monitoring, own
from driftloop.errors import ArtifactError
from driftloop.own import Own
from driftloop.settings import Settings
from driftloop.workspace import open_workspace
from services.api import explaining, scoring
from tests.fakes import a_candidate, a_loop, some_facts, some_rows

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
    for name in ("shares_of_ours", "helpers_of_ours", "helpers_of_ours.inner"):
        sys.modules.pop(name, None)


def stored(file: Path) -> Path:
    candidate = a_candidate(a_loop(model={"estimator": "tests.own.Share"}))
    skops.io.dump(candidate.estimator, file)
    return file


def test_a_model_of_own_classes_loads_where_loop_toml_names_their_package(tmp_path: Path) -> None:
    file = stored(tmp_path / "model.skops")
    with pytest.raises(
        ArtifactError, match=r"tests\.own\.Known.*Trusted are the types .* package defines which loop\.toml names"
    ):
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


# what a writer of the registry may make of it

HELPERS = """
import os
from collections import namedtuple
from functools import partial
from subprocess import Popen, getoutput
from helpers_of_ours.inner import Kept

def doubled(X):
    return X * 2

class Helper:
    def run(self):
        pass

    @staticmethod
    def say(words):
        pass

Pair = namedtuple("Pair", "a b")
Other = Popen
told = partial(getoutput)
quick = lambda X: X
"""


@pytest.fixture
def helpers(tmp_path: Path) -> None:
    folder = tmp_path / "helpers_of_ours"
    folder.mkdir()
    (folder / "__init__.py").write_text(HELPERS)
    (folder / "inner.py").write_text("import os\n\nclass Kept:\n    class Inside:\n        pass\n")
    own.admit(tmp_path, a_loop(model={"estimator": "helpers_of_ours.Helper"}))


@pytest.mark.parametrize(
    "name",
    ["helpers_of_ours.Helper", "helpers_of_ours.doubled", "helpers_of_ours.Pair", "helpers_of_ours.inner.Kept"],
)
def test_what_an_own_package_defines_is_trusted(helpers: None, name: str) -> None:
    assert Own.admitted().defines(name)


@pytest.mark.parametrize(
    "name",
    [
        "helpers_of_ours.os", "helpers_of_ours.os.popen", "helpers_of_ours.getoutput",
        "helpers_of_ours.Popen", "helpers_of_ours.Other", "helpers_of_ours.told", "helpers_of_ours.quick",
        "helpers_of_ours.inner", "helpers_of_ours.inner.os", "helpers_of_ours.inner.os.system", "helpers_of_ours.Kept",
        "helpers_of_ours.Helper.run", "helpers_of_ours.Helper.say", "helpers_of_ours.inner.Kept.Inside",
        "helpers_of_ours.__loader__", "helpers_of_ours.nothing", "helpers_of_ours..os", "helpers_of_ours.",
        "os.system", "builtins.eval",
    ],
)  # fmt: skip
def test_what_an_own_package_imports_and_what_hangs_on_it_is_not_trusted(helpers: None, name: str) -> None:
    assert not Own.admitted().defines(name)


def reexported(node: dict[str, Any]) -> None:
    node["__module__"] = "helpers_of_ours"


def method_of_a_module(node: dict[str, Any]) -> None:
    module = node | {"__module__": "helpers_of_ours", "__class__": "os", "__id__": 987654}
    node |= module | {"__loader__": "MethodNode", "__id__": 1, "content": {"func": "popen", "obj": module}}


@pytest.fixture(params=[reexported, method_of_a_module])
def edited(helpers: None, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A version's folder whose model was edited by hand to run what it is given as a command."""
    skops.io.dump(FunctionTransformer(func=subprocess.getoutput), tmp_path / "honest.skops")
    with zipfile.ZipFile(tmp_path / "honest.skops") as honest:
        content = {name: honest.read(name) for name in honest.namelist()}
    schema = json.loads(content["schema.json"])
    request.param(schema["content"]["content"]["func"])
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as model:
        for name, data in (content | {"schema.json": json.dumps(schema)}).items():
            model.writestr(name, data)
    signature = ModelSignature(Schema([ColSpec("double", "fee"), ColSpec("string", "plan")]))
    Model(signature=signature, metadata={"driftloop": some_facts().model_dump(mode="json")}).save(tmp_path / "MLmodel")
    return tmp_path


@pytest.mark.parametrize(
    "load",
    [
        lambda folder: artifact.load_skops(folder / "model.skops"),
        artifact.load,
        lambda folder: scoring.native(folder, Lock()),
        lambda folder: explaining._Explaining()((folder, None, {})),
    ],
    ids=["model", "folder", "api", "explain"],
)
def test_a_hand_edited_model_reaches_no_command_through_what_an_own_module_imports(
    edited: Path, load: Callable[[Path], object]
) -> None:
    with pytest.raises(ArtifactError, match=r"types that nobody reviewed.*helpers_of_ours\.(getoutput|os\.popen)"):
        load(edited)


def test_a_model_whose_own_module_is_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stored(tmp_path / "model.skops")
    own.admit(tmp_path, a_loop(model={"estimator": "tests.own.Share"}))
    monkeypatch.setitem(sys.modules, "tests", None)
    with pytest.raises(ArtifactError, match="cannot be loaded: ModuleNotFoundError: import of tests"):
        artifact.load_skops(file)


# what they are made of


def test_an_edited_module_of_the_loops_own_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, here = tmp_path / "loop", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    loop = a_loop(model={"estimator": "shares_of_ours.Share", "preprocessing": "encoders_of_ours.deep.scaled"})
    assert own.sources(folder, loop) == own.sources(folder, a_loop()) == ""
    (folder / "unnamed.py").write_text("")
    assert own.sources(folder, loop) == ""
    (folder / "shares_of_ours.py").write_text("x = 1\n")
    digests = [own.sources(folder, loop)]
    (folder / "shares_of_ours.py").write_text("x = 2\n")
    digests.append(own.sources(folder, loop))
    package = here / "encoders_of_ours" / "deep"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    digests.append(own.sources(folder, loop))
    (package / "scaled.py").write_text("")
    digests.append(own.sources(folder, loop))
    (here / "shares_of_ours.py").write_text("x = 3\n")
    digests.append(own.sources(folder, loop))
    (folder / "shares_of_ours.py").write_text("x = 4\n")  # the one in the working folder is imported
    assert own.sources(folder, loop) == digests[-1]
    assert len({"", *digests}) == 6


def test_an_edited_module_in_the_loops_folder_makes_another_run_of_its_windows(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    some_rows().to_csv(tmp_path / "windows" / "2024-01.csv", index=False)
    model = LOOP.partition("[model]")[2].replace("encoders_of_ours.scaled", "auto")
    (tmp_path / "loop.toml").write_text(f"{LOOP.partition('[model]')[0]}[model]{model}")
    keys = []
    for note in ("# one", "# two", "# one"):
        (tmp_path / "shares_of_ours.py").write_text(f"from tests.own import Share  {note}\n")
        opened = open_workspace(tmp_path, Settings.from_env({}, tmp_path))
        keys.append(monitoring.run_key(opened, "2024-01"))
        opened.ledger._engine.dispose()
    assert keys[0] == keys[2] != keys[1]
