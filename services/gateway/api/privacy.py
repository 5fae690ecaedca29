"""What a person may ask for: all that is known of them, and its end."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Path
from pydantic import Field
from rapport.profiles.v1 import privacy_pb2
from rapport.subjects.v1 import subjects_pb2
from starlette.responses import Response

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S, SUBJECTS
from services.gateway.domain import Scope
from services.gateway.wire import NO_NUL, UUID, Answer, Asked, Cursor, Limit, Page, PathRef

routes = router("Privacy")


class EraseRequest(Asked):
    """Why, for the record: the person's own request, or another ground."""

    reason: str = Field(min_length=1, max_length=500, pattern=NO_NUL, examples=["asked for by the customer, ticket 4711"])


class ErasedRows(Answer):
    """How many rows went from one table or folder."""

    name: str = Field(examples=["profiles.timeline"])
    row_count: int


class Erasure(Answer):
    """An erasure, and when it is completed its certificate."""

    erasure_id: str
    profile_id: str
    state: Literal["REQUESTED", "RUNNING", "COMPLETED"]
    reason: str
    actor: str = Field(description="The key that asked for it.")
    requested: datetime | None
    keys_destroyed: datetime | None = Field(description="From here on nothing that was sealed for the person can be opened.")
    completed: datetime | None
    stores: list[ErasedRows]
    waiting_for: list[str] = Field(description="Services that have not deleted their rows yet.")


class Dossier(Answer):
    """All that is known of a customer, machine-readable."""

    profile_id: str
    events: list[dict[str, Any]] = Field(description="In the order of the log, each with its public and its personal part.")
    tables: dict[str, list[dict[str, Any]]] = Field(description="What each service keeps besides, by table.")


@routes.get("/v1/profiles/{ref}/export", responses={200: {"model": Dossier}})
@needs(Scope.PERSONAL, discloses=True)
async def export_profile(services: Services, ref: PathRef) -> Response:
    """All that is known of a customer, by service and table, personal parts in the clear."""
    tables: dict[str, Any] = {}
    events: list[msgspec.Raw] = []
    token = ""
    while True:
        request = privacy_pb2.ExportProfileRequest(ref=ref, page_size=1000, page_token=token)
        page = await services.privacy.ExportProfile(request, timeout=LONG_S)
        tables |= _tables(page.tables)
        events += map(msgspec.Raw, page.events)
        if not (token := page.next_page_token):
            break
    asked = subjects_pb2.ExportSubjectRequest(profile_ids=page.profile_ids)
    for answer in await asyncio.gather(*(services.subjects[service].ExportSubject(asked) for service in SUBJECTS)):
        tables |= _tables(answer.tables)
    document = {"profileId": page.profile_id, "events": events, "tables": tables}
    return Response(msgspec.json.encode(document), media_type="application/json")


@routes.post("/v1/profiles/{ref}:erase", status_code=202)
@needs(Scope.MANAGE)
async def erase_profile(services: Services, ref: PathRef, asked: EraseRequest) -> Erasure:
    """Destroys the customer's keys, within seconds, then deletes all rows. One that is under way is answered as it is."""
    request = privacy_pb2.EraseProfileRequest(ref=ref, reason=asked.reason, services=SUBJECTS)
    return Erasure.of((await services.privacy.EraseProfile(request)).erasure)


@routes.get("/v1/erasures")
@needs(Scope.READ)
async def list_erasures(services: Services, limit: Limit = 100, cursor: Cursor = "") -> Page[Erasure]:
    """Newest first."""
    answer = await services.privacy.ListErasures(privacy_pb2.ListErasuresRequest(page_size=limit, page_token=cursor))
    return Page[Erasure].of_items([Erasure.of(each) for each in answer.erasures], answer.next_page_token)


@routes.get("/v1/erasures/{erasureId}")
@needs(Scope.READ)
async def get_erasure(services: Services, erasure_id: Annotated[str, Path(alias="erasureId", pattern=UUID)]) -> Erasure:
    """How far one is; completed, its certificate."""
    answer = await services.privacy.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=erasure_id))
    return Erasure.of(answer.erasure)


def _tables(messages: Any) -> dict[str, Any]:
    return {message.name: msgspec.Raw(message.rows) for message in messages}
