"""Who asks, and for whom."""

import asyncio

import pytest

from chassis import context
from chassis.errors import InvalidArgument, Reason


def test_a_call_without_a_tenant_is_refused() -> None:
    with context.use(tenant=""), pytest.raises(InvalidArgument) as refused:
        context.tenant()
    assert refused.value.reason is Reason.MISSING_TENANT


def test_a_call_may_be_changed_for_a_while() -> None:
    with context.use(tenant="shop", request_id="r1", actor="key"):
        with context.use(tenant="mill") as inner:
            assert inner == context.current()
            assert (context.tenant(), context.current().request_id, context.current().actor) == ("mill", "r1", "key")
        assert context.tenant() == "shop"


def test_a_failure_inside_leaves_the_outer_call_as_it_was() -> None:
    with context.use(tenant="shop"):
        with pytest.raises(ValueError, match="no"), context.use(tenant="mill"):
            raise ValueError("no")
        assert context.tenant() == "shop"


async def test_calls_that_run_side_by_side_do_not_see_each_other() -> None:
    async def call(name: str) -> str:
        context.enter(context.Call(tenant=name))
        await asyncio.sleep(0)
        return context.tenant()

    names = [f"t{n}" for n in range(20)]
    with context.use(tenant="outer"):
        assert await asyncio.gather(*(asyncio.create_task(call(name)) for name in names)) == names
        assert context.tenant() == "outer"


def test_request_ids_are_fresh() -> None:
    ids = {context.new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)
