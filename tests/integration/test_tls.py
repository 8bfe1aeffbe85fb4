"""TLS to both servers works with the right certificates; nothing is sent to a server with other ones."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import trustme
from pydantic import SecretStr

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import QueueUnavailable, StoreUnavailable
from memory_worker.runtime.process import WorkerProcess
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.connection import Access
from tests.integration.conftest import API_KEY, MakeSettings, running
from tests.integration.jobs import axis
from tests.integration.proxies import HOST, QdrantProxy, RedisProxy

ELSEWHERE = "elsewhere.example"


@dataclass
class Certificates:
    """An authority and its certificates as PEM files."""

    directory: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def ca_file(self) -> Path:
        path = self.directory / "ca.pem"
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def client_files(self) -> dict[str, Path]:
        issued = self.authority.issue_cert("worker@memory.example")
        cert, key = self.directory / "client.pem", self.directory / "client.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return {"tls_cert_file": cert, "tls_key_file": key}

    def server_context(self, host: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(host).configure_cert(context)
        return context

    def grpc_credentials(self, host: str) -> grpc.ServerCredentials:
        issued = self.authority.issue_cert(host)
        return grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())])


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    """The authority that the worker trusts."""
    return Certificates(tmp_path)


@pytest.fixture
def theirs(tmp_path: Path) -> Certificates:
    """Another authority."""
    return Certificates(tmp_path)


@dataclass(kw_only=True)
class TlsRedis(RedisProxy):
    """A proxy with TLS in front of Redis."""

    context: ssl.SSLContext

    async def __aenter__(self) -> Self:
        self._passing.set()
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=self.context)
        return self

    @property
    def url(self) -> str:
        return super().url.replace("redis://", "rediss://")


class TlsQdrant(QdrantProxy):
    """A proxy with TLS in front of Qdrant."""

    def __init__(self, target: str, credentials: grpc.ServerCredentials) -> None:
        super().__init__(target)
        self._credentials = credentials

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.target)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self._port = self._server.add_secure_port(f"{HOST}:0", self._credentials)
        await self._server.start()
        return self

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")


Serve = Callable[..., Any]


@pytest.fixture
async def serve_redis(redis_url: str) -> AsyncIterator[Serve]:
    """Put TLS in front of Redis."""
    async with AsyncExitStack() as stack:

        async def serve(context: ssl.SSLContext) -> TlsRedis:
            return await stack.enter_async_context(TlsRedis(redis_url, context=context))

        yield serve


@pytest.fixture
async def serve_qdrant(qdrant_url: str) -> AsyncIterator[Serve]:
    """Put TLS in front of Qdrant."""
    async with AsyncExitStack() as stack:

        async def serve(credentials: grpc.ServerCredentials) -> TlsQdrant:
            return await stack.enter_async_context(TlsQdrant(qdrant_url, credentials))

        yield serve


async def test_a_worker_and_a_client_work_with_tls_to_both_servers(
    ours: Certificates, serve_redis: Serve, serve_qdrant: Serve, settings: MakeSettings, redis_prefix: str
) -> None:
    context = ours.server_context(HOST)
    ours.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED  # a Redis with tls-auth-clients yes
    redis, qdrant = await serve_redis(context), await serve_qdrant(ours.grpc_credentials(HOST))
    files = {"tls_ca_file": ours.ca_file, **ours.client_files()}
    chosen = settings(
        redis_url=SecretStr(redis.url),
        qdrant_url=qdrant.url,
        qdrant_tls_ca_file=ours.ca_file,
        **{f"redis_{name}": path for name, path in files.items()},
    )
    async with running(chosen), MemoryQueue.connect(redis.url, prefix=redis_prefix, **files) as queue:
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
        assert [hit.point_id for hit in await queue.search(user_id=1, vector=axis(0))] == ["mem_1_1"]


class TestRedis:
    async def refused(self, redis: TlsRedis, access: Access) -> str:
        """Return the error of a client that gets no connection; it must not have sent anything."""
        queue = MemoryQueue(redis.url.replace("rediss://", "rediss://:hunter2@"), access=access)
        async with queue:
            with pytest.raises(QueueUnavailable) as error:
                await queue.delete(user_id=1, point_id="mem_1_1")
        assert redis.commands == []
        assert "hunter2" not in str(error.value)
        return str(error.value)

    async def test_a_certificate_of_another_authority_is_refused(
        self, ours: Certificates, theirs: Certificates, serve_redis: Serve
    ) -> None:
        redis = await serve_redis(theirs.server_context(HOST))
        assert "certificate verify failed" in await self.refused(redis, Access(tls_ca_file=ours.ca_file))

    async def test_a_certificate_of_an_unknown_authority_is_refused(
        self, theirs: Certificates, serve_redis: Serve
    ) -> None:
        redis = await serve_redis(theirs.server_context(HOST))
        assert "certificate verify failed" in await self.refused(redis, Access())

    async def test_a_certificate_for_another_host_is_refused(self, ours: Certificates, serve_redis: Serve) -> None:
        redis = await serve_redis(ours.server_context(ELSEWHERE))
        assert "not valid for '127.0.0.1'" in await self.refused(redis, Access(tls_ca_file=ours.ca_file))

    async def test_a_client_without_the_certificate_that_redis_requires_is_refused(
        self, ours: Certificates, serve_redis: Serve
    ) -> None:
        context = ours.server_context(HOST)
        ours.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        await self.refused(await serve_redis(context), Access(tls_ca_file=ours.ca_file))

    async def test_a_redis_without_tls_is_refused(self, ours: Certificates, redis_proxy: RedisProxy) -> None:
        url = redis_proxy.url.replace("redis://", "rediss://")
        async with MemoryQueue.connect(url, tls_ca_file=ours.ca_file, timeout_s=2) as queue:
            with pytest.raises(QueueUnavailable):
                await queue.delete(user_id=1, point_id="mem_1_1")

    async def test_a_worker_does_not_start_with_a_certificate_of_another_authority(
        self, ours: Certificates, theirs: Certificates, serve_redis: Serve, settings: MakeSettings
    ) -> None:
        redis = await serve_redis(theirs.server_context(HOST))
        chosen = settings(redis_url=SecretStr(redis.url), redis_tls_ca_file=ours.ca_file)
        with pytest.raises(QueueUnavailable, match="certificate verify failed"):
            await WorkerProcess(chosen, "all").run()


class TestQdrant:
    @pytest.mark.parametrize("wrong", ["authority", "host"])
    async def test_a_wrong_certificate_is_an_outage(
        self, wrong: str, ours: Certificates, theirs: Certificates, serve_qdrant: Serve, shape: CollectionShape
    ) -> None:
        signer, host = (theirs, HOST) if wrong == "authority" else (ours, ELSEWHERE)
        qdrant = await serve_qdrant(signer.grpc_credentials(host))
        async with VectorStore(qdrant.url, shape, api_key="hunter2", tls_ca_file=ours.ca_file) as store:
            with pytest.raises(StoreUnavailable) as refused:
                await store.version()
        assert refused.value.code == "UNAVAILABLE"
        assert qdrant.calls == []
        assert "hunter2" not in str(refused.value)

    async def test_a_certificate_of_an_unknown_authority_is_refused(
        self, theirs: Certificates, serve_qdrant: Serve, shape: CollectionShape
    ) -> None:
        qdrant = await serve_qdrant(theirs.grpc_credentials(HOST))
        async with VectorStore(qdrant.url, shape) as store:
            with pytest.raises(StoreUnavailable):
                await store.version()
        assert qdrant.calls == []

    async def test_the_certificate_must_match_the_host_of_the_url(
        self, ours: Certificates, serve_qdrant: Serve, shape: CollectionShape
    ) -> None:
        qdrant = await serve_qdrant(ours.grpc_credentials("localhost"))
        by_name = qdrant.url.replace(HOST, "localhost")
        async with VectorStore(by_name, shape, api_key=API_KEY, tls_ca_file=ours.ca_file) as store:
            assert await store.version()
        async with VectorStore(qdrant.url, shape, api_key=API_KEY, tls_ca_file=ours.ca_file) as store:
            with pytest.raises(StoreUnavailable):
                await store.version()


async def test_a_client_reconnects_with_tls(ours: Certificates, serve_redis: Serve, redis_prefix: str) -> None:
    redis = await serve_redis(ours.server_context(HOST))
    async with MemoryQueue.connect(redis.url, prefix=redis_prefix, tls_ca_file=ours.ca_file) as queue:
        for _ in range(3):
            await queue.delete(user_id=1, point_id="mem_1_1")
            redis.cut()
