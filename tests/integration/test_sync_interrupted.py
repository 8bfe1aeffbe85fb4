"""The blocking client after exceptions of signal handlers, which may come behind any call."""

from __future__ import annotations

import asyncio
import sys

INTERRUPTED = """
import signal, sys, time
from memory_worker import Receipt, SyncMemoryQueue

class Interrupt(Exception):
    pass

def interrupt(*_):
    raise Interrupt

def push(user_id):
    return queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1")

def push_until(end):  # in a frame of its own: Python 3.13 may miss a try around a loop
    while time.monotonic() < end:
        push(1)

signal.signal(signal.SIGALRM, interrupt)
interrupted = 0
with SyncMemoryQueue.connect(sys.argv[1], prefix=sys.argv[2], max_connections=4) as queue:
    for round_ in range(400):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 * (1 + round_ % 20))
            push_until(time.monotonic() + 0.1)
        except Interrupt:
            interrupted += 1
        receipt = push(2)
        (state,) = queue.states([receipt])
        assert (state.receipt, state.state) == (receipt, "waiting"), state
print(interrupted)
"""


async def test_an_exception_of_a_signal_handler_mixes_no_replies(redis_url: str, redis_prefix: str) -> None:
    """Celery ends a task at its soft time limit in this way. Later requests get their own replies, and connections."""
    program = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", INTERRUPTED, redis_url, redis_prefix]
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert int(printed) > 300


CALLS_INTERRUPTED = """
import dis, sys, threading
from functools import cache
from memory_worker import SyncMemoryQueue

class Interrupt(Exception):
    pass

TRACED = ("threading.py", "client/connections.py", "client/producer.py", "wire/blocking_pool.py")
passed = interrupt_at = 0

@cache
def behind_call(code):
    found = list(dis.get_instructions(code))
    return {after.offset for before, after in zip(found, found[1:]) if before.opname.startswith(("CALL", "RESUME"))}

def start(frame, event, _):
    if frame.f_code.co_filename.endswith(TRACED):
        frame.f_trace_opcodes = True
        return step

def step(frame, event, _):
    global passed
    if event == "opcode" and frame.f_lasti in behind_call(frame.f_code):
        passed += 1
        if passed == interrupt_at:
            raise Interrupt
    return step

def refresh_and_push():
    queue._producer._meta_read_at = float("-inf")
    queue.delete(user_id=1, point_id="mem_1_1")
    pushed.append(1)

sys._getframe().f_trace_opcodes = True  # Python 3.12 needs it before the trace begins
with SyncMemoryQueue.connect(sys.argv[1], prefix=sys.argv[2], timeout_s=5) as queue:
    while passed >= interrupt_at:
        interrupt_at, passed, pushed = interrupt_at + 1, 0, []
        sys.settrace(start)
        try:
            refresh_and_push()
        except Interrupt:
            pass
        sys.settrace(None)
        pushed.clear()
        other = threading.Thread(target=refresh_and_push, daemon=True)
        other.start()
        other.join(timeout=10)
        assert pushed, f"another thread could not push after an exception behind call {interrupt_at}"
print(interrupt_at)
"""


async def test_an_exception_of_a_signal_handler_stops_no_other_thread(redis_url: str, redis_prefix: str) -> None:
    """The exception comes behind each call, where Python runs signal handlers."""
    program = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", CALLS_INTERRUPTED, redis_url, redis_prefix]
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert int(printed) > 50
