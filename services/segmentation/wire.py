"""Between messages and segments."""

import base64
import binascii
from types import MappingProxyType
from typing import Final
from uuid import UUID

from rapport.segmentation.v1 import segmentation_pb2 as pb

from chassis.errors import InvalidArgument, NotFound, Reason
from services.segmentation.domain import (
    RFM_SEGMENTS,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Finding,
    InSegment,
    Not,
    Operator,
    Subject,
    Use,
    is_key,
)
from services.segmentation.store import Member, Stored

_OPERATORS: Final = MappingProxyType(
    {
        pb.OPERATOR_EQUAL: Operator.EQUAL,
        pb.OPERATOR_LESS: Operator.LESS,
        pb.OPERATOR_LESS_OR_EQUAL: Operator.LESS_OR_EQUAL,
        pb.OPERATOR_GREATER: Operator.GREATER,
        pb.OPERATOR_GREATER_OR_EQUAL: Operator.GREATER_OR_EQUAL,
        pb.OPERATOR_BAND: Operator.BAND,
        pb.OPERATOR_ONE_OF: Operator.ONE_OF,
        pb.OPERATOR_PRESENT: Operator.PRESENT,
    }
)
_NUMBERS: Final = MappingProxyType({operator: number for number, operator in _OPERATORS.items()})
_RULES: Final = MappingProxyType({segment.key: segment.rule for segment in RFM_SEGMENTS})
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100


def condition_from_proto(message: pb.Condition, path: str = "condition") -> Condition:
    """Raises InvalidArgument, with the path of the node, where a part is missing or unknown."""
    match message.WhichOneof("kind"):
        case "all_of":
            parts = enumerate(message.all_of.conditions)
            return AllOf(tuple(condition_from_proto(each, f"{path}.allOf[{index}]") for index, each in parts))
        case "any_of":
            parts = enumerate(message.any_of.conditions)
            return AnyOf(tuple(condition_from_proto(each, f"{path}.anyOf[{index}]") for index, each in parts))
        case "not":
            return Not(condition_from_proto(getattr(message, "not").condition, f"{path}.not"))
        case "comparison":
            return _comparison_from_proto(message.comparison, path)
        case "in_segment":
            return InSegment(message.in_segment)
        case None:
            raise InvalidArgument(
                "a condition is one of allOf, anyOf, not, inSegment, or a feature or trait with an operator",
                reason=Reason.MISSING_FIELD,
                field=path,
            )


def _comparison_from_proto(message: pb.Comparison, path: str) -> Comparison:
    operator = _OPERATORS.get(message.operator)
    if operator is None:
        known = ", ".join(each.name.lower() for each in Operator)
        raise InvalidArgument(f"a comparison needs an operator: {known}", field=f"{path}.operator")
    match message.WhichOneof("subject"):
        case "feature":
            subject, name = Subject.FEATURE, message.feature
        case "trait":
            subject, name = Subject.TRAIT, message.trait
        case None:
            raise InvalidArgument("a comparison needs a feature or a trait", reason=Reason.MISSING_FIELD, field=path)
    return Comparison(subject, name, operator, tuple(message.numbers), tuple(message.texts))


def condition_to_proto(condition: Condition) -> pb.Condition:
    """The inverse of `condition_from_proto`."""
    message = pb.Condition()
    match condition:
        case AllOf(conditions):
            message.all_of.conditions.extend(map(condition_to_proto, conditions))
        case AnyOf(conditions):
            message.any_of.conditions.extend(map(condition_to_proto, conditions))
        case Not(inner):
            getattr(message, "not").condition.CopyFrom(condition_to_proto(inner))
        case InSegment(key):
            message.in_segment = key
        case Comparison():
            comparison = message.comparison
            setattr(comparison, condition.subject.value, condition.name)
            comparison.operator = _NUMBERS[condition.operator]
            comparison.numbers.extend(condition.numbers)
            comparison.texts.extend(condition.texts)
    return message


def segment_to_proto(stored: Stored) -> pb.Segment:
    """The rule of an RFM segment says what its quintiles stand on."""
    definition = stored.definition
    message = pb.Segment(
        key=definition.key,
        name=definition.name,
        description=definition.description,
        version=definition.version,
        family=definition.family.value,
        member_count=stored.member_count,
    )
    if definition.use is not None:
        message.use.purpose, message.use.channel = definition.use.purpose, definition.use.channel
    if definition.condition is not None:
        message.condition.CopyFrom(condition_to_proto(definition.condition))
    if definition.key in _RULES:
        note = stored.cuts.note if stored.cuts else "not computed yet"
        message.rfm_rule = f"{_RULES[definition.key]} ({note})"
    message.created.FromDatetime(stored.created)
    if stored.refreshed is not None:
        message.refreshed.FromDatetime(stored.refreshed)
    return message


def use_of(request: pb.CreateSegmentRequest | pb.UpdateSegmentRequest) -> Use | None:
    """None where nothing is said of it. Raises InvalidArgument."""
    if not request.HasField("use"):
        return None
    if request.use.channel and not request.use.purpose:
        raise InvalidArgument("a channel needs a purpose", reason=Reason.MISSING_FIELD, field="purpose")
    return Use(request.use.purpose, request.use.channel)


def member_to_proto(member: Member) -> pb.Member:
    """A profile in a segment."""
    message = pb.Member(profile_id=str(member.profile_id))
    message.since.FromDatetime(member.since)
    return message


def finding_to_proto(finding: Finding) -> pb.Finding:
    """As it is."""
    return pb.Finding(condition=finding.condition, value=finding.value, held=finding.held, depth=finding.depth)


def profile_id_of(text: str) -> UUID:
    """Raises InvalidArgument; the message does not repeat the text."""
    try:
        return UUID(text) if len(text) == 36 else UUID("")
    except ValueError:
        raise InvalidArgument("a profile id is a UUID of 36 characters", field="profile_id") from None


def key_of(text: str) -> str:
    """A key that some segment may have. Raises NotFound for any other."""
    if not is_key(text):
        raise NotFound("there is no such segment", field="key")
    return text


def page_size_of(given: int) -> int:
    """100 where none is given. Raises InvalidArgument."""
    if not 0 <= given <= MAX_PAGE:
        raise InvalidArgument(f"a page has 1 to {MAX_PAGE} entries", field="page_size")
    return given or DEFAULT_PAGE


def token_of(last: UUID) -> str:
    """An opaque token for the page after `last`."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def after_token(token: str) -> UUID | None:
    """The inverse of `token_of`; None for the first page. Raises InvalidArgument."""
    if not token:
        return None
    try:
        return UUID(bytes=base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise InvalidArgument("the cursor is not one of ours", reason=Reason.INVALID_CURSOR, field="page_token") from None
