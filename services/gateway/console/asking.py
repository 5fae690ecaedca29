"""A page is made of blocks, each asked of one service. A block that could not be had says so; the others stay."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chassis.errors import Error
from services.gateway.console.door import sentence_of
from services.gateway.console.pages import Visit

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Block(Generic[Value]):
    """What a service answered, or the sentence that says why there is nothing. Never both."""

    value: Value | None = None
    trouble: str = ""


async def ask(visit: Visit, question: Awaitable[Value]) -> Block[Value]:
    """One block. A None for an answer is a value: nothing is known, and nothing went wrong."""
    try:
        return Block(await question)
    except Error as error:
        return Block(trouble=sentence_of(visit, error))


async def ask_all(visit: Visit, **questions: Awaitable[Any]) -> dict[str, Block[Any]]:
    """All blocks of a page, at once."""
    blocks = await asyncio.gather(*(ask(visit, question) for question in questions.values()))
    return dict(zip(questions, blocks, strict=True))
