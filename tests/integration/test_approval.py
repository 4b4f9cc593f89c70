"""What a human decides: a candidate that waits is approved or rejected, a champion is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from driftloop import approving, deciding, following, monitoring, promoting
from driftloop.difference import difference
from driftloop.entry import Entry, Kind, altered
from driftloop.errors import ArtifactError, DriftloopError, NotInRegistry, NotWaiting
from driftloop.reigns import reign_at, reigns, waiting
from driftloop.report import window_report
from driftloop.standing import standing
from services.api.source import RegistrySource
from tests.fakes import FakeChecks
from tests.integration.conftest import month
from tests.integration.test_api_swap import stored, truncate


def swapped(rows):
    """The plans' names exchanged: what one plan did to churn, the other does now."""
    return rows.assign(plan=rows["plan"].map({"basic": "full", "full": "basic"}))


# each beats the one before on its own month; the third beats the first two on every month like its own
RISING = {"2024-01": month(1, turned=True), "2024-02": swapped(month(2)), "2024-03": month(3)}
# the third month is as the first was: its candidate beats the second's, and not the first's
BACK_AND_FORTH = {"2024-01": month(1), "2024-02": month(2, turned=True), "2024-03": month(3)}


def opened(loop):
    """The loop with checks that find nothing: the clean process has tests of its own."""
    return replace(loop.open(), checks=FakeChecks())


def train(work, window):
    """Train, compare, decide, as train_and_compare_flow does; returns the ledger row."""
    data = promoting.training_data(work, window, work.champion())
    candidate = promoting.train(work, data)
    version = promoting.register(work, candidate, window).number
    made = promoting.check_serving(work, candidate, version, data.holdout.X)
    details = promoting.asked_by(work, window, None)
    _, entry = deciding.decide_and_record(work, made, data, window, details)
    following.follow(work, entry)
    return entry


def arrive(work, window):
    """A window that asks for no training, as monitor_flow records it; returns the wait that it ended."""
    late = following.expire(work, window)
    report = window_report(work.loop.name, window, reason="quiet", champion=work.ledger.champion())
    monitoring.record_verdict(work, f"key of {window}", report)
    return late


def asking(loop, months):
    """A loop in which every month's candidate but the last was approved, and the last one waits."""
    loop.set("promotion", approval="always")
    loop.set("training", strategy="latest")
    work = opened(loop)
    for window, rows in months.items():
        loop.deliver(window, rows)
        assert train(work, window).kind is Kind.ASK
        if window != max(months):
            approving.approve(work, None, "ada", "")
    return work


def champions(loop, months=RISING):
    """A loop whose months' candidates became champion one after the other, by themselves."""
    loop.set("training", strategy="latest")
    work = opened(loop)
    for window, rows in months.items():
        loop.deliver(window, rows)
        assert train(work, window).kind is Kind.PROMOTION
    return work


def last(work):
    return work.ledger.entries()[-1]


def kinds(work):
    return [(str(e.kind), e.version) for e in work.ledger.entries()]


def damage(work, number):
    truncate(stored(work.registry, number))


# who waits


def test_where_a_human_has_the_last_word_the_first_candidate_and_later_ones_wait_for_it(loop, monitor):
    loop.set("promotion", approval="always")
    loop.deliver("2024-01", month(1))
    first = monitor()
    work = loop.open()
    assert (first["decision"]["outcome"], first["decision"]["reason"]) == ("ask", "needs approval")
    assert (first["champion"], last(work).kind) == (None, Kind.ASK)
    assert work.registry.aliases() == {"challenger": "1"}
    assert standing(loop.folder, loop.settings)["challenger"]["version"] == "1"

    asked = last(work)
    entry = approving.approve(work, "1", "ada", "seen on staging")
    assert (entry.kind, entry.version, entry.actor) == (Kind.PROMOTION, "1", "ada")
    assert entry.reason == "approved: seen on staging"
    assert asked.time < entry.time
    assert entry.details["approved"] == {
        "by": "ada", "why": "seen on staging", "asked": "needs approval", "row": asked.seq,
    }  # fmt: skip
    assert entry.details["report"]["decision"]["serving"]["difference"] == 0
    assert work.registry.aliases() == {"champion": "1"}
    assert (work.registry.tags("1")["decision"], work.registry.tags("1")["reason"]) == ("promote", "approved")
    card = work.registry.client.get_model_version("churn", "1").description
    assert "**Approval.** By ada: seen on staging." in card
    assert "It waits for one." not in card
    found = standing(loop.folder, loop.settings)
    assert (found["challenger"], found["champion"]["version"]) == (None, "1")

    loop.deliver("2024-02", month(2, shift=1, turned=True))
    second = monitor()
    assert second["decision"]["outcome"] == "ask"
    assert second["decision"]["gain_low"] > 0
    assert second["champion"] == {"version": "1"}
    assert work.registry.aliases() == {"champion": "1", "challenger": "2"}
    assert "**Approval.** It waits for one." in work.registry.client.get_model_version("churn", "2").description
    rows = work.ledger.entries()
    assert "repeated" in monitor()
    assert work.ledger.entries() == rows


def test_what_neither_shows_nor_fails_to_show_a_gain_asks_and_what_shows_it_does_not(loop):
    loop.set("promotion", approval="borderline")
    loop.deliver("2024-01", month(1, rows=60))
    loop.deliver("2024-02", month(2))
    loop.deliver("2024-03", month(3))
    work = opened(loop)
    assert train(work, "2024-01").kind is Kind.PROMOTION
    asked = train(work, "2024-02")
    decision = asked.details["report"]["decision"]
    assert (asked.kind, decision["outcome"], decision["reason"]) == (Kind.ASK, "ask", "not significant")
    assert decision["gain"] > 0.01
    assert decision["gain_low"] < 0
    assert work.registry.aliases() == {"champion": "1", "challenger": "2"}

    clear = train(work, "2024-03")
    assert (clear.kind, clear.reason) == (Kind.PROMOTION, "beats the margin")
    assert work.registry.aliases() == {"champion": "3"}
    with pytest.raises(
        NotWaiting,
        match=r"^version 2 does not wait .* 2 did, until ledger row \d+: promotion, beats",
    ):
        approving.approve(work, "2", "ada", "")


def test_a_gain_that_a_human_lets_pass_is_promoted_with_its_numbers(loop):
    loop.set("promotion", approval="borderline")
    loop.deliver("2024-01", month(1, rows=60))
    loop.deliver("2024-02", month(2))
    work = opened(loop)
    train(work, "2024-01")
    asked = train(work, "2024-02").details["report"]["decision"]
    entry = approving.approve(work, None, "ada", "the trend is right")
    assert entry.details["report"]["decision"] == {
        **asked, "outcome": "promote", "reason": "approved", "serving": entry.details["report"]["decision"]["serving"],
    }  # fmt: skip
    assert entry.details["approved"]["asked"] == "not significant"


# the answer


def test_a_rejected_candidate_waits_no_longer_and_the_champion_stays(loop):
    work = asking(loop, dict(list(RISING.items())[:2]))
    entry = approving.reject(work, None, "bob", "trained on the outage")
    assert (entry.kind, entry.version, entry.actor) == (Kind.REJECTION, "2", "bob")
    assert entry.reason == "trained on the outage"
    assert work.ledger.champion() == "1"
    assert work.registry.aliases() == {"champion": "1"}
    tags = work.registry.tags("2")
    assert (tags["decision"], tags["reason"]) == ("rejection", "trained on the outage")
    for answer in (approving.approve, approving.reject):
        with pytest.raises(
            NotWaiting,
            match=r"^no candidate waits .* 2 did, until .*: rejection, trained on the outage\.$",
        ):
            answer(work, None, "ada", "")
    assert last(work) == entry


def test_an_answer_to_another_version_than_the_one_that_waits_is_refused_and_it_waits_on(loop):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    for answer in (approving.approve, approving.reject):
        with pytest.raises(NotWaiting, match=r"^version 7 does not wait for approval; version 1 does\.$"):
            answer(work, "7", "ada", "")
    assert kinds(work) == [("ask", "1")]
    assert work.registry.aliases() == {"challenger": "1"}


def test_an_answer_where_no_candidate_waits_is_refused(loop):
    loop.deliver("2024-01", month(1))
    work = opened(loop)
    with pytest.raises(NotWaiting, match=r"^no candidate waits for approval\.$"):
        approving.approve(work, None, "ada", "")
    train(work, "2024-01")
    with pytest.raises(NotWaiting, match=r"^version 1 does not wait for approval\.$"):
        approving.reject(work, "1", "ada", "")
    assert kinds(work) == [("promotion", "1")]


def test_the_second_approval_of_a_version_is_refused_and_promotes_nothing(loop):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    approving.approve(work, "1", "ada", "")
    with pytest.raises(NotWaiting, match=r"^version 1 does not wait .* 1 did, until .*: promotion, approved\.$"):
        approving.approve(work, "1", "bob", "")
    assert kinds(work) == [("ask", "1"), ("promotion", "1")]


class Overtaken(FakeChecks):
    """During the check of the slower approval a faster one is made, whole."""

    def __init__(self, faster: Callable[[], Entry]) -> None:
        super().__init__()
        self.faster = faster
        self.made: list[Entry] = []

    def check(self, request):
        if not self.made:
            self.made.append(self.faster())
        return super().check(request)


def overtaken(work):
    """Two approvals at once: the faster one's entry, and the slower one's error."""
    checks = Overtaken(lambda: approving.approve(work, "1", "ada", ""))
    with pytest.raises(NotWaiting) as refused:
        approving.approve(replace(work, checks=checks), "1", "bob", "")
    return checks.made[0], str(refused.value)


def test_two_approvals_at_the_same_time_are_one_promotion(loop):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    entry, refused = overtaken(work)
    assert (entry.version, entry.actor) == ("1", "ada")
    assert refused == "version 1 no longer waits for approval; none does."
    assert kinds(work) == [("ask", "1"), ("promotion", "1")]
    assert work.registry.aliases() == {"champion": "1"}


# the wait ends by itself


def test_a_candidate_that_nobody_approves_waits_for_as_many_windows_as_loop_toml_says(loop):
    loop.set("promotion", approval_expires=2)
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    assert arrive(work, "2024-02") is None
    assert work.registry.aliases() == {"challenger": "1"}
    entry = arrive(work, "2024-03")
    assert (entry.kind, entry.version, entry.actor) == (Kind.EXPIRY, "1", "monitor_flow")
    assert entry.reason == "nobody approved it while 2 windows arrived"
    assert work.registry.aliases() == {}
    tags = work.registry.tags("1")
    assert (tags["decision"], tags["reason"]) == ("expiry", entry.reason)
    with pytest.raises(NotWaiting, match="version 1 does not wait for approval"):
        approving.approve(work, "1", "ada", "")
    assert work.ledger.champion() is None


def test_an_approval_that_comes_too_late_says_so_and_what_to_do(loop):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    arrive(work, "2024-02")
    loop.set("promotion", approval_expires=1)
    work = opened(loop)
    with pytest.raises(NotWaiting, match=r"waited for longer than .*approval_expires = 1 windows. Train a new cand"):
        approving.approve(work, "1", "ada", "")
    assert (last(work).kind, work.registry.aliases()) == (Kind.EXPIRY, {})


def test_a_newer_candidate_takes_the_place_of_the_one_that_waits(loop):
    work = asking(loop, dict(list(RISING.items())[:2]))
    loop.deliver("2024-03", RISING["2024-03"])
    assert train(work, "2024-03").kind is Kind.ASK
    assert work.registry.aliases() == {"champion": "1", "challenger": "3"}
    assert work.registry.tags("2")["decision"] == "superseded"
    with pytest.raises(NotWaiting, match=r"^version 2 does not wait for approval; version 3 does\.$"):
        approving.approve(work, "2", "ada", "")
    assert approving.approve(work, None, "ada", "").version == "3"


# the champion is another by now


def test_a_candidate_is_compared_again_where_the_champion_was_taken_back_and_wins_with_the_new_numbers(loop):
    work = asking(loop, RISING)
    before = last(work).details["report"]["decision"]
    approving.roll_back(work, None, "bob", "")
    entry = approving.approve(work, "3", "ada", "")
    after = entry.details["report"]["decision"]
    assert (entry.version, entry.reason, entry.details["compared_with"]) == ("3", "approved", "1")
    assert after["candidate"] == before["candidate"]
    assert after["champion"] < before["champion"] - 0.3
    assert after["gain"] == pytest.approx(after["candidate"] - after["champion"])
    assert f"{after['champion']:.3f}" in work.registry.client.get_model_version("churn", "3").description
    assert work.registry.aliases() == {"champion": "3"}


def test_a_candidate_that_loses_the_new_comparison_is_not_promoted_and_waits_no_longer(loop):
    work = asking(loop, BACK_AND_FORTH)
    approving.roll_back(work, None, "bob", "")
    with pytest.raises(DriftloopError, match=r"again, with champion 1: (worse|within the margin). It no longer waits"):
        approving.approve(work, "3", "ada", "")
    entry = last(work)
    assert (entry.kind, entry.version, entry.actor) == (Kind.REJECTION, "3", "ada")
    assert entry.reason.startswith("compared again, with champion 1: ")
    assert work.ledger.champion() == "1"
    assert work.registry.aliases() == {"champion": "1"}
    with pytest.raises(NotWaiting, match="no candidate waits"):
        approving.approve(work, None, "ada", "")


def test_a_champion_that_moves_while_the_candidate_is_tried_makes_it_be_compared_again(loop):
    work = asking(loop, RISING)

    class TakenBackMeanwhile(FakeChecks):
        def check(self, request):
            if request.version == "3":
                approving.roll_back(replace(work, checks=FakeChecks()), "1", "bob", "")
            return super().check(request)

    entry = approving.approve(replace(work, checks=TakenBackMeanwhile()), None, "ada", "")
    assert (entry.details["compared_with"], entry.reason) == ("1", "approved")
    assert kinds(work)[-2:] == [("rollback", "1"), ("promotion", "3")]


def test_a_candidate_whose_windows_are_not_what_they_were_is_not_compared_again(loop):
    work = asking(loop, RISING)
    approving.roll_back(work, None, "bob", "")
    loop.deliver("2024-03", month(33))
    with pytest.raises(DriftloopError, match=r"the windows it was trained on are not what they were\. Reject it"):
        approving.approve(work, None, "ada", "")
    assert waiting(work.ledger.entries()).version == "3"


def test_a_candidate_whose_stored_model_was_damaged_meanwhile_is_not_approved_and_still_waits(loop):
    work = asking(loop, dict(list(RISING.items())[:2]))
    rows = work.ledger.entries()
    damage(work, "2")
    with pytest.raises(ArtifactError, match=r"version 2 of churn cannot be used: .*model\.skops cannot be loaded"):
        approving.approve(work, None, "ada", "")
    assert work.ledger.entries() == rows
    assert work.registry.aliases() == {"champion": "1", "challenger": "2"}


def test_a_candidate_that_a_clean_process_cannot_serve_is_not_approved_and_still_waits(loop):
    work = asking(loop, {"2024-01": RISING["2024-01"]})
    fails = replace(work, checks=FakeChecks({"1": "its scores differ"}))
    with pytest.raises(DriftloopError, match=r"not promoted: cannot be served \(its scores differ\). It still waits"):
        approving.approve(fails, None, "ada", "")
    assert kinds(work) == [("ask", "1")]
    assert approving.approve(work, None, "ada", "").version == "1"


# taken back


def test_a_rollback_goes_to_the_champion_before_and_again_further_back(loop):
    work = champions(loop)
    entry = approving.roll_back(work, None, "bob", "complaints since Tuesday")
    assert (entry.kind, entry.version, entry.actor, entry.window) == (Kind.ROLLBACK, "2", "bob", "2024-03")
    assert entry.reason == "rolled back from version 3: complaints since Tuesday"
    assert entry.details["why"] == "complaints since Tuesday"
    assert entry.trained_on == ("2024-02",)
    assert work.registry.aliases() == {"champion": "2"}
    assert RegistrySource(loop.settings, "churn").aliases().champion.number == "2"
    assert standing(loop.folder, loop.settings)["champion"]["trained_on"] == ["2024-02"]

    further = approving.roll_back(work, None, "bob", "")
    assert (further.version, further.reason) == ("1", "rolled back from version 2")
    assert RegistrySource(loop.settings, "churn").aliases().champion.number == "1"
    with pytest.raises(DriftloopError, match="churn has no champion before version 1 to go back to; name a version"):
        approving.roll_back(work, None, "bob", "")

    found = reigns(work.ledger.entries())
    assert [r.version for r in found] == ["1", "2", "3", "2", "1"]
    assert all(before.until == after.since for before, after in pairwise(found))
    assert found[-1].until is None
    assert [reign_at(work.ledger.entries(), r.since).version for r in found] == [r.version for r in found]
    instant = timedelta(microseconds=1)
    assert reign_at(work.ledger.entries(), found[3].since - instant).version == "3"
    assert reign_at(work.ledger.entries(), found[0].since - instant) is None
    assert altered(work.ledger.entries()) == []


def test_a_rollback_to_a_named_version_passes_over_those_between(loop):
    work = champions(loop)
    assert approving.roll_back(work, "1", "bob", "").version == "1"
    assert work.registry.aliases() == {"champion": "1"}
    with pytest.raises(DriftloopError, match="no champion before version 1"):
        approving.roll_back(work, None, "bob", "")


def test_a_rollback_that_leads_nowhere_leaves_the_champion(loop):
    work = champions(loop, dict(list(RISING.items())[:2]))
    with pytest.raises(NotInRegistry, match="holds no version 99 of churn"):
        approving.roll_back(work, "99", "bob", "")
    with pytest.raises(DriftloopError, match="version 2 is the champion already"):
        approving.roll_back(work, "2", "bob", "")
    fails = replace(work, checks=FakeChecks({"1": "its scores differ"}))
    with pytest.raises(DriftloopError, match=r"version 1 cannot take over: cannot be served \(its scores differ\)"):
        approving.roll_back(fails, "1", "bob", "")
    damage(work, "1")
    work._models.clear()
    with pytest.raises(ArtifactError, match=r"version 1 of churn cannot be used: .*model\.skops cannot be loaded"):
        approving.roll_back(work, "1", "bob", "")
    assert kinds(work) == [("promotion", "1"), ("promotion", "2")]
    assert work.registry.aliases() == {"champion": "2"}


def test_a_rollback_to_what_is_no_version_s_number_says_so(loop):
    work = champions(loop, {"2024-01": month(1)})
    with pytest.raises(DriftloopError, match="v1"):
        approving.roll_back(work, "v1", "bob", "")


def test_a_rollback_before_the_first_champion_says_that_there_is_none(loop):
    loop.deliver("2024-01", month(1))
    with pytest.raises(DriftloopError, match="churn has no champion before the first to go back to"):
        approving.roll_back(opened(loop), None, "bob", "")


@pytest.mark.usefixtures("begun")
def test_after_a_rollback_the_same_window_is_not_run_again_by_itself_and_the_next_one_is(loop, monitor):
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    assert monitor()["champion"] == {"version": "2"}
    work = loop.open()
    approving.roll_back(work, None, "bob", "complaints")
    rows = work.ledger.entries()
    assert monitor()["repeated"] == rows[-2].seq
    assert work.ledger.entries() == rows
    assert work.registry.aliases() == {"champion": "1"}

    loop.deliver("2024-03", month(3, shift=1, turned=True))
    report = monitor()
    assert report["reference"] == ["2024-01"]
    assert report["champion"] == {"version": "3"}
    assert work.registry.aliases() == {"champion": "3"}


# what lies between two versions


@pytest.mark.usefixtures("prefect_api")  # whose drift worker is there already
def test_the_difference_of_two_versions_is_data_parameters_metrics_slices_and_drift(loop):
    loop.set("promotion", slices=["plan"], min_slice_rows=20)
    loop.deliver("2024-01", month(1))
    work = opened(loop)
    train(work, "2024-01")
    loop.deliver("2024-02", month(2, shift=1, turned=True))
    loop.set("model.params", C=0.5)
    work = opened(loop)
    assert train(work, "2024-02").kind is Kind.PROMOTION
    rows = work.ledger.entries()

    found = difference(work, "1", "2")
    assert found["versions"] == ["1", "2"]
    assert [side["windows"] for side in found["data"]] == [["2024-01"], ["2024-01", "2024-02"]]
    assert found["data"][1]["rows"] > found["data"][0]["rows"]
    assert found["parameters"] == {"model.C": [None, "0.5"]}
    assert found["recorded"]["val_auc"][0] > found["recorded"]["val_auc"][1] > 0.5
    compared = found["compared"]
    assert (compared["window"], compared["metric"]) == ("2024-02", "auc")
    assert compared["values"] == [rows[-1].details["report"]["decision"][side] for side in ("champion", "candidate")]
    assert compared["gain"] == pytest.approx(compared["values"][1] - compared["values"][0])
    assert {s["name"] for s in compared["slices"]} == {"plan = basic", "plan = full"}
    assert sum(s["rows"] for s in compared["slices"]) == compared["rows"]
    assert {c["name"]: c["drifted"] for c in found["drift"]["columns"]} == {"fee": True, "usage": True, "plan": False}

    back = difference(work, "2", "1")
    assert back["compared"]["gain"] == pytest.approx(-compared["gain"])
    assert work.ledger.entries() == rows
    with pytest.raises(NotInRegistry, match="holds no version 9 of churn"):
        difference(work, "1", "9")


def test_versions_trained_on_the_same_windows_have_no_drift_between_them(loop):
    loop.deliver("2024-01", month(1))
    work = opened(loop)
    train(work, "2024-01")
    assert train(work, "2024-01").kind is Kind.KEEP
    found = difference(work, "1", "2")
    assert (found["drift"], found["parameters"], found["not_compared"]) == (None, {}, None)
    assert found["compared"]["gain"] == 0
