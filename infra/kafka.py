"""Kafka on one machine: one broker that is its own controller (KRaft), from its jars, which Maven brings, under Java 17.

python -m infra.kafka run FOLDER [PORT]    runs until it is told to end; the data lie in FOLDER
python -m infra.kafka lock                 writes locks/kafka.txt anew, after a change of infra/images/kafka/pom.xml
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra.failure import EXIT_CODE, Refusal
from infra.ports import HOST, free_port, is_free
from infra.processes import end, exited, spawn

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "infra" / "images" / "kafka"
LOCK = ROOT / "locks" / "kafka.txt"
JAVA_VERSION = 17
FETCH_TIMEOUT_S = 300
START_TIMEOUT_S = 120
CLUSTER_ID = "rapport-of-1-machine--"  # 22 letters of base64


class Missing(Exception):
    """There is no Kafka to be had. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Jars:
    """Java, and the folder of jars that it runs."""

    java: str
    folder: Path


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rapport" / "kafka"


def fetch(cache: Path | None = None) -> Jars:
    """From the cache, else by Maven, from where this machine's Maven takes its artifacts. Raises Missing."""
    java, cache = _java(), cache or cache_folder()
    folder = cache / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return Jars(java, folder)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven keeps what it brings, and that is not made for two at once
        if not folder.is_dir():  # another run was first
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
                jars = Path(work) / "jars"
                copy_jars(jars)
                if checksums(jars) != LOCK.read_text():
                    raise Missing("the jars of Kafka that Maven brought are not those of locks/kafka.txt.")
                jars.rename(folder)
    return Jars(java, folder)


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise Missing(f"there is no java in PATH, and Kafka needs Java {JAVA_VERSION}.")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_VERSION:
        raise Missing(f"Kafka needs Java {JAVA_VERSION}, and the java in PATH is {version[1] if version else 'another'}.")
    return java


def copy_jars(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing("there is no mvn in PATH, which brings the jars of Kafka.")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    command = [maven, "-q", "-B", "-f", str(RECIPE / "pom.xml"), *goal]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"Maven did not bring the jars of Kafka within {FETCH_TIMEOUT_S} s.") from None
    if done.returncode != 0 or not folder.is_dir():
        raise Missing("Maven can't bring the jars of Kafka.")


def checksums(folder: Path) -> str:
    """As sha256sum writes them."""
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in sorted(folder.glob("*.jar")))


def properties(data: Path, port: int, controller_port: int, more: Mapping[str, str]) -> str:
    """The broker's settings: the image's, for this folder and these ports, and more that count before those."""
    text = (RECIPE / "server.properties").read_text() + "".join(f"{name}={value}\n" for name, value in more.items())
    values = {"DATA": str(data), "PORT": str(port), "CONTROLLER_PORT": str(controller_port), "HOST": HOST}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


class Broker:
    """A broker on a port, in a folder that it keeps over restarts. To be started from a thread that lives on."""

    def __init__(
        self,
        jars: Jars,
        folder: Path,
        port: int = 0,
        *,
        heap_mb: int = 256,
        more: Mapping[str, str] | None = None,
        users: Sequence[str] = (),
    ) -> None:
        """`more`: properties, with our placeholders. `users`: those of SCRAM, as the storage tool takes them."""
        self.port = port or free_port()
        self.folder = folder
        self._jars = jars
        self._heap_mb = heap_mb
        self._more = more or {}
        self._users = users
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "kafka.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Returns when it answers. Raises Refusal, with the log's last line, where it does not."""
        settings, data = self.folder / "server.properties", self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(properties(data, self.port, free_port(), self._more))
        if not (data / "meta.properties").exists():
            await self._format(settings)
        with self.log.open("ab") as output:
            self._process = spawn(self._command("kafka.Kafka", str(settings)), output=output, folder=self.folder)
        until = time.monotonic() + START_TIMEOUT_S
        while not await answers(self.address):
            if not self.is_running or time.monotonic() > until:
                await self.kill()
                raise Refusal(f"Kafka does not start: {_last_line(self.log)} (see {self.log})")
            await asyncio.sleep(0.2)

    async def ended(self) -> None:
        """Returns when it has ended by itself."""
        if self._process is not None:
            await exited(self._process)

    async def stop(self) -> None:
        """In peace."""
        if self._process is not None:
            await end(self._process, grace_s=30)

    async def kill(self) -> None:
        """As a lost machine."""
        if self._process is not None:
            self._process.kill()
            await end(self._process, grace_s=5)

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        heap = [f"-Xmx{self._heap_mb}m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logging = f"-Dlog4j2.configurationFile={RECIPE / 'log4j2.properties'}"
        return [self._jars.java, *heap, logging, "-cp", f"{self._jars.folder}/*", main_class, *arguments]

    async def _format(self, settings: Path) -> None:
        users = [word for user in self._users for word in ("--add-scram", user)]
        command = self._command("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings), *users)
        with self.log.open("ab") as output:
            process = spawn(command, output=output, folder=self.folder)
        try:
            code = await asyncio.wait_for(exited(process), START_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            code = -1
        if code != 0:
            raise Refusal(f"Kafka can't make its folder: {_last_line(self.log)} (see {self.log})")


async def answers(address: str) -> bool:
    """Whether a broker answers there, and is one of a cluster."""
    if is_free(int(address.rsplit(":", 1)[1])):  # the client would fill the log with what we know
        return False
    client = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=2_000)
    try:
        await client.start()
        return bool((await client.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


async def _run(folder: Path, port: int) -> None:
    broker = Broker(fetch(), folder, port)
    await broker.start()
    print(f"Kafka answers at {broker.address}; its log is {broker.log}.", flush=True)
    try:
        await broker.ended()
    finally:
        await broker.stop()


def main() -> None:
    """Entry point."""
    try:
        match sys.argv[1:]:
            case ["run", folder, *port] if len(port) <= 1:
                asyncio.run(_run(Path(folder).resolve(), int(port[0]) if port else 9092))
            case ["lock"]:
                with tempfile.TemporaryDirectory() as work:
                    copy_jars(Path(work) / "jars")
                    LOCK.write_text(checksums(Path(work) / "jars"))
            case _:
                sys.exit(__doc__)
    except KeyboardInterrupt:
        sys.exit(130)
    except (Refusal, Missing) as error:
        print(f"rapport: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
