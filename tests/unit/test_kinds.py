from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import DOCUMENT, KINDS, MEMORY, Kind, namespace_of, primary_id

DNS_NAMESPACE = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")


@pytest.mark.parametrize(
    ("point_id", "expected"),
    [
        ("mem_1730_12345", "c7a871fa-7b93-55e6-8deb-450fa7da1c6a"),
        ("doc_1730_9_0", "4f461af7-e605-5c9b-a464-b7c3abcacd33"),
        ("mem_1_1", "41bb8390-d82f-5b49-837c-23a1431dc3fa"),
    ],
)
def test_the_primary_id_of_a_point_never_changes(point_id: str, expected: str) -> None:
    assert primary_id(point_id) == expected


@given(st.text("mdoce_0123456789:.-", max_size=50))
def test_a_primary_id_is_a_uuid_of_version_5(point_id: str) -> None:
    digest = bytearray(hashlib.sha1(DNS_NAMESPACE + point_id.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert primary_id(point_id) == str(uuid.UUID(bytes=bytes(digest)))


@pytest.mark.parametrize(
    ("collection", "namespace"),
    [
        ("user_memories_feedback_positive", "feedback_positive"),
        ("user_memories_a-0_", "a-0_"),
        ("user_memories__", "_"),
        ("user_memories", None),
        ("user_memories_", None),
        ("user_memories-x", None),
        ("user_memories_X", None),
        ("user_memories_x.y", None),
        ("user_memories_" + "x" * 65, None),
        ("other_user_memories_x", None),
        ("user_documents", None),
        ("", None),
    ],
)
def test_the_namespace_is_read_from_the_name_of_a_collection(collection: str, namespace: str | None) -> None:
    assert namespace_of(collection, "user_memories") == namespace


@given(st.text("abz09_-", min_size=1, max_size=64))
def test_every_namespace_is_read_back_from_its_collection(namespace: str) -> None:
    MEMORY.check_namespace(namespace)
    assert namespace_of(f"base_{namespace}", "base") == namespace


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_fields_of_a_kind_are_consistent(kind: Kind) -> None:
    assert KINDS[kind.name] is kind
    kind.check_point_id(f"{kind.id_prefix}_1_x", 1)
    assert {"user_id", "_point_id", *kind.search_filter} <= set(kind.indexes)
    assert set(kind.narrowing) <= set(kind.indexes)
    types = {"integer": int, "keyword": str, "bool": bool}
    for field, index in kind.indexes.items():
        assert kind.payload_types.get(field, types[index]) is types[index]
    for field, value in kind.payload_defaults.items():
        assert type(value) is kind.payload_types[field]


def test_the_main_app_can_rely_on_indexes_and_defaults() -> None:
    assert dict(MEMORY.indexes) == {
        "user_id": "integer",
        "category": "keyword",
        "_point_id": "keyword",
        "active": "bool",
        "created": "integer",
        "updated": "integer",
        "embedding_model_id": "integer",
    }
    assert dict(DOCUMENT.indexes) == {
        "user_id": "integer",
        "file_id": "integer",
        "group_key": "keyword",
        "_point_id": "keyword",
        "created": "integer",
        "embedding_model_id": "integer",
        "_version": "integer",
    }
    assert (MEMORY.default_limit, MEMORY.default_min_score, dict(MEMORY.search_filter)) == (5, 0.7, {"active": True})
    assert (DOCUMENT.default_limit, DOCUMENT.default_min_score, dict(DOCUMENT.search_filter)) == (10, 0.3, {})


@pytest.mark.parametrize(
    ("point_id", "user_id"),
    [("mem_2_x", 1), ("mem_11_x", 1), ("mem_01_x", 1), ("MEM_1_x", 1), ("mem_1", 1), ("mem_1_", 1), ("xmem_1_x", 1)],
)
def test_a_point_id_must_name_its_user(point_id: str, user_id: int) -> None:
    with pytest.raises(InvalidJob, match=r"must (start with|follow) 'mem_1_'"):
        MEMORY.check_point_id(point_id, user_id)
