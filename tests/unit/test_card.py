"""What a model card says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from driftloop.card import model_card
from driftloop.facts import CompiledFacts
from driftloop.metrics import Score
from driftloop.promotion import (
    Comparison,
    Outcome,
    PromotionDecision,
    PromotionPolicy,
    ServingCheck,
    decide_approved,
    decide_promotion,
)
from driftloop.report import drift_json
from driftloop.retrain import ColumnDrift, Drift
from driftloop.slices import Slice, Slices
from tests.fakes import some_facts

POLICY = PromotionPolicy(0.01, 0.95)


SERVES = ServingCheck(None, 0.0, 1200, latency_ms=4.5, size_mb=1.5)


def beaten(policy: PromotionPolicy = POLICY, serving: ServingCheck | None = None, **found: Any) -> PromotionDecision:
    """A champion that lost; ``found``: the comparison's slices, broken cases and detectable gain."""
    comparison = Comparison(Score("auc", 0.75, 90, "r"), Score("auc", 0.5, 90, "r"), 0.125, **found)
    return decide_promotion(comparison.candidate, comparison.champion, comparison, policy, serving)


def first() -> PromotionDecision:
    return decide_promotion(Score("auc", 0.75, 90, "r"), None, None, POLICY)


def drift(*, drifted: bool) -> Drift:
    return Drift(0.5 * drifted, (ColumnDrift("fee", "K-S p_value", 0.01, 0.05, drifted),))


def test_a_card_says_what_the_model_was_trained_on_and_how_it_was_compared() -> None:
    card = model_card(some_facts(), beaten(), drift_json(drift(drifted=True), 0.3))
    assert card.startswith("# churn\n\n**Training.** 1,200 rows of 2024-01 … 2024-02 (2 windows)")
    assert "data fingerprint `abc`), 1 numeric and 1 categorical features. The event is `left = True`." in card
    assert "**Trigger.** Drift share 0.500 (threshold 0.3): fee drifted." in card
    assert "**Comparison.** Promote: beats the margin; auc 0.750 against 0.500 on 90 holdout rows" in card
    assert "Holdout rule: `entity(user_id) share=0.2 seed=churn`." in card
    assert "| val_auc | 0.7100 | – |\n| val_brier | 0.2000 | – |" in card
    assert "**Limits.** Compared on 2024-02 only; later windows may differ. Categories not seen" in card


def test_a_first_champions_card_says_that_no_drift_was_measured() -> None:
    card = model_card(some_facts(windows=("2024-01",)), first(), None)
    assert "**Trigger.** First champion, or trained by hand: no drift was measured." in card
    assert "1,200 rows of 2024-01 (data" in card
    assert "None" not in card


def test_a_training_without_a_drifted_column_says_so() -> None:
    assert "0.000 (threshold 0.3): no column drifted." in model_card(
        some_facts(), beaten(), drift_json(drift(drifted=False), 0.3)
    )


def test_a_regressions_card_has_no_event_and_without_categories_no_word_on_them() -> None:
    card = model_card(some_facts(task="regression", labels=None, categorical=(), categories={}), beaten(), None)
    assert "The event" not in card
    assert card.endswith("later windows may differ.")


def test_a_card_says_whether_the_target_drifted_apart_from_the_share() -> None:
    for drifted, said in ((True, "drifted too"), (False, "did not")):
        found = replace(drift(drifted=True), target=ColumnDrift("left", "Z-test p_value", 0.01, 0.05, drifted))
        card = model_card(some_facts(), beaten(), drift_json(found, 0.3))
        assert f"fee drifted. The target left, apart from the share, {said} (Z-test p_value 0.0100, thres" in card


def test_a_card_without_the_targets_drift_says_nothing_of_it() -> None:
    told = drift_json(drift(drifted=True), 0.3)
    del told["target"]  # as the ledger keeps reports from before it was measured
    assert "The target" not in model_card(some_facts(), beaten(), told)


def test_the_baseline_has_a_column_beside_each_metric() -> None:
    card = model_card(some_facts(baseline={"auc": 0.5}), beaten(), None)
    assert "| metric on the holdout | value | baseline |" in card
    assert "| val_auc | 0.7100 | 0.5000 |\n| val_brier | 0.2000 | – |" in card
    assert "The baseline answers every row with the classes' shares in training." in card
    values = some_facts(task="regression", labels=None, baseline={"auc": 0.5})
    assert "with the mean of the training targets." in model_card(values, beaten(), None)
    tuned = values.model_copy(update={"new_rows": 200, "tuned_from": "1"})
    assert "with the mean of the training targets (the new rows)." in model_card(tuned, beaten(), None)


def parts(card: str) -> list[str]:
    """The parts' names, in order."""
    return [line.removeprefix("**").split(".**")[0] for line in card.split("\n\n") if line.startswith("**")]


def test_what_a_version_has_nothing_to_say_of_is_left_out() -> None:
    assert parts(model_card(some_facts(labels=None), beaten(), None)) == ["Training", "Trigger", "Comparison", "Limits"]


def test_a_card_has_all_its_parts_in_order() -> None:
    slices = Slices((Slice("plan = basic", 50, 0.75, 0.5, 0.9, 1.0, worse=False, close=False),))
    decision = beaten(replace(POLICY, approval="always"), SERVES, slices=slices)
    assert parts(model_card(some_facts(), decision, None)) == [
        "Training", "Trigger", "Comparison", "Slices", "Threshold", "Serving", "Approval", "Limits",
    ]  # fmt: skip


def test_a_refitted_versions_card_names_the_version_that_was_judged() -> None:
    card = model_card(some_facts(refit_of="4"), beaten(), None)
    assert (
        "`left = True`. Fitted again with the holdout's rows after version 4, the same recipe without them, passed."
        in (card)
    )
    assert "Fitted again" not in model_card(some_facts(), beaten(), None)


def test_a_card_says_which_gain_the_rows_would_show() -> None:
    assert (
        "by the confidence bound. These rows would show a true gain of 0.031 four times in five. Holdout rule:"
        in model_card(some_facts(), beaten(detectable=0.0312), None)
    )
    assert "These rows" not in model_card(some_facts(), beaten(), None)


def test_a_card_names_the_known_cases_broken_whatever_decided() -> None:
    within_margin = beaten(replace(POLICY, delta=0.5), broken=("cheap one: says True", "row 3: says False"))
    card = model_card(some_facts(), within_margin, None)
    assert "**Comparison.** Keep: within the margin; " in card
    assert ". Known cases broken: cheap one: says True; row 3: says False. Holdout rule:" in card


def test_the_slices_judged_are_a_table_and_the_others_are_named() -> None:
    judged = (
        Slice("plan = basic", 50, 0.75, 0.5, 0.9, 1.0, worse=False, close=False),
        Slice("fee < 10", 40, 0.5, 0.625, 0.0001, 0.00021, worse=True, close=False),
    )
    card = model_card(
        some_facts(), beaten(slices=Slices(judged, ("plan = family (3 rows)", "fee >= 10 (4 rows)"))), None
    )
    assert (
        "**Slices.** p is that of being no worse, after Holm. Not judged: plan = family (3 rows), fee >= 10 (4 rows)."
        "\n\n| slice | rows | candidate | champion | p |\n|---|---|---|---|---|\n"
        "| plan = basic | 50 | 0.7500 | 0.5000 | 1 |\n"
        "| fee < 10 | 40 | 0.5000 | 0.6250 | 0.00021 |\n\n"
    ) in card
    assert "Not judged" not in model_card(some_facts(), beaten(slices=Slices(judged)), None)


def test_a_card_says_from_which_probability_on_the_model_says_yes() -> None:
    chosen = model_card(some_facts(threshold=0.375), beaten(), None)
    assert "**Threshold.** It says yes from 0.375 on, where F1 was best on training rows, each scored by what" in chosen
    assert "The training rows were too few to choose one: it says yes from 0.5 on." in model_card(
        some_facts(threshold=None), beaten(), None
    )


def test_a_card_says_how_the_version_serves() -> None:
    card = model_card(some_facts(), beaten(serving=SERVES), None)
    assert "scored 1,200 rows as it did when made; one row takes 4.5 ms, the model has 1.5 MB." in card


@pytest.mark.parametrize("serving", [None, ServingCheck("it has no signature", size_mb=1.5)])
def test_what_was_not_measured_is_not_told_as_serving(serving: ServingCheck | None) -> None:
    assert "**Serving.**" not in model_card(some_facts(), beaten(serving=serving), None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            CompiledFacts(sha256="ab", difference=2.5e-15, tolerance=1e-6, rows=1700, refused=None),
            "It serves as an ONNX graph, whose scores lie at most 2.5e-15 from those of scikit-learn on 1,700 rows",
        ),
        (
            CompiledFacts(sha256=None, difference=None, tolerance=1e-6, rows=1700, refused="it cannot be converted"),
            "No, it serves natively: it cannot be converted.",
        ),
    ],
)
def test_a_card_says_whether_the_version_serves_compiled(found: CompiledFacts, said: str) -> None:
    card = model_card(some_facts(compiled=found), beaten(serving=SERVES), None)
    assert f"\n\n**Compiled.** {said}" in card


def test_the_card_of_a_candidate_that_waits_says_so() -> None:
    decision = beaten(replace(POLICY, approval="always"))
    assert decision.outcome is Outcome.ASK
    assert "**Approval.** It waits for one." in model_card(some_facts(), decision, None)
    assert "**Approval.**" not in model_card(some_facts(), beaten(), None)


@pytest.mark.parametrize(("why", "said"), [("the slice is tiny", "By ada: the slice is tiny."), ("", "By ada.")])
def test_the_card_of_an_approved_candidate_says_who_let_it_pass_and_why(why: str, said: str) -> None:
    asked = beaten(replace(POLICY, approval="always"))
    decision = decide_approved(asked, SERVES, POLICY)
    card = model_card(some_facts(), decision, None, {"by": "ada", "why": why})
    assert f"**Approval.** {said}\n\n" in card
    assert "It waits" not in card


def test_a_first_champions_card_says_that_nothing_was_compared_with_it() -> None:
    assert "It was compared with no champion." in model_card(some_facts(), first(), None)
    assert "It was compared with no champion." not in model_card(some_facts(), beaten(), None)


def test_a_card_shows_the_features_that_matter_most() -> None:
    importance = {f"f{i}": 0.25 / 2**i for i in range(7)}
    card = model_card(some_facts(importance=importance), beaten(), None)
    assert "**Features.** What auc loses on holdout rows when a feature's values are shuffled; all 7 are in" in card
    assert "| feature | loss |\n|---|---|\n| f0 | 0.2500 |\n| f1 | 0.1250 |" in card
    assert "f5" not in card
    assert "**Features.**" not in model_card(some_facts(), beaten(), None)
