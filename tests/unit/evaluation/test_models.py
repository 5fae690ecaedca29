"""A model beside what happened: figures, verdict against the recency rule, and intervals that hold what they promise."""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from chassis.errors import Conflict, InvalidArgument, Reason
from ml import metrics
from services.evaluation.domain.models import TARGETS, require_outcomes, target_of
from services.evaluation.domain.verdicts import Verdict
from services.evaluation.store.models import JudgedScore
from services.evaluation.usecases import judge_scores

AS_OF = datetime(2011, 9, 10, tzinfo=UTC)
NOW = datetime(2011, 12, 9, 12, tzinfo=UTC)
CHURN = TARGETS["churn"]


def scores(count: int, *, skill: float, recency_skill: float, seed: int = 1, churn: float = 0.4) -> list[JudgedScore]:
    """Customers whose probability and recency tell of their fate as well as the skills say (in standard deviations)."""
    chance = np.random.default_rng(seed)
    churned = chance.random(count) < churn
    signal = chance.normal(size=count) + skill * churned
    recency = chance.normal(size=count) + recency_skill * churned
    probability = 1 / (1 + np.exp(-signal + 1))
    days = 60 * np.exp(0.5 * recency)
    columns = zip(probability, days, churned, strict=True)
    return [JudgedScore(float(p), float(p) * 0.9, float(d), bool(c)) for p, d, c in columns]


def judge(rows: list[JudgedScore]):
    return judge_scores("churn", "3", CHURN, rows, as_of=AS_OF, evaluated=NOW)


@pytest.mark.parametrize(
    ("skill", "recency_skill", "verdict"),
    [(1.5, 0.5, Verdict.BETTER), (0.3, 1.5, Verdict.WORSE), (1.0, 1.0, Verdict.NO_DIFFERENCE)],
)
def test_the_verdict_is_against_the_recency_rule(skill: float, recency_skill: float, verdict: Verdict) -> None:
    judged = judge(scores(800, skill=skill, recency_skill=recency_skill, seed=3))
    assert judged.verdict is verdict
    assert judged.lift is not None
    assert judged.everyone.recency_auc is not None
    assert judged.everyone.auc == pytest.approx(judged.lift.value + judged.everyone.recency_auc)
    assert judged.auc is not None
    assert judged.auc.low < judged.auc.value < judged.auc.high


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_few_customers_are_not_enough_data(rows: int) -> None:
    judged = judge(scores(rows, skill=3, recency_skill=0))
    assert judged.verdict is Verdict.NOT_ENOUGH_DATA
    assert f"{rows} customers" in judged.explanation


@pytest.mark.parametrize("churn", [0.0, 0.02, 1.0])
def test_one_sided_outcomes_are_not_enough_data(churn: float) -> None:
    assert judge(scores(500, skill=3, recency_skill=0, churn=churn)).verdict is Verdict.NOT_ENOUGH_DATA


def test_the_recent_are_those_who_bought_in_ninety_days() -> None:
    rows = scores(1000, skill=1, recency_skill=1)
    recent = [row for row in rows if row.recency_days <= 90]
    judged = judge(rows)
    assert judged.recent.row_count == len(recent)
    labels = np.array([float(row.churned) for row in recent])
    assert judged.recent.auc == metrics.auc(labels, np.array([row.probability for row in recent]))
    assert judged.recent.recency_auc == metrics.auc(labels, np.array([row.recency_days for row in recent]))


def test_the_logistic_regression_is_compared_on_the_same_rows_or_not_at_all() -> None:
    rows = scores(300, skill=1, recency_skill=1)
    assert judge(rows).everyone.logistic_auc == pytest.approx(judge(rows).everyone.auc or 0)
    rows[7] = JudgedScore(0.5, None, 40.0, churned=True)
    assert judge(rows).everyone.logistic_auc is None


def test_the_same_rows_give_the_same_evaluation() -> None:
    rows = scores(500, skill=1, recency_skill=0.5)
    assert judge(rows) == judge(rows)


def test_bins_hold_all_customers() -> None:
    judged = judge(scores(503, skill=1, recency_skill=0.5))
    assert len(judged.bins) == 10
    assert sum(each.row_count for each in judged.bins) == 503


def test_five_thousand_customers_are_judged_in_seconds() -> None:
    rows = scores(5000, skill=1, recency_skill=0.5)
    started = time.process_time()
    judge(rows)
    elapsed = time.process_time() - started
    print(f"5,000 rows judged in {elapsed:.2f} s of processor time")
    assert elapsed < 6


def test_over_two_hundred_small_samples_the_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Two normals whose means differ by s have an AUC of Phi(s / sqrt 2).
    truth = {s: float(_phi(s / np.sqrt(2))) for s in (1.0, 0.5)}
    auc = lift = 0
    for seed in range(200):
        judged = judge(scores(150, skill=1.0, recency_skill=0.5, seed=seed))
        assert judged.auc is not None
        assert judged.lift is not None
        auc += judged.auc.low <= truth[1.0] <= judged.auc.high
        lift += judged.lift.low <= truth[1.0] - truth[0.5] <= judged.lift.high
    print(f"AUC: {auc / 2:.1f} %, lift: {lift / 2:.1f} % of 200 intervals (150 rows) cover the truth")
    assert 180 <= auc <= 198
    assert 180 <= lift <= 198


def _phi(x: float) -> float:
    from statistics import NormalDist

    return NormalDist().cdf(x)


def test_outcomes_that_are_not_in_are_refused_with_both_times() -> None:
    ends = AS_OF + timedelta(days=90)
    require_outcomes(CHURN, as_of=AS_OF, now=ends)
    with pytest.raises(Conflict, match="end on 2011-12-09 00:00, and the tenant's clock is at 2011-12-08 23:59") as refused:
        require_outcomes(CHURN, as_of=AS_OF, now=ends - timedelta(seconds=1))
    assert refused.value.reason is Reason.OUTCOMES_MISSING


def test_a_model_without_a_defined_outcome_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InvalidArgument, match="churn"):
        target_of("weather")
