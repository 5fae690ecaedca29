"""The HTTP API: decode, ask one service, encode. One module a noun; `admission` is the door of each route."""

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, FastAPI

from chassis.http import Guard
from services.gateway import console
from services.gateway.api import (
    experiments,
    features,
    health,
    ingest,
    models,
    problems,
    profiles,
    recommendations,
    scores,
    segments,
    surveys,
)
from services.gateway.api.admission import GuardedRoute, HotRoute
from services.gateway.api.document import document_of
from services.gateway.api.front import Front
from services.gateway.clients import Services
from services.gateway.gathering import Scores, Submissions
from services.gateway.keyring import Keyring
from services.gateway.store import AnswerStore

ROUTERS: Sequence[APIRouter] = (
    ingest.events,
    ingest.reads,
    profiles.routes,
    scores.hot,
    scores.routes,
    recommendations.routes,
    features.routes,
    segments.routes,
    surveys.routes,
    experiments.routes,
    models.routes,
    health.routes,
)


def build(services: Services, keyring: Keyring, answers: AnswerStore, *, version: str) -> FastAPI:
    """The API. Its state is what endpoints are given; `state.ready` is what /health/ready says; until then connections end."""
    app = FastAPI(title="Rapport", version=version, openapi_url=None, redirect_slashes=False)
    app.state.services = services
    app.state.keyring = keyring
    app.state.answers = answers
    app.state.submissions = Submissions(services)
    app.state.scores = Scores(services)
    app.state.ready = False
    problems.add_handlers(app, _guarded_routes())
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(console.router())
    app.state.document = msgspec.json.encode(document_of(app, _guarded_routes(), bodies=[scores.ScoreQuestion]))
    return app


def at_the_door(app: FastAPI) -> Guard:
    """What uvicorn serves: request ids, metrics and the log line outermost, then the front, then the API."""
    hot = [route for route in _guarded_routes() if isinstance(route, HotRoute)]
    events = [route.path for route in ingest.events.routes if isinstance(route, HotRoute)]
    return Guard(Front(app, hot, open_to_browsers=events), service="gateway", is_leaving=lambda: not app.state.ready)


def _guarded_routes() -> list[GuardedRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, GuardedRoute)]
