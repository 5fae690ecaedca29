"""The model registry: MLflow over its REST API. It is an untrusted store: what it says is checked, or dropped.

Not through MLflow's own client: that is a hundred megabytes at rest for five requests.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from chassis.errors import NotFound, Reason, Unavailable
from services.evaluation.clients.http import JsonStore, Rejected
from services.evaluation.domain.promotions import ModelVersion

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
MAX_VERSIONS: Final = 200

_API: Final = "/api/2.0/mlflow"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_RUN: Final = re.compile(r"[0-9a-f]{32}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_MILLISECONDS: Final = 4_102_444_800_000  # the year 2100


class _Tag(msgspec.Struct):
    key: str = ""
    value: str = ""


class _Version(msgspec.Struct):
    name: str = ""
    version: str | int = ""
    creation_timestamp: str | int = 0
    run_id: str = ""
    tags: list[_Tag] = []
    aliases: list[str] = []


class _Got(msgspec.Struct):
    model_version: _Version = msgspec.field(default_factory=_Version)


class _Found(msgspec.Struct):
    model_versions: list[_Version] = []


class _Alias(msgspec.Struct):
    alias: str = ""
    version: str | int = ""


class _Model(msgspec.Struct):
    aliases: list[_Alias] = []


class _Registered(msgspec.Struct):
    registered_model: _Model = msgspec.field(default_factory=_Model)


class _Nothing(msgspec.Struct):
    pass


class Registry:
    """Raises Unavailable where it does not answer."""

    def __init__(self, store: JsonStore) -> None:
        self._store = store

    async def get(self, registered_name: str, version: str) -> ModelVersion:
        """Raises NotFound where there is no such version."""
        if _VERSION.fullmatch(version):
            try:
                parameters = {"name": registered_name, "version": version}
                got = await self._store.ask("GET", f"{_API}/model-versions/get", _Got, parameters=parameters)
            except Rejected as refusal:
                if refusal.status != 404:
                    raise _refused(refusal) from None
            else:
                if found := _checked(got.model_version, registered_name):
                    return found
        raise NotFound(
            f"the registry has no version {version} of {registered_name}", reason=Reason.UNKNOWN_MODEL_VERSION, field="version"
        )

    async def versions(self, registered_name: str) -> list[ModelVersion]:
        """The newest MAX_VERSIONS, newest first; none where the model is not registered."""
        parameters = {
            "filter": f"name='{registered_name}'",
            "max_results": MAX_VERSIONS,
            "order_by": "version_number DESC",
        }
        try:
            model = await self._store.ask(
                "GET", f"{_API}/registered-models/get", _Registered, parameters={"name": registered_name}
            )
            found = await self._store.ask("GET", f"{_API}/model-versions/search", _Found, parameters=parameters)
        except Rejected as refusal:
            if refusal.status == 404:
                return []
            raise _refused(refusal) from None
        # A search may leave the aliases out; the model has them all.
        aliases = model.registered_model.aliases
        checked = [_checked(each, registered_name, aliases) for each in found.model_versions[:MAX_VERSIONS]]
        return [each for each in checked if each]

    async def point(self, registered_name: str, alias: str, version: str) -> None:
        """Makes `alias` name `version`; where that is empty, nothing. Idempotent."""
        body = {"name": registered_name, "alias": alias}
        try:
            if version:
                await self._store.ask("POST", f"{_API}/registered-models/alias", _Nothing, body=body | {"version": version})
            else:
                await self._store.ask("DELETE", f"{_API}/registered-models/alias", _Nothing, body=body)
        except Rejected as refusal:
            raise _refused(refusal) from None


def _checked(version: _Version, registered_name: str, aliases: Sequence[_Alias] = ()) -> ModelVersion | None:
    """None where it is not a version of that model. What can't be a digest, an id or an alias is left out."""
    number = str(version.version)
    if version.name != registered_name or not _VERSION.fullmatch(number):
        return None
    tags = {tag.key: tag.value for tag in version.tags}
    names = {*version.aliases, *(each.alias for each in aliases if str(each.version) == number)}
    return ModelVersion(
        registered_name=registered_name,
        version=number,
        aliases=tuple(sorted(name for name in names if _ALIAS.fullmatch(name))),
        digest=_only(_SHA256, tags.get("digest", "")),
        feature_digest=_only(_SHA256, tags.get("feature_digest", "")),
        created=_moment(version.creation_timestamp),
        run_id=_only(_RUN, version.run_id),
        learnt_until=_instant(tags.get("judged_at", "")),
    )


def _only(form: re.Pattern[str], text: str) -> str:
    return text if form.fullmatch(text) else ""


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _moment(milliseconds: str | int) -> datetime:
    text = str(milliseconds)
    number = int(text) if text.isdecimal() and len(text) < 16 else 0
    return _EPOCH + timedelta(milliseconds=min(number, _MAX_MILLISECONDS))


def _refused(refusal: Rejected) -> Unavailable:
    return Unavailable(
        f"the model registry refuses: status {refusal.status}", reason=Reason.REGISTRY_UNAVAILABLE, retry_after_s=5.0
    )
