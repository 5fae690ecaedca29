"""Trains the churn model of a tenant from its archive and registers it as a challenger.

    python -m ml.training.churn --archive .rapport/archive/demo --tenant demo --mlflow http://127.0.0.1:8101

A customer who had bought churns at an instant where no order follows in the 90 days after. The judged instant is the last
midnight that leaves 90 days of data; what is trained on ended before it. Prints the outcome as one line of JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from chassis.errors import Conflict, Error, Reason
from ml.bundle import BUNDLE_FILE, MODEL_FILE, Bundle, Model, digest_of, encode
from ml.features import catalogue
from ml.features.definition import digest as feature_digest_of
from ml.metrics import auc, bootstrap_auc, expected_calibration_error
from ml.training.archive import open_archive
from ml.training.dataset import HORIZON, Dataset, build, judged_instant, training_instants
from ml.training.fit import FOLDS, PARAMETERS, ROTATIONS, SEED, Fitted, fit
from ml.training.publish import Published, publish

NAME: Final = "churn"
RECENT_DAYS: Final = 90
FEWEST_ROWS: Final = 100

_RECENCY: Final = catalogue.NAMES.index("days_since_last_order")


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is not registered yet. `metrics` are of the judged instant, which it did not see."""

    model: Model
    files: dict[str, bytes]
    metrics: dict[str, float]
    parameters: dict[str, str]


def train(archive: Path, *, judged: datetime | None = None) -> Trained:
    """`archive` is a tenant's folder; `judged` defaults to the latest instant that leaves a horizon of data.

    Raises InvalidArgument where there is no archive, Conflict where there is too little in it.
    """
    with open_archive(archive) as connection:
        judged = judged or judged_instant(connection)
        instants = training_instants(connection, judged)
        dataset = build(connection, instants)
        holdout = build(connection, [judged])
    _check(dataset)
    fitted = fit(dataset)
    bundle = _bundle(fitted, dataset, instants, judged)
    files = {MODEL_FILE: bytes(fitted.booster.save_raw("ubj")), BUNDLE_FILE: encode(bundle)}
    model = Model(files)
    parameters = {
        **{key: str(value) for key, value in PARAMETERS.items()},
        "rounds": str(fitted.rounds),
        "instants": str(len(instants)),
        "rows": str(len(dataset.labels)),
        "folds": str(FOLDS),
        "rotations": str(ROTATIONS),
        "judged_at": bundle.judged_at,
    }
    metrics = {"out_of_sample_log_loss": fitted.out_of_sample_loss, **judge(model, holdout)}
    return Trained(model, files, metrics, parameters)


def judge(model: Model, holdout: Dataset) -> dict[str, float]:
    """All customers, and those with an order in the last RECENT_DAYS, beside recency alone and the logistic regression.

    What cannot be computed (nobody churned, or everybody) is left out.
    """
    found: dict[str, float] = {}
    recency = holdout.matrix[:, _RECENCY]
    for suffix, rows in (("", np.ones(len(recency), bool)), ("_recent", recency <= RECENT_DAYS)):
        labels, matrix = holdout.labels[rows], holdout.matrix[rows]
        found[f"rows{suffix}"] = len(labels)
        if not len(labels):
            continue
        probabilities, logistic = model.predict(matrix), model.logistic(matrix)
        interval = bootstrap_auc(labels, probabilities, chance=np.random.default_rng(SEED))
        found |= {
            f"rate{suffix}": float(labels.mean()),
            f"auc{suffix}": interval.value,
            f"auc_low{suffix}": interval.low,
            f"auc_high{suffix}": interval.high,
            f"ece{suffix}": expected_calibration_error(labels, probabilities),
            f"recency_auc{suffix}": auc(labels, recency[rows]),
            f"logistic_auc{suffix}": auc(labels, logistic),
            f"logistic_ece{suffix}": expected_calibration_error(labels, logistic),
        }
    return {key: value for key, value in found.items() if np.isfinite(value)}


def _check(dataset: Dataset) -> None:
    if len(dataset.labels) < FEWEST_ROWS or len(np.unique(dataset.labels)) < 2:
        churned = int(dataset.labels.sum())
        raise Conflict(
            f"Training needs {FEWEST_ROWS} customers, some who churned and some who did not; "
            f"there are {len(dataset.labels)} rows, {churned} of which churned.",
            reason=Reason.NO_MODEL,
        )


def _bundle(fitted: Fitted, dataset: Dataset, instants: Sequence[datetime], judged: datetime) -> Bundle:
    return Bundle(
        name=NAME,
        horizon_days=HORIZON.days,
        features=list(catalogue.NAMES),
        feature_digest=feature_digest_of(catalogue.FEATURES),
        calibration=fitted.calibration,
        percentiles=fitted.percentiles,
        logistic=fitted.logistic,
        trained_on=[_text(instant) for instant in instants],
        judged_at=_text(judged),
        row_count=len(dataset.labels),
        data_digest=dataset.digest(),
        versions={name: version(name) for name in ("numpy", "scikit-learn", "xgboost-cpu")},
    )


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def train_and_register(archive: Path, *, tenant: str, mlflow_url: str, judged: datetime | None = None) -> Published:
    """As `train`; registers `<tenant>.churn`, unless the same model is registered already. Raises Unavailable too."""
    trained = train(archive, judged=judged)
    return publish(
        mlflow_url,
        f"{tenant}.{NAME}",
        files=trained.files,
        bundle=trained.model.bundle,
        digest=digest_of(trained.files),
        metrics=trained.metrics,
        parameters=trained.parameters,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 with one sentence on stderr where it cannot be done."""
    parser = argparse.ArgumentParser(prog="ml.training.churn", description="Train a tenant's churn model and register it.")
    parser.add_argument("--archive", type=Path, required=True, help="the tenant's folder of the archive")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--mlflow", required=True, help="MLflow's URL")
    asked = parser.parse_args(arguments)
    try:
        published = train_and_register(asked.archive, tenant=asked.tenant, mlflow_url=asked.mlflow)
    except Error as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    sys.stdout.write(msgspec.json.encode(published).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
