"""Assembles the process: `python -m services.profiles.main`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import Gauge
from rapport.profiles.v1 import (
    catalogue_pb2,
    consents_pb2,
    identities_pb2,
    imports_pb2,
    matching_pb2,
    plans_pb2,
    privacy_pb2,
    profiles_pb2,
    receipts_pb2,
    retention_pb2,
)
from rapport.profiles.v1.catalogue_pb2_grpc import add_CatalogueServicer_to_server
from rapport.profiles.v1.consents_pb2_grpc import add_ConsentsServicer_to_server
from rapport.profiles.v1.identities_pb2_grpc import add_IdentitiesServicer_to_server
from rapport.profiles.v1.imports_pb2_grpc import add_ImportJobsServicer_to_server
from rapport.profiles.v1.matching_pb2_grpc import add_MatchingServicer_to_server
from rapport.profiles.v1.plans_pb2_grpc import add_PlansServicer_to_server
from rapport.profiles.v1.privacy_pb2_grpc import add_PrivacyServicer_to_server
from rapport.profiles.v1.profiles_pb2_grpc import add_ProfilesServicer_to_server
from rapport.profiles.v1.receipts_pb2_grpc import add_ReceiptBookServicer_to_server
from rapport.profiles.v1.retention_pb2_grpc import add_RetentionServicer_to_server

from chassis.db import Database, connect
from chassis.errors import CannotStart, Unavailable
from chassis.log import Cursor, Reader
from chassis.process import Host, run
from chassis.settings import read
from ml.features.compile import SESSION
from services.profiles.archive import Archive
from services.profiles.aside import Aside
from services.profiles.consents import Consents
from services.profiles.disclose import Disclosures
from services.profiles.erase import Erasures
from services.profiles.features import Features
from services.profiles.identities import Identities
from services.profiles.imports.manage import WORKERS, Jobs
from services.profiles.imports.receive import Imports
from services.profiles.imports.spool import Spool
from services.profiles.infer import Inference
from services.profiles.ingest import Ingest
from services.profiles.lookup import Lookup
from services.profiles.matching import Matching, MatchJobs
from services.profiles.people import People
from services.profiles.plans import Plans
from services.profiles.portrait import Portraits
from services.profiles.precedence import Precedence
from services.profiles.project import Projector
from services.profiles.quarantine import WAITING, Quarantine
from services.profiles.receipts import Receipts
from services.profiles.retain import forget
from services.profiles.rpc import Parts, ProfilesRpc
from services.profiles.rpc.catalogue import CatalogueRpc
from services.profiles.rpc.consents import ConsentsRpc
from services.profiles.rpc.identities import IdentitiesRpc
from services.profiles.rpc.imports import ImportJobsRpc
from services.profiles.rpc.matching import MatchingRpc
from services.profiles.rpc.plans import PlansRpc
from services.profiles.rpc.privacy import PrivacyRpc
from services.profiles.rpc.receipts import ReceiptBookRpc
from services.profiles.rpc.retention import RetentionRpc
from services.profiles.rules import IdentityRules
from services.profiles.settings import Settings
from services.profiles.spread import Spread
from services.profiles.store.accounts import AccountStore
from services.profiles.store.consents import ConsentStore
from services.profiles.store.erasures import ErasureStore
from services.profiles.store.events import EventStore
from services.profiles.store.freshness import FreshnessStore
from services.profiles.store.identities import IdentityStore
from services.profiles.store.imports import ImportStore
from services.profiles.store.issues import IssueStore
from services.profiles.store.log import LogStore
from services.profiles.store.matching import MatchStore
from services.profiles.store.plans import PlanStore
from services.profiles.store.portrait import PortraitStore
from services.profiles.store.profiles import ProfileStore
from services.profiles.store.projection import ProjectionStore
from services.profiles.store.quarantine import QuarantineStore
from services.profiles.store.receipts import ReceiptStore
from services.profiles.store.retention import RetentionStore
from services.profiles.store.tenants import TenantStore
from services.profiles.store.traits import TraitStore
from services.profiles.tenancy import Tenants
from services.profiles.traits import Traits
from services.profiles.vault import Vault, read_master_key

CONSUMER = "profiles"
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
    plans = Plans(PlanStore(database))
    return Parts(
        tenants=tenants,
        plans=plans,
        ingest=Ingest(log, people, tenants, precedence, plans),
        lookup=lookup,
        profiles=profiles,
        events=EventStore(database),
        features=features,
        portraits=Portraits(PortraitStore(database), lookup, features, people, tenants, plans),
        people=people,
        archive=archive,
        projector=Projector(ProjectionStore(database, cursor), tenants, precedence),
        precedence=precedence,
        freshness=FreshnessStore(database),
    )


def privacy(database: Database, assembled: Parts) -> tuple[Erasures, PrivacyRpc]:
    """Exports and erasures."""
    store = ErasureStore(database)
    erasures = Erasures(store, assembled.lookup, assembled.tenants, assembled.archive.redact)
    disclosures = Disclosures(database, assembled.lookup, assembled.people)
    return erasures, PrivacyRpc(assembled.tenants, disclosures, erasures, store)


def planning(database: Database, assembled: Parts) -> tuple[ReceiptBookRpc, PlansRpc]:
    """Receipts, tracking plans and the quarantine."""
    tenants, plans, people = assembled.tenants, assembled.plans, assembled.people
    quarantine = Quarantine(QuarantineStore(database), LogStore(database), people, plans)
    inference = Inference(PlanStore(database), people, plans)
    return ReceiptBookRpc(tenants, Receipts(ReceiptStore(database))), PlansRpc(tenants, plans, inference, quarantine)


def parts_of(settings: Settings, database: Database) -> Parts:
    """`parts` as the settings have it; also for the processes that this one starts."""
    return parts(database, Vault(read_master_key(Path(settings.master_key_file))), Archive(environment_of(settings)))


def imports(settings: Settings, database: Database, assembled: Parts, reader: Reader) -> tuple[Jobs, ImportJobsRpc]:
    """Import jobs."""
    store, spool = ImportStore(database), Spool(Path(settings.import_folder))
    changed = {"database_connections": 3}
    known = {name: value for name, value in (settings.model_dump() | changed).items() if value is not None}
    environment = {f"RAPPORT_PROFILES_{name.upper()}": str(value) for name, value in known.items()}
    jobs = Jobs(store, spool, environment, assembled.precedence, reader.lag)
    return jobs, ImportJobsRpc(assembled.tenants, Imports(store, spool, settings.import_max_bytes), jobs)


def deciding(database: Database, assembled: Parts) -> Matching:
    """Decisions on who is the same person."""
    tenants, profiles, ingest, people = assembled.tenants, assembled.profiles, assembled.ingest, assembled.people
    words = Identities(tenants, profiles, IdentityStore(database), IssueStore(database), ingest, people)
    return Matching(MatchStore(database), words)


def matching(settings: Settings, database: Database, assembled: Parts) -> tuple[MatchJobs, MatchingRpc]:
    """Match runs and their suggestions."""
    store = MatchStore(database)
    changed = {"database_connections": 3}
    known = {name: value for name, value in (settings.model_dump() | changed).items() if value is not None}
    environment = {f"RAPPORT_PROFILES_{name.upper()}": str(value) for name, value in known.items()}
    jobs = MatchJobs(store, environment)
    return jobs, MatchingRpc(assembled.tenants, deciding(database, assembled), store, jobs)


def ledger(database: Database, assembled: Parts) -> Consents:
    """What people allowed."""
    return Consents(ConsentStore(database), assembled.lookup, assembled.ingest, assembled.tenants)


def consents(database: Database, assembled: Parts) -> ConsentsRpc:
    """The same over gRPC."""
    return ConsentsRpc(assembled.tenants, assembled.lookup, ledger(database, assembled))


def definitions(database: Database, assembled: Parts) -> CatalogueRpc:
    """Feature sets and traits."""
    aside = Aside()
    consents, plans = ledger(database, assembled), assembled.plans
    traits = Traits(TraitStore(database), aside, assembled.lookup, assembled.tenants, consents, plans)
    return CatalogueRpc(assembled.tenants, assembled.features, traits, Spread(assembled.features, aside))


def identities(database: Database, assembled: Parts) -> tuple[IdentityRules, IdentitiesRpc]:
    """Who is who, and a tenant's rules of it."""
    tenants, profiles = assembled.tenants, assembled.profiles
    store, issues = IdentityStore(database), IssueStore(database)
    rules = IdentityRules(store, tenants)
    words = Identities(tenants, profiles, store, issues, assembled.ingest, assembled.people)
    return rules, IdentitiesRpc(tenants, words, rules, profiles, store, issues, AccountStore(database))


async def assemble(settings: Settings, host: Host) -> None:
    """Server and background tasks."""
    database = await host.enter(opened(settings))
    await refuse_forgetful(TenantStore(database))
    assembled = parts_of(settings, database)
    await assembled.tenants.check_master_key()
    host.server.add(add_ProfilesServicer_to_server, ProfilesRpc(assembled), profiles_pb2.DESCRIPTOR)
    host.server.add(add_CatalogueServicer_to_server, definitions(database, assembled), catalogue_pb2.DESCRIPTOR)
    host.server.add(add_ConsentsServicer_to_server, consents(database, assembled), consents_pb2.DESCRIPTOR)
    receipt_book, plans = planning(database, assembled)
    host.server.add(add_ReceiptBookServicer_to_server, receipt_book, receipts_pb2.DESCRIPTOR)
    host.server.add(add_PlansServicer_to_server, plans, plans_pb2.DESCRIPTOR)
    erasures, servicer = privacy(database, assembled)
    host.server.add(add_PrivacyServicer_to_server, servicer, privacy_pb2.DESCRIPTOR)
    host.background("keys", erasures.watch)
    host.background("erasures", erasures.follow)
    kept = RetentionRpc(assembled.tenants, RetentionStore(database))
    host.server.add(add_RetentionServicer_to_server, kept, retention_pb2.DESCRIPTOR)
    rules, who = identities(database, assembled)
    host.server.add(add_IdentitiesServicer_to_server, who, identities_pb2.DESCRIPTOR)
    host.background("identity rules", rules.follow)
    reader = Reader(database, Cursor("profiles", CONSUMER))
    host.background("project", lambda: reader.follow(assembled.projector.handle))
    jobs, import_jobs = imports(settings, database, assembled, reader)
    host.server.add(add_ImportJobsServicer_to_server, import_jobs, imports_pb2.DESCRIPTOR)
    for number in range(WORKERS):
        host.background(f"import {number}", jobs.work)
    host.background("imports", jobs.tidy)
    match_jobs, match_runs = matching(settings, database, assembled)
    host.server.add(add_MatchingServicer_to_server, match_runs, matching_pb2.DESCRIPTOR)
    host.background("matching", match_jobs.work)
    host.background("freshness", lambda: assembled.projector.keep_freshness(assembled.freshness))
    CAPACITY.set(settings.database_capacity_bytes)
    host.background("size", lambda: measure(TenantStore(database), QuarantineStore(database)))
    host.background("maintenance", lambda: maintain(TenantStore(database), database))


@asynccontextmanager
async def opened(settings: Settings, *, everyone: bool = False) -> AsyncGenerator[Database]:
    """The pool; its sessions plan the feature query once and not for each call, and project into the live tables.

    `everyone` as in chassis.db.connect.
    """
    session = {**SESSION, "search_path": "profiles"}
    database = await connect(
        settings.database_url,
        connections=settings.database_connections,
        service="profiles",
        everyone=everyone,
        session=session,
    )
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
    """Raises CannotStart where a commit would not be on disk: a receipt would be a lie."""
    weak = {
        name for name, setting in (await store.durability()).items() if setting not in ("on", "remote_write", "remote_apply")
    }
    if weak:
        raise CannotStart(f"PostgreSQL may lose what it has acknowledged: {', '.join(sorted(weak))} must be on")


async def maintain(store: TenantStore, database: Database) -> None:
    """Runs for ever: partitions of the log for the months to come, and an end to what receipts no longer tell of."""
    while True:
        try:
            await store.ensure_partitions()
            await forget(database, at=datetime.now(UTC))
        except Unavailable:
            await asyncio.sleep(5)
            continue
        await asyncio.sleep(_MAINTENANCE_S)


async def measure(store: TenantStore, quarantine: QuarantineStore) -> None:
    """Runs for ever: how big the database is, and how much waits for somebody to decide."""
    while True:
        try:
            SIZE.set(await store.database_bytes())
            WAITING.set(await quarantine.waiting_count())
        except Unavailable:
            await asyncio.sleep(5)
            continue
        await asyncio.sleep(_MEASURE_S)


def main() -> None:
    """Entry point."""
    run("profiles", read(Settings), assemble)


if __name__ == "__main__":
    main()
