"""A network that is farther away: a TCP server in front of another, which hands on everything later, each way.

    python -m memory_worker.bench.delay DELAY_MS HOST:PORT...

It says ``ready PORT...`` on its standard error, one port on 127.0.0.1 for each target.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
_CHUNK_BYTES = 262_144


class DelayProxy:
    """Hands on what comes, ``delay_s`` seconds later and in order; bandwidth is not limited.

    Its loop must tick finer than that: see `precise_loop`.
    """

    def __init__(self, host: str, port: int, *, delay_s: float) -> None:
        self._target = (host, port)
        self._delay_s = delay_s
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # accepted at the last moment: `__aexit__` does not know this connection
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this is one
        self._connections.add(task)
        try:
            with suppress(OSError):
                await self._connect(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._hand_on(reader, far_writer))
                ways.create_task(self._hand_on(far_reader, writer))
        except* OSError:
            pass  # one end is gone: so is the connection
        finally:
            far_writer.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._deliver(on_its_way, writer))
        try:
            while True:
                data = await reader.read(_CHUNK_BYTES)
                on_its_way.put_nowait((time.monotonic() + self._delay_s, data))
                if not data:
                    break
            await arriving
        finally:
            arriving.cancel()

    @staticmethod
    async def _deliver(on_its_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await on_its_way.get()
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are as fine as the system's: ``epoll`` and uvloop round to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _main(delay_ms: float, targets: list[str]) -> None:
    proxies = []
    for target in targets:
        host, _, port = target.rpartition(":")
        proxy = DelayProxy(host, int(port), delay_s=delay_ms / 1000)
        proxies.append(await proxy.__aenter__())
    sys.stderr.write(f"ready {' '.join(str(proxy.port) for proxy in proxies)}\n")
    sys.stderr.flush()
    await asyncio.to_thread(sys.stdin.read)  # ends with whoever started it


if __name__ == "__main__":
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_main(float(sys.argv[1]), sys.argv[2:]))
