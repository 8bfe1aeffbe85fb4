"""Addresses of Qdrant: which are accepted, and which are refused by the name QDRANT_URL without being shown."""

from __future__ import annotations

import socket
import threading

import grpc
import pytest
from qdrant_client import grpc as q

from memory_worker.contract.errors import ConfigurationError
from memory_worker.store.channel import _target, is_tls, open_channel

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://qdrant", ("qdrant:6334", False)),
        ("http://qdrant:1/", ("qdrant:1", False)),
        ("https://qdrant:6334", ("qdrant:6334", True)),
        ("grpc://qdrant", ("qdrant:6334", False)),
        ("GRPCS://Qdrant", ("qdrant:6334", True)),
        ("http://[::1]:6334", ("[::1]:6334", False)),
    ],
)
def test_an_address_is_accepted(url: str, target: tuple[str, bool]) -> None:
    assert _target(url) == target
    assert is_tls(url) == target[1]


WRONG = {
    "empty": "",
    "blank": " ",
    "no scheme": "qdrant:6334",
    "another scheme": "redis://qdrant:6334",
    "no host": "http://:6334",
    "no port behind the colon": "http://qdrant:",
    "port": f"http://qdrant:{SECRET}",
    "port 0": "http://qdrant:0",
    "several hosts": "http://one:6334,two:6334",
    "a variable that is not filled in": "http://${QDRANT_HOST}:6334",
    "path": f"http://qdrant:6334/{SECRET}",
    "key as an option": f"http://qdrant:6334?api_key={SECRET}",
    "key as a user": f"http://{SECRET}@qdrant:6334",
    "key as a password": f"http://:{SECRET}@qdrant:6334",
    "fragment": f"http://qdrant:6334#{SECRET}",
    "quotes": f"'http://qdrant:6334?api_key={SECRET}'",
    "a line end within": "http://qdr\nant:6334",
}


@pytest.mark.parametrize("url", WRONG.values(), ids=WRONG)
def test_a_wrong_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^QDRANT_URL: ") as refused:
        open_channel(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_no_proxy_of_the_environment_is_used(name: str, secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as qdrant:

        def accept() -> None:
            proxy.accept()[0].close()
            connected.set()

        thread = threading.Thread(target=accept)
        thread.start()
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        url = f"{'https' if secure else 'http'}://localhost:{qdrant.getsockname()[1]}"
        async with open_channel(url) as channel:
            with pytest.raises(grpc.RpcError):
                await q.QdrantStub(channel).HealthCheck(q.HealthCheckRequest(), timeout=0.3)
        qdrant.settimeout(5)
        qdrant.accept()[0].close()
        assert not connected.is_set()
        socket.create_connection(proxy.getsockname()).close()
        thread.join(5)
