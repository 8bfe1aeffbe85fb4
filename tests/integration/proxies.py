"""Proxies between the worker and its servers. They record real calls and cause real failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import grpc
import hiredis
from qdrant_client import grpc as q

from memory_worker.contract.kinds import primary_id

HOST = "127.0.0.1"
UPDATE = "Points/UpdateBatch"

_NO_CAP = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_MESSAGES: dict[str, tuple[Any, Any]] = {
    "Collections/CollectionExists": (q.CollectionExistsRequest, q.CollectionExistsResponse),
    "Collections/Create": (q.CreateCollection, q.CollectionOperationResponse),
    "Collections/Get": (q.GetCollectionInfoRequest, q.GetCollectionInfoResponse),
    "Collections/List": (q.ListCollectionsRequest, q.ListCollectionsResponse),
    "Collections/Update": (q.UpdateCollection, q.CollectionOperationResponse),
    "Points/Query": (q.QueryPoints, q.QueryResponse),
    "Points/QueryBatch": (q.QueryBatchPoints, q.QueryBatchResponse),
    "Points/Scroll": (q.ScrollPoints, q.ScrollResponse),
    "Points/UpdateBatch": (q.UpdateBatchPoints, q.UpdateBatchResponse),
    "Qdrant/HealthCheck": (q.HealthCheckRequest, q.HealthCheckReply),
}


@dataclass
class Call:
    """A call to Qdrant, with the time until its deadline.

    ``forward`` sends ``request``, which a rule may have changed, and returns the answer.
    """

    request: Any
    time_left_s: float
    forward: Callable[[], Awaitable[Any]] = field(init=False)


Rule = Callable[[Call], Awaitable[Any]]


class Refusal(Exception):
    """Raised by a rule: the call ends with this status."""

    def __init__(self, code: grpc.StatusCode, details: str = "refused by the test", **metadata: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.metadata = tuple((name.replace("_", "-"), value) for name, value in metadata.items())


def failing(code: grpc.StatusCode, details: str = "refused by the test", **metadata: str) -> Rule:
    """Fail every call with this status."""

    async def rule(call: Call) -> Any:
        raise Refusal(code, details, **metadata)

    return rule


unavailable = failing(grpc.StatusCode.UNAVAILABLE)


def refusing(*point_ids: str) -> Rule:
    """Refuse every batch that writes one of these points; forward all other calls."""
    refused = {primary_id(point_id) for point_id in point_ids}

    async def rule(call: Call) -> Any:
        if written_ids(call) & refused:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Wrong input: a bad point")
        return await call.forward()

    return rule


def written_ids(call: Call) -> set[str]:
    """Return the primary ids of the points that a batch writes."""
    return {point.id.uuid for operation in call.request.operations for point in operation.upsert.points}


async def lose_reply(call: Call) -> Any:
    """Forward the call, and lose the reply."""
    await call.forward()
    raise Refusal(grpc.StatusCode.UNAVAILABLE, "applied, but the reply is lost")


async def never_answer(call: Call) -> Any:
    """Keep the caller waiting for ever."""
    await asyncio.Event().wait()


class Hold:
    """A rule that holds calls until `release`; ``reached`` is set once it holds one."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Forward the calls that are held, and all later ones."""
        self._released.set()

    async def __call__(self, call: Call) -> Any:
        self.reached.set()
        await self._released.wait()
        return await call.forward()


class QdrantProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A gRPC server that forwards every call to Qdrant, unless there is a rule for its method.

    ``calls`` are the methods called so far, such as ``Points/UpdateBatch``. ``rules`` may be changed at any time.
    """

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://")
        self.calls: list[str] = []
        self.rules: dict[str, Rule] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.target, options=_NO_CAP)
        self._server = grpc.aio.server(options=_NO_CAP)
        self._server.add_generic_rpc_handlers((self,))
        self._port = self._server.add_insecure_port(f"{HOST}:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def answer(request: bytes, context: Any) -> bytes:
            return await self._answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        name = method.removeprefix("/qdrant.")
        self.calls.append(name)
        try:
            if (rule := self.rules.get(name)) is None:
                return await self._forward(method, request, context)
            asked, answered = _MESSAGES[name]

            call = Call(asked.FromString(request), context.time_remaining())

            async def forward() -> Any:
                return answered.FromString(await self._forward(method, call.request.SerializeToString(), context))

            call.forward = forward
            return bytes((await rule(call)).SerializeToString())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.details, refusal.metadata)
        raise AssertionError

    async def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        metadata = [(name, value) for name, value in context.invocation_metadata() if name == "api-key"]
        call = self._channel.unary_unary(method)
        return bytes(await call(request, timeout=context.time_remaining(), metadata=metadata))


@dataclass
class RedisProxy:
    """A TCP server in front of Redis. ``commands`` are those it has received, in order, as lists of their words.

    ``answered_bytes`` is the size of all replies. ``delay_s`` delays everything that is sent to Redis.
    """

    target: str
    commands: list[list[bytes]] = field(default_factory=list)
    delay_s: float = 0.0
    answered_bytes: int = 0
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _lose_reply_to: bytes | None = None
    _hold_back: bytes | None = None
    _held_back: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[tuple[bytes, asyncio.Event]] = field(default_factory=list)
    _connections: dict[asyncio.StreamWriter, asyncio.Event] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._passing.set()
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        ended = list(self._connections.values())
        self.cut()
        for connection in ended:
            await connection.wait()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        parts = urlsplit(self.target)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{login}{HOST}:{port}"))

    def words(self) -> list[str]:
        """Return the first word of each command since the last call of this method."""
        found = [command[0].decode().upper() for command in self.commands]
        self.commands.clear()
        return found

    def lose_reply_to(self, word: bytes) -> None:
        """Close the connection instead of forwarding the reply to the next command that begins with ``word``."""
        self._lose_reply_to = word

    def hold_back(self, word: bytes) -> None:
        """Close the connection of the next command that begins with ``word``, and keep the command until `deliver`."""
        self._hold_back = word
        self._held_back.clear()

    def deliver(self) -> None:
        """Forward the command that was held back, long after its sender has given up that connection."""
        self._held_back.set()

    def seen(self, word: bytes) -> asyncio.Event:
        """Return an event that is set once a command that begins with ``word`` has been forwarded."""
        event = asyncio.Event()
        self._waiting.append((word, event))
        return event

    def hang(self) -> None:
        """Accept commands but forward none, like a Redis that hangs, until `go_on`."""
        self._passing.clear()

    def go_on(self) -> None:
        """Forward all commands, even those of connections that have been given up."""
        self._passing.set()

    def cut(self) -> None:
        """Close all connections."""
        for writer in self._connections:
            with suppress(AttributeError):  # a closed one with TLS, in early versions of 3.11
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():  # accepted at the last moment, so `__aexit__` does not know this connection
            writer.transport.abort()
            return
        self._connections[writer] = asyncio.Event()
        parts = urlsplit(self.target)
        back_reader, back_writer = await asyncio.open_connection(parts.hostname, parts.port or 6379)
        losing = asyncio.Event()
        try:
            pumps = {
                asyncio.create_task(self._forward_commands(reader, back_writer, losing, writer.transport.abort)),
                asyncio.create_task(self._forward_replies(back_reader, writer, losing)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for end in (writer, back_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()
            self._connections.pop(writer).set()

    async def _forward_commands(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        losing: asyncio.Event,
        cut: Callable[[], None],
    ) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            found = []
            while (command := parser.gets()) is not False:
                found.append(command)
            self.commands += found
            if any(command[0] == self._lose_reply_to for command in found):
                self._lose_reply_to = None
                losing.set()
            if any(command[0] == self._hold_back for command in found):
                self._hold_back = None
                cut()
                await self._held_back.wait()
            await asyncio.sleep(self.delay_s)
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
            for word, event in self._waiting:
                if any(command[0] == word for command in found):
                    event.set()

    async def _forward_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if losing.is_set():
                return
            self.answered_bytes += len(data)
            writer.write(data)
            await writer.drain()
