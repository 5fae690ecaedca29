"""A model as it is registered, and what it says of a customer. Nothing in it is executed when it is loaded.

model.ubj      XGBoost's own format
bundle.json    everything else: see `Bundle`
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from chassis.errors import Conflict, Reason
from ml.booster import Booster, BoosterError

MODEL_FILE: Final = "model.ubj"
BUNDLE_FILE: Final = "bundle.json"
FILES: Final = (BUNDLE_FILE, MODEL_FILE)
MAX_BYTES: Final = 64 * 1024 * 1024

Numbers = NDArray[np.float64]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Platt's: log-odds = slope * margin + intercept, slope above 0, so that the order of customers stays."""

    slope: float
    intercept: float


class Logistic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A logistic regression over sign(x) log(1 + |x|), medians for what is missing, centred and scaled."""

    medians: list[float]
    centres: list[float]
    scales: list[float]
    coefficients: list[float]
    intercept: float


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`percentiles` are probabilities of the reference customers, ascending. Times are ISO-8601."""

    name: str
    horizon_days: int
    features: list[str]
    feature_digest: str
    calibration: Calibration
    percentiles: list[float]
    logistic: Logistic
    trained_on: list[str]
    judged_at: str
    row_count: int
    data_digest: str
    versions: dict[str, str]


def digest_of(files: Mapping[str, bytes]) -> str:
    """SHA-256, hex, over the files' SHA-256s in the order of their names."""
    sha = hashlib.sha256()
    for name in FILES:
        sha.update(hashlib.sha256(files[name]).digest())
    return sha.hexdigest()


def encode(bundle: Bundle) -> bytes:
    """The content of BUNDLE_FILE; the same bundle gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"


class Model:
    """Matrices are [rows, features] in the order of `bundle.features`, NaN where there is no value."""

    def __init__(self, files: Mapping[str, bytes], *, version: str = "") -> None:
        """Raises Conflict where the files are no bundle that fits together."""
        try:
            self.bundle = msgspec.json.decode(files[BUNDLE_FILE], type=Bundle)
            self._booster = Booster(files[MODEL_FILE])
        except (KeyError, msgspec.MsgspecError, BoosterError) as error:
            raise Conflict(f"the model's files cannot be read: {error}", reason=Reason.MODEL_DIGEST_MISMATCH) from error
        self.version = version
        self.digest = digest_of(files)
        self._reference = np.array(self.bundle.percentiles)
        self._check()

    def _check(self) -> None:
        count, logistic = len(self.bundle.features), self.bundle.logistic
        lengths = {self._booster.feature_count, *map(len, (logistic.medians, logistic.centres, logistic.scales))}
        if lengths | {len(logistic.coefficients)} != {count}:
            raise Conflict("the model's files are not of the same features", reason=Reason.MODEL_DIGEST_MISMATCH)
        if not self.bundle.calibration.slope > 0 or not len(self._reference):
            raise Conflict("the model's calibration is not one", reason=Reason.MODEL_DIGEST_MISMATCH)

    def predict(self, matrix: ArrayLike) -> Numbers:
        """Calibrated probabilities [rows]."""
        calibration = self.bundle.calibration
        margins = self._booster.margins(matrix).astype(np.float64)
        return sigmoid(calibration.slope * margins + calibration.intercept)

    def contributions(self, matrix: ArrayLike) -> Numbers:
        """TreeSHAP [rows, features + 1], the last the bias: they add up to the calibrated log-odds."""
        calibration = self.bundle.calibration
        values = calibration.slope * self._booster.contributions(matrix).astype(np.float64)
        values[:, -1] += calibration.intercept
        return values

    def percentile(self, probabilities: ArrayLike) -> Numbers:
        """Share of the reference customers with a lower probability, in [0, 100]."""
        below = np.searchsorted(self._reference, np.asarray(probabilities), side="left")
        return 100 * below / len(self._reference)

    def logistic(self, matrix: ArrayLike) -> Numbers:
        """What the logistic regression says [rows]; for comparison."""
        fitted = self.bundle.logistic
        values = squash(np.asarray(matrix, np.float64))
        values = np.where(np.isnan(values), fitted.medians, values)
        scaled = (values - np.array(fitted.centres)) / np.array(fitted.scales)
        return sigmoid(scaled @ np.array(fitted.coefficients) + fitted.intercept)


def squash(matrix: Numbers) -> Numbers:
    """Counts, money and durations are skewed, and log(1 + x) is the usual remedy; the sign is kept for refunds."""
    return np.sign(matrix) * np.log1p(np.abs(matrix))


def sigmoid(log_odds: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))
