"""The process: settings, assembly, HTTP until SIGTERM."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID, uuid4

import uvicorn
from fastapi import FastAPI
from pydantic import Field, model_validator

from chassis import telemetry
from chassis.errors import Unavailable
from chassis.listening import listening
from chassis.process import Host, carry_out, catch_signals, keep_what_stands, serve_metrics
from chassis.settings import ServiceSettings, prefix_of, read
from services.gateway import api, clients, erasing
from services.gateway.audit import AuditStore
from services.gateway.capacity import PATIENCE_S, Capacity
from services.gateway.keyring import Keyring
from services.gateway.people import People, SignIn
from services.gateway.provider import Provider, is_safe
from services.gateway.store import AnswerStore, KeyStore, ReplicaStore, SessionStore

ANSWERS_KEPT = timedelta(hours=24)
SWEEP_EVERY_S = 600.0
TELL_EVERY_S = 2.0
GONE_AFTER = timedelta(seconds=8)


class Settings(ServiceSettings):
    """`listen` is not used: the gateway speaks HTTP, on `host` and `port`."""

    model_config = prefix_of("gateway")

    host: str = Field("127.0.0.1", description="Address for HTTP.")
    port: int = Field(8080, ge=0, le=65535, description="Port for HTTP; 0 takes a free one.")
    profiles_target: str = Field("127.0.0.1:8081", description="gRPC address of profiles.")
    segmentation_target: str = Field("127.0.0.1:8082", description="gRPC address of segmentation.")
    scoring_target: str = Field("127.0.0.1:8083", description="gRPC address of scoring.")
    recommendation_target: str = Field("127.0.0.1:8084", description="gRPC address of recommendation.")
    feedback_target: str = Field("127.0.0.1:8085", description="gRPC address of feedback.")
    evaluation_target: str = Field("127.0.0.1:8086", description="gRPC address of evaluation.")
    rate_limit_per_s: float = Field(
        20_000.0, ge=1, description="Requests a second of a key that has no pace of its own, for all replicas together."
    )
    intake_patience_s: float = Field(
        PATIENCE_S,
        gt=0,
        le=10,
        description="Seconds that accepted events may wait for profiles; what would wait longer gets 429.",
    )
    allowed_origins: str = Field("*", description="Origins whose pages may send events, with commas between them; *: all.")

    oidc_issuer: str = Field(
        "", description="The identity provider's issuer, as https://login.example.com; empty: only keys sign in."
    )
    oidc_audience: str = Field(
        "", description="Our client id at the provider; tokens have to be for it. Needed with an issuer."
    )
    oidc_client_secret: str = Field("", repr=False, description="Of a confidential client; empty: a public one.")
    oidc_tenant_claim: str = Field("tenant", description="The token's claim that names the tenant; a path has dots.")
    oidc_roles_claim: str = Field(
        "roles", description="The token's claim that names the roles; a path has dots, as realm_access.roles."
    )
    public_url: str = Field(
        "", description="Where browsers find the console, as https://rapport.example.com. Needed with an issuer."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """An issuer needs who we are to it, and where it sends people back to; neither in the clear."""
        if self.oidc_issuer and not (self.oidc_audience and self.public_url):
            raise ValueError("oidc_issuer needs oidc_audience and public_url")
        for name in ("oidc_issuer", "public_url"):
            if (url := getattr(self, name)) and not is_safe(url):
                raise ValueError(f"{name} begins with https://; http:// is for this machine only")
        return self

    @property
    def targets(self) -> dict[str, str]:
        """gRPC addresses by service."""
        return {name: getattr(self, f"{name}_target") for name in clients.CONTRACTS}


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the chassis has that."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def assemble(settings: Settings, host: Host) -> FastAPI:
    """The API with all that it stands on."""
    database = await host.database()
    services = clients.connect(host.channel, settings.targets)
    answers = AnswerStore(database)

    sessions = SessionStore(database)

    async def sweep() -> None:
        while True:
            await answers.sweep(at=datetime.now(UTC), keep=ANSWERS_KEPT)
            await sessions.sweep(at=datetime.now(UTC))
            await asyncio.sleep(SWEEP_EVERY_S)

    host.background("sweep", sweep)
    host.background("erasing", lambda: erasing.follow(services))
    keys = KeyStore(database)
    sign_in = await people_of(settings, host, keys, sessions)
    people = sign_in.people if sign_in else None
    keyring = Keyring(keys.find, rate_per_s=settings.rate_limit_per_s, mark_used=keys.mark_used, people=people)
    replica_id, replicas = uuid4(), ReplicaStore(database)
    keyring.replicas = await replicas.tell(replica_id, gone_after=GONE_AFTER)
    host.background("replicas", lambda: count_replicas(replicas, replica_id, keyring))
    capacity = Capacity(patience_s=settings.intake_patience_s)
    origins = frozenset(origin.strip().rstrip("/") for origin in settings.allowed_origins.split(",") if origin.strip())
    audit = AuditStore(database)
    app = api.build(
        services, keyring, answers, audit, version=settings.version, capacity=capacity, origins=origins, sign_in=sign_in
    )
    app.state.public_url = settings.public_url
    return app


async def people_of(settings: Settings, host: Host, keys: KeyStore, sessions: SessionStore) -> SignIn | None:
    """None where no issuer is set."""
    if not settings.oidc_issuer:
        return None
    provider = Provider(settings.oidc_issuer, settings.oidc_audience, client_secret=settings.oidc_client_secret)
    await host.enter(contextlib.aclosing(provider))
    people = People(provider, keys.has_tenant, tenant_claim=settings.oidc_tenant_claim, roles_claim=settings.oidc_roles_claim)
    return SignIn(provider, people, sessions, settings.public_url.rstrip("/"))


async def count_replicas(store: ReplicaStore, replica_id: UUID, keyring: Keyring) -> None:
    """Runs for ever: each process gives a key its share of the key's pace, so that all give the whole of it."""
    try:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            with contextlib.suppress(Unavailable):
                keyring.replicas = await store.tell(replica_id, gone_after=GONE_AFTER)
    finally:
        with contextlib.suppress(Unavailable):
            await asyncio.shield(store.leave(replica_id))


@contextlib.asynccontextmanager
async def serving(app: FastAPI, settings: Settings) -> AsyncGenerator[int]:
    """Answers HTTP while inside; gives the port. At the end lets requests in flight finish. Raises CannotStart."""
    with listening(f"{settings.host}:{settings.port}", "HTTP"):
        listener = socket.create_server((settings.host, settings.port), backlog=2048)
    config = uvicorn.Config(
        api.at_the_door(app),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    host = Host("gateway", settings)
    catch_signals(host.stopping)
    serve_metrics("gateway", settings)
    try:
        app = await assemble(settings, host)
        async with serving(app, settings) as port:
            keep_what_stands()
            app.state.ready = True
            telemetry.logger().info("ready", port=port, version=settings.version)
            await host.stopping.wait()
            app.state.ready = False
            await asyncio.sleep(settings.unready_s)
    finally:
        await host.close()


def main() -> None:
    """Entry point."""
    settings = read(Settings)
    carry_out("gateway", settings, serve(settings))


if __name__ == "__main__":
    main()
