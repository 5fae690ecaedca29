"""The closed set of errors, and the one table that says what each is on gRPC and on HTTP.

    Error
    +-- InvalidArgument    the request is wrong and stays wrong
    +-- Unauthenticated    nobody knows who asks
    +-- Denied             who asks may not
    +-- NotFound
    +-- Conflict           right in itself, not in the present state
    +-- Exhausted          a limit; later, or smaller
    +-- Unavailable        a dependency is gone; the same call may work later

Anything else that is raised is a bug: its caller reads "internal error", its traceback goes to the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

import grpc


class Reason(Enum):
    """What was wrong. The name goes over the wire, for programs; the value is for people (docs/ERRORS.md)."""

    # requests
    INVALID_FIELD = "A field has a value that it may not have."
    MISSING_FIELD = "A field that must be there is missing."
    UNKNOWN_FIELD = "A field is not known here; the message names it."
    MALFORMED_JSON = "The body is not JSON, or not an object."
    MALFORMED_TEXT = "A text holds a NUL byte or half of a surrogate pair, which cannot be stored."
    BODY_TOO_LARGE = "The body is over its limit; the message says which."
    UNSUPPORTED_ENCODING = "The body's encoding is not known; gzip and none are."
    INVALID_CURSOR = "The paging cursor is not one that this service gave."
    METHOD_NOT_ALLOWED = "The path exists, the method does not."
    ROUTE_NOT_FOUND = "There is no such path."
    # events
    EVENT_TOO_LARGE = "An event is over 32 KB."
    TOO_MANY_PROPERTIES = "An event has over 2,000 properties, or nests them over 20 deep."
    MISSING_IDENTITY = "An event needs a userId or an anonymousId."
    BLOCKED_IDENTIFIER = "The identifiers of an event are nobody's, like null, undefined or 0, or were blocked by the tenant."
    UNKNOWN_EVENT_TYPE = "The event's type is none of identify, track, page, screen, group, alias."
    TIMESTAMP_OUT_OF_BOUNDS = "The event's time is before 1970, or more than a day after it was received."
    NEGATIVE_PRICE = "A price, quantity or total is negative; a refund is an event of its own, with positive amounts."
    PLAN_VIOLATION = "An event is not as the tracking plan has it; the message names the rule and what would be right."
    QUARANTINE_FULL = "The quarantine holds as many events as it may; replay or discard some, or change the plan."
    MALFORMED_FILE = (
        "A file to import is not what its format says, or its columns are not those of calls; the message says which."
    )
    MALFORMED_ROW = "A row of a file to import has not the fields that its header names, or cannot be read."
    # callers
    INVALID_KEY = "The key is unknown or revoked."
    MISSING_KEY = "A key is needed: HTTP Basic with the key as user name, or Bearer."
    MISSING_SCOPE = "The key is good, but lacks the scope that the message names."
    INVALID_TOKEN = "The identity provider's token is not good, or not for us; the message says why."  # noqa: S105
    UNKNOWN_TENANT = "The token is good, but its tenant is none of ours."
    MISSING_ROLE = "The token is good, but names none of the roles viewer, analyst, ml_engineer, operator, admin."
    MISSING_TENANT = "A call between services came without a tenant."
    # things
    NOT_FOUND = "There is no such thing, or it belongs to somebody else."
    UNKNOWN_PROFILE = "Nobody is known by that reference."
    IDENTITY_LIMIT = "The two would be one profile past what a profile may hold; the message says which limit."
    ALREADY_EXISTS = "It exists already, with other content."
    IDEMPOTENCY_MISMATCH = "The Idempotency-Key was used for another request."
    CIRCULAR_SEGMENT = "A segment would hold itself through other segments."
    SHIPPED_SEGMENT = "The segment is shipped with the platform; its rule cannot be changed."
    TOO_MANY_SEGMENTS = "The tenant has as many segments as it may have."
    UNKNOWN_FEATURE = "No feature has that name."
    TOO_MANY_PURPOSES = "The tenant has as many purposes as it may have."
    CONSENT_DENIED = "The person does not allow to be read for that purpose, or not over that channel."
    TOO_MANY_TRAITS = "The tenant has as many computed traits as it may have."
    RATING_OUT_OF_SCALE = "The rating is outside the survey's scale."
    TEXT_TOO_LONG = "A text is over its limit; the message says which."
    # models
    UNKNOWN_MODEL_VERSION = "The registry has no such version."
    FEATURE_DIGEST_MISMATCH = "The model was trained on other feature definitions than the platform serves."
    MODEL_DIGEST_MISMATCH = "The model's files are not the ones that were registered."
    OUTCOMES_MISSING = "The time in which the outcomes come in has not ended at the tenant's clock."
    NOT_EVALUATED = "The version has no evaluation, so nobody knows whether it is good."
    LOSES_TO_BASELINE = "The version is not better than the recency rule."
    NO_PREVIOUS_MODEL = "There is no earlier champion to go back to."
    NO_MODEL = "No model is promoted for this tenant."
    # limits and dependencies
    RATE_LIMITED = "Too many requests; Retry-After says when to come back."
    QUEUE_FULL = "The service has more waiting than it can do in time; come back later."
    DEADLINE_EXCEEDED = "The call's time ran out."
    DATABASE_UNAVAILABLE = "The database does not answer."
    SERVICE_UNAVAILABLE = "A service behind this one does not answer."
    REGISTRY_UNAVAILABLE = "The model registry does not answer."
    PROVIDER_UNAVAILABLE = "The identity provider does not answer, and the token cannot be checked without it."
    METRICS_UNAVAILABLE = "The metrics source does not answer."
    INTERNAL = "A bug on our side; the request id finds it in the log."


class CannotStart(Exception):
    """What only whoever runs a process can mend; its message says what would be right, and holds no secret."""


class Error(Exception):
    """Something that a caller is told. `message` says what was wrong, `field` where; neither holds personal data."""

    default: Reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        field: str = "",
        metadata: Mapping[str, str] = MappingProxyType({}),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default
        self.field = field
        self.metadata = dict(metadata)
        self.retry_after_s = retry_after_s


class InvalidArgument(Error):
    """The request is wrong and stays wrong."""

    default = Reason.INVALID_FIELD


class Unauthenticated(Error):
    """Nobody knows who asks."""

    default = Reason.INVALID_KEY


class Denied(Error):
    """Who asks may not."""

    default = Reason.MISSING_SCOPE


class NotFound(Error):
    """There is no such thing here."""

    default = Reason.NOT_FOUND


class Conflict(Error):
    """Right in itself, not in the present state."""

    default = Reason.ALREADY_EXISTS


class Exhausted(Error):
    """A limit was met."""

    default = Reason.RATE_LIMITED


class Unavailable(Error):
    """A dependency is gone; the same call may work later. Answered with Retry-After, one second where nothing is said."""

    default = Reason.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Status:
    """What an error is on the wire."""

    grpc: grpc.StatusCode
    http: int
    title: str


TABLE: Final[Mapping[type[Error], Status]] = MappingProxyType(
    {
        InvalidArgument: Status(grpc.StatusCode.INVALID_ARGUMENT, 400, "Invalid argument"),
        Unauthenticated: Status(grpc.StatusCode.UNAUTHENTICATED, 401, "Unauthenticated"),
        Denied: Status(grpc.StatusCode.PERMISSION_DENIED, 403, "Denied"),
        NotFound: Status(grpc.StatusCode.NOT_FOUND, 404, "Not found"),
        Conflict: Status(grpc.StatusCode.FAILED_PRECONDITION, 409, "Conflict"),
        Exhausted: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "Exhausted"),
        Unavailable: Status(grpc.StatusCode.UNAVAILABLE, 503, "Unavailable"),
    }
)

# Where the right status on HTTP is finer than the class's.
_HTTP_BY_REASON: Final[Mapping[Reason, int]] = MappingProxyType(
    {Reason.BODY_TOO_LARGE: 413, Reason.UNSUPPORTED_ENCODING: 415, Reason.METHOD_NOT_ALLOWED: 405}
)

INTERNAL_MESSAGE: Final = "internal error"


def status_of(error: Error) -> Status:
    """The row of TABLE for an error."""
    return TABLE[type(error)]


def http_status_of(error: Error) -> int:
    """The HTTP status of an error."""
    return _HTTP_BY_REASON.get(error.reason, status_of(error).http)


def error_class_of(code: grpc.StatusCode) -> type[Error] | None:
    """The class that travels as `code`; None where a bug does."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable
    return next((cls for cls, status in TABLE.items() if status.grpc is code), None)
