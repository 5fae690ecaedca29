"""The OpenAPI document says what the API does."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis

from services.gateway import api, clients
from services.gateway.audit import AuditStore
from services.gateway.domain import Scope
from services.gateway.keyring import Keyring
from services.gateway.store import AnswerStore

ALWAYS = {"400", "401", "403", "429", "503"}


class Nowhere:
    """A channel whose calls nobody takes."""

    def unary_unary(self, *_: Any, **__: Any) -> None: ...


def build() -> Any:
    async def nobody(_: str) -> None: ...

    services = clients.connect(lambda *_: Nowhere(), dict.fromkeys(clients.CONTRACTS, ""))
    return api.build(services, Keyring(nobody, rate_per_s=1), AnswerStore(None), AuditStore(None), version="1")  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(build().state.document)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_every_operation_has_a_name_of_its_own_and_words_about_it(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) == 114
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", name) for name in names)
    assert all(operation["description"] and operation["summary"] for _, _, operation in operations(document))


def test_every_refusal_is_a_problem(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        responses = operation["responses"]
        assert "422" not in responses
        if path.startswith("/v1/"):
            assert responses.keys() >= ALWAYS
            assert operation["security"] == [{"basic": []}, {"bearer": []}]
            for status in responses.keys() - {"200", "202"}:
                assert list(responses[status]["content"]) == ["application/problem+json"]


def test_every_operation_names_the_scope_that_it_needs(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if path.startswith("/v1/"):
            named = re.search(r"Scope: `(\w+)`\. Roles: [\w, ]+\.$", operation["description"])
            assert named, path
            assert named[1] in set(Scope)


def test_every_answer_has_a_shape(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if path != "/health/ready":
            schema = operation["responses"][min(operation["responses"])]["content"]["application/json"]["schema"]
            assert list(references(schema)), path


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {ref.rsplit("/", 1)[1] for ref in references(document)} <= schemas.keys()
    assert not {"HTTPValidationError", "ValidationError"} & schemas.keys()


def test_every_body_has_its_limits(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status in ("413", "415"):
            assert ("requestBody" in operation) == (status in operation["responses"]), path


def test_what_makes_something_may_be_repeated_under_a_key(document: dict[str, Any]) -> None:
    repeatable = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", []))
    }
    assert repeatable == {
        "CreateSegment",
        "CreateSurvey",
        "SubmitAnswer",
        "CreateExperiment",
        "CreateTrait",
        "EvaluateModel",
        "PromoteModel",
        "RollbackModel",
    }


def test_others_can_read_the_document(document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    results: list[Any] = list(schema.get_all_operations())
    assert len([result.ok() for result in results]) == 114


def test_a_route_that_says_nothing_of_its_needs_cannot_be_added() -> None:
    from services.gateway.api.admission import router

    async def careless() -> None: ...

    with pytest.raises(KeyError, match="need"):
        router("Careless").add_api_route("/careless", careless)
