from __future__ import annotations

import math
import struct
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory_worker.errors import InvalidJob
from memory_worker.vectors import check_vector, pack_vector, unpack_vector

NUMBERS = [1.0, -0.5, 0.1, 3.4028234663852886e38]
PACKED = struct.pack("<4f", *NUMBERS)

FORMS: dict[str, Any] = {
    "list": NUMBERS,
    "tuple": tuple(NUMBERS),
    "generator": (number for number in NUMBERS),
    "array f": array("f", NUMBERS),
    "array d": array("d", NUMBERS),
    "float32": np.array(NUMBERS, dtype=np.float32),
    "float64": np.array(NUMBERS, dtype=np.float64),
    "every other float32": np.repeat(np.array(NUMBERS, dtype=np.float32), 2)[::2],
    "every other float64": np.repeat(np.array(NUMBERS), 2)[::2],
    "read-only": np.frombuffer(PACKED, dtype=np.float32),
    "list of numpy numbers": [np.float32(number) for number in NUMBERS],
    "memoryview f": memoryview(array("f", NUMBERS)),
    "memoryview d": memoryview(array("d", NUMBERS)),
    "bytes": PACKED,
    "bytearray": bytearray(PACKED),
}


@pytest.mark.parametrize("vector", FORMS.values(), ids=FORMS)
def test_every_form_packs_to_the_same_bytes(vector: Any) -> None:
    packed = pack_vector(vector)
    assert type(packed) is bytes
    assert packed == PACKED


def test_ints_pack_as_numbers() -> None:
    assert pack_vector([1, -2]) == struct.pack("<2f", 1, -2)


REFUSED: dict[str, Any] = {
    "none": None,
    "number": 1.0,
    "text": "1234",
    "map": {0: 1.0},
    "list of text": ["1"],
    "list of lists": [[1.0], [2.0]],
    "list with none": [1.0, None],
    "complex": [1j],
    "huge int": [10**400],
    "object": object(),
    "two dimensions": np.ones((2, 2), dtype=np.float32),
    "no dimension": np.float32(1).reshape(()),
    "int array": array("i", [1, 2]),
    "int32": np.array([1, 2], dtype=np.int32),
    "int64": np.array([1, 2]),
    "float16": np.ones(2, dtype=np.float16),
    "big-endian": np.ones(2, dtype=">f4"),
    "memoryview of bytes": memoryview(PACKED),
}


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_other_forms_are_refused(vector: Any) -> None:
    with pytest.raises(InvalidJob, match="expected float32 bytes or numbers") as caught:
        pack_vector(vector)
    assert caught.value.field == "vector"


@given(st.lists(st.floats(width=32), max_size=20))
def test_packing_and_unpacking_are_inverse(numbers: list[float]) -> None:
    packed = pack_vector(numbers)
    assert packed == struct.pack(f"<{len(numbers)}f", *numbers)
    assert unpack_vector(packed).tobytes() == array("f", numbers).tobytes()


INFINITE, LARGEST, SUBNORMAL, NAN = 0x7F800000, 0x7F7FFFFF, 0x00000001, 0x7FC00001
SIGN = 0x80000000
patterns = st.integers(0, 2**32 - 1) | st.sampled_from(
    [0, SIGN, INFINITE, LARGEST, SUBNORMAL, NAN, 0x007FFFFF]
).flatmap(lambda bits: st.sampled_from([bits, bits | SIGN]))


@given(st.lists(patterns, min_size=1, max_size=40))
@settings(max_examples=300)
@example([LARGEST] * 9)
@example([LARGEST | SIGN, SUBNORMAL, 0x7F7FFFFF, 0x807FFFFF])
@example([0xFF7FFFFF] * 3 + [INFINITE | SIGN])
@example([0x7F800001])
def test_a_vector_passes_exactly_if_all_its_numbers_are_finite(bits: list[int]) -> None:
    packed = struct.pack(f"<{len(bits)}I", *bits)
    numbers = struct.unpack(f"<{len(bits)}f", packed)
    bad = [position for position, number in enumerate(numbers) if not math.isfinite(number)]
    if not bad:
        check_vector(packed, len(bits))
        return
    with pytest.raises(InvalidJob, match=f"vector: number {bad[0]} is not finite"):
        check_vector(packed, len(bits))


@pytest.mark.parametrize("position", [0, 1, 511, 1022, 1023])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_the_error_names_the_position(position: int, bad: float) -> None:
    numbers = [1.0] * 1024
    numbers[position] = bad
    with pytest.raises(InvalidJob, match=f"number {position} is not finite"):
        check_vector(pack_vector(numbers), 1024)


@pytest.mark.parametrize("size", [0, 1, 4, 7, 9, 12])
def test_the_dimension_must_be_exact(size: int) -> None:
    with pytest.raises(InvalidJob, match=rf"expected 2 dimensions \(8 bytes\), got .* \({size} bytes\)"):
        check_vector(bytes(size), 2)


@pytest.mark.parametrize("dimension", [1, 2, 3, 1536])
def test_where_the_dimension_is_not_known_any_is_taken(dimension: int) -> None:
    check_vector(pack_vector([0.5] * dimension), None)
    with pytest.raises(InvalidJob, match=f"number {dimension - 1} is not finite"):
        check_vector(pack_vector([0.5] * (dimension - 1) + [math.nan]), None)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 4097])
def test_where_the_dimension_is_not_known_a_torn_or_empty_vector_is_not_taken(size: int) -> None:
    with pytest.raises(InvalidJob, match=rf"got .* \({size} bytes\)"):
        check_vector(bytes(size), None)
