"""The HTTP API: decode, ask one service, encode. One module a noun; `admission` is the door of each route."""

from collections.abc import Sequence, Set
from typing import Final

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig

from chassis.http import Guard
from services.gateway import console
from services.gateway.api import (
    auditing,
    catalogue,
    consents,
    experiments,
    features,
    figures,
    health,
    identities,
    imports,
    ingest,
    matching,
    models,
    plans,
    privacy,
    problems,
    profiles,
    receipts,
    recommendations,
    retention,
    scores,
    segments,
    surveys,
)
from services.gateway.api.admission import GuardedRoute, HotRoute
from services.gateway.api.document import document_of
from services.gateway.api.front import Front
from services.gateway.audit import AuditStore
from services.gateway.capacity import Capacity
from services.gateway.clients import Services
from services.gateway.gathering import Reads, Scores, Submissions
from services.gateway.keyring import Keyring
from services.gateway.people import SignIn
from services.gateway.store import AnswerStore
from services.gateway.uploading import Uploads

ROUTERS: Sequence[APIRouter] = (
    ingest.events,
    ingest.reads,
    receipts.routes,
    plans.routes,
    imports.routes,
    profiles.hot,
    profiles.routes,
    identities.routes,
    privacy.routes,
    consents.routes,
    retention.routes,
    matching.routes,
    scores.hot,
    scores.routes,
    recommendations.routes,
    features.routes,
    figures.routes,
    catalogue.routes,
    segments.routes,
    surveys.routes,
    experiments.routes,
    models.routes,
    auditing.routes,
    health.routes,
)


# FastAPI's own would tell whomever OTEL_* names of stack traces and messages. What is told of a request, chassis/http.py tells.
_UNTOLD: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def build(
    services: Services,
    keyring: Keyring,
    answers: AnswerStore,
    audit: AuditStore,
    *,
    version: str,
    capacity: Capacity | None = None,
    origins: Set[str] = frozenset({"*"}),
    sign_in: SignIn | None = None,
) -> FastAPI:
    """The API. Its state is what endpoints are given; `state.ready` is what /health/ready says; until then connections end."""
    app = FastAPI(title="Rapport", version=version, openapi_url=None, redirect_slashes=False, telemetry=_UNTOLD)
    app.state.services = services
    app.state.keyring = keyring
    app.state.answers = answers
    app.state.audit = audit
    capacity = capacity or Capacity()
    app.state.capacity = capacity
    app.state.origins = origins
    app.state.sign_in = sign_in
    app.state.public_url = ""
    app.state.submissions = Submissions(services, capacity)
    app.state.scores = Scores(services)
    app.state.reads = Reads(services)
    app.state.uploads = Uploads(services)
    app.state.ready = False
    problems.add_handlers(app, _guarded_routes())
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(console.router())
    issuer = sign_in.provider.issuer if sign_in else ""
    document = document_of(app, _guarded_routes(), bodies=[scores.ScoreQuestion], issuer=issuer)
    app.state.document = msgspec.json.encode(document)
    return app


def at_the_door(app: FastAPI) -> Guard:
    """What uvicorn serves: request ids, metrics and the log line outermost, then the front, then the API."""
    hot = [route for route in _guarded_routes() if isinstance(route, HotRoute)]
    events = [route.path for route in ingest.events.routes if isinstance(route, HotRoute)]
    return Guard(
        Front(app, hot, open_to_browsers=events, origins=app.state.origins),
        service="gateway",
        is_leaving=lambda: not app.state.ready,
    )


def _guarded_routes() -> list[GuardedRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, GuardedRoute)]
