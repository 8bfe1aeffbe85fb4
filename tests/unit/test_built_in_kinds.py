"""The built-in kinds produce the same bytes as before kinds could be configured: jobs, points and new collections."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from qdrant_client import grpc as q

from memory_worker.contract import Delete, Limits, Purge, Upsert, WriteJob, checked, encode_write
from memory_worker.contract.kinds import Kinds
from memory_worker.contract.vectors import pack_vector
from memory_worker.settings import Settings
from memory_worker.store import creation, messages
from memory_worker.store.index_settings import IndexSettings
from memory_worker.store.operations import UpsertPoints
from memory_worker.store.shape import CollectionShape

VECTOR = pack_vector([0.5, 0.5, 0.5, 0.5])
MEMORY = Upsert(user_id=7, point_id="mem_7_1", vector=VECTOR, payload={"category": "work", "created": 5})
CHUNK = Upsert(
    kind="document", user_id=7, point_id="doc_7_1_0", vector=VECTOR, payload={"file_id": 1, "group_key": "A"}
)
JOBS: list[tuple[WriteJob, str]] = [
    (
        MEMORY,
        "85a26f70a6757073657274a7757365725f696407a8706f696e745f6964a76d656d5f375f31a6766563746f72c4100000003f0000003f"
        "0000003f0000003fa77061796c6f616482a863617465676f7279a4776f726ba76372656174656405",
    ),
    (
        CHUNK,
        "86a26f70a6757073657274a46b696e64a8646f63756d656e74a7757365725f696407a8706f696e745f6964a9646f635f375f315f30a6"
        "766563746f72c4100000003f0000003f0000003f0000003fa77061796c6f616482a766696c655f696401a967726f75705f6b6579a141",
    ),
    (
        Delete(user_id=7, point_ids=["mem_7_1"]),
        "83a26f70a664656c657465a7757365725f696407a9706f696e745f69647391a76d656d5f375f31",
    ),
    (Purge(user_id=7), "82a26f70a57075726765a7757365725f696407"),
    (
        Purge(user_id=7, kind="memory", category="work"),
        "84a26f70a57075726765a46b696e64a66d656d6f7279a7757365725f696407a863617465676f7279a4776f726b",
    ),
    (
        Purge(user_id=7, kind="document", file_id=1),
        "84a26f70a57075726765a46b696e64a8646f63756d656e74a7757365725f696407a766696c655f696401",
    ),
]
POINTS = {
    "d029acb89545c6254b796dc8c12769d55878b664b0ca984b035b49defd2e6368": MEMORY,
    "b6afbc1638a7217edfafa988513736120ec95310775941279fdb8814cad36a89": CHUNK,
}
COLLECTIONS = {
    "memory": (
        "0a0d757365725f6d656d6f726965732206081010642800380152080a0608041001280058016001",
        {
            "user_id": "0a0d757365725f6d656d6f7269657310011a07757365725f69642001",
            "category": "0a0d757365725f6d656d6f7269657310011a0863617465676f72792000",
            "_point_id": "0a0d757365725f6d656d6f7269657310011a095f706f696e745f69642000",
            "active": "0a0d757365725f6d656d6f7269657310011a066163746976652005",
        },
        ["created", "updated", "embedding_model_id"],
    ),
    "document": (
        "0a0e757365725f646f63756d656e74732206081010642800380152080a0608041001280058016001",
        {
            "user_id": "0a0e757365725f646f63756d656e747310011a07757365725f69642001",
            "file_id": "0a0e757365725f646f63756d656e747310011a0766696c655f69642001",
            "group_key": "0a0e757365725f646f63756d656e747310011a0967726f75705f6b65792000",
            "_point_id": "0a0e757365725f646f63756d656e747310011a095f706f696e745f69642000",
        },
        ["created", "embedding_model_id", "_version"],
    ),
}


@pytest.fixture(params=["without a file", "from a file"])
def kinds(request: pytest.FixtureRequest, tmp_path: Path) -> Kinds:
    """The built-in kinds, from the settings of a deployment."""
    file = tmp_path / "kinds.toml"
    file.write_text("[memory]\n[document]\n")
    return Settings(kinds_file=file if request.param == "from a file" else None).kinds


@pytest.mark.parametrize(("job", "body"), JOBS)
def test_jobs_have_the_same_bytes(job: WriteJob, body: str, kinds: Kinds) -> None:
    assert encode_write(job, Limits(dimension=4, kinds=kinds)).hex() == body


@pytest.mark.parametrize(("digest", "job"), POINTS.items())
def test_points_have_the_same_bytes(digest: str, job: Upsert, kinds: Kinds) -> None:
    point = checked(job, Limits(dimension=4, kinds=kinds))
    request = q.UpdateBatchPoints.FromString(messages.update_batch("c", [UpsertPoints((point,))]).body)
    assert hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest() == digest


@pytest.mark.parametrize(("kind", "expected"), COLLECTIONS.items())
def test_new_collections_only_have_more_indexes(
    kind: str, expected: tuple[str, dict[str, str], list[str]], kinds: Kinds
) -> None:
    shape = CollectionShape(kinds=kinds, dimension=4)
    collection, indexes, added = expected
    settings = IndexSettings(16, None, full_scan_threshold_kb=None, indexing_threshold_kb=10_000, tenant_index=False)
    request = creation.creation_of(shape.base(kind), kind, shape, settings)
    request.ClearField("optimizers_config")
    assert request.SerializeToString(deterministic=True).hex() == collection
    made = {
        field: creation.index_of(shape.base(kind), field, index, user_graphs=False, tenant=False)
        for field, index in shape.indexes(kind).items()
    }
    assert [field for field in made if field not in indexes] == added
    for field, body in indexes.items():
        assert made[field].SerializeToString(deterministic=True).hex() == body
