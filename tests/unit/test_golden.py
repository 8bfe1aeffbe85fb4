"""The golden files are those that the contract makes, and workers accept what is in them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from memory_worker.contract import ReadJob, Reply, checked, convert_read, decode_write
from tests.golden_files import FILES, FOLDER
from tests.golden_inputs.limits import LIMITS
from tests.golden_recorder import meta_of, plain
from tests.golden_values import dump, to_form

JOB_TYPES = {str(job.__struct_config__.tag): job for job in ReadJob.__args__}


def stored(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_the_contract_makes(name: str) -> None:
    made, found = dump(FILES[name]()), (FOLDER / name).read_text(encoding="utf-8")
    assert found == made, "run python -m tests.golden_files --write, and read the diff"


def test_the_readme_describes_every_file_and_no_other() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*FILES, "README.md"])
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in FILES if f"### {name}\n" not in readme] == []


@pytest.mark.parametrize("name", ["jobs.json", "errors.json", "replies.json", "states.json", "outcomes.json"])
def test_every_case_has_its_own_name(name: str) -> None:
    found = stored(name)
    cases = [case for group in found.values() for case in group] if isinstance(found, dict) else found
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names) > 10


def test_every_limit_is_used_and_few_messages_are_those_of_python() -> None:
    jobs, errors = stored("jobs.json"), stored("errors.json")["cases"]
    assert {case["limits"] for case in [*jobs["writes"], *jobs["reads"], *errors]} == set(LIMITS)
    from_python = [case["name"] for case in errors if "message_is_from" in case["error"]]
    assert 0 < len(from_python) < 15, from_python


def test_workers_accept_every_write_in_both_encodings() -> None:
    for case in stored("jobs.json")["writes"]:
        limits = meta_of(LIMITS[case["limits"]]).limits
        for entry in case["jobs"]:
            job = decode_write(bytes.fromhex(entry["msgpack"]))
            checked(job, limits)
            assert to_form(plain(job)) == entry["fields"], case["name"]
            assert decode_write(msgspec.json.encode(msgspec.msgpack.decode(bytes.fromhex(entry["msgpack"])))) == job


def test_workers_accept_every_read() -> None:
    for case in stored("jobs.json")["reads"]:
        document = msgspec.msgpack.decode(bytes.fromhex(case["job"]["msgpack"]))
        job = convert_read({**document}, JOB_TYPES[document["op"]])
        checked(job, meta_of(LIMITS[case["limits"]]).limits)
        assert to_form(document) == case["job"]["fields"], case["name"]


def test_both_encodings_of_a_reply_are_the_same() -> None:
    for case in stored("replies.json"):
        if case["msgpack"]:
            from_msgpack = msgspec.msgpack.decode(bytes.fromhex(case["msgpack"]), type=Reply)
            assert msgspec.json.decode(case["json"], type=Reply) == from_msgpack, case["name"]
