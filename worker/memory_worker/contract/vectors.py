"""Convert vectors to little-endian float32 bytes, and check them.

The bytes go from the app to Qdrant unchanged, because protobuf's ``repeated float`` has exactly this wire format.
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
from memory_worker.contract.type_words import type_word

FLOAT_BYTES = 4
MAX_DIMENSIONS = 65_536
"""Qdrant's own limit."""
MIN_NORM = 2.0**-11
MAX_NORM = 2.0**63
"""Qdrant normalizes in float32. The square of a larger norm is infinite, so the vector is stored as zero. If the square
is below 2**-23, the vector is not normalized. A cosine search finds neither."""

_NOT_A_NUMBER = (TypeError, ValueError, OverflowError, RuntimeError)
_ADVICE = "pass numbers, float32 bytes, or an array of floats: array.astype('float32')"


def pack_vector(vector: Any) -> bytes:
    """Return ``vector`` as float32 little-endian bytes, 4 bytes per dimension.

    Accepts packed bytes (also as a ``memoryview``), a one-dimensional buffer of floats of 2, 4 or 8 bytes in any byte
    order (such as an ``array`` or a NumPy array), or an iterable of numbers. Raises `InvalidJob` for anything else.
    """
    is_packed_view = isinstance(vector, memoryview) and vector.format == "B" and vector.ndim == 1
    if is_packed_view or isinstance(vector, (bytes, bytearray)):
        return bytes(vector)
    floats = _to_floats(vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def unpack_vector(packed: bytes) -> array[float]:
    """Return the numbers of a packed vector."""
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def check_vector(packed: bytes, dimension: int | None, *, normalized: bool = True) -> None:
    """Raise `InvalidJob` unless ``packed`` has ``dimension`` finite numbers and a norm that searches can find.

    ``dimension`` ``None`` allows from 1 to ``MAX_DIMENSIONS`` numbers. The norm may be at most ``MAX_NORM``, and at
    least ``MIN_NORM`` for vectors that Qdrant normalizes, as it does for cosine.
    """
    if dimension is None:
        dimension = min(max(1, len(packed) // FLOAT_BYTES), MAX_DIMENSIONS)
    if len(packed) != dimension * FLOAT_BYTES:
        raise InvalidJob(
            "vector",
            f"expected {dimension} dimensions ({dimension * FLOAT_BYTES} bytes), got {len(packed) / FLOAT_BYTES:g} "
            f"({len(packed)} bytes)",
        )
    # Computing the norm takes 20 times as long. So most vectors are checked by the last byte of each number, which has
    # the sign and the upper bits of the exponent. If one number is large enough by itself and none is too large, the
    # norm is in range.
    exponents = packed[FLOAT_BYTES - 1 :: FLOAT_BYTES]
    unusual = exponents.translate(None, _USUAL)
    if len(unusual) == dimension or unusual.translate(None, _SMALL):
        _check_norm(unpack_vector(packed), MIN_NORM if normalized else 0.0)


def _last_bytes(minimum: float, end: float) -> bytes:
    """Return the last bytes of all float32 numbers, with either sign, from ``minimum`` to just below ``end``."""
    first, stop = (struct.pack("<f", bound)[3] for bound in (minimum, end))
    return bytes([*range(first, stop), *range(first | 0x80, stop | 0x80)])


_LARGE = 2.0**55
"""If all numbers are smaller than this, the norm is less than `MAX_NORM`, however many numbers there are."""
_USUAL = _last_bytes(MIN_NORM, _LARGE)
_SMALL = _last_bytes(0.0, MIN_NORM)


def _check_norm(numbers: array[float], minimum: float) -> None:
    for position, number in enumerate(numbers):
        if not math.isfinite(number):
            raise InvalidJob(f"vector[{position}]", "must be a finite number within the range of float32")
    norm = math.hypot(*numbers)
    if norm < minimum and norm == 0:
        raise InvalidJob("vector", "all numbers are zero, and no search can find a vector without a direction")
    if not minimum <= norm <= MAX_NORM:
        raise InvalidJob("vector", f"its norm must be from {minimum:.3g} to {MAX_NORM:.3g} to be found, got {norm:.3g}")


def _to_floats(vector: Any) -> array[float]:
    if isinstance(vector, (str, Mapping, Set)):
        raise InvalidJob("vector", f"expected numbers in order, got {type_word(vector)}: {_ADVICE}")
    try:
        view = memoryview(vector)
    except TypeError:
        return _from_numbers(vector)
    except (ValueError, BufferError) as error:  # some types of NumPy have no buffer
        raise InvalidJob("vector", f"{error}: {_ADVICE}") from error
    return _from_buffer(view)


def _from_buffer(view: memoryview) -> array[float]:
    code = view.format.lstrip("@=<>!")
    if view.ndim != 1 or code not in ("e", "f", "d"):
        raise InvalidJob("vector", f"a buffer of {view.ndim} dimensions and format {view.format!r}: {_ADVICE}")
    if view.format == "f":
        return array("f", view.tobytes())
    return array("f", struct.unpack(f"{view.format[:-1]}{len(view)}{code}", view.tobytes()))


def _from_numbers(vector: Any) -> array[float]:
    if not isinstance(vector, Iterable):
        raise InvalidJob("vector", f"expected numbers in order, got {type_word(vector)}: {_ADVICE}")
    numbers = vector if isinstance(vector, (list, tuple)) else list(islice(vector, MAX_DIMENSIONS + 1))
    try:
        return array("f", numbers)
    except _NOT_A_NUMBER:
        raise _first_problem(numbers) from None


def _first_problem(numbers: list[Any] | tuple[Any, ...]) -> InvalidJob:
    """Return the error for the first item that is not a float32 number."""
    for position, number in enumerate(numbers):
        try:
            array("f", (number,))
        except _NOT_A_NUMBER:
            problem = f"expected a number within the range of float32, got {type_word(number)}"
            return InvalidJob(f"vector[{position}]", problem)
    return InvalidJob("vector", f"expected numbers: {_ADVICE}")
