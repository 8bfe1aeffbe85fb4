"""The HTTP server answers whatever its other clients do."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from memory_worker.contract.errors import ConfigurationError
from memory_worker.http import server as server_module
from memory_worker.http.server import MAX_CONNECTIONS, PAGES_PER_SECOND, Page, Source, http_server
from memory_worker.runtime.process import WorkerProcess
from tests.integration.conftest import Everything, MakeSettings
from tests.integration.web import HOST, PATIENCE_S, ask, ask_again, send_raw

FORMATS = ("text/a", "text/b")


class Counted:
    """A page that contains how often it was made."""

    def __init__(self, *, fails: bool = False) -> None:
        self.made = 0
        self.fails = fails

    def __call__(self, accept: str) -> Page:
        self.made += 1
        if self.fails:
            raise RuntimeError("cannot be made")
        return Page(200, "text/plain", f"{self.made} {accept}".encode())


@pytest.fixture
def page() -> Counted:
    return Counted()


@pytest.fixture
def probe() -> Counted:
    return Counted()


@pytest.fixture
def port(page: Counted, probe: Counted) -> Iterator[int]:
    """The port of a server with one page and one probe."""
    with http_server(
        HOST, 0, {"/page": Source(page, formats=FORMATS), "/probe": Source(probe, is_probe=True)}
    ) as opened:
        yield opened


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The server's clock, which only the test moves."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now, sleep=time.sleep)
    monkeypatch.setattr(server_module, "time", clock)
    return clock


class TestRequests:
    def test_a_page_is_served(self, port: int) -> None:
        status, headers, body = ask(port, "/page", Accept="text/a")
        assert (status, body) == (200, b"1 text/a")
        assert (headers["content-type"], headers["content-length"]) == ("text/plain", "8")
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers

    def test_the_query_of_a_url_is_ignored(self, port: int) -> None:
        assert ask(port, "/probe?verbose=1").status == 200

    def test_unknown_paths_are_not_found(self, port: int) -> None:
        for path in ("/", "/page/", "/PAGE", "//page", "/page/../page/x", "/%00", "/%ff"):
            answer = ask(port, path)
            assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8"), path

    def test_other_methods_are_refused(self, port: int, page: Counted, probe: Counted) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"):
            assert {ask(port, path, method=method).status for path in ("/page", "/probe")} == {405}, method
        assert page.made == probe.made == 0

    def test_a_request_with_a_long_body_is_refused(self, port: int) -> None:
        body = b"x" * 100_000
        head = f"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        assert send_raw(port, head + body).startswith(b"HTTP/1.1 405 ")

    def test_head_is_answered_like_get_without_the_body(self, port: int) -> None:
        for path in ("/page", "/probe"):
            got, head = ask(port, path), ask(port, path, method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert {**head.headers, "date": ""} == {**got.headers, "date": ""}

    def test_a_connection_serves_many_requests(self, port: int, probe: Counted) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        assert [ask_again(connection, "/probe").status for _ in range(5)] == [200] * 5
        connection.close()
        assert probe.made == 5

    def test_a_page_that_fails_does_not_affect_others(self) -> None:
        sources = {"/bad": Source(Counted(fails=True), is_probe=True), "/good": Source(Counted(), is_probe=True)}
        with http_server(HOST, 0, sources) as port:
            assert [ask(port, path).status for path in ("/bad", "/good", "/bad", "/good")] == [500, 200, 500, 200]


class TestOther:
    def test_another_application_answers_all_other_paths_under_the_rate_limit(
        self, stopped: SimpleNamespace, probe: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_WAIT_S", 0.05)
        seen = []

        async def other(scope: Any, _receive: Any, send: Any) -> None:
            seen.append((scope["method"], scope["path"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"other"})

        with http_server(HOST, 0, {"/probe": Source(probe, is_probe=True)}, other) as port:
            assert ask(port, "/", method="POST").body == b"other"
            assert ask(port, "/probe").body == b"1 "
            assert ask(port, "/probe", method="POST").status == 405
            answers = [ask(port, "/x").status for _ in range(20)]
            assert {200, 503} == set(answers)
            assert ask(port, "/probe").status == 200
        assert len(seen) == answers.count(200) + 1


class TestRate:
    def test_a_page_is_made_once_a_second_for_any_number_of_clients(
        self, stopped: SimpleNamespace, port: int, page: Counted
    ) -> None:
        clients = PAGES_PER_SECOND + 20
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(lambda _: ask(port, "/page"), range(clients)))
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"1 ")] * clients
        stopped.now += clients / PAGES_PER_SECOND  # the page is old by now
        assert [ask(port, "/page").body for _ in range(2)] == [b"2 ", b"2 "]
        assert page.made == 2

    def test_each_format_of_a_page_is_cached(self, stopped: SimpleNamespace, port: int, page: Counted) -> None:
        for _ in range(2):
            assert ask(port, "/page", Accept="text/a").body == b"1 text/a"
            assert ask(port, "/page", Accept="text/html, text/b;q=0.5").body == b"2 text/b"
            assert ask(port, "/page", Accept="text/c").body == b"3 "
        assert page.made == 3

    def test_different_accept_headers_share_a_page(self, stopped: SimpleNamespace, port: int, page: Counted) -> None:
        for number in range(20):
            stopped.now += 0.02
            assert ask(port, "/page", Accept=f"text/plain;q=0.{number}").status == 200
        assert page.made <= 2

    def test_probes_are_answered_at_once_and_made_each_time(
        self, monkeypatch: pytest.MonkeyPatch, port: int, page: Counted, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "PAGES_PER_SECOND", 0.01)
        monkeypatch.setattr(server_module, "MAX_WAIT_S", 1e9)
        waiting = [socket.create_connection((HOST, port)) for _ in range(5)]
        for opened in waiting:
            opened.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [ask(port, "/probe").status for _ in range(PAGES_PER_SECOND + 20)] == [200] * (PAGES_PER_SECOND + 20)
        assert probe.made == PAGES_PER_SECOND + 20
        answered, _, _ = select.select(waiting, [], [], 0)
        assert len(answered) < len(waiting)
        for opened in waiting:
            opened.close()

    def test_a_page_is_refused_when_too_many_wait(
        self, monkeypatch: pytest.MonkeyPatch, port: int, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_WAIT_S", -1)
        assert ask(port, "/page").status == 503
        assert ask(port, "/probe").status == 200


class TestManyClients:
    def test_idle_connections_do_not_delay_others(self, port: int) -> None:
        idle = [socket.create_connection((HOST, port)) for _ in range(200)]
        begun = [socket.create_connection((HOST, port)) for _ in range(50)]
        for opened in begun:
            opened.sendall(b"GET /page HTTP/1.1\r\nHost: ")
        assert [ask(port, path).status for path in ("/probe", "/page")] == [200, 200]
        for opened in (*idle, *begun):
            opened.close()
        assert ask(port, "/probe").status == 200

    def test_broken_connections_do_not_affect_others(self, port: int) -> None:
        for text in (b"", b"G", b"GET /page HTTP/1.1\r\nHo", b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"):
            opened = socket.create_connection((HOST, port))
            opened.sendall(text)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
            opened.close()
        assert [ask(port, path).status for path in ("/probe", "/page")] == [200, 200]

    def test_requests_that_are_not_http_are_refused(self, port: int, page: Counted) -> None:
        begun = b"GET /page HTTP/1.1\r\nHost: x\r\n"
        for text in (
            b"\x00\xff\xfe\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # TLS
            b"*1\r\n$4\r\nPING\r\n\r\n",  # Redis
            b"GET /page\r\n\r\n",
            b"GET /page HTTP/1.1\r\n\r\n",  # no host
            begun + b"Host: y\r\n\r\n",
            begun + b"Content-Length: -1\r\n\r\n",
            begun + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            begun + b"bad header: y\r\n\r\n",
            begun + b"Accept: " + b"a" * 100_000,  # and no end
            b"GET /" + b"p" * 100_000,
        ):
            try:
                assert send_raw(port, text).startswith(b"HTTP/1.1 400 "), text[:50]
            except ConnectionError:  # it was refused while it was still being sent
                assert len(text) > 65_536
        assert page.made == 0
        assert ask(port, "/probe").status == 200


HEAD = b"GET /probe HTTP/1.1\r\nHost: x\r\n"
UNFINISHED = {
    "nothing": b"",
    "a part of a word": b"GE",
    "a part of the head": HEAD + b"Accept: ",
    "a part of the body": b"POST /probe HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nx",
    "a whole request and a part of another": HEAD + b"\r\n" + HEAD,
}


@contextlib.contextmanager
def slow_clients(port: int, count: int, text: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that send ``text`` and then nothing."""
    with contextlib.ExitStack() as opened:
        clients = []
        for _ in range(count):
            clients.append(opened.enter_context(socket.socket()))
            clients[-1].settimeout(PATIENCE_S)
            clients[-1].setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
            )  # an answer that is not read soon fills it
            clients[-1].connect((HOST, port))
            with contextlib.suppress(ConnectionError):  # it was closed already to make room
                clients[-1].sendall(text)
        yield clients


class TestSlowClients:
    @pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
    def test_the_oldest_connections_are_closed_for_new_ones(
        self, monkeypatch: pytest.MonkeyPatch, port: int, text: bytes
    ) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 1e6)
        with slow_clients(port, MAX_CONNECTIONS - 1, text) as old:
            assert ask(port, "/probe").status == 200  # so the server has answered all that came before
            with slow_clients(port, 50, text) as new:
                assert [ask(port, "/probe").status for _ in range(5)] == [200] * 5
                assert is_closed(old[0], within_s=PATIENCE_S)
                assert not is_closed(new[-1])

    def test_clients_that_do_not_read_are_closed_for_new_ones(
        self, monkeypatch: pytest.MonkeyPatch, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
        monkeypatch.setattr(server_module, "REQUEST_S", 1e6)
        page = Page(200, "text/plain", b"x" * 5_000_000)
        sources = {"/large": Source(lambda _: page, is_probe=True), "/probe": Source(probe, is_probe=True)}
        text = HEAD.replace(b"probe", b"large") + b"\r\n"
        with http_server(HOST, 0, sources) as port, slow_clients(port, 25, text):
            assert ask(port, "/probe").status == 200

    def test_a_client_that_waits_for_a_page_is_not_closed_for_slow_ones(
        self, monkeypatch: pytest.MonkeyPatch, port: int
    ) -> None:
        monkeypatch.setattr(server_module, "PAGES_PER_SECOND", 4)
        assert ask(port, "/page").status == 200  # the next has to wait
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as waiting:
            waiting.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with slow_clients(port, MAX_CONNECTIONS + 50, b"G"):
                assert waiting.recv(100).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
    def test_a_connection_is_closed_if_its_request_is_not_complete_in_time(
        self, monkeypatch: pytest.MonkeyPatch, port: int, text: bytes
    ) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
        with slow_clients(port, 1, text) as [client], contextlib.suppress(ConnectionError):
            while not is_closed(client, within_s=0.02):
                client.sendall(b"x" if text else b"")  # however steadily it comes

    def test_a_connection_is_closed_if_its_answer_is_not_read_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
        page = Page(200, "text/plain", b"x" * 50_000_000)
        text = HEAD.replace(b"probe", b"large") + b"\r\n"
        sources = {"/large": Source(lambda _: page, is_probe=True)}
        with http_server(HOST, 0, sources) as port, slow_clients(port, 1, text) as [client]:
            read = 0
            with contextlib.suppress(ConnectionError):
                while data := client.recv(1000):
                    read += len(data)
            assert read < 50_000_000

    def test_a_connection_that_is_idle_between_requests_stays_open(
        self, monkeypatch: pytest.MonkeyPatch, port: int, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.1)
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        assert ask_again(connection, "/probe").status == 200
        assert not is_closed(connection.sock, within_s=0.4)
        assert ask_again(connection, "/probe").status == 200
        connection.close()


def is_closed(client: socket.socket, *, within_s: float = 0.0) -> bool:
    """Return whether the server has closed the connection, once it has sent everything."""
    while select.select([client], [], [], within_s)[0]:
        try:
            if not client.recv(65_536):
                return True
        except ConnectionError:
            return True
    return False


class TestPort:
    def test_a_port_in_use_is_refused(self, port: int) -> None:
        with pytest.raises(ConfigurationError, match=rf"^PORT: .*port {port}: .*in use"), http_server(HOST, port, {}):
            pass

    def test_an_address_of_another_machine_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"203\.0\.113\.1"), http_server("203.0.113.1", 0, {}):
            pass

    async def test_a_worker_does_not_start_on_a_port_in_use(
        self, settings: MakeSettings, port: int, everything: Everything
    ) -> None:
        with pytest.raises(ConfigurationError, match="PORT"):
            await WorkerProcess(settings(port=port), "all").run()
        assert await everything() == {}

    def test_the_port_is_free_again_afterwards(self, page: Counted) -> None:
        sources = {"/page": Source(page)}
        with http_server(HOST, 0, sources) as port:
            assert ask(port, "/page").status == 200
        with pytest.raises(ConnectionError):
            ask(port, "/page")
        with http_server(HOST, port, sources) as again:
            assert again == port
            assert ask(port, "/page").status == 200

    def test_ipv6_addresses_are_served(self) -> None:
        with http_server("::1", 0, {"/probe": Source(Counted(), is_probe=True)}) as port:
            connection = http.client.HTTPConnection("::1", port, timeout=PATIENCE_S)
            assert ask_again(connection, "/probe").status == 200
            connection.close()

    def test_open_connections_do_not_delay_the_end(self, probe: Counted) -> None:
        with http_server(HOST, 0, {"/probe": Source(probe, is_probe=True)}) as port:
            kept = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
            assert ask_again(kept, "/probe").status == 200
            begun = socket.create_connection((HOST, port), timeout=PATIENCE_S)
            begun.sendall(b"GET /probe HT")
        assert begun.recv(1) == b""
        begun.close()
        kept.close()
