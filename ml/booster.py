"""A trained XGBoost model, asked through XGBoost's own C library.

Importing xgboost costs a service 30 MB beyond numpy, and 145 MB and five seconds where pandas, scikit-learn and pyarrow are
installed, because it imports them all. The library alone costs 12 MB with a model in it, and answers a single row for half
the processor time (130 us for 232, its reasons 245 us for 533): the rest is xgboost's Python around the call. The functions
used here are documented and kept stable for bindings: https://xgboost.readthedocs.io/en/stable/dev/group__Prediction.html.
A test compares every answer with xgboost's.
"""

import ctypes
import functools
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float32]

# One prediction's worth of work is too small to share among threads, and a service has a process to itself.
THREADS: Final = 1

_MARGIN, _CONTRIBUTIONS = 1, 2


class BoosterError(Exception):
    """XGBoost refused; the message is its own."""


class Booster:
    """Thread-safe: prediction does not change the model, and XGBoost keeps results by thread."""

    def __init__(self, content: bytes) -> None:
        """`content` is a model as XGBoost saves it, UBJ or JSON. Raises BoosterError where it is none."""
        if not content:
            # XGBoost would end the process.
            raise BoosterError("The model is empty.")
        self._library = _library()
        self._handle = ctypes.c_void_p()
        self._call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        self._call("XGBoosterLoadModelFromBuffer", self._handle, content, ctypes.c_uint64(len(content)))
        self._call("XGBoosterSetParam", self._handle, b"nthread", str(THREADS).encode())
        count = ctypes.c_uint64()
        self._call("XGBoosterGetNumFeature", self._handle, ctypes.byref(count))
        self.feature_count = count.value

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.XGBoosterFree(self._handle)

    def margins(self, matrix: ArrayLike) -> Matrix:
        """[rows, features], NaN where there is no value -> log-odds [rows]."""
        data = self._checked(matrix)
        if not len(data):
            return np.empty(0, np.float32)
        out = _Out()
        task = _json(_task(_MARGIN) | {"missing": float("nan"), "cache_id": 0})
        self._call("XGBoosterPredictFromDense", self._handle, _interface(data), task, None, *out.references)
        return out.array().reshape(len(data))

    def contributions(self, matrix: ArrayLike) -> Matrix:
        """TreeSHAP: [rows, features] -> [rows, features + 1], log-odds that add up to the margin; the last is the bias."""
        data = self._checked(matrix)
        if not len(data):
            return np.empty((0, self.feature_count + 1), np.float32)
        rows, out = ctypes.c_void_p(), _Out()
        settings = _json({"missing": float("nan"), "nthread": THREADS})
        self._call("XGDMatrixCreateFromDense", _interface(data), settings, ctypes.byref(rows))
        try:
            self._call("XGBoosterPredictFromDMatrix", self._handle, rows, _json(_task(_CONTRIBUTIONS)), *out.references)
            return out.array().reshape(len(data), self.feature_count + 1)
        finally:
            self._library.XGDMatrixFree(rows)

    def _checked(self, matrix: ArrayLike) -> Matrix:
        data = np.ascontiguousarray(matrix, np.float32)
        if data.ndim != 2 or data.shape[1] != self.feature_count:
            raise BoosterError(f"The model reads {self.feature_count} features a row, not a matrix of shape {data.shape}.")
        return data

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments):
            # The rest is a stack trace of C++.
            message = self._library.XGBGetLastError().decode(errors="replace").partition("\nStack trace")[0]
            raise BoosterError(message)


class _Out:
    """Where XGBoost says what it answered: it keeps the memory, until its next answer to the same thread."""

    def __init__(self) -> None:
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dimensions = ctypes.c_uint64()
        self._values = ctypes.POINTER(ctypes.c_float)()

    @property
    def references(self) -> tuple[object, object, object]:
        return ctypes.byref(self._shape), ctypes.byref(self._dimensions), ctypes.byref(self._values)

    def array(self) -> Matrix:
        size = int(np.prod(self._shape[: self._dimensions.value]))
        return np.ctypeslib.as_array(self._values, (size,)).copy()


def _task(kind: int) -> dict[str, object]:
    return {"type": kind, "training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False}


def _json(settings: Mapping[str, object]) -> bytes:
    return json.dumps(settings).encode()


def _interface(data: Matrix) -> bytes:
    """numpy's array interface, as JSON: the address of the data, not a copy. The caller keeps `data` alive."""
    interface = dict(data.__array_interface__)
    return _json({key: interface[key] for key in ("data", "shape", "typestr", "version")} | {"strides": None})


@functools.cache
def _library() -> ctypes.CDLL:
    # find_spec does not import it.
    spec = find_spec("xgboost")
    if spec is None or not spec.submodule_search_locations:
        raise BoosterError("xgboost is not installed.")
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "lib" / "libxgboost.so"))
    library.XGBGetLastError.restype = ctypes.c_char_p
    return library
