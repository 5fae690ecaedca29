"""No service keeps rows of people that an export does not show and an erasure does not delete."""

from typing import Any, cast

import asyncpg
import pytest

from infra.postgres import Temporary
from infra.roles import OWNER
from services.evaluation.subjects import OF_PEOPLE as EVALUATION
from services.feedback.subjects import tables_of_people
from services.profiles.store.erasures import NOT_OF_PEOPLE
from services.profiles.store.erasures import TABLES as PROFILES
from services.recommendation.subjects import OF_PEOPLE as RECOMMENDATION
from services.scoring.subjects import OF_PEOPLE as SCORING
from services.segmentation.subjects import OF_PEOPLE as SEGMENTATION

NAMED = (*PROFILES, *SEGMENTATION, *SCORING, *RECOMMENDATION, *tables_of_people(cast(Any, None)), *EVALUATION)
COLUMNS = """
SELECT table_schema || '.' || table_name AS name, column_name FROM information_schema.columns
WHERE table_schema IN ('profiles', 'segmentation', 'scoring', 'recommendation', 'feedback', 'evaluation')
    AND udt_name IN ('uuid', '_uuid') AND column_name ~ '(node|profile|person|into)'
"""


@pytest.fixture
async def columns(platform_database: Temporary) -> dict[str, set[str]]:
    connection = await asyncpg.connect(platform_database.dsn(OWNER))
    found: dict[str, set[str]] = {}
    for row in await connection.fetch(COLUMNS):
        found.setdefault(row["name"], set()).add(row["column_name"])
    await connection.close()
    return found


async def test_every_table_with_a_persons_id_is_named(columns: dict[str, set[str]]) -> None:
    named = {table.name for table in NAMED}
    assert columns.keys() - named == NOT_OF_PEOPLE
    assert named <= columns.keys()


async def test_every_column_that_can_hold_one_is_asked(columns: dict[str, set[str]]) -> None:
    forgotten = {table.name: columns[table.name] - set(table.columns) for table in NAMED}
    # A row that names the person it is of may also name the identifier it came by, or whom that became.
    others = {name: left - {"node_id"} for name, left in forgotten.items() if left}
    assert {name: left for name, left in others.items() if left} == {"profiles.nodes": {"profile_id"}}
    assert all({"profile_id", "profile_a"} & set(table.columns) for table in NAMED if "node_id" in forgotten[table.name])
