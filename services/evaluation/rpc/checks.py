"""What may come in: each check answers the value in our words, or raises InvalidArgument with the field's name."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from rapport.evaluation.v1 import evaluation_pb2 as pb

from chassis.errors import InvalidArgument, Reason
from services.evaluation.domain import experiments
from services.evaluation.domain.experiments import Experiment, Variant

MAX_PROFILES: Final = 1_000
MAX_REASON: Final = 1_000
MAX_WINDOW_S: Final = 86_400
MIN_WINDOW_S: Final = 10

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# They become part of a PromQL query.
_SERVICE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def text(value: str, field: str, *, longest: int = 256) -> str:
    """Something readable: not empty, not too long, no NUL."""
    if not value.strip():
        raise InvalidArgument(f"{field} is missing", reason=Reason.MISSING_FIELD, field=field)
    if len(value) > longest:
        raise InvalidArgument(f"{field} is over {longest} characters", reason=Reason.TEXT_TOO_LONG, field=field)
    if "\0" in value:
        raise InvalidArgument(f"{field} holds a NUL character", reason=Reason.MALFORMED_TEXT, field=field)
    return value


def key(value: str, field: str) -> str:
    """An id that a person chose: letters, digits, dot, dash and underscore, at most 128."""
    return _matching(_KEY, value, field, "letters, digits, '.', '-' and '_', at most 128, beginning with a letter or digit")


def service(value: str) -> str:
    return _matching(_SERVICE, value, "service", "the name of a service, in small letters")


def version(value: str, field: str) -> str:
    return _matching(_VERSION, value, field, "letters, digits, '.', '_', '+' and '-', at most 64")


def _matching(form: re.Pattern[str], value: str, field: str, words: str) -> str:
    if not form.fullmatch(text(value, field)):
        raise InvalidArgument(f"{field} is not of the right form: {words}", field=field)
    return value


def profile_ids(values: Sequence[str]) -> list[UUID]:
    """1 to MAX_PROFILES UUIDs."""
    if not 1 <= len(values) <= MAX_PROFILES:
        raise InvalidArgument(f"1 to {MAX_PROFILES} profile ids are taken at once", field="profile_ids")
    if wrong := [index for index, value in enumerate(values) if not _UUID.fullmatch(value)]:
        raise InvalidArgument(f"profile id number {wrong[0] + 1} is not a UUID", field=f"profile_ids[{wrong[0]}]")
    return [UUID(value) for value in values]


def moment(message: Timestamp, field: str, *, is_set: bool) -> datetime:
    """A time that must be there, between the years 1970 and 9999."""
    if not is_set:
        raise InvalidArgument(f"{field} is missing", reason=Reason.MISSING_FIELD, field=field)
    try:
        value = message.ToDatetime(UTC)
    except ValueError:
        raise InvalidArgument(f"{field} is not a time", field=field) from None
    if not 1970 <= value.year <= 9000:
        raise InvalidArgument(f"{field} is before 1970 or after 9000", field=field)
    return value


def window_s(value: int) -> int:
    if not MIN_WINDOW_S <= value <= MAX_WINDOW_S:
        raise InvalidArgument(f"the window is {MIN_WINDOW_S} to {MAX_WINDOW_S} seconds", field="window_s")
    return value


def experiment(request: pb.CreateExperimentRequest) -> Experiment:
    """A whole experiment."""
    return experiments.validate(
        Experiment(
            experiment_id=key(request.experiment_id, "experiment_id"),
            hypothesis=text(request.hypothesis, "hypothesis", longest=experiments.MAX_HYPOTHESIS),
            variants=tuple(Variant(key(each.key, "variants.key"), each.share) for each in request.variants),
            outcome_event=text(request.outcome_event, "outcome_event"),
            outcome_window_days=request.outcome_window_days,
            margin=request.margin,
        )
    )
