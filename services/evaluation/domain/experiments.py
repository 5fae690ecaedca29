"""Experiments: who gets which variant, and what the outcomes say."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.errors import InvalidArgument, Reason
from services.evaluation.domain.intervals import CONFIDENCE, Interval, Proportion, chi_square_p, newcombe
from services.evaluation.domain.verdicts import Verdict, percent, points

MAX_VARIANTS: Final = 10
MAX_WINDOW_DAYS: Final = 365
MAX_HYPOTHESIS: Final = 2_000
# Below that in either group there is no verdict: one customer more or less would turn it.
MIN_JUDGED: Final = 30
# Below that the split is not what was asked for, and nothing that follows can be trusted.
BROKEN_SPLIT_P: Final = 0.001
_SHARES_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Variant:
    """`share` of the customers, in (0, 1)."""

    key: str
    share: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """The first variant is the control. Who has `outcome_event` in [assigned, assigned + window) has converted."""

    experiment_id: str
    hypothesis: str
    variants: tuple[Variant, ...]
    outcome_event: str
    outcome_window_days: int
    # As a difference of shares: 0.01 is one percentage point.
    margin: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of one variant. Judged are those whose outcome window has ended."""

    variant: Variant
    assigned: int
    exposed: int
    judged: int
    converted: int

    @property
    def conversion(self) -> Proportion:
        """The converted out of the judged."""
        return Proportion(self.converted, self.judged)


@dataclass(frozen=True, slots=True)
class Effect:
    """Difference to the control in the share that converted."""

    value: float
    interval: Interval
    confidence: float


@dataclass(frozen=True, slots=True)
class Results:
    """`effect` is the second variant's; None while nobody is judged in it or in the control."""

    tallies: tuple[Tally, ...]
    effect: Effect | None
    verdict: Verdict
    explanation: str
    sample_ratio_p: float | None


def validate(experiment: Experiment) -> Experiment:
    """Raises InvalidArgument for what can't be an experiment; texts' lengths and characters are the wire's affair."""
    variants = experiment.variants
    if not 2 <= len(variants) <= MAX_VARIANTS:
        raise _invalid("variants", f"an experiment has 2 to {MAX_VARIANTS} variants, the first is the control")
    if len({variant.key for variant in variants}) < len(variants):
        raise _invalid("variants.key", "two variants have the same key")
    if not all(0 < variant.share < 1 for variant in variants):
        raise _invalid("variants.share", "each share is above 0 and below 1")
    if abs(math.fsum(variant.share for variant in variants) - 1) > _SHARES_TOLERANCE:
        raise _invalid("variants.share", "the shares must add to 1")
    if not 1 <= experiment.outcome_window_days <= MAX_WINDOW_DAYS:
        raise _invalid("outcome_window_days", f"the outcome window is 1 to {MAX_WINDOW_DAYS} days")
    if not 0 <= experiment.margin < 1:
        raise _invalid("margin", "the margin is a difference of shares: at least 0 and below 1")
    return experiment


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=Reason.INVALID_FIELD, field=field)


def unit_of(salt: str, experiment_id: str, profile_id: str) -> float:
    """Where a customer lies in [0, 1) for an experiment: the same for ever, independent between experiments."""
    digest = hashlib.sha256(f"{salt}:{experiment_id}:{profile_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def variant_of(experiment: Experiment, profile_id: str, *, salt: str) -> str:
    """The variant by the salted hash: shares laid end to end, in the experiment's order."""
    unit = unit_of(salt, experiment.experiment_id, profile_id)
    edge = 0.0
    for variant in experiment.variants:
        edge += variant.share
        if unit < edge:
            return variant.key
    return experiment.variants[-1].key


def judge(experiment: Experiment, tallies: Sequence[Tally], *, at: datetime) -> Results:
    """The verdict on the second variant against the control, by assignment (intention to treat).

    With more than two variants the confidence is raised as Bonferroni asks, so that all the comparisons in the
    explanation hold together.
    """
    sample_ratio_p = chi_square_p([tally.assigned for tally in tallies], [tally.variant.share for tally in tallies])
    control, treated, *others = tallies
    confidence = 1 - (1 - CONFIDENCE) / (len(tallies) - 1)
    effect = _effect(treated, control, confidence)
    if sample_ratio_p is not None and sample_ratio_p < BROKEN_SPLIT_P:
        verdict, explanation = Verdict.NOT_ENOUGH_DATA, _broken_split(tallies, sample_ratio_p)
    elif effect is None or min(control.judged, treated.judged) < MIN_JUDGED:
        verdict, explanation = Verdict.NOT_ENOUGH_DATA, _too_few(experiment, control, treated, at)
    else:
        verdict, explanation = _verdict(experiment, control, treated, effect)
        explanation += _comparisons(others, control, confidence)
    return Results(tuple(tallies), effect, verdict, explanation, sample_ratio_p)


def _effect(treated: Tally, control: Tally, confidence: float) -> Effect | None:
    if not treated.judged or not control.judged:
        return None
    interval = newcombe(treated.conversion, control.conversion, confidence)
    return Effect(treated.conversion.share - control.conversion.share, interval, confidence)


def _verdict(experiment: Experiment, control: Tally, treated: Tally, effect: Effect) -> tuple[Verdict, str]:
    interval, margin = effect.interval, experiment.margin
    if interval.lies_within(margin):
        verdict, says = Verdict.NO_DIFFERENCE, f"a difference beyond {percent(margin)} can be excluded"
    elif interval.low > 0:
        verdict, says = Verdict.BETTER, "an effect of nothing can be excluded"
        says += "" if interval.low > margin else f", one below the margin of {percent(margin)} cannot" if margin else ""
    elif interval.high < 0:
        verdict, says = Verdict.WORSE, "it does harm"
    else:
        verdict, says = Verdict.NOT_ENOUGH_DATA, "both harm and benefit are still possible: more customers are needed"
    return verdict, (
        f"{_described(treated)}, {_described(control)} (control): {points(effect.value)}, {_shown(effect)}; {says}. "
        "All who were assigned count, exposed or not. The interval is for one look at a time that was fixed before: "
        "who looks again and again until it pleases finds an effect where there is none."
    )


def _described(tally: Tally) -> str:
    conversion = tally.conversion
    return f'"{tally.variant.key}" converted {percent(conversion.share)} of {conversion.count}'


def _shown(effect: Effect) -> str:
    return (
        f"{100 * effect.confidence:.4g} % interval {100 * effect.interval.low:+.1f} to {100 * effect.interval.high:+.1f} points"
    )


def _comparisons(others: Sequence[Tally], control: Tally, confidence: float) -> str:
    effects = [(tally, _effect(tally, control, confidence)) for tally in others]
    shown = [
        f' "{tally.variant.key}" against the control: {points(effect.value)}, {_shown(effect)}.'
        for tally, effect in effects
        if effect
    ]
    note = " The intervals are widened for several comparisons (Bonferroni)." if others else ""
    return "".join(shown) + note


def _broken_split(tallies: Sequence[Tally], p: float) -> str:
    total = sum(tally.assigned for tally in tallies)
    found = ", ".join(
        f'"{tally.variant.key}" has {percent(tally.assigned / total)} instead of {percent(tally.variant.share)}'
        for tally in tallies
    )
    return f"The assignment is broken: {found} (p = {p:.2g}). What skewed it may skew the outcome too: no verdict."


def _too_few(experiment: Experiment, control: Tally, treated: Tally, at: datetime) -> str:
    return (
        f"The outcome window of {experiment.outcome_window_days} days has ended for {treated.judged} customers of "
        f'"{treated.variant.key}" and {control.judged} of the control (at {at:%Y-%m-%d %H:%M} UTC); '
        f"each needs at least {MIN_JUDGED}."
    )
