"""What processes use, and who serves a port."""

from __future__ import annotations

import os
import socket
import time

from memory_worker.bench.usage import cpu_s, pss_mib, rss_mib, serving, watched

NOBODY = 2**22 + 1


def test_cpu_time_goes_up_while_something_is_done() -> None:
    before = cpu_s(os.getpid())
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        ...
    assert cpu_s(os.getpid()) > before


def test_memory_of_a_process_that_is_there_and_of_one_that_is_not() -> None:
    pss = pss_mib(os.getpid())
    assert pss is None or 1 < pss <= rss_mib(os.getpid()) + 1
    assert rss_mib(os.getpid()) > 1
    assert (cpu_s(NOBODY), rss_mib(NOBODY), pss_mib(NOBODY)) == (0, 0, None)


async def test_the_peak_is_kept() -> None:
    async with watched({"us": os.getpid()}) as memory:
        assert memory == {}
    assert memory["us"].rss_peak_mib > 1


def test_who_listens_is_found_by_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert serving(f"redis://user:secret@127.0.0.1:{port}/0") == os.getpid()
        assert serving(f"http://localhost:{port}") == os.getpid()
        assert serving(f"http://192.0.2.1:{port}") is None
    assert serving(f"http://127.0.0.1:{port}") is None
    assert serving("unix:///run/redis.sock") is None
    assert serving("") is None
