"""Reads of people bound to a purpose: `?purpose=marketing&channel=sms` shows nobody who does not allow that.

One person is answered with 403 CONSENT_DENIED, of several each one who does not allow it is said so, and from lists they are
left out and counted. A route that does not say whom it shows takes no purpose at all: it would show them.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Depends, Request
from rapport.profiles.v1 import consents_pb2
from starlette.responses import Response

from chassis.errors import Denied, Error, InvalidArgument, Reason
from services.gateway import clients
from services.gateway.wire import MOST_REFS, SLASH

Handler = Callable[[Request], Awaitable[Response]]
Item = TypeVar("Item")

PURPOSE: Final = "purpose"
CHANNEL: Final = "channel"
# What names a person in a row of a list.
_NAMES: Final = ("profileId", "profileA", "profileB")
_decode: Final = msgspec.json.Decoder().decode


class People(Enum):
    """Where a route has from whom it shows."""

    # `{ref}`.
    IN_PATH = auto()
    # `refs`; the endpoint asks `Denials` whom to leave out, and says so of each.
    IN_BODY = auto()
    # It finds them itself: rows of `data` that name them are left out of the answer. With `?ref=` only one is shown.
    IN_ROWS = auto()
    # The service behind leaves them out; the endpoint passes on what it is for.
    BY_SERVICE = auto()


@dataclass(frozen=True, slots=True)
class Use:
    """What people are to be read for."""

    purpose: str
    channel: str


def to_purpose(handler: Handler, people: People | None, request: Request) -> Handler:
    """The handler, bound where the request says for what it asks. Raises InvalidArgument."""
    purposes, channels = request.query_params.getlist(PURPOSE), request.query_params.getlist(CHANNEL)
    if not purposes and not (channels and people):
        return handler
    if people is None:
        raise InvalidArgument("this operation shows nobody who could allow a purpose: leave it out", field=PURPOSE)
    if len(purposes) != 1 or not purposes[0]:
        raise InvalidArgument("one purpose is needed", reason=Reason.MISSING_FIELD, field=PURPOSE)
    if len(channels) > 1:
        raise InvalidArgument("at most one channel can be meant", field=CHANNEL)
    return partial(_serve, handler, people, Use(purposes[0], channels[0] if channels else ""))


async def _serve(handler: Handler, people: People, use: Use, request: Request) -> Response:
    named = request.path_params.get("ref") or request.query_params.get("ref")
    if named:
        await _check_one(request, named.replace(SLASH, "/"), use)
    if people is People.IN_ROWS:
        return await _without_denied(request, await handler(request), use)
    if people in (People.IN_BODY, People.BY_SERVICE):
        request.state.denials = Denials(use)
        response = await handler(request)
        if not request.state.denials.were_asked and response.status_code == 200:
            raise RuntimeError("an endpoint has neither asked whom to leave out nor passed it on")
        return response
    return await handler(request)


async def _check_one(request: Request, ref: str, use: Use) -> None:
    """Raises Denied, NotFound, or InvalidArgument."""
    (check,) = await _checked(request.app.state.services, [ref], use)
    if not check.profile_id:
        raise clients.unknown_profile()
    if not check.allowed[0]:
        raise Denied(f"the person does not allow to be read for {use.purpose}", reason=Reason.CONSENT_DENIED)


async def _without_denied(request: Request, response: Response, use: Use) -> Response:
    """Rows go whose people do not allow it, or are not known any more, or are not named."""
    if response.status_code != 200:
        return response
    page: dict[str, Any] = _decode(response.body)
    rows: list[dict[str, Any]] = page["data"]
    ids = list(dict.fromkeys(each for row in rows for each in _people_of(row)))
    allowed: set[str] = set()
    for start in range(0, len(ids), MOST_REFS):
        part = ids[start : start + MOST_REFS]
        checks = await _checked(request.app.state.services, part, use)
        allowed.update(each for each, check in zip(part, checks, strict=True) if check.allowed[0])
    shown = [row for row in rows if (people := _people_of(row)) and allowed.issuperset(people)]
    page |= {"data": shown, "withheldCount": page.get("withheldCount", 0) + len(rows) - len(shown)}
    return Response(msgspec.json.encode(page), media_type="application/json")


def _people_of(row: dict[str, Any]) -> list[str]:
    return [row[name] for name in _NAMES if row.get(name)]


async def _checked(services: clients.Services, refs: Sequence[str], use: Use) -> Sequence[consents_pb2.ConsentCheck]:
    """Raises InvalidArgument, by this API's names."""
    asked = consents_pb2.ConsentUse(purpose=use.purpose, channel=use.channel)
    try:
        return (await services.consents.CheckConsents(consents_pb2.CheckConsentsRequest(refs=refs, uses=[asked]))).checks
    except Error as error:
        error.field = error.field.removeprefix("uses[0].").replace("refs[0]", "ref")
        raise


@dataclass(slots=True)
class Denials:
    """Who of those that a request names does not allow what it is for. `use` None: it is for nothing in particular."""

    use: Use | None = None
    were_asked: bool = False

    async def of(self, services: clients.Services, refs: Sequence[str]) -> dict[str, str]:
        """Profile ids by reference, of those only. Raises InvalidArgument."""
        self.were_asked = True
        if self.use is None:
            return {}
        unique = list(dict.fromkeys(refs))
        checks = await _checked(services, unique, self.use)
        pairs = zip(unique, checks, strict=True)
        return {ref: check.profile_id for ref, check in pairs if check.profile_id and not check.allowed[0]}

    def passed_on(self) -> Use | None:
        """What the request is for, for a service that leaves people out by itself."""
        self.were_asked = True
        return self.use


async def _denials(request: Request) -> Denials:
    return getattr(request.state, "denials", None) or Denials()


DenialsOf = Annotated[Denials, Depends(_denials)]


def in_order(
    refs: Sequence[str], denied: Mapping[str, str], answers: Iterable[Item], refused: Callable[[str, str], Item]
) -> list[Item]:
    """Of each reference the next of `answers`, which has those of who is not denied; of the others what `refused` makes of the
    reference and the profile id."""
    found = iter(answers)
    return [refused(ref, denied[ref]) if ref in denied else next(found) for ref in refs]
