"""During a rolling deploy, old workers hold entries that they do not know for new workers, in order."""

from __future__ import annotations

import asyncio
import json
import sys

from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, Delete, Upsert, encode_job, partition_of
from memory_worker.contract.vectors import pack_vector
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.acceptance.conftest import PARTITIONS, VECTOR, StartWorker, Stored, wait_applied
from tests.acceptance.processes import WorkerProcess
from tests.commands import run_here

USER, OTHER = 7, 8
NEWER = CONTRACT_VERSION + 1

NEW_WORKER = f"""
import memory_worker.ingest.decoding as decoding
decoding.CONTRACT_VERSION = {NEWER}
from memory_worker.__main__ import main
main()
"""


async def test_entries_of_a_newer_contract_are_held_until_a_newer_worker_starts(
    environment: dict[str, str], start_worker: StartWorker, stored: Stored, queue: MemoryQueue, redis: Redis, keys: Keys
) -> None:
    old = start_worker("all")
    partition = partition_of(USER, PARTITIONS)
    assert partition != partition_of(OTHER, PARTITIONS)

    known = await push(redis, keys, PARTITIONS, [(partition, _upsert(USER, 1))])
    await push(redis, keys, PARTITIONS, [(partition, _upsert(USER, 2))], version=NEWER)
    behind = await push(redis, keys, PARTITIONS, [(partition, encode_job(Delete(user_id=USER, point_ids=["mem_7_1"])))])
    elsewhere = await push(redis, keys, PARTITIONS, [(partition_of(OTHER, PARTITIONS), _upsert(OTHER, 3))])

    await wait_applied(queue, [*known, *elsewhere])
    old.wait_for("partition_held")
    assert stored() == {("memory", None, "mem_7_1"): 1, ("memory", None, "mem_8_3"): 3}
    status = json.loads(await asyncio.to_thread(run_here, "status", "--json", **environment))
    held = [part for part in status["partitions"] if part["held"]]
    assert [(part["partition"], part["waiting"], part["dead"]) for part in held] == [(partition, 2, 0)]
    assert held[0]["needs"] == f"contract version {NEWER}"

    new = WorkerProcess("ingest", environment, command=[sys.executable, "-c", NEW_WORKER])
    try:
        await wait_applied(queue, behind)
    finally:
        new.close()
    assert stored() == {("memory", None, "mem_7_2"): 2, ("memory", None, "mem_8_3"): 3}


def _upsert(user: int, number: int) -> bytes:
    point_id, payload = f"mem_{user}_{number}", {"key": str(number)}
    return encode_job(Upsert(user_id=user, point_id=point_id, vector=pack_vector(VECTOR), payload=payload))
