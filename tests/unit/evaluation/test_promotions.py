"""Who may become champion, and whom a rollback brings back."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Conflict, Reason
from services.evaluation.domain.models import Estimate, Group, ModelEvaluation
from services.evaluation.domain.promotions import (
    Kind,
    ModelVersion,
    Promotion,
    champions,
    require_promotable,
    rollback,
)
from services.evaluation.domain.verdicts import Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVED = "f" * 64
VERSION = ModelVersion("shop.churn", "2", (), "d" * 64, SERVED, NOW, "a" * 32, None)
GROUP = Group(500, 0.4, 0.8, 0.03, 0.75, 0.79)
EVALUATION = ModelEvaluation(
    model="churn",
    version="2",
    as_of=NOW,
    horizon_days=90,
    everyone=GROUP,
    recent=GROUP,
    auc=Estimate(0.8, 0.77, 0.83),
    lift=Estimate(0.05, 0.02, 0.08),
    verdict=Verdict.BETTER,
    explanation="AUC 0.8",
    evaluated=NOW,
    bins=(),
)


def promotion(version: str, kind: Kind = Kind.PROMOTION) -> Promotion:
    return Promotion("churn", "shop.churn", "", version, kind, "key", "why", version * 64, SERVED, NOW)


def refusal(version: ModelVersion, evaluation: ModelEvaluation | None) -> Conflict:
    with pytest.raises(Conflict) as refused:
        require_promotable(version, evaluation, served_digest=SERVED)
    return refused.value


def test_a_version_that_beats_the_recency_rule_may_be_promoted() -> None:
    require_promotable(VERSION, EVALUATION, served_digest=SERVED)


def test_a_lead_that_is_not_certain_is_still_no_loss() -> None:
    uncertain = replace(EVALUATION, verdict=Verdict.NO_DIFFERENCE, lift=Estimate(0.01, -0.02, 0.04))
    require_promotable(VERSION, uncertain, served_digest=SERVED)


@pytest.mark.parametrize(
    ("verdict", "lift"),
    [
        (Verdict.WORSE, Estimate(-0.05, -0.08, -0.02)),
        (Verdict.NO_DIFFERENCE, Estimate(-0.001, -0.02, 0.018)),
        (Verdict.NO_DIFFERENCE, Estimate(0.0, -0.02, 0.02)),
    ],
)
def test_a_version_that_loses_to_the_recency_rule_is_refused(verdict: Verdict, lift: Estimate) -> None:
    refused = refusal(VERSION, replace(EVALUATION, verdict=verdict, lift=lift))
    assert refused.reason is Reason.LOSES_TO_BASELINE
    assert EVALUATION.explanation in refused.message


@pytest.mark.parametrize("evaluation", [None, replace(EVALUATION, verdict=Verdict.NOT_ENOUGH_DATA, lift=None)])
def test_a_version_of_which_nobody_knows_whether_it_is_good_is_refused(evaluation: ModelEvaluation | None) -> None:
    assert refusal(VERSION, evaluation).reason is Reason.NOT_EVALUATED


@pytest.mark.parametrize("digest", ["e" * 64, ""])
def test_a_version_of_other_features_is_refused_with_both_digests(digest: str) -> None:
    refused = refusal(replace(VERSION, feature_digest=digest), EVALUATION)
    assert refused.reason is Reason.FEATURE_DIGEST_MISMATCH
    assert SERVED in refused.message
    assert refused.metadata == {"trained": digest, "served": SERVED}
    assert digest in refused.message


def test_a_version_whose_files_nobody_can_check_is_refused() -> None:
    assert refusal(replace(VERSION, digest=""), EVALUATION).reason is Reason.MODEL_DIGEST_MISMATCH


def test_a_rollback_goes_to_the_champion_before_and_the_next_one_further_back() -> None:
    history = [promotion("1"), promotion("2"), promotion("3")]
    for expected in (("3", "2"), ("2", "1")):
        record = rollback(history, actor="ops", reason="errors", now=NOW)
        assert (record.from_version, record.to_version) == expected
        assert record.kind is Kind.ROLLBACK
        assert record.actor == "ops"
        assert record.digest == expected[1] * 64
        history.append(record)
    with pytest.raises(Conflict) as refused:
        rollback(history, actor="ops", reason="errors", now=NOW)
    assert refused.value.reason is Reason.NO_PREVIOUS_MODEL


def test_a_promotion_after_a_rollback_forgets_what_was_rolled_back() -> None:
    history = [promotion("1"), promotion("2")]
    history.append(rollback(history, actor="", reason="", now=NOW))
    history.append(promotion("3"))
    assert [each.to_version for each in champions(history)] == ["1", "3"]


@pytest.mark.parametrize("history", [[], [promotion("1")]])
def test_without_an_earlier_champion_there_is_no_rollback(history: list[Promotion]) -> None:
    with pytest.raises(Conflict):
        rollback(history, actor="", reason="", now=NOW)


@given(st.lists(st.sampled_from(["up", "down"]), max_size=30))
def test_the_top_of_the_stack_is_always_the_last_record_s_version(steps: list[str]) -> None:
    history: list[Promotion] = []
    for number, step in enumerate(steps):
        if step == "up":
            history.append(promotion(str(number)))
        elif len(champions(history)) > 1:
            history.append(rollback(history, actor="", reason="", now=NOW))
    assert not history or champions(history)[-1].to_version == history[-1].to_version
