"""Puts together what an image holds: `python contents.py <image> <source> <target>`.

`<target>/shared` is code that several images have, `<target>/own` what this one is about. They become two layers, so that a
changed line of a service is one new layer. Bytecode is checked by hash, not by time: the same code is the same layer.
"""

import compileall
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

APP = "/app"
# Both need Alembic, which only the image of the migrations has.
MIGRATIONS = ("chassis/migrate.py", "chassis/migrations", "services/*/migrations")
COMMON = ("chassis", "protos/gen/rapport")
# Needs Kafka's client, which only the images of those who follow the log have.
KAFKA = ("chassis/log/kafka", "chassis/log/replay_dead.py")
# Needs Splink, which only the image of that job has; and Spark, which none of ours has.
MATCHING = ("ml/matching", "services/profiles/match.py")
SPARK = ("ml/features/spark.py",)
ELSEWHERE = (*MATCHING, *SPARK)
FOLLOWERS = ("profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")


@dataclass(frozen=True, slots=True)
class Contents:
    """Patterns of paths from the project's root, and the command that the image runs by default."""

    start: str
    own: tuple[str, ...]
    shared: tuple[str, ...] = COMMON
    left_out: tuple[str, ...] = (*MIGRATIONS, *KAFKA, *ELSEWHERE)


def _service(name: str, *needed: str) -> Contents:
    own = ("services/__init__.py", f"services/{name}")
    left_out = (*MIGRATIONS, *ELSEWHERE, *(() if name in FOLLOWERS else KAFKA))
    return Contents(f"python -m services.{name}.main", own, (*COMMON, *needed), left_out)


def _ml(*modules: str) -> tuple[str, ...]:
    return "ml/__init__.py", *(f"ml/{module}" for module in modules)


def _infra(*modules: str) -> tuple[str, ...]:
    return "infra/__init__.py", *(f"infra/{module}.py" for module in modules)


IMAGES = {
    "gateway": _service("gateway"),
    "profiles": _service(
        "profiles",
        *_ml("features"),
    ),
    "segmentation": _service("segmentation"),
    "scoring": _service("scoring", *_ml("booster.py", "bundle.py", "reasons.py", "registry.py", "tracking.py")),
    "recommendation": _service("recommendation"),
    "feedback": _service("feedback"),
    "evaluation": _service("evaluation", *_ml("metrics.py")),
    "migrate": Contents(
        start="python -m chassis.migrate",
        own=("services/__init__.py", "services/*/__init__.py", "services/*/migrations"),
        shared=(*COMMON, *_infra("roles")),
        left_out=KAFKA,
    ),
    "matching": Contents(
        start="python -m services.profiles.match",
        own=MATCHING,
        shared=(*COMMON, *_ml("features"), "services/__init__.py", "services/profiles"),
        left_out=(*MIGRATIONS, *SPARK),
    ),
    "training": Contents(
        start="python -m cli.main train churn",
        own=("ml", "cli/__init__.py", "cli/main.py", "cli/models.py"),
        shared=(
            *("chassis/__init__.py", "chassis/errors.py", "protos/gen/rapport/features"),
            *("demo/__init__.py", "demo/client.py", "demo/source.py"),
            *_infra("failure", "ports", "state", "topology"),
        ),
    ),
    # With the second scoring that it rolls out, and the gateway's office that makes its tenant and keys.
    "journey": Contents(
        start="python -m demo.journey",
        own=("demo", "cli/__init__.py", "cli/main.py", "cli/keys.py", "cli/models.py"),
        shared=(
            *(*COMMON, "ml", "services/__init__.py", "services/scoring"),
            *(f"services/gateway/{name}.py" for name in ("__init__", "administer", "domain", "store", "usecases")),
            *_infra(
                "accounts", "cluster", "failure", "launch", "ports", "processes", "readiness", "roles", "state", "topology"
            ),
        ),
        left_out=(*MIGRATIONS, *ELSEWHERE),
    ),
    "mlflow": Contents(
        start="python -m infra.images.mlflow.start",
        own=("infra/images/mlflow/start.py",),
        shared=_infra("failure", "mlflow", "ports"),
    ),
    "postgres": Contents(
        start="python -m infra.images.postgres.start serve",
        own=("infra/images/postgres/start.py", "infra/images/postgres/pg_hba.conf"),
        shared=_infra("accounts", "cluster", "failure", "ports", "roles"),
    ),
}


def assemble(contents: Contents, source: Path, target: Path) -> None:
    """Raises FileNotFoundError for a pattern that names nothing: a file was renamed."""
    for layer, patterns in (("shared", contents.shared), ("own", contents.own)):
        folder = target / layer
        folder.mkdir(parents=True)
        for path in _files(source, patterns, contents.left_out):
            place = folder / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        if layer == "own":
            start = folder / "start"
            start.write_text(f'#!/bin/sh\nexec {contents.start} "$@"\n')
            start.chmod(0o755)
        mode = PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(folder, quiet=1, stripdir=str(folder), prependdir=APP, invalidation_mode=mode)


def _files(source: Path, patterns: Iterable[str], left_out: Iterable[str]) -> Iterator[Path]:
    unwanted = set(_matches(source, left_out))
    for pattern in patterns:
        matches = list(_matches(source, [pattern]))
        if not matches:
            raise FileNotFoundError(f"{pattern} is in the contents of an image, and there is no such file")
        yield from (path for path in matches if path not in unwanted)


def _matches(source: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            yield from sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    if name not in IMAGES:
        sys.exit(f"There is no image {name!r}: SERVICE is one of {', '.join(IMAGES)}.")
    assemble(IMAGES[name], Path(source), Path(target))
