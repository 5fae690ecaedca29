"""The OpenAPI document: what FastAPI knows, with the keys, the refusals and the bodies that it does not see."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from services.gateway.api import bound
from services.gateway.api.admission import IDEMPOTENCY_HEADER, GuardedRoute
from services.gateway.api.consents import Channel
from services.gateway.api.events import BODIES
from services.gateway.api.problems import Problem
from services.gateway.domain import SCOPES_OF, Scope, roles_with

_REF: Final = "#/components/schemas/{model}"
_ABOUT: Final = """
Customers' events come in; profiles, segments, scores, recommendations and feedback come out.

Send a key with every request: as user name of HTTP Basic without a password, or as Bearer token. A write key may only
send events; a private key has the scopes that it was made with. People send a token of the identity provider as Bearer token;
their roles say what they may. A page that cannot set a header may send events with
`writeKey` in their body. A refusal is `application/problem+json` with a `code`
out of a closed list. Lists are paged: give `next` of one page to get the one after it.
"""
_SCHEMES: Final = {
    "basic": {"type": "http", "scheme": "basic", "description": "The key as user name, no password: Segment's way."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The key, or a person's token."},
}
_PEOPLE: Final = "A JWT of the identity provider, as Bearer token. Its roles have these scopes."
_MEANINGS: Final = {
    "400": "The request is wrong and stays wrong; `field` says where.",
    "401": "No key, or one that is unknown or revoked; or a token that is not good, and `detail` says why.",
    "403": "The key or the role lacks a scope, which `detail` names; the token names no tenant or role that is known; or the "
    "person does not allow the purpose.",
    "404": "There is no such thing, or it belongs to somebody else.",
    "409": "Right in itself, not in the present state; or the Idempotency-Key was used for another request.",
    "413": "The body is over 500 KB, decompressed.",
    "415": "The body's Content-Encoding is not known.",
    "429": "Too many requests, or too many waiting; Retry-After says when to come back.",
    "503": "Something behind the gateway does not answer; Retry-After says when to come back.",
}
_IDEMPOTENCY: Final = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "required": False,
    "description": "Chosen by the client. A repeat within 24 hours gets the first answer again, and does nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_PURPOSE: Final = [
    {
        "name": bound.PURPOSE,
        "in": "query",
        "required": False,
        "description": "What people are read for. Who does not allow it is not shown: CONSENT_DENIED, of each where there are "
        "several; lists leave them out and count them.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    },
    {
        "name": bound.CHANNEL,
        "in": "query",
        "required": False,
        "description": "Over which channel; any if absent. Only with a purpose.",
        "schema": {"type": "string", "enum": list(get_args(Channel))},
    },
]
_HEADERS: Final = {
    "RateLimit-Limit": {"description": "Requests a second for this key.", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "How many are left now.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until all are back.", "schema": {"type": "integer"}},
    "X-Request-Id": {"description": "Finds the request in the logs.", "schema": {"type": "string"}},
}


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """openapi_extra for an endpoint that reads its body itself."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return {"requestBody": {"required": required, "content": content}}


def in_path(name: str, kind: Any) -> dict[str, Any]:
    """openapi_extra for an endpoint that reads its path itself."""
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": TypeAdapter(kind).json_schema()}]}


def document_of(
    app: FastAPI, routes: Sequence[GuardedRoute], bodies: Iterable[type[BaseModel]] = (), issuer: str = ""
) -> dict[str, Any]:
    """The finished document. `bodies` are those that endpoints read for themselves; `issuer` is empty where only keys count."""
    schemes = {**_SCHEMES, **_people(issuer)} if issuer else _SCHEMES
    document = get_openapi(
        title=app.title, version=app.version, description=_ABOUT.strip(), routes=app.routes, tags=app.openapi_tags
    )
    by_id = {route.operation_id: route for route in routes}
    for operations in document["paths"].values():
        for operation in operations.values():
            _finish(operation, by_id[operation["operationId"]], schemes)
    _, added = models_json_schema([(model, "validation") for model in (Problem, *BODIES.values(), *bodies)], ref_template=_REF)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(added["$defs"])
    document["components"]["securitySchemes"] = schemes
    return document


def _people(issuer: str) -> dict[str, Any]:
    table = "".join(f"\n- `{role.value}`: {', '.join(sorted(scopes))}" for role, scopes in SCOPES_OF.items())
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return {"people": {"type": "openIdConnect", "openIdConnectUrl": url, "description": f"{_PEOPLE}\n{table}"}}


def _finish(operation: dict[str, Any], route: GuardedRoute, schemes: Mapping[str, Any]) -> None:
    need = route.need
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    operation["security"] = [{name: []} for name in schemes] if need.scope else []
    if need.scope:
        operation["description"] = f"{operation.get('description', '')}\n\n{_needed(need.scope)}".strip()
        responses[min(responses)]["headers"] = _HEADERS  # 200, or 202
    is_change = bool({"POST", "PUT", "PATCH", "DELETE"} & set(route.methods or ()))
    for status in _refusals(operation, need.scope, is_change=is_change):
        responses[status] = {
            "description": _MEANINGS[status],
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    if need.people:
        operation.setdefault("parameters", []).extend(_PURPOSE)
    if need.creates:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY)


def _needed(scope: Scope) -> str:
    return f"Scope: `{scope.value}`. Roles: {', '.join(roles_with(scope))}."


def _refusals(operation: dict[str, Any], scope: Scope | None, *, is_change: bool) -> list[str]:
    statuses = ["503"]
    if scope:
        statuses += ["400", "401", "403", "404", "429"]
    if "requestBody" in operation:
        statuses += ["413", "415"]
    return sorted([*statuses, "409"] if is_change else statuses)
