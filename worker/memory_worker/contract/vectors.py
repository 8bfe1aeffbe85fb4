"""Vectors as raw little-endian float32 bytes: the form in which they travel from the app to Qdrant unchanged.

The wire form of protobuf's ``repeated float`` is exactly these bytes.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from typing import Any

from memory_worker.contract.errors import InvalidJob

FLOAT_BYTES = 4
MAX_DIMENSIONS = 65_536
"""Qdrant's own limit."""
LEAST_NORM = 2.0**-11
MOST_NORM = 2.0**63
"""Qdrant normalizes in float32. The square of a larger norm is infinite there, and the vector is stored as zero. One
whose square is below 2**-23 is stored as it is. No search by cosine finds either."""

_NO_NUMBER = (TypeError, ValueError, OverflowError, RuntimeError)
_ADVICE = "pass numbers, float32 bytes, or an array of floats: array.astype('float32')"


def pack_vector(vector: Any) -> bytes:
    """Return ``vector`` as float32 little-endian bytes, 4 bytes a dimension.

    Takes packed bytes (a ``memoryview`` of bytes, too), anything with a one-dimensional buffer of floats of 2, 4 or 8
    bytes in any byte order (``array``, a NumPy array), or an iterable of numbers. Raises `InvalidJob` for all else.
    """
    if isinstance(vector, bytes):
        return bytes(vector)
    if isinstance(vector, bytearray) or (isinstance(vector, memoryview) and vector.format == "B" and vector.ndim == 1):
        return bytes(vector)
    floats = _floats_of(vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def unpack_vector(packed: bytes) -> array[float]:
    """Return the numbers of a packed vector."""
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def check_vector(packed: bytes, dimension: int | None) -> None:
    """Raise `InvalidJob` unless ``packed`` holds ``dimension`` finite numbers that a search can find.

    ``None``: any number of them, from 1 to ``MAX_DIMENSIONS``. Searches find what has a norm from ``LEAST_NORM`` to
    ``MOST_NORM``.
    """
    if dimension is None:
        dimension = min(max(1, len(packed) // FLOAT_BYTES), MAX_DIMENSIONS)
    if len(packed) != dimension * FLOAT_BYTES:
        raise InvalidJob(
            "vector",
            f"expected {dimension} dimensions ({dimension * FLOAT_BYTES} bytes), got {len(packed) / FLOAT_BYTES:g} "
            f"({len(packed)} bytes)",
        )
    # Sums of squares take 20 times as long, so most vectors are judged by the last byte of each number, its sign and
    # the upper bits of its exponent: the norm is in range if one number is large enough by itself and none too large.
    exponents = packed[FLOAT_BYTES - 1 :: FLOAT_BYTES]
    unusual = exponents.translate(None, _USUAL)
    if len(unusual) == dimension or unusual.translate(None, _SMALL):
        _check_norm(unpack_vector(packed))


def _last_bytes(least: float, most: float) -> bytes:
    """Return the last bytes of all float32 numbers, of either sign, from ``least`` to just below ``most``."""
    first, behind = (struct.pack("<f", bound)[3] for bound in (least, most))
    return bytes([*range(first, behind), *range(first | 0x80, behind | 0x80)])


_LARGE = 2.0**55
"""The norm of as many numbers as there can be, all of them smaller than this, is less than `MOST_NORM`."""
_USUAL = _last_bytes(LEAST_NORM, _LARGE)
_SMALL = _last_bytes(0.0, LEAST_NORM)


def _check_norm(numbers: array[float]) -> None:
    for position, number in enumerate(numbers):
        if not math.isfinite(number):
            raise InvalidJob(f"vector[{position}]", "must be a finite number within the range of float32")
    norm = math.hypot(*numbers)
    if norm == 0:
        raise InvalidJob("vector", "all numbers are zero: without a direction no search can find it")
    if not LEAST_NORM <= norm <= MOST_NORM:
        raise InvalidJob(
            "vector", f"its norm must be from {LEAST_NORM:.3g} to {MOST_NORM:.3g} to be found, got {norm:.3g}"
        )


def _floats_of(vector: Any) -> array[float]:
    if isinstance(vector, (str, Mapping, Set)):
        raise InvalidJob("vector", f"expected numbers in order, got a {type(vector).__name__}: {_ADVICE}")
    try:
        view = memoryview(vector)
    except TypeError:
        return _of_numbers(vector)
    except (ValueError, BufferError) as error:  # NumPy has types that no buffer can hold
        raise InvalidJob("vector", f"{error}: {_ADVICE}") from error
    return _of_buffer(view)


def _of_buffer(view: memoryview) -> array[float]:
    code = view.format.lstrip("@=<>!")
    if view.ndim != 1 or code not in ("e", "f", "d"):
        raise InvalidJob("vector", f"a buffer of {view.ndim} dimensions and format {view.format!r}: {_ADVICE}")
    if view.format == "f":
        return array("f", view.tobytes())
    return array("f", struct.unpack(f"{view.format[:-1]}{len(view)}{code}", view.tobytes()))


def _of_numbers(vector: Any) -> array[float]:
    if not isinstance(vector, Iterable):
        raise InvalidJob("vector", f"expected numbers, got {type(vector).__name__}: {_ADVICE}")
    numbers = vector if isinstance(vector, (list, tuple)) else list(islice(vector, MAX_DIMENSIONS + 1))
    try:
        return array("f", numbers)
    except _NO_NUMBER:
        raise _first_wrong(numbers) from None


def _first_wrong(numbers: list[Any] | tuple[Any, ...]) -> InvalidJob:
    for position, number in enumerate(numbers):
        try:
            array("f", (number,))
        except _NO_NUMBER as error:
            problem = f"expected a number within the range of float32: {error}"
            return InvalidJob(f"vector[{position}]", problem)
    return InvalidJob("vector", f"expected numbers: {_ADVICE}")
