"""Helpers for all lanes: tools that no package brings, arq's own client, costs that are counted instead of timed."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from memory_worker.wire.arq_records import decode_arq, encode_arq


def tool(name: str) -> str:
    """Return the path of a tool. If it is missing, skip the test, or fail if ``TEST_REQUIRED_TOOLS`` names it."""
    return shutil.which(name) or missing(name)


def missing(name: str) -> NoReturn:
    """Skip the test for want of a tool, or fail if ``TEST_REQUIRED_TOOLS`` names it."""
    if name in os.environ.get("TEST_REQUIRED_TOOLS", "").split():
        pytest.fail(f"there is no {name}")
    pytest.skip(f"there is no {name}")


def arq_client(redis: Redis) -> ArqRedis:
    """Return arq's own client on the connections of ``redis``, with the serializer that workers read."""
    return ArqRedis(redis.connection_pool, job_serializer=encode_arq, job_deserializer=decode_arq)


async def let_others_run(turns: int = 5) -> None:
    """Let all other tasks run as far as they can, for a few turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


def instructions(work: Callable[[], None]) -> int:
    """Count the bytecode instructions that ``work`` runs. The count is the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before, collecting = sys.gettrace(), gc.isenabled()
    gc.disable()  # its callbacks would count
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        if collecting:
            gc.enable()
    return count
