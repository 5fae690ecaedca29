"""profiles and MLflow as scoring knows them, each on a real port, with behaviour; and models to promote."""

import functools
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import numpy as np
import xgboost
from rapport.features.v1 import features_pb2
from rapport.profiles.v1 import profiles_pb2
from rapport.profiles.v1.profiles_pb2_grpc import ProfilesServicer

from chassis import context
from ml.bundle import BUNDLE_FILE, MODEL_FILE, Bundle, Calibration, Logistic, digest_of, encode
from ml.features.catalogue import NAMES

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SERVED = "a" * 64
OTHER = "b" * 64


@functools.cache
def _booster(seed: int) -> xgboost.Booster:
    """Who has not bought for long leaves; `seed` gives models that differ."""
    chance = np.random.default_rng(seed)
    matrix = np.abs(chance.normal(size=(400, len(NAMES)))) * 50
    matrix[chance.random(matrix.shape) < 0.1] = np.nan
    labels = np.nan_to_num(matrix[:, NAMES.index("days_since_last_order")]) + chance.normal(size=400) * 10 > 30
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed}
    return xgboost.train(parameters, xgboost.DMatrix(matrix, labels, feature_names=list(NAMES)), 20)


def model_files(seed: int = 0, *, feature_digest: str = SERVED) -> dict[str, bytes]:
    """A small bundle over the platform's features."""
    count = len(NAMES)
    bundle = Bundle(
        name="churn",
        horizon_days=90,
        features=list(NAMES),
        feature_digest=feature_digest,
        calibration=Calibration(slope=1.0, intercept=0.0),
        percentiles=[0.1, 0.2, 0.5, 0.8, 0.9],
        logistic=Logistic([0.0] * count, [0.0] * count, [1.0] * count, [0.01] * count, 0.0),
        trained_on=["2024-01-01T00:00:00Z"],
        judged_at="2024-06-01T00:00:00Z",
        row_count=400,
        data_digest="d" * 64,
        versions={},
    )
    return {MODEL_FILE: bytes(_booster(seed).save_raw("ubj")), BUNDLE_FILE: encode(bundle)}


@dataclass(slots=True)
class Person:
    """`values` by feature; what is missing has no value."""

    profile_id: UUID
    values: Mapping[str, float]


class Profiles(ProfilesServicer):
    """Answers features of those it knows, by tenant, and takes each fact once. `calls` counts, by method."""

    def __init__(self) -> None:
        self.people: dict[tuple[str, str], Person] = {}
        self.facts: dict[tuple[str, str], profiles_pb2.Fact] = {}
        self.digest = SERVED
        self.now = NOW
        self.calls: dict[str, int] = {}

    def meet(self, ref: str, profile_id: UUID, **values: float) -> None:
        self.people[context.tenant(), ref] = Person(profile_id, values)

    def told(self) -> list[dict[str, Any]]:
        """The properties of the present tenant's facts, in order."""
        mine = [fact for (tenant, _), fact in self.facts.items() if tenant == context.tenant()]
        return [msgspec.json.decode(fact.properties) | {"profile": fact.profile_id} for fact in mine]

    async def ComputeFeatures(
        self, request: profiles_pb2.ComputeFeaturesRequest, call: Any
    ) -> profiles_pb2.ComputeFeaturesResponse:
        self.calls["ComputeFeatures"] = self.calls.get("ComputeFeatures", 0) + 1
        at = request.at.ToDatetime(UTC) if request.HasField("at") else self.now
        answer = profiles_pb2.ComputeFeaturesResponse(
            rows=[self._row(ref) for ref in request.refs], features=NAMES, digest=self.digest
        )
        answer.at.FromDatetime(at)
        return answer

    def _row(self, ref: str) -> features_pb2.FeatureRow:
        person = self.people.get((context.tenant(), ref))
        if person is None:
            nothing = features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_NOT_FOUND)
            return features_pb2.FeatureRow(ref=ref, values=[nothing] * len(NAMES))
        row = features_pb2.FeatureRow(ref=ref, profile_id=str(person.profile_id))
        row.values.extend(_value(name, person.values.get(name, math.nan)) for name in NAMES)
        row.newest_event.FromDatetime(NOW)
        return row

    async def ListFeatures(self, request: profiles_pb2.ListFeaturesRequest, call: Any) -> profiles_pb2.ListFeaturesResponse:
        return profiles_pb2.ListFeaturesResponse(digest=self.digest)

    async def Ingest(self, request: profiles_pb2.IngestRequest, call: Any) -> profiles_pb2.IngestResponse:
        receipts: list[profiles_pb2.Receipt] = []
        for fact in request.facts:
            known = (context.tenant(), fact.message_id) in self.facts
            self.facts.setdefault((context.tenant(), fact.message_id), fact)
            status = profiles_pb2.RECEIPT_STATUS_DUPLICATE if known else profiles_pb2.RECEIPT_STATUS_ACCEPTED
            receipts.append(profiles_pb2.Receipt(message_id=fact.message_id, status=status))
        return profiles_pb2.IngestResponse(facts=receipts)


def _value(name: str, value: float) -> features_pb2.FeatureValue:
    if math.isnan(value):
        return features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_NULL_VALUE)
    if name.startswith(("revenue", "refunds")):
        return features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_PRESENT, decimal=f"{value:.2f}")
    return features_pb2.FeatureValue(status=features_pb2.FEATURE_STATUS_PRESENT, number=value)


@dataclass(slots=True)
class Mlflow:
    """A registry with the three answers that loading a model needs. `with Mlflow() as mlflow`; `stop` and `start` at will."""

    versions: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict[tuple[str, str], dict[str, bytes]])
    # What the tags say, where it is not the truth.
    false_digests: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    requests: int = 0
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def register(self, name: str, version: str, files: dict[str, bytes]) -> str:
        """Returns the digest."""
        self.versions[name, version] = files
        return digest_of(files)

    def start(self) -> None:
        mlflow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mlflow.requests += 1
                body = mlflow.answer(self.path)
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(body or b"{}")

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, target: str) -> bytes | None:
        path, asked = urlsplit(target).path, {key: values[0] for key, values in parse_qs(urlsplit(target).query).items()}
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
            name, version, file = path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/").split("/")
            return self.versions.get((name, version), {}).get(file)
        key = (asked["name"], asked["version"])
        if key not in self.versions:
            return None
        if path.endswith("get-download-uri"):
            return msgspec.json.encode({"artifact_uri": f"mlflow-artifacts:/{key[0]}/{key[1]}"})
        tags = [{"key": "digest", "value": self.false_digests.get(key) or digest_of(self.versions[key])}]
        return msgspec.json.encode({"model_version": {"name": key[0], "version": key[1], "tags": tags}})
