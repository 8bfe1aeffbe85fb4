"""A proxy that delays the network: TCP servers on 127.0.0.1 that forward everything later, in each direction.

    python -m memory_worker.bench.delay DELAY_MS HOST:PORT...

It writes ``ready PORT...`` to standard error, with one port for each target.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from memory_worker.bench.processes import urls
from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import Settings

HOST = "127.0.0.1"
_CHUNK_BYTES = 262_144


def addresses(settings: Settings) -> list[str]:
    """Return the addresses of Redis and Qdrant. Raises `ConfigurationError` for TLS, which a proxy would break."""
    found = []
    for url, default_port in zip(urls(settings).values(), (6379, 6334), strict=True):
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "http", "grpc") or not parts.hostname:
            raise ConfigurationError("--delay-ms: a delay can be added to redis:// and http:// only")
        found.append(f"{parts.hostname}:{parts.port or default_port}")
    return found


def farther_away(settings: Settings, redis_port: str, qdrant_port: str) -> Settings:
    """Return settings that lead to Redis and Qdrant through these local ports."""
    parts = urlsplit(urls(settings)["Redis"])
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    redis_url = SecretStr(urlunsplit(parts._replace(netloc=f"{login}{HOST}:{redis_port}")))
    return settings.model_copy(update={"redis_url": redis_url, "qdrant_url": f"http://{HOST}:{qdrant_port}"})


async def delayed_server(host: str, port: int, delay_s: float) -> asyncio.Server:
    """Return a server that passes on what comes, in order and ``delay_s`` later. Bandwidth is not limited.

    It needs a `precise_loop`.
    """

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pass_on(reader, far_writer, delay_s), _pass_on(far_reader, writer, delay_s))
        for done in (writer, far_writer):
            asyncio.get_running_loop().call_later(delay_s, done.close)

    return await asyncio.start_server(connect, HOST, 0)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            loop.call_later(delay_s, writer.write, data)
    loop.call_later(delay_s, writer.write_eof)


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop with timers as fine as the system's: those of ``epoll`` and uvloop tick in milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _main(delay_ms: str, *targets: str) -> None:
    addresses = [target.rpartition(":") for target in targets]
    servers = [await delayed_server(host, int(port), float(delay_ms) / 1000) for host, _, port in addresses]
    ports = (str(server.sockets[0].getsockname()[1]) for server in servers)
    sys.stderr.write(f"ready {' '.join(ports)}\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_main(*sys.argv[1:]))
