"""Old and new workers side by side: what the old one does not know yet is held for the new one, in its order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, Delete, Upsert, encode_job, partition_of
from memory_worker.contract.vectors import pack_vector
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.acceptance.conftest import DIMENSION
from tests.acceptance.oracle import Place
from tests.acceptance.processes import WorkerProcess

PARTITIONS = 16
USER, OTHER = 7, 8
NEWER = CONTRACT_VERSION + 1
APPLIED_TIMEOUT_S = 30.0

NEW_WORKER = f"""
import memory_worker.ingest.decoding as decoding
decoding.CONTRACT_VERSION = {NEWER}
from memory_worker.__main__ import main
main()
"""


async def test_entries_of_a_newer_contract_are_held_until_a_newer_worker_comes(
    environment: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    stored: Callable[[], dict[Place, int]],
) -> None:
    old = start_worker("all")
    redis = open_redis(environment["REDIS_URL"], timeout_s=5)
    keys = Keys(environment["QUEUE_PREFIX"])
    partition = partition_of(USER, PARTITIONS)
    assert partition != partition_of(OTHER, PARTITIONS)

    known = await push(redis, keys, PARTITIONS, [(partition, _upsert(USER, 1))])
    await push(redis, keys, PARTITIONS, [(partition, _upsert(USER, 2))], version=NEWER)
    behind = await push(redis, keys, PARTITIONS, [(partition, encode_job(Delete(user_id=USER, point_ids=["mem_7_1"])))])
    elsewhere = await push(redis, keys, PARTITIONS, [(partition_of(OTHER, PARTITIONS), _upsert(OTHER, 3))])

    async with MemoryQueue.connect(environment["REDIS_URL"], prefix=environment["QUEUE_PREFIX"]) as queue:
        await queue.wait_applied(known[0], timeout=APPLIED_TIMEOUT_S)
        await queue.wait_applied(elsewhere[0], timeout=APPLIED_TIMEOUT_S)
        old.wait_for("newer_contract_held")
        assert stored() == {("memory", None, "mem_7_1"): 1, ("memory", None, "mem_8_3"): 3}
        held = [part for part in _status(environment)["partitions"] if part["held"]]
        assert [(part["partition"], part["waiting"], part["dead"]) for part in held] == [(partition, 2, 0)]

        new = WorkerProcess("ingest", environment, command=[sys.executable, "-c", NEW_WORKER])
        try:
            await queue.wait_applied(behind[0], timeout=APPLIED_TIMEOUT_S)
        finally:
            new.close()
    assert stored() == {("memory", None, "mem_7_2"): 2, ("memory", None, "mem_8_3"): 3}
    await close_redis(redis)


def _upsert(user: int, number: int) -> bytes:
    vector = pack_vector([1.0] * DIMENSION)
    return encode_job(
        Upsert(user_id=user, point_id=f"mem_{user}_{number}", vector=vector, payload={"key": str(number)})
    )


def _status(environment: dict[str, str]) -> dict[str, list[dict[str, object]]]:
    command = [sys.executable, "-m", "memory_worker", "status", "--json"]
    shown = subprocess.run(command, env={**environment}, capture_output=True, check=True, timeout=30)
    found: dict[str, list[dict[str, object]]] = json.loads(shown.stdout)
    return found
