"""Prometheus: from PATH, else unpacked from Debian's package into the user's cache, which needs no root; else none, and why."""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra import topology
from infra.ports import HOST
from infra.processes import end, exited, spawn
from infra.topology import Ports

# The cluster's rules, as they are. A pattern that finds nothing is no error.
RULES = Path(__file__).resolve().parent.parent / "charts" / "rapport" / "alerts"
RETENTION = "15d"
UPDATE_TIMEOUT_S = 90
DOWNLOAD_TIMEOUT_S = 120


class Missing(Exception):
    """There is no Prometheus to be had. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    server: Path
    promtool: Path | None


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rapport" / "prometheus"


def find(cache: Path) -> Prometheus | None:
    """From PATH, else from the cache."""
    for folder in (None, str(cache / "usr" / "bin")):
        if server := shutil.which("prometheus", path=folder):
            promtool = shutil.which("promtool", path=folder)
            return Prometheus(Path(server), Path(promtool) if promtool else None)
    return None


async def fetch(cache: Path) -> Prometheus:
    """From the machine's own package sources, with private lists, checked by apt's signatures. Raises Missing."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Missing("there is no prometheus in PATH, and this is not Debian or Ubuntu, whose package could be unpacked.")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="fetch-") as work:
        await _unpack_package(Path(work))
        with contextlib.suppress(OSError):  # another run may have been first
            (Path(work) / "root").rename(cache)
    if found := find(cache):
        return found
    raise Missing(f"Debian's package of Prometheus holds no program prometheus (see {cache}).")


async def _unpack_package(work: Path) -> None:
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    options = {"Dir::State::Lists": work / "lists", "Dir::Cache": work / "cache", "APT::Sandbox::User": "root"}
    options |= {
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 15,
        "Acquire::https::Timeout": 15,
        "Acquire::Languages": "none",
    }
    apt = ["/usr/bin/apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    # An update may fail for one source and be good for the one that has it: the download tells.
    await _run([*apt, "update"], work, timeout_s=UPDATE_TIMEOUT_S)
    if not await _run([*apt, "download", "prometheus"], work, timeout_s=DOWNLOAD_TIMEOUT_S):
        raise Missing("there is no prometheus in PATH, and apt-get can't download Debian's package.")
    if not await _run(["/bin/sh", "-c", "dpkg-deb -x prometheus_*.deb root"], work, timeout_s=60):
        raise Missing("Debian's package of Prometheus can't be unpacked.")


async def _run(command: Sequence[str], folder: Path, *, timeout_s: float) -> bool:
    with (folder / "output").open("ab") as output:
        process = spawn(command, output=output, folder=folder)
    try:
        return await asyncio.wait_for(exited(process), timeout_s) == 0
    except TimeoutError:
        return False
    finally:
        await end(process, grace_s=2)


def command(found: Prometheus, folder: Path, port: int) -> list[str]:
    return [
        str(found.server),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={HOST}:{port}",
        "--query.max-concurrency=4",
        "--log.level=warn",
    ]


def write_configuration(folder: Path, ports: Ports) -> Path:
    """One job a service; a candidate is a second target of its service's. JSON is YAML."""
    targets: dict[str, list[str]] = {}
    for service in topology.SERVICES:
        targets.setdefault(service.service, []).append(ports.metrics(service.name))
    jobs = [{"job_name": name, "static_configs": [{"targets": addresses}]} for name, addresses in targets.items()]
    path = folder / "prometheus.yml"
    settings = {
        "global": {"scrape_interval": "5s", "scrape_timeout": "4s", "evaluation_interval": "15s"},
        "rule_files": [str(RULES / "*.yaml")],
        "scrape_configs": jobs,
    }
    path.write_text(json.dumps(settings, indent=2) + "\n")
    return path


ENVIRONMENT = {"GOGC": "40", "GOMEMLIMIT": "160MiB"}
