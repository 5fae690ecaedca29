"""Who gets which variant, and what is made of the outcomes."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest

from chassis.errors import InvalidArgument
from services.evaluation.domain.experiments import Experiment, Tally, Variant, judge, unit_of, validate, variant_of
from services.evaluation.domain.intervals import Proportion, newcombe
from services.evaluation.domain.verdicts import Verdict

AT = datetime(2011, 12, 1, tzinfo=UTC)
HALVES = (Variant("control", 0.5), Variant("offer", 0.5))
EXPERIMENT = Experiment("spring", "An offer keeps customers", HALVES, "Order Completed", 30, 0.02)
THREE = replace(EXPERIMENT, variants=(Variant("control", 0.5), Variant("offer", 0.25), Variant("call", 0.25)))


def tallies(*counts: tuple[int, int], experiment: Experiment = EXPERIMENT) -> list[Tally]:
    """(converted, judged) of each variant, everybody assigned and judged."""
    return [
        Tally(variant, judged, judged, judged, converted)
        for variant, (converted, judged) in zip(experiment.variants, counts, strict=True)
    ]


def ids(count: int) -> list[str]:
    chance = np.random.default_rng(1)
    return [str(UUID(bytes=chance.bytes(16))) for _ in range(count)]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"variants": ()}, "variants"),
        ({"variants": (Variant("control", 1.0),)}, "variants"),
        ({"variants": (Variant("a", 0.5), Variant("a", 0.5))}, "variants.key"),
        ({"variants": (Variant("a", 0.5), Variant("b", 0.4))}, "variants.share"),
        ({"variants": (Variant("a", 1.5), Variant("b", -0.5))}, "variants.share"),
        ({"variants": (Variant("a", 1.0), Variant("b", 0.0))}, "variants.share"),
        ({"variants": (Variant("a", float("nan")), Variant("b", 0.5))}, "variants.share"),
        ({"variants": tuple(Variant(str(n), 1 / 11) for n in range(11))}, "variants"),
        ({"outcome_window_days": 0}, "outcome_window_days"),
        ({"outcome_window_days": 366}, "outcome_window_days"),
        ({"margin": -0.01}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"margin": float("inf")}, "margin"),
    ],
)
def test_what_is_no_experiment_is_refused_with_the_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate(replace(EXPERIMENT, **changed))
    assert refused.value.field == field


def test_thirds_add_to_one() -> None:
    validate(replace(EXPERIMENT, variants=tuple(Variant(str(n), 1 / 3) for n in range(3))))


def test_the_same_customer_gets_the_same_variant_for_ever() -> None:
    # Written down once: a change of the hash would move customers of running experiments.
    assert unit_of("shop", "spring", "11111111-1111-1111-1111-111111111111") == pytest.approx(0.14565959043885246, abs=1e-15)


def test_assignment_keeps_the_shares() -> None:
    found = [variant_of(THREE, each, salt="shop") for each in ids(20_000)]
    shares = [found.count(variant.key) / 20_000 for variant in THREE.variants]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.012)


def test_assignments_of_two_experiments_and_two_tenants_are_independent() -> None:
    other = replace(EXPERIMENT, experiment_id="summer")
    people = ids(20_000)
    one = np.array([variant_of(EXPERIMENT, each, salt="shop") == "offer" for each in people])
    for again in (
        np.array([variant_of(other, each, salt="shop") == "offer" for each in people]),
        np.array([variant_of(EXPERIMENT, each, salt="mill") == "offer" for each in people]),
    ):
        assert abs(np.corrcoef(one, again)[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("control", "treated", "margin", "verdict"),
    [
        ((100, 1000), (150, 1000), 0.02, Verdict.BETTER),
        ((150, 1000), (100, 1000), 0.02, Verdict.WORSE),
        ((1000, 10_000), (1010, 10_000), 0.02, Verdict.NO_DIFFERENCE),
        ((100, 1000), (105, 1000), 0.01, Verdict.NOT_ENOUGH_DATA),
        ((0, 29), (29, 29), 0.02, Verdict.NOT_ENOUGH_DATA),
        ((0, 0), (0, 0), 0.02, Verdict.NOT_ENOUGH_DATA),
        ((0, 1000), (0, 1000), 0.02, Verdict.NO_DIFFERENCE),
        ((0, 1000), (0, 1000), 0.0, Verdict.NOT_ENOUGH_DATA),
    ],
)
def test_the_verdict_follows_the_interval(
    control: tuple[int, int], treated: tuple[int, int], margin: float, verdict: Verdict
) -> None:
    judged = judge(replace(EXPERIMENT, margin=margin), tallies(control, treated), at=AT)
    assert judged.verdict is verdict
    assert judged.explanation


def test_a_certain_difference_inside_the_margin_is_no_difference() -> None:
    judged = judge(replace(EXPERIMENT, margin=0.05), tallies((1000, 20_000), (1200, 20_000)), at=AT)
    assert judged.effect is not None
    assert judged.effect.interval.low > 0
    assert judged.verdict is Verdict.NO_DIFFERENCE


def test_a_broken_split_has_no_verdict_however_large_the_effect() -> None:
    skewed = [Tally(HALVES[0], 600, 0, 600, 60), Tally(HALVES[1], 400, 0, 400, 200)]
    judged = judge(EXPERIMENT, skewed, at=AT)
    assert judged.verdict is Verdict.NOT_ENOUGH_DATA
    assert judged.sample_ratio_p is not None
    assert judged.sample_ratio_p < 0.001
    assert "60.0 % instead of 50.0 %" in judged.explanation


def test_only_those_whose_window_has_ended_are_judged() -> None:
    open_still = [Tally(HALVES[0], 500, 0, 100, 10), Tally(HALVES[1], 500, 0, 100, 30)]
    judged = judge(EXPERIMENT, open_still, at=AT)
    assert judged.effect is not None
    assert judged.effect.value == pytest.approx(0.2)


def test_several_variants_widen_the_interval_and_are_all_told() -> None:
    judged = judge(THREE, tallies((100, 1000), (70, 500), (60, 500), experiment=THREE), at=AT)
    assert judged.effect is not None
    assert judged.effect.confidence == pytest.approx(0.975)
    assert judged.effect.interval == newcombe(Proportion(70, 500), Proportion(100, 1000), 0.975)
    assert "Bonferroni" in judged.explanation
    assert '"call"' in judged.explanation


def test_the_explanation_warns_of_looking_again_and_says_whom_it_counts() -> None:
    explanation = judge(EXPERIMENT, tallies((100, 1000), (150, 1000)), at=AT).explanation
    assert "one look at a time that was fixed before" in explanation
    assert "exposed or not" in explanation


def test_an_effect_of_nothing_is_called_an_effect_at_most_in_one_of_twenty_experiments() -> None:
    wrong = 0
    for seed in range(400):
        chance = np.random.default_rng(seed)
        counts = [(int(chance.binomial(200, 0.1)), 200) for _ in range(2)]
        wrong += judge(EXPERIMENT, tallies(*counts), at=AT).verdict in (Verdict.BETTER, Verdict.WORSE)
    print(f"{wrong / 4:.1f} % of experiments without effect were called better or worse")
    assert wrong <= 32
