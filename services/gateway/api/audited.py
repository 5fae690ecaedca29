"""Writes down who changes what, around the change; and tells of it."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from pydantic import Field
from starlette.responses import Response

from chassis import context
from chassis.errors import InvalidArgument, Reason
from services.gateway.api import problems
from services.gateway.audit import AuditStore
from services.gateway.wire import Answer, Cursor, Limit, Page

# What names a thing and no person: keys of segments, versions, our own ids.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROFILE_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NEWEST: Final = 2**63 - 1


class Change(Answer):
    """A change that somebody asked for, and how it ended."""

    audit_id: int
    at: datetime
    actor: str = Field(description="Who asked for it: a key's id, or a person as `sub:<subject>/<roles>`.")
    action: str = Field(description="The operation's name in this document.", examples=["PromoteModel"])
    target: str = Field(examples=["/v1/models/churn:promote"])
    request_id: str
    status: int | None = Field(description="HTTP's; null where the process died before it was known.")
    hash: str = Field(description="Over this row and all before it; kept elsewhere, it shows later that nothing is gone.")


class Check(Answer):
    """Whether every row is as it was written."""

    intact: bool
    first_broken: int | None = Field(description="The first row that was changed, or before which one is missing.")


async def recorded(handler: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Raises Unavailable, and changes nothing, where it cannot be written down."""
    route = request.scope["route"]
    async with _store(request).around(route.operation_id, target_of(route.path, request.path_params)) as ending:
        try:
            response = await handler(request)
        except problems.REFUSALS as refusal:
            response = problems.respond(refusal)
        ending.status = response.status_code
    return response


def target_of(template: str, params: dict[str, Any]) -> str:
    """The path, without what may be somebody's name or address."""

    def shown(match: re.Match[str]) -> str:
        value = str(params.get(match[1].partition(":")[0], ""))
        allowed = _PROFILE_ID if match[1].startswith("ref") else _HARMLESS
        return value if allowed.fullmatch(value) else match[0]

    return re.sub(r"\{([^}]*)\}", shown, template)


def _store(request: Request) -> AuditStore:
    return request.app.state.audit


async def _audit(request: Request) -> AuditStore:
    return _store(request)


Audit = Annotated[AuditStore, Depends(_audit)]


async def page_of(audit: AuditStore, limit: Limit, cursor: Cursor) -> Page[Change]:
    """Newest first. Raises InvalidArgument for a cursor that is none."""
    if cursor and not (cursor.isdecimal() and 0 < int(cursor) <= _NEWEST):
        raise InvalidArgument("the cursor is not one that this list gave", reason=Reason.INVALID_CURSOR, field="next")
    rows = await audit.page(context.tenant(), int(cursor) if cursor else _NEWEST, limit + 1)
    changes = [
        Change(
            audit_id=row.audit_id, at=row.at, actor=row.actor, action=row.action, target=row.target,
            request_id=row.request_id, status=row.status, hash=row.hash.hex(),
        )
        for row in rows[:limit]
    ]  # fmt: skip
    return Page[Change].of_items(changes, str(rows[limit - 1].audit_id) if len(rows) > limit else "")
