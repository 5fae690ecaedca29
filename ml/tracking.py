"""What serving needs of MLflow, over its REST API: a registered version, and its files.

Not through MLflow's own client: `from mlflow import MlflowClient` takes 160 MB and four seconds, and this takes three requests.
What MLflow says is not trusted: sizes are bounded here, and digests are checked by whoever loads (`registry`).
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from chassis.errors import NotFound, Reason, Unavailable
from ml.bundle import MAX_BYTES

TIMEOUT_S: Final = 10.0

_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
_SOURCE: Final = "mlflow-artifacts:/"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """The last three are the version's tags, empty where there are none. `judged_at` is ISO-8601: what is earlier was seen."""

    name: str
    version: str
    digest: str
    feature_digest: str
    judged_at: str


class Tracking:
    """Blocking; call it from a thread. Raises Unavailable where MLflow does not answer."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        # Never through a proxy that the environment names: MLflow is a neighbour.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def find(self, name: str, alias_or_version: str) -> RegisteredVersion:
        """Raises NotFound where there is no such version, or nothing has that alias."""
        if _VERSION.fullmatch(alias_or_version):
            path, key = "model-versions/get", "version"
        else:
            path, key = "registered-models/alias", "alias"
        query = urllib.parse.urlencode({"name": name, key: alias_or_version})
        answer = self._json(f"/api/2.0/mlflow/{path}?{query}", f"version {alias_or_version} of {name}")["model_version"]
        tags = {tag["key"]: tag["value"] for tag in answer.get("tags", [])}
        said = [tags.get(key, "") for key in ("digest", "feature_digest", "judged_at")]
        return RegisteredVersion(name, str(answer["version"]), *said)

    def download(self, found: RegisteredVersion, file: str) -> bytes:
        """Raises NotFound where the version has no such file."""
        query = urllib.parse.urlencode({"name": found.name, "version": found.version})
        what = f"{file} of version {found.version} of {found.name}"
        uri = str(self._json(f"/api/2.0/mlflow/model-versions/get-download-uri?{query}", what)["artifact_uri"])
        if not uri.startswith(_SOURCE):
            raise NotFound(f"{what} is not kept behind MLflow's own proxy", reason=Reason.UNKNOWN_MODEL_VERSION)
        path = urllib.parse.quote(uri.removeprefix(_SOURCE).lstrip("/") + "/" + file)
        return self._get(f"/api/2.0/mlflow-artifacts/artifacts/{path}", what)

    def _json(self, path: str, what: str) -> Any:
        return json.loads(self._get(path, what))

    def _get(self, path: str, what: str) -> bytes:
        try:
            with self._opener.open(self._url + path, timeout=self._timeout_s) as answer:
                content = answer.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            # An alias that nothing has is a bad request to MLflow.
            if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
                raise NotFound(f"the registry has no {what}", reason=Reason.UNKNOWN_MODEL_VERSION) from None
            raise _unavailable(f"MLflow refuses {what}: status {error.code}") from None
        except OSError as error:
            raise _unavailable(f"MLflow does not answer: {error}") from None
        if len(content) > MAX_BYTES:
            raise _unavailable(f"{what} is over {MAX_BYTES} bytes")
        return content


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, reason=Reason.REGISTRY_UNAVAILABLE, retry_after_s=5.0)
