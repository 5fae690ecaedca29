"""Small bundles for tests."""

import functools
from typing import Any

import numpy as np
import xgboost

from ml.bundle import BUNDLE_FILE, MODEL_FILE, Bundle, Calibration, Logistic, encode

FEATURES = ["a", "b", "c"]


@functools.cache
def trained(seed: int) -> xgboost.Booster:
    chance = np.random.default_rng(seed)
    matrix = chance.normal(size=(600, len(FEATURES)))
    matrix[chance.random(matrix.shape) < 0.1] = np.nan
    labels = np.nan_to_num(matrix[:, 0]) + chance.normal(size=600) > 0
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed}
    return xgboost.train(parameters, xgboost.DMatrix(matrix, labels, feature_names=FEATURES), 20)


def small_bundle(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "name": "churn",
        "horizon_days": 90,
        "features": FEATURES,
        "feature_digest": "f" * 64,
        "calibration": Calibration(slope=1.0, intercept=0.0),
        "percentiles": [0.25, 0.5, 0.75],
        "logistic": Logistic(medians=[0, 0, 0], centres=[0, 0, 0], scales=[1, 1, 1], coefficients=[1, 0, 0], intercept=0),
        "trained_on": ["2024-01-01T00:00:00Z"],
        "judged_at": "2024-06-01T00:00:00Z",
        "row_count": 600,
        "data_digest": "d" * 64,
        "versions": {},
    }
    return Bundle(**values | changes)


def files_of(bundle: Bundle, *, seed: int = 0) -> dict[str, bytes]:
    return {MODEL_FILE: bytes(trained(seed).save_raw("ubj")), BUNDLE_FILE: encode(bundle)}
