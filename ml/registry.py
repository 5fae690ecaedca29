"""Loads registered models, checked by digest, through a cache on disk that serves while MLflow is down.

<cache>/<name>/<version>/bundle.json, model.ubj, digest
"""

import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml.bundle import FILES, Model, digest_of
from ml.tracking import Tracking

_DIGEST_FILE: Final = "digest"
_LOCK_FILE: Final = ".lock"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def load(
    tracking: Tracking | str, name: str, alias_or_version: str, cache: Path, *, feature_digest: str, digest: str = ""
) -> Model:
    """`tracking` may be MLflow's URL; `feature_digest` is that of the definitions the platform serves.

    `digest` is what a promotion recorded, for a version that may not change any more; without it, the version's tag holds.
    Blocking. Raises NotFound, Conflict (other files than were registered, other features than are served) and Unavailable.
    """
    source = Tracking(tracking) if isinstance(tracking, str) else tracking
    found = source.find(name, alias_or_version)
    wanted = digest or found.digest
    if digest and found.digest and digest != found.digest:
        raise _changed(name, found.version, wanted=digest, got=found.digest)
    try:
        return load_cached(name, found.version, cache, feature_digest=feature_digest, digest=wanted)
    except NotFound:
        files = {file: source.download(found, file) for file in FILES}
    got = digest_of(files)
    if got != wanted:
        raise _changed(name, found.version, wanted=wanted, got=got)
    model = _checked(Model(files, version=found.version), name, feature_digest)
    _write(_folder(cache, name, found.version), {**files, _DIGEST_FILE: got.encode()})
    return model


def load_cached(name: str, version: str, cache: Path, *, feature_digest: str, digest: str = "") -> Model:
    """From the cache alone. Raises NotFound where it is not there or damaged, Conflict as `load`.

    `digest` empty: the one that was checked when the files came.
    """
    folder = _folder(cache, name, version)
    try:
        files = {file: (folder / file).read_bytes() for file in FILES}
        wanted = digest or (folder / _DIGEST_FILE).read_text()
    except FileNotFoundError:
        raise NotFound(f"version {version} of {name} is not in {cache}", reason=Reason.UNKNOWN_MODEL_VERSION) from None
    if digest_of(files) != wanted:
        # Damaged, or left by another registry: the files are to come anew.
        raise NotFound(f"version {version} of {name} in {cache} has changed", reason=Reason.UNKNOWN_MODEL_VERSION)
    return _checked(Model(files, version=version), name, feature_digest)


def _checked(model: Model, name: str, feature_digest: str) -> Model:
    if model.bundle.feature_digest != feature_digest:
        raise Conflict(
            f"version {model.version} of {name} was trained on the features {model.bundle.feature_digest}, "
            f"and the platform serves {feature_digest}",
            reason=Reason.FEATURE_DIGEST_MISMATCH,
        )
    return model


def _changed(name: str, version: str, *, wanted: str, got: str) -> Conflict:
    said = wanted or "(no digest)"
    return Conflict(
        f"version {version} of {name} was registered as {said}, and its files are {got}", reason=Reason.MODEL_DIGEST_MISMATCH
    )


def _folder(cache: Path, name: str, version: str) -> Path:
    for part in (name, version):
        if not _PLAIN.fullmatch(part):
            raise InvalidArgument(f"{part!r} cannot name a model or a version", field="model")
    return cache / name / version


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """All or nothing: a folder that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        # Calls and processes that need the same version come at the same time: one after the other takes the place.
        with (folder.parent / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
