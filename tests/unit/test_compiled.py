"""The stored graph serves only while it is the one that was stored; what loads it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftloop.artifact import Artifact
from driftloop.compiled import FILE, Compiled, load_compiled, read_facts
from driftloop.errors import ArtifactError
from driftloop.facts import CompiledFacts, Facts
from driftloop.promoting import compiled
from tests.fakes import a_candidate, a_window, some_facts, some_rows, stored

CANDIDATE = compiled(a_candidate(), a_window().X)
CONTENT = CANDIDATE.compiled or b""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A downloaded model's folder, as far as its facts and its graph go."""
    metadata = {"driftloop": json.loads(CANDIDATE.facts.model_dump_json())}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {}, "metadata": metadata}), encoding="utf-8")
    (tmp_path / FILE).write_bytes(CONTENT)
    return tmp_path


def test_a_folder_says_what_its_model_is(folder: Path) -> None:
    assert read_facts(folder) == CANDIDATE.facts


@pytest.mark.parametrize("text", [None, "", "metadata: {}", "metadata: {driftloop: {loop: churn}}", "[1", "a", "\x00"])
def test_a_folder_that_driftloop_did_not_write_is_told(folder: Path, text: str | None) -> None:
    (folder / "MLmodel").unlink()
    if text is not None:
        (folder / "MLmodel").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"is not a model that driftloop stored|MLmodel cannot be read"):
        read_facts(folder)


def test_a_tag_that_asks_yaml_for_an_object_makes_none(folder: Path) -> None:
    (folder / "MLmodel").write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(ArtifactError, match="MLmodel cannot be read"):
        read_facts(folder)


def test_the_graph_in_the_folder_scores(folder: Path) -> None:
    loaded = load_compiled(folder, read_facts(folder))
    assert loaded is not None
    stored_version(loaded).verify()


def test_a_version_without_a_graph_has_none(tmp_path: Path) -> None:
    refused = CompiledFacts(sha256=None, difference=0.1, tolerance=1e-6, rows=9, refused="it differs")
    for found in (None, refused):
        assert load_compiled(tmp_path, some_facts(compiled=found)) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "model.onnx cannot be read: No such file"), (CONTENT[:-1], "is not what was stored"), (b"", "is not what")],
)
def test_a_graph_that_is_absent_cut_off_or_altered_does_not_serve(
    folder: Path, content: bytes | None, said: str
) -> None:
    (folder / FILE).unlink()
    if content is not None:
        (folder / FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=said):
        load_compiled(folder, CANDIDATE.facts)


@pytest.mark.parametrize("content", [b"", b"no graph", CONTENT[: len(CONTENT) // 2]])
def test_what_is_no_graph_cannot_be_loaded(content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be loaded: "):
        Compiled(content)


def test_another_models_graph_does_not_serve() -> None:
    other = compiled(a_candidate(windows=[a_window(some_rows(seed=9))]), a_window().X).compiled
    with pytest.raises(ArtifactError, match=r"the compiled model scores the stored sample rows up to .* differently"):
        stored_version(Compiled(other or b"")).verify()


def stored_version(graph: Compiled) -> Artifact:
    return Artifact(CANDIDATE.facts, CANDIDATE.estimator, stored(CANDIDATE).signature, graph)


def test_the_facts_of_versions_before_there_were_graphs_still_load() -> None:
    values: dict[str, Any] = json.loads(some_facts().model_dump_json())
    del values["compiled"], values["statistics"]
    old = Facts.model_validate(values)
    assert (old.compiled, old.statistics) == (None, {})


def test_the_facts_of_a_graph_survive_being_stored_as_json() -> None:
    assert Facts.model_validate_json(CANDIDATE.facts.model_dump_json()) == CANDIDATE.facts


def test_loading_a_graph_needs_neither_pandas_nor_scikit_learn_nor_mlflow(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from driftloop import compiled; "
        "folder = Path(sys.argv[1]); compiled.load_compiled(folder, compiled.read_facts(folder)); "
        "print(sorted({'pandas', 'sklearn', 'mlflow', 'scipy', 'onnx', 'skl2onnx', 'hypothesis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
