"""The registry and the pins of collections, and which collection a name belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import grpc as q

from memory_worker.contract.kinds import KINDS, MEMORY, with_collections
from memory_worker.store.collection_calls import Listing
from memory_worker.store.compatibility import alias_conflict, incompatibility, needs_indexes
from memory_worker.store.operations import CollectionRef
from memory_worker.store.pins import METADATA_KEY, Pin, pin_of, put_pin
from memory_worker.store.registry import key_of, origin_of, ref_of
from memory_worker.store.server_version import FIRST_WITH_METADATA, version_of
from memory_worker.store.shape import CollectionShape
from memory_worker.store.values import put_payload

MEMORIES, DOCUMENTS, FEEDBACK = CollectionRef("memory"), CollectionRef("document"), CollectionRef("memory", "feedback")
SHAPE = CollectionShape(
    kinds=with_collections(KINDS, {"memory": "m", "document": "d"}), namespaces=("feedback",), dimension=8
)


def described(metadata: dict[str, Any] | None = None) -> q.CollectionInfo:
    info = q.CollectionInfo()
    put_payload(info.config.metadata, metadata or {})
    return info


@pytest.mark.parametrize(("ref", "key"), [(MEMORIES, "memory"), (DOCUMENTS, "document"), (FEEDBACK, "memory:feedback")])
def test_the_key_of_a_collection_in_the_registry(ref: CollectionRef, key: str) -> None:
    assert key_of(ref) == key
    assert ref_of(key, KINDS) == ref


@pytest.mark.parametrize("key", ["", "note", "note:x", "memories", "Memory"])
def test_an_unknown_key_belongs_to_no_collection(key: str) -> None:
    assert ref_of(key, KINDS) is None


@pytest.mark.parametrize("stored", [None, "", "adopted", "Made", 1])
def test_an_unknown_origin_is_adopted(stored: object) -> None:
    assert origin_of(stored) == "adopted"
    assert [origin_of(known) for known in ("made", "adopted", "rekeyed")] == ["made", "adopted", "rekeyed"]


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("m", MEMORIES),
        ("d", DOCUMENTS),
        ("m_feedback", FEEDBACK),
        ("m_", None),
        ("m_UPPER", None),
        ("m-x", None),
        ("d_x", None),
        ("other", None),
    ],
)
def test_the_collection_of_a_name(name: str, ref: CollectionRef | None) -> None:
    assert SHAPE.ref(name) == ref
    if ref is not None:
        assert SHAPE.name(ref) == name


@pytest.mark.parametrize("ref", [MEMORIES, FEEDBACK])
def test_a_pin_is_read_back_from_the_metadata(ref: CollectionRef) -> None:
    info, pin = described({"owner": "somebody"}), Pin("mw", ref, "made")
    put_pin(info.config.metadata, pin)
    assert pin_of(info, ref) == pin
    assert pin_of(info, CollectionRef("memory", "copy")) is None
    assert "owner" in info.config.metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {METADATA_KEY: "text"},
        {METADATA_KEY: None},
        {METADATA_KEY: []},
        {METADATA_KEY: {"kind": "memory", "namespace": None}},
        {METADATA_KEY: {"prefix": 1, "kind": "memory", "namespace": None}},
        {METADATA_KEY: {"prefix": "mw", "kind": "document", "namespace": None}},
        {METADATA_KEY: {"prefix": "mw", "kind": "memory", "namespace": {"a": 1}}},
    ],
)
def test_other_metadata_is_not_a_pin(metadata: dict[str, Any]) -> None:
    assert pin_of(described(metadata), MEMORIES) is None


def test_a_pin_without_an_origin_means_adopted() -> None:
    info = described({METADATA_KEY: {"prefix": "mw", "kind": "memory", "namespace": None}})
    assert pin_of(info, MEMORIES) == Pin("mw", MEMORIES, "adopted")


@pytest.mark.parametrize(
    ("version", "stored"),
    [("1.15.5", False), ("1.16.0", True), ("1.18.3-dev", True), ("2.0.0", True), ("", False), ("unknown", False)],
)
def test_servers_have_metadata_from_1_16_on(version: str, stored: bool) -> None:
    assert (version_of(version) >= FIRST_WITH_METADATA) is stored


@pytest.mark.parametrize(
    ("aliases", "same"),
    [
        ({}, False),
        ({"m": "m_2026"}, False),
        ({"m_feedback": "f_2026"}, False),
        ({"m_feedback": "m"}, True),
        ({"m": "m_feedback"}, True),
        ({"m": "x", "m_feedback": "x"}, True),
        ({"other": "m"}, False),
    ],
)
def test_two_names_of_one_collection_are_noticed(aliases: dict[str, str], same: bool) -> None:
    listing = Listing(frozenset({"m", "d", "m_feedback", "x", "m_2026", "f_2026"}), aliases)
    found = alias_conflict(SHAPE, FEEDBACK, [MEMORIES, DOCUMENTS, FEEDBACK], listing)
    assert (found is not None) is same
    if found is not None:
        assert "m and m_feedback are one collection" in found


def test_a_misfit_names_both_dimensions() -> None:
    info = q.CollectionInfo()
    params = info.config.params.vectors_config.params
    params.size, params.distance = 16, q.Distance.Cosine
    assert incompatibility("m_x", info, MEMORY, 16) is None
    assert (
        incompatibility("m_x", info, MEMORY, 8) == "collection m_x has dimension 16, but QDRANT_VECTOR_DIMENSION is 8"
    )


def test_indexes_are_needed_only_if_strict_mode_forbids_updates_without_them() -> None:
    info = q.CollectionInfo()
    assert not needs_indexes(info)
    strict = info.config.strict_mode_config
    strict.enabled = True
    assert not needs_indexes(info)
    strict.unindexed_filtering_update = False
    assert needs_indexes(info)
    strict.enabled = False
    assert not needs_indexes(info)
