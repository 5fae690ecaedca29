"""What endpoints are given costs no thread."""

from collections.abc import Iterator
from inspect import iscoroutinefunction

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.gateway import api


def given(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from given(each)


def test_fastapi_asks_no_other_thread_for_what_an_endpoint_is_given_nor_for_its_answer() -> None:
    routes = [route for router in api.ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    asked = [(route.path, each.call) for route in routes for each in (route.dependant, *given(route.dependant))]
    assert len(asked) > 200
    assert [(path, call) for path, call in asked if not iscoroutinefunction(call)] == []
