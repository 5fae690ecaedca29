"""Which version of a model may become champion, and which one was it before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from chassis.errors import Conflict, Reason
from services.evaluation.domain.models import ModelEvaluation
from services.evaluation.domain.verdicts import Verdict


class Kind(Enum):
    """How a version came to be champion."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version as the registry tells of it. Digests are SHA-256 in hexadecimal digits; empty where there is none."""

    registered_name: str
    version: str
    aliases: tuple[str, ...]
    # Of the model's files.
    digest: str
    # Of the feature definitions that it was trained on.
    feature_digest: str
    created: datetime
    run_id: str
    # It has learnt from what happened before that time; None where the registry does not say.
    learnt_until: datetime | None


@dataclass(frozen=True, slots=True)
class Promotion:
    """One move of the alias `champion`. `from_version` is empty for the first."""

    model: str
    registered_name: str
    from_version: str
    to_version: str
    kind: Kind
    actor: str
    reason: str
    digest: str
    feature_digest: str
    promoted: datetime


def require_promotable(version: ModelVersion, evaluation: ModelEvaluation | None, *, served_digest: str) -> None:
    """Raises Conflict where the version may not become champion.

    `evaluation` is of customers whose outcomes the version has not learnt from (as_of at or after `learnt_until`).
    It must not lose to the recency rule: its AUC must be above the rule's on the judged customers, and the interval of
    the difference may not lie below 0. A lift that is positive but not certain passes: the first model of a small shop
    could otherwise never go live.
    """
    require_served_features(version.version, version.feature_digest, served_digest=served_digest)
    if not version.digest:
        raise Conflict(
            f"version {version.version} was registered without a digest of its files, so nobody could check them",
            reason=Reason.MODEL_DIGEST_MISMATCH,
        )
    if evaluation is None or evaluation.verdict is Verdict.NOT_ENOUGH_DATA or evaluation.lift is None:
        since = f" (from {version.learnt_until:%Y-%m-%d} on, before which it has learnt)" if version.learnt_until else ""
        raise Conflict(
            f"version {version.version} has no evaluation with enough data, so nobody knows whether it is good: "
            f"score customers with it as of a time whose outcomes are in{since}, and evaluate it",
            reason=Reason.NOT_EVALUATED,
        )
    if evaluation.verdict is Verdict.WORSE or evaluation.lift.value <= 0:
        raise Conflict(
            f"version {version.version} loses to the recency rule as of {evaluation.as_of:%Y-%m-%d}: {evaluation.explanation}",
            reason=Reason.LOSES_TO_BASELINE,
        )


def require_served_features(version: str, feature_digest: str, *, served_digest: str) -> None:
    """Raises Conflict where the model reads other features than the platform serves."""
    if feature_digest != served_digest:
        raise Conflict(
            f"version {version} was trained on the feature definitions {feature_digest or 'of an unknown digest'}, "
            f"the platform serves {served_digest}: train anew",
            reason=Reason.FEATURE_DIGEST_MISMATCH,
            metadata={"trained": feature_digest, "served": served_digest},
        )


def champions(history: Sequence[Promotion]) -> list[Promotion]:
    """The present champion last, before it those that a rollback would bring back, one after the other.

    `history` is oldest first. A promotion is put on top; a rollback takes the top away.
    """
    stack: list[Promotion] = []
    for promotion in history:
        if promotion.kind is Kind.PROMOTION:
            stack.append(promotion)
        elif stack:
            stack.pop()
    return stack


def rollback(history: Sequence[Promotion], *, actor: str, reason: str, now: datetime) -> Promotion:
    """The record of going back to the champion before the present one. Raises Conflict where there is none."""
    stack = champions(history)
    if len(stack) < 2:
        raise Conflict("there is no earlier champion to go back to", reason=Reason.NO_PREVIOUS_MODEL)
    present, earlier = stack[-1], stack[-2]
    return replace(earlier, from_version=present.to_version, kind=Kind.ROLLBACK, actor=actor, reason=reason, promoted=now)
