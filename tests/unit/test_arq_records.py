from __future__ import annotations

import contextlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

import arq.jobs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.contract import Get
from memory_worker.wire.arq_records import decode_arq, encode_arq

JOB = {"t": None, "f": "drain", "a": (3,), "k": {"x": 1}, "et": 0}
RESULT = {**JOB, "s": True, "r": {"ok": True}, "st": 1, "ft": 2, "q": "mw:drain", "id": "1"}


class Malicious:
    """A pickle of this makes a directory when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_a_decode_error_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    malicious, harmless = (pickle.dumps(body, protocol) for body in (Malicious(tmp_path / "owned"), JOB))
    for body in (malicious, harmless):
        with pytest.raises(msgspec.DecodeError):
            decode_arq(body)
    assert list(tmp_path.iterdir()) == []
    pickle.loads(malicious)
    assert [path.name for path in tmp_path.iterdir()] == ["owned"]


def test_arq_reports_a_pickle_as_a_job_that_it_cannot_deserialize() -> None:
    with pytest.raises(arq.jobs.DeserializationError):
        arq.jobs.deserialize_job_raw(pickle.dumps(JOB), deserializer=decode_arq)


def test_no_module_imports_pickle() -> None:
    for path in (Path(__file__).parents[2] / "worker" / "memory_worker").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) \w*pickle", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_a_job_survives_encoding_and_decoding() -> None:
    assert decode_arq(encode_arq(JOB)) == {**JOB, "a": [3]}


def test_a_job_in_json_is_decoded() -> None:
    assert decode_arq(b'{"t":null,"f":"drain","a":[3],"k":{"x":1},"et":0}') == {**JOB, "a": [3]}


def test_a_struct_is_decoded_as_a_map() -> None:
    job = Get(user_id=1, point_ids=["mem_1_1"])
    found = decode_arq(encode_arq({**JOB, "a": (job,)}))["a"][0]
    assert found == {"op": "get", "user_id": 1, "point_ids": ["mem_1_1"]}


def test_a_result_is_stored_without_arguments() -> None:
    found = decode_arq(encode_arq({**RESULT, "a": ("secret",), "k": {"vector": "secret"}}))
    assert found == {**RESULT, "a": [], "k": {}}


def test_a_result_of_none_is_not_stored() -> None:
    assert encode_arq({**RESULT, "r": None}) == b""


@pytest.mark.parametrize("result", [0, False, "", [], {}], ids=repr)
def test_an_empty_result_is_stored(result: Any) -> None:
    assert decode_arq(encode_arq({**RESULT, "r": result}))["r"] == result


def test_an_exception_is_stored_as_text() -> None:
    found = decode_arq(encode_arq({**RESULT, "s": False, "r": ValueError("no such thing")}))
    assert found["r"] == "ValueError: no such thing"


def test_a_type_that_cannot_be_encoded_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="a object cannot be encoded"):
        encode_arq({**RESULT, "r": object()})


NO_MAPS = [
    *(b"", b"\x90", b"\xc0", b"[1]", b"{", b"\x81\xa1a", b"\x91" * 5000),
    *(b"\x81\xa1a" + b"\x91" * 5000, b'{"a":' + b"[" * 5000),  # too deep for the decoder
    *(b"\x81\xa1\xff\x01", b'{"a":"\xff"}'),  # not UTF-8
]


@pytest.mark.parametrize("body", NO_MAPS, ids=lambda body: repr(body[:9]))
def test_a_body_that_is_not_a_map_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_arq(body)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_map_or_a_decode_error(body: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        assert type(decode_arq(body)) is dict
