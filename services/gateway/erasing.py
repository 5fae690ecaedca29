"""Brings erasures to the services behind the door: each deletes its rows, and the record of the erasure says how many."""

import asyncio
from typing import Final

from rapport.profiles.v1 import privacy_pb2
from rapport.subjects.v1 import subjects_pb2

from chassis import context, telemetry
from chassis.errors import Error
from services.gateway.clients import Services

LOOK_S: Final = 2.0
_ACTOR: Final = "gateway.erasing"


async def follow(services: Services) -> None:
    """Runs for ever. Every gateway does it: a service that is asked twice deletes nothing the second time."""
    while True:
        await asyncio.sleep(LOOK_S)
        with context.use(request_id=context.new_request_id(), actor=_ACTOR):
            try:
                answer = await services.privacy.ListOpenErasures(privacy_pb2.ListOpenErasuresRequest())
            except Error:
                continue  # counted where it was raised; the next round tries again
        for erasure in answer.erasures:
            with context.use(tenant=erasure.tenant_id, request_id=context.new_request_id(), actor=_ACTOR):
                for service in erasure.waiting_for:
                    await _erase(services, erasure, service)


async def _erase(services: Services, erasure: privacy_pb2.Erasure, service: str) -> None:
    try:
        answer = await services.subjects[service].EraseSubject(
            subjects_pb2.EraseSubjectRequest(profile_ids=erasure.profile_ids)
        )
        confirmed = privacy_pb2.ConfirmErasureRequest(erasure_id=erasure.erasure_id, service=service, stores=answer.tables)
        await services.privacy.ConfirmErasure(confirmed)
    except (Error, KeyError) as error:
        telemetry.logger().warning("an erasure waits for a service", peer=service, error=type(error).__name__)
