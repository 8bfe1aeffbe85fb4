"""Open and close a client."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import ClassVar, NoReturn, Protocol, Self

from memory_worker.client.connections import MAX_CONNECTIONS, ConnectionSource, PerLoop
from memory_worker.client.opened import Opened
from memory_worker.client.producer import Producer
from memory_worker.wire.connection import Access
from memory_worker.wire.keys import Keys


class _MakeSource(Protocol):
    def __call__(
        self, url: str, *, prefix: str, timeout_s: float, access: Access, max_connections: int
    ) -> ConnectionSource: ...


class Connecting(Opened):
    """A client with its own connections, which `connect` makes."""

    _source: ClassVar[_MakeSource] = PerLoop

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "mw",
        timeout_s: float = 5.0,
        access: Access | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        source = self._source(
            url, prefix=prefix, timeout_s=timeout_s, access=access or Access(), max_connections=max_connections
        )
        super().__init__(Producer(source, Keys(prefix), timeout_s=timeout_s))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied; make one in each process, in a module")

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        prefix: str = "mw",
        timeout_s: float = 5.0,
        max_connections: int = MAX_CONNECTIONS,
        username: str | None = None,
        password: str | None = None,
        tls_ca_file: Path | str | None = None,
        tls_cert_file: Path | str | None = None,
        tls_key_file: Path | str | None = None,
    ) -> Self:
        """Return a queue for the Redis at ``url``. It connects at the first use.

        ``prefix`` is the workers' ``QUEUE_PREFIX``. ``timeout_s`` bounds each round trip of a push, including all of
        its steps from waiting for a connection to the reply. At most ``max_connections`` are open at once: a quarter of
        them for pushes, the others for waits and reads. If none is free, a request waits for one until its timeout.
        ``username`` and ``password`` override those in the URL. They are used as they are, not percent-decoded.

        ``rediss://`` uses TLS. The certificate must belong to the host in the URL and be signed by an authority of the
        system or, if ``tls_ca_file`` is given, by that authority. ``tls_cert_file`` and ``tls_key_file`` are the client
        certificate, if Redis asks for one. All three are PEM files, which are read at the first use. The first use
        raises `ConfigurationError` if the URL or a file cannot be used.
        """
        access = Access(
            username=username,
            password=password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
        )
        return cls(url, prefix=prefix, timeout_s=timeout_s, access=access, max_connections=max_connections)


class Connected(Connecting):
    """A client for asyncio. Close it with ``async with`` or `close`.

    It is safe for concurrent use within an event loop. Connections belong to the event loop that first used them. In
    another loop (after the first has ended) new ones are opened.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The queue may be used again afterwards."""
        await self._producer.close()
