"""The network that is farther away: later by what was asked for, and otherwise the same."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from memory_worker.bench.delay import HOST, DelayProxy, precise_loop
from memory_worker.bench.network import delayed
from memory_worker.bench.processes import Processes
from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import load_settings

DELAY_S = 0.01
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


def through_proxy(talk: Talk, delay_s: float = DELAY_S) -> None:
    """Talk to an echo through a proxy, in a loop as the benchmark has it."""

    async def run() -> None:
        async with (
            await asyncio.start_server(echo, HOST, 0) as far,
            DelayProxy(HOST, far.sockets[0].getsockname()[1], delay_s=delay_s) as proxy,
        ):
            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            try:
                await asyncio.wait_for(talk(reader, writer), 20)
            finally:
                writer.transport.abort()

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(run())


def test_a_round_trip_takes_the_delay_twice() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        took_s = []
        for _ in range(5):
            started = time.monotonic()
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            took_s.append(time.monotonic() - started)
        assert min(took_s) >= 2 * DELAY_S

    through_proxy(talk)


def test_much_data_arrives_whole_and_in_order_and_is_not_delayed_piece_by_piece() -> None:
    sent = b"".join(number.to_bytes(4, "big") for number in range(250_000))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent

    started = time.monotonic()
    through_proxy(talk, delay_s=0.05)
    assert time.monotonic() - started < 5


def test_the_end_arrives_behind_the_data() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"

    through_proxy(talk)


# asyncio itself leaks a connection that its server has accepted but not yet begun to serve when it closes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("steps", range(12))
def test_a_connection_does_not_keep_the_proxy_from_ending(steps: int) -> None:
    """The proxy ends at any moment: before it has accepted the connection, while it does, or once it is in use."""

    async def run() -> None:
        with socket.create_server((HOST, 0)) as far:
            async with asyncio.timeout(20), DelayProxy(*far.getsockname(), delay_s=3_600) as proxy:
                with socket.create_connection((HOST, proxy.port)) as client:
                    client.sendall(b"x")
                    for _ in range(steps):
                        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(run())
    gc.collect()


@pytest.mark.parametrize(
    ("redis_url", "qdrant_url"),
    [("rediss://127.0.0.1:1", "http://127.0.0.1:1"), ("redis://127.0.0.1:1", "https://127.0.0.1:1")],
)
async def test_tls_cannot_be_delayed(redis_url: str, qdrant_url: str, tmp_path: Path) -> None:
    settings = load_settings(redis_url=redis_url, qdrant_url=qdrant_url, data_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="delay"):
        async with delayed(Processes(), settings, 1):
            raise AssertionError
