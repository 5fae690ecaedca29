"""Assembles the process: `python -m services.profiles.main`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

from prometheus_client import Gauge
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import add_ProfilesServicer_to_server

from chassis.db import Database, connect
from chassis.errors import Unavailable
from chassis.log import Cursor, Reader
from chassis.process import Host, run
from ml.features.compile import SESSION
from services.profiles.archive import Archive
from services.profiles.features import Features
from services.profiles.ingest import Ingest
from services.profiles.lookup import Lookup
from services.profiles.people import People
from services.profiles.portrait import Portraits
from services.profiles.precedence import Precedence
from services.profiles.project import Projector
from services.profiles.rpc import Parts, ProfilesRpc
from services.profiles.settings import Settings
from services.profiles.store.events import EventStore
from services.profiles.store.freshness import FreshnessStore
from services.profiles.store.log import LogStore
from services.profiles.store.portrait import PortraitStore
from services.profiles.store.profiles import ProfileStore
from services.profiles.store.projection import ProjectionStore
from services.profiles.store.tenants import TenantStore
from services.profiles.tenancy import Tenants
from services.profiles.vault import Vault, read_master_key

CONSUMER = "profiles"
KEPT_REJECTIONS = 10_000
_MAINTENANCE_S = 3_600
_MEASURE_S = 30

SIZE = Gauge("rapport_profiles_database_bytes", "Size of the database, without the write-ahead log.")
CAPACITY = Gauge("rapport_profiles_database_capacity_bytes", "Size of the volume under PostgreSQL; 0: not known.")


def parts(database: Database, vault: Vault, archive: Archive) -> Parts:
    """Everything that answers, put together."""
    cursor = Cursor("profiles", CONSUMER)
    log, profiles = LogStore(database), ProfileStore(database)
    tenants = Tenants(TenantStore(database), vault)
    people = People(log, profiles)
    lookup = Lookup(profiles)
    precedence = Precedence()
    features = Features(database)
    return Parts(
        tenants=tenants,
        ingest=Ingest(log, people, tenants, precedence),
        lookup=lookup,
        profiles=profiles,
        events=EventStore(database),
        features=features,
        portraits=Portraits(PortraitStore(database), profiles, lookup, features, people, tenants),
        people=people,
        archive=archive,
        projector=Projector(ProjectionStore(database, cursor), tenants, precedence),
        freshness=FreshnessStore(database),
    )


async def assemble(settings: Settings, host: Host) -> None:
    """Server and background tasks."""
    database = await host.enter(opened(settings))
    await refuse_forgetful(TenantStore(database))
    vault = Vault(read_master_key(Path(settings.master_key_file)))
    assembled = parts(database, vault, Archive(environment_of(settings)))
    await assembled.tenants.check_master_key()
    host.server.add(add_ProfilesServicer_to_server, ProfilesRpc(assembled), profiles_pb2.DESCRIPTOR)
    reader = Reader(database, Cursor("profiles", CONSUMER))
    host.background("project", lambda: reader.follow(assembled.projector.handle))
    host.background("freshness", lambda: assembled.projector.keep_freshness(assembled.freshness))
    CAPACITY.set(settings.database_capacity_bytes)
    host.background("size", lambda: measure(TenantStore(database)))
    host.background("maintenance", lambda: maintain(TenantStore(database), assembled.events))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Database]:
    """The pool; its sessions plan the feature query once and not for each call."""
    url = settings.database_url + ("&" if "?" in settings.database_url else "?") + urlencode(SESSION)
    database = await connect(url, connections=settings.database_connections, service="profiles")
    try:
        yield database
    finally:
        await database.close()


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings that an export needs, as it reads them."""
    return {
        "RAPPORT_PROFILES_DATABASE_URL": settings.database_url,
        "RAPPORT_PROFILES_ARCHIVE_FOLDER": settings.archive_folder,
    }


async def refuse_forgetful(store: TenantStore) -> None:
    """Raises RuntimeError where a commit would not be on disk: a receipt would be a lie."""
    weak = {
        name for name, setting in (await store.durability()).items() if setting not in ("on", "remote_write", "remote_apply")
    }
    if weak:
        raise RuntimeError(f"PostgreSQL may lose what it has acknowledged: {', '.join(sorted(weak))} must be on")


async def maintain(store: TenantStore, events: EventStore) -> None:
    """Runs for ever: partitions of the log for the months to come, and no more rejections than are worth keeping."""
    while True:
        try:
            await store.ensure_partitions()
            await events.prune_rejections(KEPT_REJECTIONS)
        except Unavailable:
            await asyncio.sleep(5)
            continue
        await asyncio.sleep(_MAINTENANCE_S)


async def measure(store: TenantStore) -> None:
    """Runs for ever: how big the database is."""
    while True:
        try:
            SIZE.set(await store.database_bytes())
        except Unavailable:
            await asyncio.sleep(5)
            continue
        await asyncio.sleep(_MEASURE_S)


def main() -> None:
    """Entry point."""
    run("profiles", Settings(), assemble)


if __name__ == "__main__":
    main()
