"""From an archive to a registered model and back, with a real MLflow."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from chassis.errors import Conflict, NotFound, Reason, Unavailable
from ml import registry
from ml.bundle import FILES, MODEL_FILE, Model
from ml.features import catalogue
from ml.features.definition import digest as feature_digest_of
from ml.training.archive import open_archive
from ml.training.churn import Trained, train
from ml.training.dataset import build, judged_instant
from ml.training.publish import Published
from tests.integration.ml.shop import archive, shop

SERVED = feature_digest_of(catalogue.FEATURES)
NOBODY = "http://127.0.0.1:1"
TENANT = "shop"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("archive"), shop())


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    return train(folder)


@pytest.fixture(scope="module")
def published(folder: Path, mlflow_url: str) -> Published:
    return registered(folder, mlflow_url)


def command(folder: Path, mlflow_url: str) -> list[str]:
    return [sys.executable, "-m", "ml.training.churn", "--archive", str(folder), "--tenant", TENANT, "--mlflow", mlflow_url]


def registered(folder: Path, mlflow_url: str) -> Published:
    """By the command, as the platform does it: in a process that ends, for it takes memory."""
    ended = subprocess.run(command(folder, mlflow_url), capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return msgspec.json.decode(ended.stdout, type=Published)


def judged_rows(folder: Path) -> Any:
    with open_archive(folder) as connection:
        return build(connection, [judged_instant(connection)]).matrix


def test_the_model_tells_churners_apart_on_an_instant_that_it_did_not_see(trained: Trained) -> None:
    found = trained.metrics
    print({key: round(value, 3) for key, value in found.items()})
    assert found["auc_low"] < found["auc"] < found["auc_high"]
    assert found["auc"] > 0.8
    assert found["auc"] > found["recency_auc"]
    assert found["ece"] < 0.1
    assert found["rows_recent"] < found["rows"]


def test_the_same_archive_gives_the_same_model(folder: Path, trained: Trained) -> None:
    assert train(folder).files == trained.files


def test_more_of_what_keeps_customers_never_raises_the_risk(folder: Path, trained: Trained) -> None:
    rows = judged_rows(folder)
    before = trained.model.predict(rows)
    later, busier = rows.copy(), rows.copy()
    later[:, catalogue.NAMES.index("days_since_last_order")] += 30
    busier[:, catalogue.NAMES.index("orders_90d")] += 1
    assert (trained.model.predict(later) >= before).all()
    assert (trained.model.predict(busier) <= before).all()


def test_percentiles_spread_over_the_customers(folder: Path, trained: Trained) -> None:
    probabilities = trained.model.predict(judged_rows(folder))
    percentiles = trained.model.percentile(probabilities)
    assert 35 < np.median(percentiles) < 65
    assert percentiles.min() < 10
    assert percentiles.max() > 90


def test_a_registered_model_is_loaded_as_it_was_trained(
    published: Published, trained: Trained, folder: Path, mlflow_url: str, tmp_path: Path
) -> None:
    model = registry.load(mlflow_url, "shop.churn", "challenger", tmp_path, feature_digest=SERVED)
    assert (model.version, model.digest) == (published.version, published.digest)
    rows = judged_rows(folder)
    assert np.array_equal(model.predict(rows), trained.model.predict(rows))
    assert sorted(path.name for path in (tmp_path / "shop.churn" / model.version).iterdir()) == sorted([*FILES, "digest"])


def test_the_run_says_what_the_model_is(published: Published, mlflow_url: str) -> None:
    query = {"run_id": published.run_id}
    run = httpx.get(f"{mlflow_url}/api/2.0/mlflow/runs/get", params=query, trust_env=False).json()["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["digest"], tags["feature_digest"]) == (published.digest, SERVED)
    assert tags["data_digest"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert metrics["auc"] == pytest.approx(published.metrics["auc"])
    assert {"auc_low", "auc_high", "ece", "recency_auc", "logistic_auc", "auc_recent"} <= metrics.keys()
    assert run["info"]["status"] == "FINISHED"


def test_the_same_model_is_not_registered_twice(published: Published, folder: Path, mlflow_url: str) -> None:
    again = registered(folder, mlflow_url)
    assert (again.version, again.run_id, again.created) == (published.version, published.run_id, False)


def test_mlflow_could_serve_the_same_trees(published: Published, trained: Trained, folder: Path, mlflow_url: str) -> None:
    rows = judged_rows(folder)[:20]
    script = (
        "import sys, json, mlflow, pandas; mlflow.set_tracking_uri(sys.argv[1]);"
        "served = mlflow.pyfunc.load_model(sys.argv[2]);"
        "rows = pandas.DataFrame(json.loads(sys.argv[3]), columns=json.loads(sys.argv[4]), dtype=float);"
        "print('ANSWER', json.dumps(served.predict(rows).tolist()))"
    )
    arguments = [mlflow_url, f"models:/shop.churn/{published.version}", msgspec.json.encode(rows.tolist()).decode()]
    names = msgspec.json.encode(catalogue.NAMES).decode()
    answered = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments, names],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env=os.environ | {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"},
    )
    line = next(line for line in answered.stdout.splitlines() if line.startswith("ANSWER "))
    probabilities, calibration = trained.model.predict(rows), trained.model.bundle.calibration
    margins = (np.log(probabilities / (1 - probabilities)) - calibration.intercept) / calibration.slope
    assert msgspec.json.decode(line.removeprefix("ANSWER ")) == pytest.approx(1 / (1 + np.exp(-margins)), abs=1e-6)


def test_nothing_registered_is_a_pickle(published: Published, mlflow_url: str) -> None:
    found = registry.Tracking(mlflow_url).find("shop.churn", published.version)
    query = {"run_id": published.run_id, "path": "model"}
    listed = httpx.get(f"{mlflow_url}/api/2.0/mlflow/artifacts/list", params=query, trust_env=False).json()["files"]
    names = {Path(each["path"]).name for each in listed}
    assert names == {"MLmodel", "bundle.json", "conda.yaml", "model.ubj", "python_env.yaml", "requirements.txt"}
    assert registry.Tracking(mlflow_url).download(found, MODEL_FILE)[:1] == b"{"


def test_the_cache_serves_while_mlflow_is_down(published: Published, mlflow_url: str, tmp_path: Path) -> None:
    version = published.version
    with pytest.raises(NotFound):
        registry.load_cached("shop.churn", version, tmp_path, feature_digest=SERVED, digest=published.digest)
    registry.load(mlflow_url, "shop.churn", version, tmp_path, feature_digest=SERVED, digest=published.digest)
    with pytest.raises(Unavailable) as refusal:
        registry.load(NOBODY, "shop.churn", version, tmp_path, feature_digest=SERVED)
    assert refusal.value.reason is Reason.REGISTRY_UNAVAILABLE
    model = registry.load_cached("shop.churn", version, tmp_path, feature_digest=SERVED, digest=published.digest)
    assert isinstance(model, Model)


def test_files_that_were_changed_in_the_store_are_refused_with_both_digests(
    published: Published, mlflow_url: str, tmp_path: Path
) -> None:
    """Somebody who can write to the store puts another model in its place."""
    source = registry.Tracking(mlflow_url)
    content = source.download(source.find("shop.churn", published.version), MODEL_FILE)
    place = f"{mlflow_url}/api/2.0/mlflow-artifacts/artifacts/{_artifacts(mlflow_url, published)}/{MODEL_FILE}"
    httpx.put(place, content=content + b" ", trust_env=False).raise_for_status()
    try:
        with pytest.raises(Conflict) as refusal:
            registry.load(mlflow_url, "shop.churn", published.version, tmp_path, feature_digest=SERVED)
        assert refusal.value.reason is Reason.MODEL_DIGEST_MISMATCH
        assert published.digest in refusal.value.message
        assert not list(tmp_path.glob("*/*/*")), "nothing of it is kept"
    finally:
        httpx.put(place, content=content, trust_env=False).raise_for_status()


def _artifacts(mlflow_url: str, published: Published) -> str:
    query = {"name": published.registered_name, "version": published.version}
    answer = httpx.get(f"{mlflow_url}/api/2.0/mlflow/model-versions/get-download-uri", params=query, trust_env=False)
    return answer.json()["artifact_uri"].removeprefix("mlflow-artifacts:/").lstrip("/")


def test_a_promoted_digest_overrules_the_registrys_tag(published: Published, mlflow_url: str, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="was registered as " + "0" * 64):
        registry.load(mlflow_url, "shop.churn", published.version, tmp_path, feature_digest=SERVED, digest="0" * 64)


def test_a_model_of_other_features_is_refused_with_both_named(published: Published, mlflow_url: str, tmp_path: Path) -> None:
    with pytest.raises(Conflict) as refusal:
        registry.load(mlflow_url, "shop.churn", published.version, tmp_path, feature_digest="e" * 64)
    assert refusal.value.reason is Reason.FEATURE_DIGEST_MISMATCH
    assert SERVED in refusal.value.message
    assert "e" * 64 in refusal.value.message


@pytest.mark.parametrize(("name", "version"), [("shop.churn", "99"), ("shop.churn", "nobody"), ("other.churn", "1")])
def test_a_version_that_does_not_exist_is_not_found(
    published: Published, name: str, version: str, mlflow_url: str, tmp_path: Path
) -> None:
    with pytest.raises(NotFound) as refusal:
        registry.load(mlflow_url, name, version, tmp_path, feature_digest=SERVED)
    assert refusal.value.reason is Reason.UNKNOWN_MODEL_VERSION


def test_training_without_a_registry_ends_with_one_sentence(folder: Path) -> None:
    ended = subprocess.run(command(folder, NOBODY), capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 2
    assert "MLflow" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
