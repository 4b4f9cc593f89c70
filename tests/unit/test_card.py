"""What a model card says."""

from __future__ import annotations

from driftloop.card import model_card
from driftloop.metrics import Score
from driftloop.promotion import Comparison, PromotionDecision, PromotionPolicy, decide_promotion
from driftloop.report import drift_json
from driftloop.retrain import ColumnDrift, Drift
from tests.fakes import some_facts

POLICY = PromotionPolicy(0.01, 0.95)


def beaten() -> PromotionDecision:
    comparison = Comparison(Score("auc", 0.75, 90, "r"), Score("auc", 0.5, 90, "r"), 0.125)
    return decide_promotion(comparison.candidate, comparison.champion, comparison, POLICY)


def drift(*, drifted: bool) -> Drift:
    return Drift(0.5 * drifted, (ColumnDrift("fee", "K-S p_value", 0.01, 0.05, drifted),))


def test_a_card_says_what_the_model_was_trained_on_and_how_it_was_compared() -> None:
    card = model_card(some_facts(), beaten(), drift_json(drift(drifted=True), 0.3))
    assert card.startswith("# churn\n\n**Training.** 1,200 rows of 2024-01 … 2024-02 (2 windows)")
    assert "data fingerprint `abc`), 1 numeric and 1 categorical features. The event is `left = True`." in card
    assert "**Trigger.** Drift share 0.500 (threshold 0.3): fee drifted." in card
    assert "**Comparison.** Promote: beats the margin; auc 0.750 against 0.500 on 90 holdout rows" in card
    assert "Holdout rule: `entity(user_id) share=0.2 seed=churn`." in card
    assert "| val_auc | 0.7100 |\n| val_brier | 0.2000 |" in card
    assert "**Limits.** Compared on 2024-02 only; later windows may differ. Categories not seen" in card


def test_a_first_champions_card_says_that_no_drift_was_measured() -> None:
    decision = decide_promotion(Score("auc", 0.75, 90, "r"), None, None, POLICY)
    card = model_card(some_facts(windows=("2024-01",)), decision, None)
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
