from __future__ import annotations

import math
import struct
from array import array
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.vectors import check_vector, pack_vector, unpack_vector

NUMBERS = [1.0, -0.5, 0.1, 3.4028234663852886e38]
SMALL = [1.0, -0.5, 0.25, 1024.0]
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
    "memoryview of bytes": memoryview(PACKED),
}


@pytest.mark.parametrize("vector", FORMS.values(), ids=FORMS)
def test_every_form_packs_to_the_same_bytes(vector: Any) -> None:
    packed = pack_vector(vector)
    assert type(packed) is bytes
    assert packed == PACKED


def test_integers_are_packed_as_numbers() -> None:
    assert pack_vector([1, -2]) == struct.pack("<2f", 1, -2)


REFUSED: dict[str, Any] = {
    "none": None,
    "number": 1.0,
    "text": "1234",
    "map": {0: 1.0},
    "object": object(),
    "two dimensions": np.ones((2, 2), dtype=np.float32),
    "no dimension": np.float32(1).reshape(()),
    "int array": array("i", [1, 2]),
    "int32": np.array([1, 2], dtype=np.int32),
    "int64": np.array([1, 2]),
    "uint8": np.array([1, 2, 3, 4], dtype=np.uint8),
    "bools": np.array([True]),
    "objects": np.array([1.0, None], dtype=object),
    "long doubles": np.ones(2, dtype=np.longdouble),
    "dates": np.array(["2026-01-01"], dtype="datetime64[D]"),
    "texts": np.array(["1"]),
    "complex numbers": np.ones(2, dtype=np.complex64),
    "set": {1.0, 2.0},
    "function": len,
}


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_other_forms_are_refused_with_advice(vector: Any) -> None:
    with pytest.raises(InvalidJob, match=r"pass numbers, float32 bytes, or .* array.astype\('float32'\)") as caught:
        pack_vector(vector)
    assert caught.value.field == "vector"


WRONG_NUMBERS = [None, "1", b"1", [1.0], 1j, 10**400, object()]


@pytest.mark.parametrize("number", WRONG_NUMBERS, ids=lambda number: str(number)[:9])
def test_a_wrong_number_is_named_by_its_position(number: Any) -> None:
    for vector in ([0.5, 1.0, number], (value for value in (0.5, 1.0, number))):
        with pytest.raises(InvalidJob, match="expected a number within the range of float32") as caught:
            pack_vector(vector)
        assert caught.value.field == "vector[2]"


def test_an_endless_iterator_is_refused() -> None:
    with pytest.raises(InvalidJob, match="expected 65536 dimensions"):
        check_vector(pack_vector(repeat(1.0)), None)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_of_any_size_and_byte_order_are_packed(dtype: str) -> None:
    array_of = np.array(SMALL, dtype=dtype)
    for vector in (array_of, np.repeat(array_of, 3)[::3], memoryview(array_of)):
        assert pack_vector(vector) == struct.pack("<4f", *SMALL)


@given(st.lists(st.floats(width=32), max_size=20))
def test_packing_and_unpacking_are_inverse(numbers: list[float]) -> None:
    packed = pack_vector(numbers)
    assert packed == struct.pack(f"<{len(numbers)}f", *numbers)
    assert unpack_vector(packed).tobytes() == array("f", numbers).tobytes()


INFINITE, LARGEST, SUBNORMAL, NAN = 0x7F800000, 0x7F7FFFFF, 0x00000001, 0x7FC00001
SIGN = 0x80000000


def bits_of(number: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


usual = st.floats(-(2.0**64), 2.0**64, width=32).map(bits_of) | st.integers(bits_of(2.0**-13), bits_of(2.0**-9))
patterns = (
    usual
    | st.integers(0, 2**32 - 1)
    | st.sampled_from([0, SIGN, INFINITE, LARGEST, SUBNORMAL, NAN, 0x007FFFFF]).flatmap(
        lambda bits: st.sampled_from([bits, bits | SIGN])
    )
)


@given(st.lists(patterns, min_size=1, max_size=40))
@example([LARGEST] * 9)
@example([bits_of(2.0**-11)])
@example([bits_of(2.0**-11) - 1] * 2)
@example([bits_of(2.0**-11) - 1])
@example([bits_of(2.0**55) - 1] * 40)
@example([bits_of(2.0**63)])
@example([bits_of(2.0**63), bits_of(2.0**40)])
@example([LARGEST | SIGN, SUBNORMAL, 0x7F7FFFFF, 0x807FFFFF])
@example([0xFF7FFFFF] * 3 + [INFINITE | SIGN])
@example([0x7F800001])
def test_a_vector_passes_exactly_if_it_is_finite_and_its_norm_in_range(bits: list[int]) -> None:
    packed = struct.pack(f"<{len(bits)}I", *bits)
    numbers = struct.unpack(f"<{len(bits)}f", packed)
    bad = [position for position, number in enumerate(numbers) if not math.isfinite(number)]
    if not bad and 2.0**-11 <= math.hypot(*numbers) <= 2.0**63:
        check_vector(packed, len(bits))
        return
    with pytest.raises(InvalidJob) as caught:
        check_vector(packed, len(bits))
    assert caught.value.field == (f"vector[{bad[0]}]" if bad else "vector")


@pytest.mark.parametrize("position", [0, 1, 511, 1022, 1023])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_a_number_that_is_not_finite_is_named_by_its_position(position: int, bad: float) -> None:
    numbers = [1.0] * 1024
    numbers[position] = bad
    with pytest.raises(InvalidJob, match=rf"vector\[{position}\]: must be a finite number"):
        check_vector(pack_vector(numbers), 1024)


@pytest.mark.parametrize("size", [0, 1, 4, 7, 9, 12])
def test_the_dimension_must_be_exact(size: int) -> None:
    with pytest.raises(InvalidJob, match=rf"expected 2 dimensions \(8 bytes\), got .* \({size} bytes\)"):
        check_vector(bytes(size), 2)


@pytest.mark.parametrize("dimension", [1, 2, 3, 1536])
def test_an_unknown_dimension_allows_any_length(dimension: int) -> None:
    check_vector(pack_vector([0.5] * dimension), None)
    with pytest.raises(InvalidJob, match=rf"vector\[{dimension - 1}\]: must be a finite number"):
        check_vector(pack_vector([0.5] * (dimension - 1) + [math.nan]), None)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 4097])
def test_an_unknown_dimension_allows_no_torn_or_empty_vector(size: int) -> None:
    with pytest.raises(InvalidJob, match=rf"got .* \({size} bytes\)"):
        check_vector(bytes(size), None)


@pytest.mark.parametrize("dimension", [2, 1024, 65_536])
@pytest.mark.parametrize("number", [0.0, -0.0, 3e38, -3e38, 1e-45, 1e-7], ids=str)
def test_a_vector_that_no_search_could_find_is_refused(number: float, dimension: int) -> None:
    with pytest.raises(InvalidJob, match=r"vector: (all numbers are zero|its norm must be from)"):
        check_vector(pack_vector([number] * dimension), dimension)
