"""Every operation of the published OpenAPI document, called as schemathesis makes calls up from it, with a key that may all."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi import checks as _  # noqa: F401
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.running import Running
from tests.e2e.shop import ACCOUNT, HELD_MESSAGE, ITEM, OpenShop

EXAMPLES = 14  # of each kind, for each operation
# After it nothing else could be asked of the document's example; test_privacy.py calls it.
LAST_CALLS = {"POST /v1/profiles/{ref}:erase"}
# What they need is there once and another call has used it, or is a file, or nobody has made it, or another call has given the
# segment a purpose that nobody granted: tests of their own see them succeed.
ONCE = {
    "POST /v1/import-jobs",
    "GET /v1/quarantine/{quarantineId}",
    "POST /v1/quarantine/{quarantineId}:discard",
    "POST /v1/quarantine/{quarantineId}:edit",
    "POST /v1/quarantine/{quarantineId}:replay",
    "POST /v1/match-suggestions/{matchSuggestionId}:accept",
    "POST /v1/match-suggestions/{matchSuggestionId}:reject",
    "POST /v1/profiles/{ref}:unmerge",
    "GET /v1/segments/{key}/members/{ref}",
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass(slots=True)
class Answers:
    """By operation: how often each status was answered. `complaints`: what was wrong with an answer, one of each kind."""

    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    complaints: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def answers(platform: Running, shop: OpenShop) -> Answers:
    """Of all operations of the document."""
    schema = schemathesis.openapi.from_url(f"{platform.url}/openapi.json")
    found = Answers()
    named = {
        "caseId": shop.case_id, "itemId": ITEM, "account": f"group_id:{ACCOUNT}", "erasureId": shop.erasure_id,
        "importJobId": shop.import_job_id, "matchRunId": shop.match_run_id, "messageId": HELD_MESSAGE, "version": "1",
        "quarantineId": shop.quarantine_id,
    }  # fmt: skip
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {shop.key}"

        def ask(case: Case) -> None:
            answer = case.call(base_url=platform.url, session=session, timeout=60)
            found.statuses[case.operation.label][answer.status_code] += 1
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as failures:
                for failure in failures.exceptions:
                    found.complaints.setdefault(f"{case.operation.label}: {failure.title}", str(failures))

        for operation in operations(schema):
            for strategy, count in cases_of(operation, named):
                call_with(strategy, count, ask)
    return found


def operations(schema: Any) -> Iterator[APIOperation]:
    for result in schema.get_all_operations():
        if (operation := result.ok()).label not in LAST_CALLS:
            yield operation


def cases_of(operation: APIOperation, named: dict[str, str]) -> Iterator[tuple[SearchStrategy[Case], int]]:
    """From the document's own examples, which name things that the shop has; then made up, right ones and wrong ones."""
    path = {name: value for name, value in named.items() if operation.path_parameters.get(name)}
    examples = operation.get_strategies_from_examples(path_parameters=path)
    yield from ((strategy, 1) for strategy in examples)
    is_fixed = not (list(operation.iter_parameters()) or operation.body)
    yield operation.as_strategy(path_parameters=path), 1 if is_fixed else EXAMPLES
    if not is_fixed:
        yield operation.as_strategy(GenerationMode.NEGATIVE), EXAMPLES


def call_with(strategy: SearchStrategy[Case], count: int, ask: Callable[[Case], None]) -> None:
    """The same cases in every run."""

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        suppress_health_check=cast(Any, list(HealthCheck)),
    )
    @given(case=strategy)
    def run(case: Case) -> None:
        ask(case)

    run()


@pytest.mark.timeout(600)
def test_no_operation_ever_answers_with_a_fault_of_ours(answers: Answers) -> None:
    asked = sum(counts.total() for counts in answers.statuses.values())
    statuses = sum(answers.statuses.values(), Counter[int]())
    print(f"{len(answers.statuses)} operations, {asked} calls: {dict(sorted(statuses.items()))}")
    faults = {label: dict(counts) for label, counts in answers.statuses.items() if any(status >= 500 for status in counts)}
    assert faults == {}


def test_every_operation_has_answered_with_success(answers: Answers) -> None:
    never = {
        label: dict(counts) for label, counts in answers.statuses.items() if not any(200 <= status < 300 for status in counts)
    }
    assert never.keys() <= ONCE, never


def test_every_answer_is_as_the_document_says(answers: Answers) -> None:
    assert answers.complaints == {}
