"""A version tried by a real clean process, before its alias moves."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.cli import gc

from driftloop import deciding, following, own, promoting, serving_check
from driftloop.compiled import FILE, digest
from driftloop.contract import Model
from driftloop.entry import Kind
from driftloop.errors import ArtifactError, Unreachable
from driftloop.graph import graph
from driftloop.serving_check import Request
from flows import server
from tests.fakes import FakeChecks
from tests.integration.conftest import Loop, month
from tests.integration.test_api_swap import change_predictions, stored, truncate
from tests.integration.test_approval import train


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A champion of one month, and of the next a candidate that is a version and was not tried yet."""
    folder = tmp_path_factory.mktemp("serving")
    loop = Loop(folder / "loop", folder / "home", "churn")
    loop.deliver("2024-01", month(1))
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    work = loop.open()
    assert train(replace(work, checks=FakeChecks()), "2024-01").kind is Kind.PROMOTION
    data = promoting.training_data(work, "2024-02", work.champion())
    candidate = promoting.train(work, data)
    yield work, data, candidate
    serving_check.stop()


@pytest.fixture
def fresh(registered):
    """The candidate as a version of the test's own, to be damaged."""
    work, data, candidate = registered
    return work, data, candidate, promoting.register(work, candidate, "2024-02").number


def decided(work, made, data):
    """The decision on a candidate that was tried, and its ledger row."""
    decision, entry = deciding.decide_and_record(work, made, data, "2024-02", promoting.asked_by(work, "2024-02", None))
    following.follow(work, entry)
    return decision, entry


def test_a_good_version_scores_as_the_candidate_did_and_is_measured(fresh):
    work, data, candidate, version = fresh
    found = promoting.check_serving(work, candidate, version, data.holdout.X).serving
    assert found.problem is None
    assert found.difference < 1e-9
    assert found.rows == len(data.holdout.X)
    assert 0 < found.latency_ms < 1000
    files = [f for f in stored(work.registry, version).rglob("*") if f.is_file()]
    assert "holdout.npz" in {f.name for f in files}, "kept with the version, and no part of what serves"
    size = sum(f.stat().st_size for f in files if f.name != "holdout.npz")
    assert found.size_mb == pytest.approx(size / 1e6, rel=0.01)


def test_what_features_matter_is_found_meanwhile_and_comes_back_with_the_version(fresh):
    work, data, candidate, version = fresh
    assert candidate.facts.importance == {} == work.registry.importance(version)
    made = promoting.try_and_weigh(work, candidate, version, data.holdout)
    assert made.serving.problem is None
    known = made.candidate.facts.importance
    assert set(known) == set(data.holdout.X)
    assert work.model(version).facts == made.candidate.facts.model_copy(
        update={"evidence": candidate.evidence.facts(candidate.evidence.files)}
    )


def test_a_version_outlives_the_run_that_says_what_its_features_matter(fresh):
    work, data, candidate, version = fresh
    promoting.try_and_weigh(work, candidate, version, data.holdout)
    run_id = work.registry.version(version).run_id
    work.registry.client.delete_run(run_id)
    removed = CliRunner().invoke(gc, ["--backend-store-uri", work.settings.tracking_uri, "--run-ids", run_id])
    assert removed.exit_code == 0, removed.output
    assert work.registry.importance(version) == {}


def test_a_version_is_stored_with_its_graph_and_says_so(fresh):
    work, _, candidate, version = fresh
    found = candidate.facts.compiled
    assert found.difference < 1e-12
    assert found.rows > 300
    assert work.registry.tags(version)["compiled"] == str(found)
    assert (stored(work.registry, version) / FILE).read_bytes() == candidate.compiled
    loaded = work.model(version)
    loaded.verify()
    assert loaded.compiled is not None


def test_a_model_of_own_classes_is_tried_by_a_process_from_before_their_package_was_named(fresh, monkeypatch):
    for name in own.NAMES:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    work, data, *_ = fresh
    work.checks.start()
    loop = work.loop.model_copy(update={"model": Model(estimator="tests.own.Share")})
    own.admit(work.folder, loop)
    candidate = promoting.train(replace(work, loop=loop), data)
    assert candidate.facts.compiled.refused == "it cannot be converted (skl2onnx has no converter for it)"
    version = promoting.register(work, candidate, "2024-02").number
    assert promoting.check_serving(work, candidate, version, data.holdout.X).serving.problem is None


def test_what_would_serve_is_timed(fresh):
    work, data, candidate, version = fresh
    compiled = promoting.check_serving(work, candidate, version, data.holdout.X).serving.latency_ms
    native = replace(candidate, compiled=None, facts=candidate.facts.model_copy(update={"compiled": None}))
    version = promoting.register(work, native, "2024-02").number
    assert compiled < promoting.check_serving(work, native, version, data.holdout.X).serving.latency_ms / 3


def test_a_version_that_scores_otherwise_when_compiled_is_kept_out(fresh, monkeypatch):
    work, data, candidate, _ = fresh
    constant = candidate.estimator["model"].intercept_
    monkeypatch.setattr(candidate.estimator["model"], "intercept_", constant + 1)
    content = graph(candidate.estimator, candidate.facts)
    monkeypatch.undo()
    found = candidate.facts.compiled.model_copy(update={"sha256": digest(content)})
    wrong = replace(candidate, compiled=content, facts=candidate.facts.model_copy(update={"compiled": found}))
    version = promoting.register(work, wrong, "2024-02").number
    problem = promoting.check_serving(work, wrong, version, data.holdout.X).serving.problem
    assert "the compiled model scores the stored sample rows up to" in problem


def test_scores_that_are_not_the_candidate_s_are_a_problem(fresh):
    work, data, _, version = fresh
    scores = np.full(len(data.holdout.X), 0.5)
    found = work.checks.check(Request(work.settings, "churn", version, data.holdout.X, scores))
    assert found.problem == f"its scores differ by up to {found.difference:.3g} from the candidate's on 130 rows"
    assert found.difference > 0.2
    assert found.latency_ms > 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "model.skops cannot be loaded"),
        (change_predictions, "the stored sample rows score up to"),
        (lambda folder: (folder / FILE).unlink(), "model.onnx cannot be read"),
        (lambda folder: (folder / FILE).write_bytes(b"other"), "model.onnx is not what was stored"),
    ],
)
def test_a_version_that_is_not_as_it_was_stored_is_kept_out_and_the_alias_stays(fresh, damage, said):
    work, data, candidate, version = fresh
    damage(stored(work.registry, version))
    made = promoting.check_serving(work, candidate, version, data.holdout.X)
    assert said in made.serving.problem
    assert "/tmp" not in made.serving.problem
    decision, entry = decided(work, made, data)
    assert (decision.outcome, decision.reason, entry.kind) == ("keep", "cannot be served", Kind.KEEP)
    assert said in decision.sentence
    assert said in entry.details["card"]
    assert work.registry.aliases() == {"champion": "1"}
    assert work.registry.tags(version)["decision"] == "keep"


@pytest.mark.parametrize(
    ("cap", "reason"),
    [({"max_latency_ms": 1e-6}, "too slow"), ({"max_size_mb": 1e-6}, "too large")],
)
def test_a_version_beyond_a_cap_is_kept_out_with_the_measure(fresh, cap, reason):
    work, data, candidate, version = fresh
    loop = work.loop.model_copy(update={"promotion": work.loop.promotion.model_copy(update=cap)})
    work = replace(work, loop=loop)
    decision, entry = decided(work, promoting.check_serving(work, candidate, version, data.holdout.X), data)
    assert (decision.outcome, decision.reason) == ("keep", reason)
    measured = decision.serving.latency_ms if "max_latency_ms" in cap else decision.serving.size_mb
    assert f"{measured:.3g}" in decision.because[0]
    assert entry.details["report"]["decision"]["gain"] > 0.1, "it was not kept out for its scores"
    assert work.registry.aliases() == {"champion": "1"}


def test_a_first_candidate_that_cannot_be_served_leaves_the_loop_without_champion(loop):
    loop.deliver("2024-01", month(1))
    work = loop.open()
    data = promoting.training_data(work, "2024-01", None)
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, "2024-01").number
    truncate(stored(work.registry, version))
    made = promoting.check_serving(work, candidate, version, data.holdout.X)
    details = promoting.asked_by(work, "2024-01", None)
    _, entry = deciding.decide_and_record(work, made, data, "2024-01", details)
    following.follow(work, entry)
    assert (entry.kind, entry.reason, work.ledger.champion()) == (Kind.KEEP, "cannot be served", None)
    assert work.registry.aliases() == {}


def test_a_registry_that_does_not_answer_is_no_finding_about_the_version(fresh, monkeypatch):
    work, data, candidate, version = fresh
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    serving_check.stop()  # one that is on its way has another environment
    dead = replace(work, settings=replace(work.settings, tracking_uri=f"http://127.0.0.1:{server.free_port()}"))
    rows = work.ledger.entries()
    with pytest.raises(Unreachable, match=r"MLflow at http://127\.0\.0\.1:\d+ does not answer"):
        promoting.check_serving(dead, candidate, version, data.holdout.X)
    assert work.ledger.entries() == rows
    assert promoting.check_serving(work, candidate, version, data.holdout.X).serving.problem is None


def test_a_champion_whose_stored_model_was_damaged_is_not_compared_with(loop):
    loop.deliver("2024-01", month(1))
    work = replace(loop.open(), checks=FakeChecks())
    train(work, "2024-01")
    truncate(stored(work.registry, "1"))
    work._models.clear()
    loop.deliver("2024-02", month(2))
    with pytest.raises(ArtifactError, match=r"version 1 of churn cannot be used: .* Restore its files"):
        work.champion()
