"""The life of a process: read settings, assemble, be ready, on SIGTERM be not ready first, then drain, then stop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import uvloop
from prometheus_client import start_http_server

from chassis import context, rpc, telemetry, tracing
from chassis.db import Database, connect
from chassis.errors import CannotStart, Error
from chassis.listening import listening
from chassis.settings import ServiceSettings, SettingsT

Resource = TypeVar("Resource")


class Host:
    """What `main` assembles its process on."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        tracing.configure(service, settings.version)
        self.service = service
        self.server = rpc.Server(
            service, settings.version, fault_ratio=settings.fault_ratio, connection_age_s=settings.connection_age_s
        )
        self.stopping = asyncio.Event()
        self._settings = settings
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def database(self) -> Database:
        """The service's pool, closed at the end."""
        settings = self._settings
        database = await connect(settings.database_url, connections=settings.database_connections, service=self.service)
        self._stack.push_async_callback(database.close)
        return database

    def channel(self, name: str, target: str, *contracts: Any) -> Any:
        """A channel to another service, closed at the end."""
        channel = rpc.channel(name, target, *contracts)
        self._stack.push_async_callback(channel.close)
        return channel

    async def enter(self, resource: AbstractAsyncContextManager[Resource]) -> Resource:
        """Anything else that must be closed."""
        return await self._stack.enter_async_context(resource)

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """A task that runs beside the calls, for all tenants; a failure is logged and it starts again."""
        self._tasks.append(asyncio.create_task(self._keep(name, work), name=name))

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        pause_s = 0.5
        while True:
            try:
                with context.everyone():
                    await work()
                return
            except Exception:
                telemetry.logger().error("a background task failed and starts again", task=name, exc_info=True)
                await asyncio.sleep(pause_s)
                pause_s = min(30.0, pause_s * 2)

    async def close(self) -> None:
        """Ends the tasks, then what they stand on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        await asyncio.to_thread(tracing.close)


def run(service: str, settings: SettingsT, assemble: Callable[[SettingsT, Host], Awaitable[None]]) -> None:
    """Runs a gRPC service until SIGTERM or SIGINT. `assemble` adds servicers and background tasks to the host."""
    carry_out(service, settings, _serve(service, settings, assemble))


def carry_out(service: str, settings: ServiceSettings, work: Coroutine[Any, Any, None]) -> None:
    """Runs a process's work to its end. What it cannot start without is one line of the log, and exit code 2."""
    telemetry.configure_logs(service, settings.log_level)
    try:
        uvloop.run(work)
    except Error as error:
        telemetry.logger().error("the process cannot go on", reason=error.reason.name, detail=error.message)
        sys.exit(2)
    except CannotStart as error:
        telemetry.logger().error("the process cannot start", detail=str(error))
        sys.exit(2)


async def _serve(service: str, settings: SettingsT, assemble: Callable[[SettingsT, Host], Awaitable[None]]) -> None:
    host = Host(service, settings)
    catch_signals(host.stopping)
    serve_metrics(service, settings)
    try:
        with context.everyone():
            await assemble(settings, host)
        port = await host.server.start(settings.listen)
        keep_what_stands()
        await host.server.set_ready(True)
        telemetry.logger().info("ready", port=port, version=settings.version)
        await host.stopping.wait()
        await host.server.set_ready(False)
        await asyncio.sleep(settings.unready_s)
        await host.server.stop(settings.grace_s)
    finally:
        await host.close()


def keep_what_stands() -> None:
    """To be called once all is put together: the garbage collector looks no more at what stays until the end.

    Its full rounds would find nothing there, and would keep every call waiting for it: 70 ms in the gateway.
    """
    gc.collect()
    gc.freeze()


def catch_signals(stopping: asyncio.Event) -> None:
    """SIGTERM and SIGINT set the event."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)


def serve_metrics(service: str, settings: ServiceSettings) -> None:
    """Prometheus' /metrics on its own port, from a thread."""
    address, port = settings.metrics_listen.rsplit(":", 1)
    with listening(settings.metrics_listen, "metrics"):
        start_http_server(int(port), address)
    telemetry.BUILD.labels(service, settings.version).set(1)
