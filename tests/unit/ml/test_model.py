"""The bundle, its engine and its cache, without a registry."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from ml import registry
from ml.booster import Booster, BoosterError
from ml.bundle import BUNDLE_FILE, FILES, MODEL_FILE, Bundle, Calibration, Logistic, Model, digest_of, encode
from tests.unit.ml.bundles import FEATURES, files_of, small_bundle, trained

SERVED = "f" * 64


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    return trained(seed=0)


def rows(booster: xgboost.Booster) -> NDArray[np.float64]:
    """Random rows with holes, and rows whose values are exactly those that the trees split at."""
    chance = np.random.default_rng(5)
    matrix = chance.normal(size=(300, len(FEATURES)))
    matrix[chance.random(matrix.shape) < 0.2] = np.nan
    splits = booster.trees_to_dataframe().dropna(subset=["Split"])
    for index, (feature, value) in enumerate(zip(splits["Feature"][:100], splits["Split"][:100], strict=True)):
        matrix[index, FEATURES.index(feature)] = value
    return matrix


def test_the_engine_answers_exactly_as_xgboost_does(booster: xgboost.Booster) -> None:
    ours = Booster(bytes(booster.save_raw("ubj")))
    matrix = rows(booster)
    theirs = xgboost.DMatrix(matrix, feature_names=FEATURES)
    assert np.array_equal(ours.margins(matrix), booster.predict(theirs, output_margin=True))
    assert np.array_equal(ours.contributions(matrix), booster.predict(theirs, pred_contribs=True))
    assert np.array_equal(ours.margins(matrix[7:8]), ours.margins(matrix)[7:8])


def test_the_engine_takes_no_rows_and_refuses_another_shape(booster: xgboost.Booster) -> None:
    ours = Booster(bytes(booster.save_raw("ubj")))
    assert ours.margins(np.empty((0, 3))).shape == (0,)
    assert ours.contributions(np.empty((0, 3))).shape == (0, 4)
    for shape in ((2, 2), (3,)):
        with pytest.raises(BoosterError, match="3 features"):
            ours.margins(np.zeros(shape))


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04\x95pickle"])
def test_the_engine_refuses_what_is_no_model(content: bytes) -> None:
    with pytest.raises(BoosterError):
        Booster(content)


def test_probabilities_are_calibrated_and_explained() -> None:
    bundle = small_bundle(calibration=Calibration(slope=0.5, intercept=-1.0))
    model = Model(files_of(bundle))
    matrix = np.random.default_rng(1).normal(size=(50, 3))
    probabilities = model.predict(matrix)
    log_odds = np.log(probabilities / (1 - probabilities))
    assert model.contributions(matrix).sum(axis=1) == pytest.approx(log_odds, abs=1e-5)
    margins = Booster(files_of(bundle)[MODEL_FILE]).margins(matrix)
    assert np.array_equal(np.argsort(margins, kind="stable"), np.argsort(probabilities, kind="stable"))


def test_a_percentile_is_the_share_of_the_reference_below() -> None:
    model = Model(files_of(small_bundle(percentiles=[0.1, 0.2, 0.2, 0.4])))
    assert model.percentile([0.0, 0.1, 0.2, 0.3, 0.4, 0.9]).tolist() == [0, 0, 25, 75, 75, 100]


def test_the_logistic_regression_fills_squashes_and_scales() -> None:
    fitted = Logistic(medians=[math.log(3), 0, 0], centres=[0, 1, 0], scales=[1, 2, 1], coefficients=[1, 2, 0], intercept=-0.5)
    model = Model(files_of(small_bundle(logistic=fitted)))
    # log odds: log 3 (the median) + 2 (log 8 - 1) / 2 - 0.5
    expected = 1 / (1 + np.exp(-(np.log(3) + np.log(8) - 1.5)))
    assert model.logistic([[np.nan, 7, -5]]) == pytest.approx([expected])


def test_the_digest_depends_on_every_file_and_on_nothing_else() -> None:
    files = files_of(small_bundle())
    assert digest_of(files) == digest_of({**dict(reversed(files.items())), "MLmodel": b"written anew each time"})
    for name in FILES:
        assert digest_of({**files, name: files[name] + b" "}) != digest_of(files)


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["a", "b"]},
        {"calibration": {"slope": -1.0, "intercept": 0.0}},
        {"percentiles": []},
        {"surprise": 1},
        {"horizon_days": "ninety"},
    ],
)
def test_a_bundle_that_does_not_fit_together_is_refused(change: dict[str, object]) -> None:
    files = files_of(small_bundle())
    changed = msgspec.json.decode(files[BUNDLE_FILE]) | change
    with pytest.raises(Conflict):
        Model({**files, BUNDLE_FILE: msgspec.json.encode(changed)})


def cached(folder: Path, files: dict[str, bytes], *, digest: str | None = None) -> None:
    place = folder / "t.churn" / "1"
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "digest").write_text(digest or digest_of(files))


def test_the_cache_answers_without_a_registry(tmp_path: Path) -> None:
    files = files_of(small_bundle())
    cached(tmp_path, files)
    model = registry.load_cached("t.churn", "1", tmp_path, feature_digest=SERVED)
    assert (model.version, model.digest) == ("1", digest_of(files))
    with pytest.raises(NotFound):
        registry.load_cached("t.churn", "2", tmp_path, feature_digest=SERVED)


def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path) -> None:
    files = files_of(small_bundle())
    cached(tmp_path, {**files, MODEL_FILE: files[MODEL_FILE][:-1]}, digest=digest_of(files))
    with pytest.raises(NotFound):
        registry.load_cached("t.churn", "1", tmp_path, feature_digest=SERVED)


def test_a_model_of_other_features_is_refused_with_both_named(tmp_path: Path) -> None:
    cached(tmp_path, files_of(small_bundle()))
    with pytest.raises(Conflict) as refusal:
        registry.load_cached("t.churn", "1", tmp_path, feature_digest="0" * 64)
    assert refusal.value.reason is Reason.FEATURE_DIGEST_MISMATCH
    assert SERVED in refusal.value.message
    assert "0" * 64 in refusal.value.message


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a:b"])
def test_a_name_cannot_lead_out_of_the_cache(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        registry.load_cached(name, "1", tmp_path, feature_digest=SERVED)


def test_a_bundle_is_written_the_same_each_time() -> None:
    bundle = msgspec.json.decode(encode(small_bundle()), type=Bundle)
    assert encode(bundle) == encode(msgspec.json.decode(encode(bundle), type=Bundle))
