"""The whole platform on one machine, as one asynchronous context: everything is up inside, nothing is left outside."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from chassis.settings import ServiceSettings
from infra import mlflow, prometheus, topology
from infra.children import Child, Program, proportional_set_size
from infra.cluster import FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, Cluster
from infra.failure import Refusal
from infra.migrations import bring_up_to_date
from infra.placement import settle
from infra.ports import HOST, refuse_taken
from infra.readiness import grpc_serving, http_ok, postgres_ready
from infra.roles import DATABASE, OWNER, ROLES, SERVICES, create_roles, grant, role_of
from infra.state import State
from infra.topology import CANDIDATE, GATEWAY, STAGES, Ports, Surroundings

# How often `says` is called on the way up, for a progress bar.
START_STEPS = 5 + len(STAGES)
VERSION: str = ServiceSettings.model_fields["version"].default

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """For callers who don't want to hear."""


class Platform:
    """`async with Platform(state, 8080) as platform:`, in the main thread, with a state folder that the caller has opened.

    Raises Refusal. `says` hears what is being done, `notices` what a person should know (each is also in logs/supervisor.log).
    """

    def __init__(self, state: State, base_port: int, *, says: Say = _silent, notices: Say = _silent) -> None:
        self.state = state
        self.ports = Ports(base_port)
        self.missing: dict[str, str] = {}
        self._says = says
        self._on_notice = notices
        self._children: dict[str, Child] = {}
        self._beside: list[asyncio.Task[None]] = []
        self._cluster: Cluster | None = None

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.ports.base}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def prometheus_url(self) -> str | None:
        """None where the platform runs without; `missing["prometheus"]` says why."""
        return None if "prometheus" in self.missing else f"http://{HOST}:{self.ports.prometheus}"

    @property
    def admin_dsn(self) -> str:
        """The database's superuser, in the database `rapport`."""
        return self._the_cluster.dsn("postgres", self.state.secret("postgres"), database=DATABASE)

    def dsn(self, role: str) -> str:
        """`rapport_owner`, or `rapport_<service>`."""
        return self._the_cluster.dsn(role, self.state.secret(role), database=DATABASE)

    def target(self, service: str) -> str:
        """The gRPC target of a service."""
        return self.ports.target(service)

    def pid(self, name: str) -> int | None:
        """Of `postgres`, `mlflow`, `prometheus` or a service; None while it is down."""
        return self._children[name].pid if name in self._children else None

    def deaths(self, name: str) -> int:
        return self._children[name].deaths

    def memory(self) -> dict[str, int]:
        """Proportional set size in bytes, by process; this one is `supervisor`."""
        sizes = {name: child.memory() for name, child in self._children.items()}
        return {**sizes, "supervisor": proportional_set_size(os.getpid()) - sum(sizes.values())}

    def candidate_settings(self) -> dict[str, str]:
        """Of a second scoring process; it is to be given another version than the one that is named as the baseline's."""
        settings = topology.environment(CANDIDATE, self._surroundings())
        return {**settings, "RAPPORT_SCORING_BASELINE_VERSION": VERSION}

    async def start_process(self, name: str, environment: Mapping[str, str]) -> None:
        """Starts a candidate of the table, with settings of its own; returns when it is ready."""
        if not topology.BY_NAME[name].is_candidate:
            raise ValueError(f"{name} is no candidate: the platform runs it by itself")
        await self._run(self._service(name, environment))

    async def stop_process(self, name: str) -> None:
        """Ends a candidate, gracefully; nothing where it was not started."""
        if child := self._children.pop(name, None):
            await child.stop()

    def kill(self) -> None:
        """Ends everything at once, for those who can't wait. PostgreSQL recovers at its next start."""
        for child in self._children.values():
            child.kill()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        refuse_taken(self.ports.all())
        # MLflow takes longest and needs nothing; it yields to the others by its niceness.
        tracking = self._beside_us(self._run(self._mlflow()))
        metrics = self._beside_us(self._start_prometheus())
        await self._start_database()
        self._says("Waiting for Prometheus")
        await metrics
        for stage in STAGES:
            self._says(f"Starting {', '.join(stage)}")
            await asyncio.gather(*(self._run(self._service(name, {})) for name in stage))
        self._says("Waiting for MLflow")
        await tracking

    async def _stop(self) -> None:
        """In reverse order of readiness, PostgreSQL last. A candidate goes with the first."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        ordered = ("postgres", "mlflow", "prometheus", *(name for stage in STAGES for name in stage))
        first = tuple(name for name in self._children if name not in ordered)
        for stage in (first, *reversed(STAGES), ("mlflow", "prometheus"), ("postgres",)):
            children = [self._children[name] for name in stage if name in self._children]
            await asyncio.gather(*(child.stop() for child in children), return_exceptions=True)
        self._children.clear()

    def _beside_us(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.append(task)
        return task

    async def _run(self, program: Program) -> None:
        self._children[program.name] = child = Child(program, self._notice)
        await child.start()

    def _notice(self, sentence: str) -> None:
        with (self.state.logs / "supervisor.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {sentence}\n")
        self._on_notice(sentence)

    async def _start_database(self) -> None:
        self._says("Preparing PostgreSQL")
        place = await asyncio.to_thread(settle, self.state, self._notice)
        cluster = Cluster(place.home, place.binaries, place.account, self.ports.postgres, self.state.secret("postgres"))
        self._cluster = cluster
        await asyncio.to_thread(cluster.initialise)
        self._says("Starting PostgreSQL")
        await self._run(self._postgres(cluster))
        try:
            await create_roles(cluster.admin_dsn, {role: self.state.secret(role) for role in ROLES})
        except asyncpg.InvalidPasswordError:
            raise Refusal(f"The database in {place.home} has another password than {self.state.secrets} holds.") from None
        await grant(self.dsn(OWNER))
        self._says("Migrating the database")
        log = self._log("migrate")
        await bring_up_to_date(self.admin_dsn, self.dsn(OWNER), log=log, environment=_python_environment())

    async def _start_prometheus(self) -> None:
        try:
            cache = prometheus.cache_folder()
            found = prometheus.find(cache) or await prometheus.fetch(cache)
        except (prometheus.Missing, OSError) as error:
            self.missing["prometheus"] = str(error)
            self._notice(f"The platform runs without metrics: {error}")
            return
        folder = self.state.prometheus
        prometheus.write_configuration(folder, self.ports)
        command = prometheus.command(found, folder, self.ports.prometheus)
        ready = http_ok(f"http://{HOST}:{self.ports.prometheus}/-/ready")
        environment = {**os.environ, **prometheus.ENVIRONMENT}
        await self._run(Program("prometheus", command, self._log("prometheus"), ready, environment))

    def _postgres(self, cluster: Cluster) -> Program:
        return Program(
            "postgres",
            cluster.command,
            self._log("postgres"),
            postgres_ready(cluster),
            environment=cluster.environment,
            account=cluster.account,
            stop_signal=FAST_SHUTDOWN,
            death_signal=FAST_SHUTDOWN,
            kill_signal=IMMEDIATE_SHUTDOWN,
            grace_s=60,
        )

    def _mlflow(self) -> Program:
        environment = {**_python_environment(), **mlflow.environment(self.state.mlflow)}
        ready = http_ok(f"{self.mlflow_url}/health")
        command = mlflow.command(self.ports.mlflow)
        return Program("mlflow", command, self._log("mlflow"), ready, environment, niceness=mlflow.NICENESS)

    def _service(self, name: str, overrides: Mapping[str, str]) -> Program:
        command = [sys.executable, "-m", f"services.{topology.BY_NAME[name].service}.main"]
        environment = {**_python_environment(), **topology.environment(name, self._surroundings()), **overrides}
        ready = http_ok(f"{self.gateway_url}/health/ready") if name == GATEWAY else grpc_serving(self.ports.listen(name))
        return Program(name, command, self._log(name), ready, environment)

    def _surroundings(self) -> Surroundings:
        self.state.secret(self.state.master_key.name)
        return Surroundings(
            ports=self.ports,
            database_urls={service: self.dsn(role_of(service)) for service in SERVICES},
            master_key_file=str(self.state.master_key),
            archive_folder=str(self.state.archive),
            import_folder=str(self.state.imports),
            model_folder=str(self.state.models),
            prometheus_url=self.prometheus_url or "",
        )

    def _log(self, name: str) -> Path:
        return self.state.logs / f"{name}.log"

    @property
    def _the_cluster(self) -> Cluster:
        if self._cluster is None:
            raise RuntimeError("the database is not there before the platform has started")
        return self._cluster


def _python_environment() -> dict[str, str]:
    """Without the working folder on the module path; two arenas, since each thread's own costs megabytes."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", "MALLOC_ARENA_MAX": "2"}
