"""What is judged on a window's tail is fitted again with the tail before it serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from driftloop import answers, approving, promoting
from driftloop.difference import difference
from driftloop.entry import Kind
from driftloop.errors import ContractError, DriftloopError, NotWaiting
from driftloop.report import metrics_json
from flows.train_and_compare_flow import train_and_compare_flow
from tests.fakes import FakeChecks
from tests.integration.conftest import month
from tests.integration.test_approval import kinds, last, opened, overtaken, train

ALL, TAIL = 600, 120


def dated(rows, start):
    """The rows with a time each, in no order."""
    minutes = np.random.default_rng(0).permutation(len(rows))
    return rows.assign(seen=pd.Timestamp(start) + pd.to_timedelta(minutes, unit="min"))


@pytest.fixture
def timed(loop):
    """A loop whose holdout is the newest window's tail; its first window is there."""
    toml = loop.folder / "loop.toml"
    toml.write_text(toml.read_text().replace('entity = "customer"', 'entity = "customer"\ntimestamp = "seen"'))
    loop.set("holdout", by="time")
    loop.deliver("2024-01", dated(month(1), "2024-01-01"))
    return loop


def facts(work, version):
    return work.model(version).facts


def test_the_version_that_serves_has_learnt_from_the_tail_and_the_next_tail_is_one_it_never_saw(timed, monitor):
    report = monitor()
    work = timed.open()
    judged, served = facts(work, "1"), facts(work, "2")
    assert report["champion"] == {"version": "2"}
    assert work.registry.aliases() == {"champion": "2"}
    assert kinds(work) == [("verdict", None), ("promotion", "2")]
    assert last(work).details["judged"] == "1"
    assert (judged.refit_of, served.refit_of) == (None, "1")
    assert (judged.rows, served.rows) == (ALL - TAIL, ALL)
    assert judged.fingerprint != served.fingerprint
    assert (served.metrics, served.threshold) == (judged.metrics, judged.threshold)
    kept, handed_on = (work.model(version).evidence for version in ("1", "2"))
    assert (kept.rows, len(kept.y)) == (TAIL, TAIL)
    assert np.array_equal(kept.scores, handed_on.scores), "the judged version's: this one has learnt from the rows"
    assert report["decision"]["holdout_rows"] == TAIL
    assert report["decision"]["candidate"] == judged.metrics["auc"]
    assert report["training"] == {
        "windows": ["2024-01"], "rows": ALL, "version": "2",
        "metrics": metrics_json(judged),
        "estimator": judged.recipe["estimator"], "strategy": "all",
        **dict.fromkeys(("new_rows", "note", "effective_rows", "tuned_from", "contest", "search")),
    }  # fmt: skip
    assert (report["decision"]["serving"]["problem"], report["decision"]["serving"]["rows"]) == (None, TAIL)
    assert "refit_of" not in work.registry.tags("1")
    assert work.registry.tags("2")["refit_of"] == "1"
    assert work.registry.tags("1")["decision"] == "promote"
    assert work.registry.tags("1")["reason"] == "no champion; refitted as version 2"
    assert "after version 1, the same recipe without them, passed" in (
        work.registry.client.get_model_version("churn", "2").description
    )

    with pytest.raises(ContractError, match=r"champion 2 was refitted with all rows of 2024-01, .* none is left that"):
        train_and_compare_flow(timed.folder)
    assert len(work.registry.client.search_model_versions("name='churn'")) == 2, "nothing was trained in vain"
    found = difference(work, "1", "2")
    assert (found["compared"], found["drift"]) == (None, None)
    assert found["not_compared"].startswith("version 2 has learnt from all rows of 2024-01")
    assert [side["refit_of"] for side in found["data"]] == [None, "1"]

    timed.deliver("2024-02", dated(month(2, shift=1, turned=True), "2024-02-01"))
    data = promoting.training_data(work, "2024-02", work.champion())
    learnt = work.read("2024-01").labelled
    assert served.rows == len(learnt.X)
    assert len(data.holdout.X) == TAIL
    assert not set(data.holdout.X["fee"]) & set(learnt.X["fee"])
    assert not set(data.holdout.X["fee"]) & set(data.training.X["fee"])
    assert data.holdout.timestamp.min() > learnt.timestamp.max()
    report = monitor()
    assert (report["decision"]["reason"], report["champion"]) == ("beats the margin", {"version": "4"})
    assert report["performance"]["rows"] == ALL
    assert (facts(work, "4").refit_of, facts(work, "4").rows) == ("3", 2 * ALL)
    assert answers.findings(work, work.champion(), work.read("2024-02")).performance is None


def test_a_candidate_that_loses_is_not_refitted(timed):
    work = opened(timed)
    train(work, "2024-01")
    timed.deliver("2024-02", dated(month(2), "2024-02-01"))
    assert train(work, "2024-02").kind is Kind.KEEP
    assert kinds(work) == [("promotion", "2"), ("keep", "3")]
    assert len(work.registry.client.search_model_versions("name='churn'")) == 3


def test_a_refit_that_cannot_be_served_is_not_promoted_though_the_judged_one_could(timed):
    work = replace(timed.open(), checks=FakeChecks({"2": "its scores differ"}))
    entry = train(work, "2024-01")
    assert work.checks.asked == ["1", "2"]
    assert (entry.kind, entry.version, entry.reason) == (Kind.KEEP, "1", "cannot be served")
    assert (work.ledger.champion(), work.registry.aliases()) == (None, {})


def test_what_a_human_approves_is_refitted_before_it_serves(timed):
    timed.set("promotion", approval="always")
    work = opened(timed)
    assert train(work, "2024-01").version == "1"
    assert work.registry.aliases() == {"challenger": "1"}
    fails = replace(work, checks=FakeChecks({"2": "its scores differ"}))
    with pytest.raises(DriftloopError, match=r"version 1 is not promoted: cannot be served .* It still waits"):
        approving.approve(fails, None, "ada", "")
    entry = approving.approve(work, None, "ada", "")
    assert (entry.version, entry.details["judged"], entry.actor) == ("3", "1", "ada")
    assert work.registry.aliases() == {"champion": "3"}
    assert facts(work, "3").refit_of == "1"
    assert work.registry.tags("1")["reason"] == "approved; refitted as version 3"
    with pytest.raises(NotWaiting, match="version 1 does not wait"):
        approving.approve(work, "1", "bob", "")


def test_of_two_approvals_at_the_same_time_the_slower_is_told_that_nothing_waits(timed):
    timed.set("promotion", approval="always")
    work = opened(timed)
    train(work, "2024-01")
    entry, refused = overtaken(work)
    assert (entry.version, refused) == ("2", "version 1 no longer waits for approval; none does.")
    assert [kind for kind, _ in kinds(work)] == ["ask", "promotion"]
