"""How long events stay in the log."""

from typing import Annotated

from pydantic import Field
from rapport.profiles.v1 import retention_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked

routes = router("Events")

Days = Annotated[int, Field(ge=7, le=36_500, examples=[730])]


class RetentionRequest(Asked):
    """Null: for ever."""

    log_days: Days | None


class LogRetention(Answer):
    """What is older is moved to the archive; portraits, features and timelines keep it."""

    log_days: int | None = Field(description="null: for ever.")
    archived_count: int = Field(description="Events that were moved to the archive.")


@routes.get("/v1/retention")
@needs(Scope.READ)
async def get_retention(services: Services) -> LogRetention:
    """How long this tenant's events stay in the log."""
    answer = await services.retention.GetRetention(retention_pb2.GetRetentionRequest())
    return _shown(answer.retention)


@routes.put("/v1/retention")
@needs(Scope.OPERATE)
async def put_retention(services: Services, asked: RetentionRequest) -> LogRetention:
    """From the next run of the retention job on."""
    request = retention_pb2.PutRetentionRequest(log_days=asked.log_days or 0)
    return _shown((await services.retention.PutRetention(request)).retention)


def _shown(message: retention_pb2.LogRetention) -> LogRetention:
    return LogRetention(log_days=message.log_days or None, archived_count=message.archived_count)
