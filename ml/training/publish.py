"""Logs a trained bundle to MLflow and registers it, so that MLflow itself could serve its trees too.

The registered model's folder is what `mlflow.xgboost` writes (MLmodel with signature, model.ubj, requirements), with our
bundle.json beside it. It holds no pickle.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from chassis.errors import Reason, Unavailable
from ml.bundle import MODEL_FILE, Bundle

CHALLENGER: Final = "challenger"
_FOLDER: Final = "model"

# MLflow's client, which is imported late.
Client: TypeAlias = Any


class Published(msgspec.Struct, frozen=True):
    """`created` is False where the same model had been registered before."""

    registered_name: str
    version: str
    run_id: str
    digest: str
    feature_digest: str
    judged_at: str
    created: bool
    metrics: dict[str, float]


def publish(
    mlflow_url: str,
    name: str,
    *,
    files: dict[str, bytes],
    bundle: Bundle,
    digest: str,
    metrics: dict[str, float],
    parameters: dict[str, str],
) -> Published:
    """A run, a version of the registered model `name`, and the alias challenger on it. Raises Unavailable."""
    # A gone server is to be told in seconds, not after MLflow's seven tries with growing pauses.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # It would print links into what may be read as our answer.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Importing MLflow takes seconds, and training may be asked for without registering.
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_url, registry_uri=mlflow_url)
    tags = {
        "digest": digest,
        "feature_digest": bundle.feature_digest,
        "data_digest": bundle.data_digest,
        "judged_at": bundle.judged_at,
    }
    try:
        found = _find(client, name, digest)
        run_id, version = found or _register(client, name, files, bundle, metrics, parameters, tags)
    except MlflowException as error:
        raise Unavailable(f"MLflow did not take the model: {error}", reason=Reason.REGISTRY_UNAVAILABLE) from error
    return Published(name, version, run_id, digest, bundle.feature_digest, bundle.judged_at, found is None, metrics)


def _find(client, name: str, digest: str) -> tuple[str, str] | None:
    """The run and number of the newest version with that digest."""
    versions = client.search_model_versions(f"name = '{name}' AND tags.digest = '{digest}'", order_by=["version_number DESC"])
    return (versions[0].run_id, str(versions[0].version)) if versions else None


def _register(
    client,
    name: str,
    files: dict[str, bytes],
    bundle: Bundle,
    metrics: dict[str, float],
    parameters: dict[str, str],
    tags: dict[str, str],
) -> tuple[str, str]:
    run = client.create_run(_experiment(client, name), run_name=f"{bundle.name} {bundle.judged_at}", tags=tags)
    run_id = run.info.run_id
    for key, value in parameters.items():
        client.log_param(run_id, key, value)
    for key, value in metrics.items():
        client.log_metric(run_id, key, value)
    with tempfile.TemporaryDirectory(prefix="rapport-model-") as folder:
        _write_model(Path(folder) / _FOLDER, files, bundle)
        client.log_artifacts(run_id, str(Path(folder) / _FOLDER), _FOLDER)
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, f"{run.info.artifact_uri}/{_FOLDER}", run_id, tags=tags).version
    client.set_registered_model_alias(name, CHALLENGER, str(version))
    return run_id, str(version)


def _experiment(client, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id) if found else str(client.create_experiment(name))


def _write_model(folder: Path, files: dict[str, bytes], bundle: Bundle) -> None:
    import xgboost
    from mlflow import xgboost as flavour
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    booster = xgboost.Booster()
    booster.load_model(bytearray(files[MODEL_FILE]))
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", feature) for feature in bundle.features]), outputs=Schema([ColSpec("float")])
    )
    requirements = [f"xgboost-cpu=={bundle.versions['xgboost-cpu']}", f"numpy=={bundle.versions['numpy']}", "pandas"]
    flavour.save_model(booster, folder, signature=signature, model_format="ubj", pip_requirements=requirements)
    for name, content in files.items():
        # The very bytes that the digest is of.
        (folder / name).write_bytes(content)
