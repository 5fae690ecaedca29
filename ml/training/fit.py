"""Fits what a churn bundle holds: the boosted trees, their calibration, and the logistic regression beside them.

Nothing here looks at the judged instant. Two things make a model last where the seasons change:
- Churn rises and falls for everybody with the season, and a model that can, learns the season by heart: from the time since
  the first order, which is never longer than the data. So each training instant has an effect of its own, estimated by the
  logistic regression with one more column for each; the trees start from it, and serving from the mean of them all.
- What is learnt of a customer at one instant tells of the same customer a month later. So the number of trees and the
  calibration come from rows that are new in both: neither the customer nor the instants around were trained on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ml.bundle import Calibration, Logistic, Numbers, sigmoid, squash
from ml.features import catalogue
from ml.training.dataset import Dataset

FOLDS: Final = 5
# How often each block of instants is left out, each time with another fifth of the customers.
ROTATIONS: Final = 2
MOST_ROUNDS: Final = 400
PATIENCE: Final = 40
REFERENCE_COUNT: Final = 1000
SEED: Final = 20_240_601

# More of these never means more risk (-1), or never less (1).
DIRECTIONS: Final = {
    "orders_count": -1,
    "orders_90d": -1,
    "revenue_total": -1,
    "revenue_90d": -1,
    "days_since_last_order": 1,
    "active_days_90d": -1,
}
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "eta": 0.05,
    "max_depth": 3,
    "min_child_weight": 10,
    "lambda": 5,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "monotone_constraints": tuple(DIRECTIONS.get(name, 0) for name in catalogue.NAMES),
    # On a machine that does other work as well, OpenMP threads that wait for each other cost ten times what they bring.
    "nthread": 1,
    "seed": SEED,
}

Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fitted:
    """`out_of_sample_loss` is the log loss per row on rows that are new in customer and instant."""

    booster: xgboost.Booster
    calibration: Calibration
    logistic: Logistic
    percentiles: list[float]
    rounds: int
    out_of_sample_loss: float


def fit(dataset: Dataset) -> Fitted:
    """Deterministic: the same rows give the same model. Both outcomes must occur."""
    logistic, effects = fit_logistic(dataset)
    start = float(np.mean(list(effects.values())))
    offsets = np.array([effects[moment] for moment in dataset.as_of.tolist()])
    parameters = PARAMETERS | {"base_score": float(sigmoid(np.array(start)))}
    rounds, loss, calibration = _cross_fit(dataset, offsets, parameters)
    everything = np.ones(len(dataset.labels), bool)
    booster = xgboost.train(parameters, _matrix(dataset, everything, offsets), rounds)
    newest = dataset.as_of == dataset.as_of.max()
    margins = booster.predict(xgboost.DMatrix(dataset.matrix[newest], feature_names=list(catalogue.NAMES)), output_margin=True)
    probabilities = sigmoid(calibration.slope * margins.astype(np.float64) + calibration.intercept)
    # As many different customers as there are, up to REFERENCE_COUNT of them, evenly along the order.
    levels = (np.arange(min(REFERENCE_COUNT, len(probabilities))) + 0.5) / min(REFERENCE_COUNT, len(probabilities))
    percentiles = np.quantile(probabilities, levels, method="inverted_cdf").tolist()
    return Fitted(booster, calibration, logistic, percentiles, rounds, loss)


def fit_logistic(dataset: Dataset) -> tuple[Logistic, dict[Any, float]]:
    """The regression that serves, and the log-odds of a like customer at each instant, around the overall rate."""
    values = squash(dataset.matrix)
    # A feature that nobody has says nothing: 0 throughout.
    known = ~np.isnan(values).all(axis=0)
    medians = np.zeros(values.shape[1])
    medians[known] = np.nanmedian(values[:, known], axis=0)
    values = np.where(np.isnan(values), medians, values)
    centres, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales == 0] = 1
    scaled = (values - centres) / scales
    instants = np.unique(dataset.as_of)
    columns = (dataset.as_of[:, None] == instants[None, :]).astype(float)
    model = LogisticRegression(C=1.0, max_iter=2000).fit(np.hstack([scaled, columns]), dataset.labels)
    weights, seasons = np.split(model.coef_[0], [scaled.shape[1]])
    rate = float(np.mean(dataset.labels))
    centred = np.log(rate / (1 - rate)) + seasons - seasons.mean()
    logistic = Logistic(
        medians=medians.tolist(),
        centres=centres.tolist(),
        scales=scales.tolist(),
        coefficients=weights.tolist(),
        intercept=float(model.intercept_[0] + seasons.mean()),
    )
    return logistic, dict(zip(instants.tolist(), centred.tolist(), strict=True))


def _cross_fit(dataset: Dataset, offsets: Numbers, parameters: dict[str, Any]) -> tuple[int, float, Calibration]:
    """The number of trees with the least log loss on held-out rows, that loss, and the calibration of those rows."""
    held: list[tuple[xgboost.Booster, Rows]] = []
    curves: list[Numbers] = []
    for train, validate in _splits(dataset):
        recorded: dict[str, dict[str, list[float]]] = {}
        watched = [(_matrix(dataset, validate, offsets), "held")]
        booster = xgboost.train(
            parameters,
            _matrix(dataset, train, offsets),
            MOST_ROUNDS,
            evals=watched,
            evals_result=recorded,
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        curve = np.array(recorded["held"]["logloss"])
        # Where one split stopped earlier, it has nothing to gain: its last value holds on.
        curves.append(np.pad(curve, (0, MOST_ROUNDS - len(curve)), mode="edge") * validate.sum())
        held.append((booster, validate))
    losses = np.sum(curves, axis=0) / sum(rows.sum() for _, rows in held)
    rounds = int(losses.argmin()) + 1
    margins = [
        booster.predict(
            xgboost.DMatrix(dataset.matrix[rows], feature_names=list(catalogue.NAMES)),
            output_margin=True,
            iteration_range=(0, min(rounds, booster.num_boosted_rounds())),
        )
        for booster, rows in held
    ]
    labels = np.concatenate([dataset.labels[rows] for _, rows in held])
    return rounds, float(losses.min()), calibrate(np.concatenate(margins), labels)


def _splits(dataset: Dataset) -> Iterator[tuple[Rows, Rows]]:
    """(train, validate): they share no customer and no block of neighbouring instants, where there are several."""
    folds = _folds(dataset.profile_ids)
    instants = np.unique(dataset.as_of)
    blocks = np.array_split(instants, min(FOLDS, len(instants)))
    for rotation in range(ROTATIONS if len(blocks) > 1 else FOLDS):
        for index, block in enumerate(blocks):
            fold = (index + rotation) % FOLDS
            inside = np.isin(dataset.as_of, block)
            train = (folds != fold) & (~inside if len(blocks) > 1 else inside)
            validate = (folds == fold) & inside
            if validate.any() and len(np.unique(dataset.labels[train])) > 1:
                yield train, validate


def _folds(profile_ids: Sequence[str]) -> NDArray[np.int64]:
    """By hash, so that a customer is in the same fold whatever else there is."""
    folds = {each: hashlib.sha256(each.encode()).digest()[0] % FOLDS for each in set(profile_ids)}
    return np.array([folds[each] for each in profile_ids])


def calibrate(margins: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """Platt's (1999): strictly increasing, so that it leaves the AUC as it is, which isotonic regression's steps do not."""
    if len(np.unique(labels)) < 2:
        return Calibration(slope=1.0, intercept=0.0)
    model = LogisticRegression(C=1e6, max_iter=1000).fit(margins.reshape(-1, 1), labels)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    # A model that tells nothing apart out of sample gets no say, but keeps its order.
    return (
        Calibration(slope, intercept) if slope > 0.01 else Calibration(0.01, float(np.log(labels.mean() / (1 - labels.mean()))))
    )


def _matrix(dataset: Dataset, rows: Rows, offsets: Numbers) -> xgboost.DMatrix:
    return xgboost.DMatrix(
        dataset.matrix[rows], dataset.labels[rows], base_margin=offsets[rows], feature_names=list(catalogue.NAMES)
    )
