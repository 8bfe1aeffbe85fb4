"""Viewers of a console, each with a connection of its own, who ask for the first page again and again.

    python -m memory_worker.bench.viewers PORT COUNT EVERY_S

It writes ``ready`` to standard error once each viewer has seen the page, and ends if a page is not served.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    if not head[0].startswith("http/1.1 200 "):
        raise RuntimeError(f"the page was not served: {head[0]}")
    lengths = [int(line.partition(":")[2]) for line in head if line.startswith("content-length:")]
    await reader.readexactly(lengths[0])


async def _watch(port: int, every_s: float, delay_s: float, seen: asyncio.Barrier) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _look(reader, writer)
    await seen.wait()
    await asyncio.sleep(delay_s)
    while True:
        await _look(reader, writer)
        await asyncio.sleep(every_s)


async def _say_ready(seen: asyncio.Barrier) -> None:
    await seen.wait()
    sys.stderr.write("ready\n")


async def _main(port: int, count: int, every_s: float) -> None:
    seen = asyncio.Barrier(count + 1)
    viewers = [_watch(port, every_s, every_s * number / count, seen) for number in range(count)]
    watching = asyncio.gather(*viewers)
    ready = asyncio.create_task(_say_ready(seen))
    await watching
    await ready


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
