"""Vectors as raw little-endian float32 bytes: the form in which they travel from the app to Qdrant unchanged.

The wire form of protobuf's ``repeated float`` is exactly these bytes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from memory_worker.errors import InvalidJob

FLOAT_BYTES = 4


def pack_vector(vector: Any) -> bytes:
    """Return ``vector`` as float32 little-endian bytes, 4 bytes a dimension.

    Takes packed bytes, anything with a one-dimensional buffer of floats (``array``, a NumPy array), or an iterable of
    numbers. Raises `InvalidJob` for anything else.
    """
    if isinstance(vector, bytes):
        return vector
    if isinstance(vector, bytearray):
        return bytes(vector)
    try:
        return _pack_floats(vector)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidJob("vector", f"expected float32 bytes or numbers: {error}") from error


def unpack_vector(packed: bytes) -> array[float]:
    """Return the numbers of a packed vector."""
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def check_vector(packed: bytes, dimension: int | None) -> None:
    """Raise `InvalidJob` unless ``packed`` holds ``dimension`` finite numbers; ``None``: any number of them."""
    if dimension is None:
        dimension = max(1, len(packed) // FLOAT_BYTES)
    if len(packed) != dimension * FLOAT_BYTES:
        raise InvalidJob(
            "vector",
            f"expected {dimension} dimensions ({dimension * FLOAT_BYTES} bytes), got {len(packed) / FLOAT_BYTES:g} "
            f"({len(packed)} bytes)",
        )
    exponents, one, signs = _finite_masks(dimension)
    # All lanes at once: adding one to an exponent of all ones (infinity, NaN) carries into the lane's sign bit.
    if (int.from_bytes(packed, "little") & exponents) + one & signs:
        position = next(i for i, number in enumerate(unpack_vector(packed)) if number - number != 0)
        raise InvalidJob("vector", f"number {position} is not finite")


@lru_cache(maxsize=8)
def _finite_masks(dimension: int) -> tuple[int, int, int]:
    lanes = (b"\x00\x00\x80\x7f", b"\x00\x00\x80\x00", b"\x00\x00\x00\x80")
    exponents, one, signs = (int.from_bytes(lane * dimension, "little") for lane in lanes)
    return exponents, one, signs


def _pack_floats(vector: Any) -> bytes:
    try:
        view = memoryview(vector)
    except TypeError:
        floats = _float_array(vector)
    else:
        if view.ndim != 1 or view.format not in ("f", "d"):
            raise TypeError(f"a buffer of {view.ndim} dimensions and format {view.format!r}")
        floats = array("f", view.tobytes()) if view.format == "f" else _float_array(view)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def _float_array(numbers: Iterable[float]) -> array[float]:
    if isinstance(numbers, (str, dict)):
        raise TypeError(f"a {type(numbers).__name__}")
    return array("f", numbers)
