"""From the release before to this one and back, with a migration between, under traffic: no request fails."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import PORT, PREVIOUS_TAG, RATE, Installed
from tests.cluster.counting import lost_and_doubled
from tests.cluster.kube import SERVICES
from tests.cluster.loader import Keys, Load, why

pytestmark = pytest.mark.skipif(not PREVIOUS_TAG, reason="RAPPORT_PREVIOUS_TAG names no release to upgrade from")
TENANT = "early"
COUNT = """
import asyncio, asyncpg, os
async def look():
    connection = await asyncpg.connect(os.environ["RAPPORT_SCORING_DATABASE_URL"])
    print(await connection.fetchval("SELECT max(attnum) FROM pg_attribute WHERE attrelid = 'scoring.scores'::regclass"))
asyncio.run(look())
"""


# Row-level security of these waits until the release before is gone for good.
LATER = ["log.events", "profiles.timeline"]
GUARDED = f"""
import asyncio, asyncpg, os
async def look():
    connection = await asyncpg.connect(os.environ["RAPPORT_PROFILES_DATABASE_URL"])
    guarded = "SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity AND oid = ANY($1::text[]::regclass[]) ORDER BY 1"
    print(*[row[0] for row in await connection.fetch(guarded, {LATER})])
asyncio.run(look())
"""


@pytest.fixture(scope="module")
def early(installed: Installed) -> Keys:
    """A tenant of the release before."""
    installed.kube.python("deployment/gateway", "-m", "services.gateway.administer", "create-tenant", TENANT)
    return installed.keys(TENANT)


@pytest.fixture(scope="module")
def traffic(early: Keys) -> Iterator[Load]:
    """Events and reads; there is no model yet."""
    with Load("127.0.0.1", PORT, early, [], rate=RATE, name="early") as load:
        time.sleep(5)
        yield load
    print(f"\n{load.table()}")


def columns(installed: Installed) -> str:
    """How many scoring.scores has."""
    return installed.kube.python("deployment/scoring", "-c", COUNT).strip()


def guarded(installed: Installed) -> list[str]:
    """Those of LATER whose rows have a policy that binds."""
    return installed.kube.python("deployment/profiles", "-c", GUARDED).split()


@pytest.mark.timeout(900)
def test_an_upgrade_with_a_migration_and_its_rollback_fail_no_request(installed: Installed, traffic: Load) -> None:
    kube = installed.kube
    before = columns(installed)
    with traffic.phase("upgrade"):
        installed.upgrade()
        kube.rolled_out(*SERVICES)
    assert columns(installed) != before, "there was no migration between"
    with traffic.phase("rollback"):
        kube.helm("rollback", "rapport", "--wait", "--timeout", "6m")
        kube.rolled_out(*SERVICES)
    with traffic.phase("upgrade again"):
        installed.upgrade()
        kube.rolled_out(*SERVICES)
    assert guarded(installed) == [], "the release before could not have written them"
    with traffic.phase("contract"):
        installed.upgrade("--set", "migration.contract=true")
        kube.rolled_out(*SERVICES)
    assert guarded(installed) == LATER
    calls = traffic.of("upgrade", "rollback", "upgrade again", "contract")
    print(f"\n{traffic.table()}")
    assert len(calls) > 300
    assert not any(call.failed for call in calls), why(calls)


@pytest.mark.timeout(300)
def test_no_event_of_that_time_is_lost_or_doubled(installed: Installed, early: Keys, traffic: Load) -> None:
    traffic.__exit__()
    with installed.client(early.private) as client:
        accepted, lost, doubled = lost_and_doubled(client, traffic)
    print(f"\n{accepted:,} events accepted, {lost} lost, {doubled} doubled")
    assert (lost, doubled) == (0, 0)
