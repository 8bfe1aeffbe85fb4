"""The lowest contract version that can hold a job, so that older workers can apply as many jobs as possible."""

from __future__ import annotations

import pytest

from memory_worker.contract import CONTRACT_VERSION, Delete, Limits, Patch, Prune, Purge, Upsert, WriteJob, version_of
from memory_worker.contract.kind_specs import KindSpec, kinds_of

NOTE = KindSpec(collection="notes", id_prefix="note", user_ids="string")
OWN_DIMENSIONS = {"memory": KindSpec(dimension=4), "document": KindSpec(dimension=2)}
LIMITS = Limits(dimension=2)
WITH_NOTES = Limits(dimension=2, kinds=kinds_of({"memory": KindSpec(), "note": NOTE}))
WIDER = Limits(dimension=2, kinds=kinds_of(OWN_DIMENSIONS))

UPSERT = Upsert(user_id=1, point_id="mem_1_1", vector=b"")
CHUNK = Upsert(kind="document", user_id=1, point_id="doc_1_1", vector=b"", payload={"file_id": 1, "_version": 5})
DELETE = Delete(user_id=1, namespace="a", point_ids=["mem_1_1"])
OLD: dict[str, tuple[WriteJob, Limits]] = {
    "upsert": (UPSERT, LIMITS),
    "upsert of a version": (CHUNK, LIMITS),
    "delete": (DELETE, LIMITS),
    "purge": (Purge(user_id=1), LIMITS),
    "purge of a kind": (Purge(user_id=1, kind="document", group_key="g", file_id=7), LIMITS),
    "purge of all kinds, also others": (Purge(user_id=1), WITH_NOTES),
    "upsert where other kinds exist": (UPSERT, WITH_NOTES),
    "its dimension is that of the deployment": (CHUNK, WIDER),
    "no limits are known": (UPSERT, Limits()),
}
NEW: dict[str, tuple[WriteJob, Limits]] = {
    "patch": (Patch(user_id=1, point_ids=["mem_1_1"], set={"category": "a"}), LIMITS),
    "prune": (Prune(user_id=1, file_id=1, version=1), LIMITS),
    "delete in all namespaces": (Delete(user_id=1, namespace="*", point_ids=["mem_1_1"]), LIMITS),
    "purge of old points": (Purge(user_id=1, before=1), LIMITS),
    "purge of other models": (Purge(user_id=1, other_than_model=0), LIMITS),
    "user of text": (Purge(user_id="ann"), WITH_NOTES),
    "another kind": (Delete(user_id="ann", kind="note", point_ids=["note_ann_1"]), WITH_NOTES),
    "purge of another kind": (Purge(user_id="ann", kind="note"), WITH_NOTES),
    "another dimension": (UPSERT, WIDER),
    "ref": (Upsert(user_id=1, point_id="mem_1_1", vector=b"", ref="r"), LIMITS),
    "notify": (Purge(user_id=1, notify=True), LIMITS),
}


@pytest.mark.parametrize(("job", "limits"), OLD.values(), ids=OLD)
def test_version_1_can_hold(job: WriteJob, limits: Limits) -> None:
    assert version_of(job, limits) == 1


@pytest.mark.parametrize(("job", "limits"), NEW.values(), ids=NEW)
def test_version_2_is_needed_for(job: WriteJob, limits: Limits) -> None:
    assert version_of(job, limits) == CONTRACT_VERSION == 2
