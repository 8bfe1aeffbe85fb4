from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
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
    """What an attacker would put into Redis: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_a_decode_error_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    body = pickle.dumps(Malicious(tmp_path / "owned"), protocol)
    with pytest.raises(msgspec.DecodeError):
        decode_arq(body)
    assert list(tmp_path.iterdir()) == []
    pickle.loads(body)  # the file it would have made
    assert [path.name for path in tmp_path.iterdir()] == ["owned"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_honest_pickle_is_a_decode_error_too(protocol: int) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_arq(pickle.dumps(JOB, protocol))


def test_arq_takes_the_error_for_a_bad_job_not_for_a_crash() -> None:
    with pytest.raises(arq.jobs.DeserializationError):
        arq.jobs.deserialize_job_raw(pickle.dumps(JOB), deserializer=decode_arq)


def test_no_module_of_ours_imports_pickle() -> None:
    for path in (Path(__file__).parents[2] / "worker" / "memory_worker").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) \w*pickle", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_a_job_comes_back() -> None:
    assert decode_arq(encode_arq(JOB)) == {**JOB, "a": [3]}


def test_a_job_may_be_json() -> None:
    assert decode_arq(b'{"t":null,"f":"drain","a":[3],"k":{"x":1},"et":0}') == {**JOB, "a": [3]}


def test_a_job_may_carry_a_struct() -> None:
    job = Get(user_id=1, point_ids=["mem_1_1"])
    found = decode_arq(encode_arq({**JOB, "a": (job,)}))["a"][0]
    assert found == {"op": "get", "user_id": 1, "point_ids": ["mem_1_1"]}


def test_a_result_drops_its_arguments() -> None:
    found = decode_arq(encode_arq({**RESULT, "a": ("secret",), "k": {"vector": "secret"}}))
    assert found == {**RESULT, "a": [], "k": {}}


def test_no_result_is_not_kept() -> None:
    assert encode_arq({**RESULT, "r": None}) == b""


@pytest.mark.parametrize("result", [0, False, "", [], {}], ids=repr)
def test_an_empty_result_is_kept(result: Any) -> None:
    assert decode_arq(encode_arq({**RESULT, "r": result}))["r"] == result


def test_an_exception_becomes_text() -> None:
    found = decode_arq(encode_arq({**RESULT, "s": False, "r": ValueError("no such thing")}))
    assert found["r"] == "ValueError: no such thing"


def test_what_cannot_be_encoded_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="a object cannot be encoded"):
        encode_arq({**RESULT, "r": object()})


@pytest.mark.parametrize(
    "body", [b"", b"\x90", b"\xc0", b"[1]", b"{", b"\x81\xa1a", b"\x91" * 5000], ids=lambda b: repr(b[:9])
)
def test_what_is_no_map_is_a_decode_error(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        decode_arq(body)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_surprise_arq(body: bytes) -> None:
    try:
        found = decode_arq(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert type(found) is dict


def test_what_the_main_app_imports_loads_neither_grpc_nor_qdrant() -> None:
    unwanted = ("grpc", "qdrant_client", "memory_worker.store")
    program = f"import sys, memory_worker.client.memory_queue; print([m for m in {unwanted} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
