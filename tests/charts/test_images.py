"""The images that `make images` built, with the tag RAPPORT_IMAGE_TAG (`dev`): what they hold, how they start."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from infra.images.contents import IMAGES
from infra.roles import OWNER, ROLES, SERVICES, role_of

ROOT = Path(__file__).parents[2]
TAG = os.environ.get("RAPPORT_IMAGE_TAG") or "dev"
ALL = (*IMAGES, "prometheus", "kafka")
# What `make cluster` builds only for the long form of the tests.
LONG_FORM = {"kafka"}
BASES = {"prometheus": "debian:bookworm-slim", "kafka": "debian:bookworm-slim"}
MB = 1_000_000
LIMITS_MB = {"gateway": 250, "profiles": 250, "segmentation": 250, "feedback": 250, "scoring": 450}
START_S = 3.0
# Nothing that installs or compiles.
UNWANTED = {"pip", "pip3", "uv", "gcc", "cc", "g++", "c++", "clang", "make", "ld", "as", "rustc", "go"}
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777")
IMPORT_ALL = """
import importlib, pathlib
for path in sorted(pathlib.Path("/app").rglob("*.py")):
    root = "/app/protos/gen" if path.is_relative_to("/app/protos") else "/app"
    parts = path.relative_to(root).with_suffix("").parts
    if "migrations" not in parts and parts[-1] != "__main__":
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
"""


def docker(*words: str, stdin: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    return subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
    )


def answer(*words: str, timeout_s: float = 120) -> str:
    done = docker(*words, timeout_s=timeout_s)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout.strip()


@cache
def facts(image: str) -> dict:
    """What the engine says of an image; nothing where there is none."""
    done = docker("image", "inspect", image)
    return json.loads(done.stdout)[0] if done.returncode == 0 else {}


def image_of(name: str) -> str:
    """Skips where it was not built."""
    image = f"rapport/{name}:{TAG}"
    if not facts(image):
        form = "FULL=1 make cluster builds it. " if name in LONG_FORM else ""
        pytest.skip(f"{form}There is no image {image}: make images TAG={TAG}.")
    return image


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if not shutil.which("docker") or docker("version").returncode != 0:
        pytest.skip("No Docker engine answers here, so there are no images to look at.")


@cache
def files_of(image: str) -> frozenset[str]:
    words = ("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "find", image)
    return frozenset(answer(*words, "/", "-xdev", "-not", "-type", "d").splitlines())


@pytest.mark.parametrize("name", ALL)
def test_an_image_runs_as_a_numeric_user_and_says_what_it_is(name: str) -> None:
    config = facts(image_of(name))["Config"]
    assert config["User"] == "10001:10001"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"rapport-{name}"
    assert labels["org.opencontainers.image.version"] == TAG
    assert labels["org.opencontainers.image.revision"] not in ("", "unknown")


@pytest.mark.parametrize("name", ALL)
def test_an_image_holds_nothing_that_installs_or_compiles(name: str) -> None:
    files = files_of(image_of(name))
    programs = {path.rsplit("/", 1)[1] for path in files if "/bin/" in path or "/sbin/" in path}
    assert not programs & UNWANTED
    assert not {path for path in files if "-packages/pip/" in path or "-packages/setuptools/" in path}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_s_image_holds_no_other_service_s_code(name: str) -> None:
    code = {path.removeprefix("/app/") for path in files_of(image_of(name)) if path.startswith("/app/")}
    services = {path.split("/")[1] for path in code if path.startswith("services/")}
    assert services <= {name, "__init__.py", "__pycache__"}
    assert {path.split("/")[0] for path in code} <= {"services", "chassis", "protos", "ml", "start"}
    assert not {path for path in code if path.startswith("ml/training/") or "/migrations/" in path}


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_holds_the_packages_that_its_code_imports(name: str) -> None:
    words = ("run", "--rm", "-i", "--network", "none", *HARDENED, "--entrypoint", "python", image_of(name), "-")
    done = docker(*words, stdin=IMPORT_ALL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "limit"), LIMITS_MB.items())
def test_an_image_is_not_larger_than_it_may_be(name: str, limit: int) -> None:
    over = facts(image_of(name))["Size"] - facts(BASES.get(name, "python:3.11-slim"))["Size"]
    assert over <= limit * MB, f"{over / MB:.0f} MB over its base"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine is sent, so that a line can be changed."""
    folder = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyi")
    for name in ("chassis", "cli", "demo", "infra", "locks", "ml", "protos/gen", "services"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def layers_built_from(tree: Path, name: str) -> list[str]:
    image = f"rapport/{name}:test-{secrets.token_hex(4)}"
    answer("build", "--quiet", "--build-arg", f"SERVICE={name}", "-t", image, str(tree), timeout_s=280)
    try:
        return json.loads(answer("image", "inspect", image))[0]["RootFS"]["Layers"]
    finally:
        docker("image", "rm", image)


def test_a_changed_line_of_a_service_makes_its_last_layer_anew_and_no_other(tree: Path) -> None:
    for name in ("segmentation", "feedback"):
        image_of(name)  # else nothing is in the engine's cache
    before, other = layers_built_from(tree, "segmentation"), layers_built_from(tree, "feedback")
    with (tree / "services/segmentation/main.py").open("a") as file:
        file.write("# One line more.\n")
    after = layers_built_from(tree, "segmentation")
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert layers_built_from(tree, "feedback") == other


@dataclass(frozen=True, slots=True)
class Stack:
    """A PostgreSQL in a container, in a network of its own. `folder` holds the secrets, as they are mounted."""

    name: str
    folder: Path

    @property
    def volumes(self) -> tuple[str, ...]:
        mounts = {
            self.name: "/var/lib/rapport/postgres",
            f"{self.folder}/passwords": "/etc/rapport/passwords:ro",
            f"{self.folder}/admin": "/etc/rapport/admin:ro",
        }
        return tuple(word for source, target in mounts.items() for word in ("-v", f"{source}:{target}"))

    def dsn(self, role: str) -> str:
        return f"postgresql://{role}:{(self.folder / 'passwords' / role).read_text()}@{self.name}:5432/rapport"

    def run(self, name: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return docker("run", "--rm", "--network", self.name, *HARDENED, *options, image_of(name), *command)

    def serve(self) -> None:
        words = ("run", "-d", "--name", self.name, "--network", self.name, *HARDENED, *self.volumes)
        answer(*words, image_of("postgres"), "serve")
        until = time.monotonic() + 30
        while docker("exec", self.name, "pg_isready", "-q", "-h", "127.0.0.1").returncode != 0:
            assert time.monotonic() < until, docker("logs", self.name).stderr
            time.sleep(0.1)

    def stop(self) -> float:
        """How long it took."""
        started = time.monotonic()
        answer("stop", "--time", "30", self.name)
        answer("rm", self.name)
        return time.monotonic() - started


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("secrets")
    written = {"admin/password": secrets.token_hex(8), **{f"passwords/{role}": secrets.token_hex(8) for role in ROLES}}
    for path, text in {**written, "master.key": secrets.token_hex(32)}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o644)
    # The engine mounts them, whoever may enter the folders above.
    for path in (folder, *(each for each in folder.iterdir() if each.is_dir())):
        path.chmod(0o755)
    made = Stack(f"rapport-test-{secrets.token_hex(4)}", folder)
    image_of("postgres")
    answer("network", "create", made.name)
    answer("volume", "create", made.name)
    try:
        done = made.run("postgres", "initialise", options=made.volumes)
        assert done.returncode == 0, done.stderr
        made.serve()
        yield made
    finally:
        docker("rm", "-f", made.name)
        docker("volume", "rm", made.name)
        docker("network", "rm", made.name)


@pytest.fixture(scope="module")
def migrated(stack: Stack) -> Stack:
    """Rights and tables as the jobs make them, twice, since both are run at every upgrade."""
    owner = ("-e", f"RAPPORT_MIGRATE_URL={stack.dsn(OWNER)}")
    for command in (("python", "-m", "infra.roles"), ("python", "-m", "chassis.migrate")) * 2:
        done = stack.run("migrate", *command, options=owner)
        assert done.returncode == 0, done.stderr
    return stack


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_ready_in_three_seconds_on_a_read_only_root(migrated: Stack, name: str) -> None:
    took = min(_start(migrated, name) for _ in range(2))
    assert took <= START_S


def _start(stack: Stack, service: str) -> float:
    """Seconds from the container's start to the line that says ready; then it is asked to end, and does.

    Without those in which it stood in the queue for a processor, which is the other processes' doing: a wait of its own counts.
    """
    settings = {
        "DATABASE_URL": stack.dsn(role_of(service)),
        "LISTEN": "0.0.0.0:50051",
        "METRICS_LISTEN": "0.0.0.0:9090",
        "MASTER_KEY_FILE": "/etc/rapport/master.key",
        "ARCHIVE_FOLDER": "/tmp/archive",
        "MODEL_FOLDER": "/tmp/models",
    }
    variables = [f"RAPPORT_{service.upper()}_{field}={value}" for field, value in settings.items()]
    words = ["run", "-d", "--network", stack.name, *HARDENED, "-v", f"{stack.folder}/master.key:/etc/rapport/master.key:ro"]
    command = ("python", "-m", f"services.{service}.main")
    container = answer(*words, *(word for each in variables for word in ("-e", each)), image_of(service), *command)
    try:
        ready, output = _ready_line(container)
        state = json.loads(answer("inspect", container))[0]["State"]
        assert state["Running"], output
        queued = int(answer("exec", container, "cat", "/proc/1/schedstat").split()[1]) / 1e9
        answer("stop", "--time", "20", container)
        assert json.loads(answer("inspect", container))[0]["State"]["ExitCode"] == 0, docker("logs", container).stdout
        took = _moment(ready) - _moment(state["StartedAt"])
        print(f"{service}: ready after {took:.1f} s, of which {queued:.1f} s in the queue for a processor")
        return took - queued
    finally:
        docker("rm", "-f", container)


def _ready_line(container: str) -> tuple[str, str]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        output = answer("logs", container)
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if found := next((line["timestamp"] for line in lines if line["event"] == "ready"), None):
            return found, output
        time.sleep(0.1)
    done = docker("logs", container)
    raise AssertionError(f"not ready after 20 s: {done.stdout}{done.stderr}")


def _moment(text: str) -> float:
    """Of nanoseconds too, which Python does not read."""
    return datetime.fromisoformat(text[:19] + text[19:].rstrip("Z")[:7] + "+00:00").timestamp()


def test_postgres_keeps_its_data_over_a_restart_though_its_volume_was_opened_to_a_group(migrated: Stack) -> None:
    count = ("psql", migrated.dsn(OWNER), "-Atc", "SELECT count(*) FROM profiles.migrations")
    before = answer("exec", migrated.name, *count)
    answer("exec", migrated.name, "sh", "-c", 'chmod -R g+rwX "$PGDATA"')
    session = ("exec", "-d", migrated.name, "psql", migrated.dsn(OWNER), "-c", "SELECT pg_sleep(60)")
    answer(*session)  # A fast shutdown does not wait for it.
    assert migrated.stop() < 10
    done = migrated.run("postgres", "initialise", options=migrated.volumes)
    assert done.returncode == 0, done.stderr
    migrated.serve()
    assert answer("exec", migrated.name, *count) == before != "0"


def test_postgres_recovers_after_a_kill(migrated: Stack) -> None:
    answer("kill", "--signal", "KILL", migrated.name)
    answer("rm", migrated.name)
    done = migrated.run("postgres", "initialise", options=migrated.volumes)
    assert done.returncode == 0, done.stderr
    migrated.serve()
    assert answer("exec", migrated.name, "psql", migrated.dsn(OWNER), "-Atc", "SELECT 1") == "1"


def test_postgres_without_a_password_or_a_cluster_says_so_in_one_line(stack: Stack) -> None:
    done = stack.run("postgres", "initialise")
    assert done.returncode == 2
    assert done.stderr == "The password in /etc/rapport/passwords/rapport_owner can't be read: No such file or directory.\n"
    done = stack.run("postgres", "serve", options=("--tmpfs", "/var/lib/rapport/postgres"))
    assert done.returncode == 2
    assert done.stderr.startswith("There is no database on the volume")
    assert done.stderr.count("\n") == 1


def test_the_migrations_job_says_in_one_line_that_no_database_answers(stack: Stack) -> None:
    nowhere = ("-e", "RAPPORT_MIGRATE_URL=postgresql://rapport_owner:x@127.0.0.1:1/rapport")
    done = stack.run("migrate", "python", "-m", "infra.roles", options=nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("The rights can't be granted: ")
    assert done.stderr.count("\n") == 1


def test_prometheus_and_its_tool_run_on_a_read_only_root() -> None:
    image = image_of("prometheus")
    for program in ("prometheus", "promtool"):
        assert "version" in answer("run", "--rm", "--network", "none", *HARDENED, "--entrypoint", program, image, "--version")
