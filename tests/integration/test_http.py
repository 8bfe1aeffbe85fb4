"""The HTTP server: it answers whatever its process is busy with and whoever else asks, and it can be hurt by nobody."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from memory_worker.contract.errors import ConfigurationError
from memory_worker.http import server as server_module
from memory_worker.http.server import MAX_CONNECTIONS, PAGES_PER_SECOND, Page, Source, http_server
from memory_worker.runtime.process import WorkerProcess
from memory_worker.settings import Settings
from tests.integration.web import HOST, PATIENCE_S, Answer, ask, ask_again, say

FORMATS = ("text/a", "text/b")


class Counted:
    """A page that says how often it was made."""

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
    """A server of one page and one probe."""
    with http_server(
        HOST, 0, {"/page": Source(page, formats=FORMATS), "/probe": Source(probe, is_probe=True)}
    ) as opened:
        yield opened


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The server's clock, which stands still unless the test moves it."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now, sleep=time.sleep)
    monkeypatch.setattr(server_module, "time", clock)
    return clock


class TestRequests:
    def test_a_page(self, port: int) -> None:
        status, headers, body = ask(port, "/page", Accept="text/a")
        assert (status, body) == (200, b"1 text/a")
        assert (headers["content-type"], headers["content-length"]) == ("text/plain", "8")
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers

    def test_a_query_changes_nothing(self, port: int) -> None:
        assert ask(port, "/probe?verbose=1").status == 200

    def test_what_there_is_not(self, port: int) -> None:
        for path in ("/", "/page/", "/PAGE", "//page", "/page/../page/x", "/%00", "/%ff"):
            answer = ask(port, path)
            assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8"), path

    def test_other_methods(self, port: int, page: Counted, probe: Counted) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"):
            assert {ask(port, path, method=method).status for path in ("/page", "/probe")} == {405}, method
        assert page.made == probe.made == 0

    def test_a_body_that_nobody_reads(self, port: int) -> None:
        body = b"x" * 100_000
        head = f"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        assert say(port, head + body).startswith(b"HTTP/1.1 405 ")

    def test_head_is_get_without_the_body(self, port: int) -> None:
        for path in ("/page", "/probe"):
            got, head = ask(port, path), ask(port, path, method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert {**head.headers, "date": ""} == {**got.headers, "date": ""}

    def test_a_connection_serves_many_requests(self, port: int, probe: Counted) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        assert [ask_again(connection, "/probe").status for _ in range(5)] == [200] * 5
        connection.close()
        assert probe.made == 5

    def test_a_page_that_cannot_be_made_does_not_keep_others_from_it(self) -> None:
        sources = {"/bad": Source(Counted(fails=True), is_probe=True), "/good": Source(Counted(), is_probe=True)}
        with http_server(HOST, 0, sources) as port:
            assert [ask(port, path).status for path in ("/bad", "/good", "/bad", "/good")] == [500, 200, 500, 200]


class TestPace:
    """Who asks too fast waits; what is asked for is not made each time."""

    def test_many_at_once_are_all_answered_with_what_was_made_once_a_second(
        self, stopped: SimpleNamespace, port: int, page: Counted
    ) -> None:
        crowd = PAGES_PER_SECOND + 20
        with ThreadPoolExecutor(crowd) as pool:
            answers = list(pool.map(lambda _: ask(port, "/page"), range(crowd)))
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"1 ")] * crowd
        stopped.now += crowd / PAGES_PER_SECOND  # all of them have had their turn, and it is old by now
        assert [ask(port, "/page").body for _ in range(2)] == [b"2 ", b"2 "]
        assert page.made == 2

    def test_each_kind_of_answer_is_kept_by_itself(self, stopped: SimpleNamespace, port: int, page: Counted) -> None:
        for _ in range(2):
            assert ask(port, "/page", Accept="text/a").body == b"1 text/a"
            assert ask(port, "/page", Accept="text/html, text/b;q=0.5").body == b"2 text/b"
            assert ask(port, "/page", Accept="text/c").body == b"3 "
        assert page.made == 3

    def test_who_asks_in_ever_other_words_has_no_more_pages_made(
        self, stopped: SimpleNamespace, port: int, page: Counted
    ) -> None:
        for number in range(20):
            stopped.now += 0.02
            assert ask(port, "/page", Accept=f"text/plain;q=0.{number}").status == 200
        assert page.made <= 2

    def test_probes_wait_for_nobody_and_are_made_each_time(
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

    def test_when_hundreds_wait_already_one_is_told_so(
        self, monkeypatch: pytest.MonkeyPatch, port: int, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "MAX_WAIT_S", -1)
        assert ask(port, "/page").status == 503
        assert ask(port, "/probe").status == 200


class TestIsolation:
    """What the process does, and what others do, keeps nobody from an answer."""

    async def test_it_answers_while_the_event_loop_is_blocked(self, port: int) -> None:
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.extend(ask(port, path) for path in ("/probe", "/page")))
        asking.start()
        asking.join(PATIENCE_S)  # in the thread of the event loop: it does not turn until there are answers
        assert [answer.status for answer in answers] == [200, 200]

    def test_many_idle_connections(self, port: int) -> None:
        idle = [socket.create_connection((HOST, port)) for _ in range(200)]
        begun = [socket.create_connection((HOST, port)) for _ in range(50)]
        for opened in begun:
            opened.sendall(b"GET /page HTTP/1.1\r\nHost: ")
        assert [ask(port, path).status for path in ("/probe", "/page")] == [200, 200]
        for opened in (*idle, *begun):
            opened.close()
        assert ask(port, "/probe").status == 200

    def test_connections_that_are_cut_in_the_middle(self, port: int) -> None:
        for text in (b"", b"G", b"GET /page HTTP/1.1\r\nHo", b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"):
            opened = socket.create_connection((HOST, port))
            opened.sendall(text)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not a farewell
            opened.close()
        assert [ask(port, path).status for path in ("/probe", "/page")] == [200, 200]

    def test_what_is_not_http(self, port: int, page: Counted) -> None:
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
                assert say(port, text).startswith(b"HTTP/1.1 400 "), text[:50]
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
    """Connections that have sent ``text`` and nothing since."""
    with contextlib.ExitStack() as opened:
        clients = []
        for _ in range(count):
            clients.append(opened.enter_context(socket.socket()))
            clients[-1].settimeout(PATIENCE_S)
            clients[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what nobody reads soon fills it
            clients[-1].connect((HOST, port))
            with contextlib.suppress(ConnectionError):  # others have taken its place already
                clients[-1].sendall(text)
        yield clients


class TestSlowClients:
    """Whoever takes long to ask, or to read, keeps nobody from an answer."""

    @pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
    def test_the_oldest_give_way(self, port: int, text: bytes) -> None:
        with slow_clients(port, 450, text) as clients:
            for _ in range(5):
                started = time.monotonic()
                assert ask(port, "/probe").status == 200
                assert time.monotonic() - started < server_module.REQUEST_S / 2
            assert is_closed(clients[0])
            assert not is_closed(clients[-1])

    def test_who_does_not_read_the_answer_gives_way(self, monkeypatch: pytest.MonkeyPatch, probe: Counted) -> None:
        monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
        page = Page(200, "text/plain", b"x" * 5_000_000)
        sources = {"/large": Source(lambda _: page, is_probe=True), "/probe": Source(probe, is_probe=True)}
        text = HEAD.replace(b"probe", b"large") + b"\r\n"
        with http_server(HOST, 0, sources) as port, slow_clients(port, 25, text):
            started = time.monotonic()
            assert ask(port, "/probe").status == 200
            assert time.monotonic() - started < server_module.REQUEST_S / 2

    def test_who_waits_for_a_page_is_not_dropped_for_who_is_slow_to_ask(
        self, monkeypatch: pytest.MonkeyPatch, port: int
    ) -> None:
        monkeypatch.setattr(server_module, "PAGES_PER_SECOND", 4)
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as waiting:
            assert ask(port, "/page").status == 200  # the next has to wait
            waiting.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with slow_clients(port, MAX_CONNECTIONS + 50, b"G"):
                assert waiting.recv(100).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize("text", UNFINISHED.values(), ids=UNFINISHED)
    def test_a_request_must_be_whole_in_time_however_steadily_it_comes(
        self, monkeypatch: pytest.MonkeyPatch, port: int, text: bytes
    ) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
        with slow_clients(port, 1, text) as [client]:
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while not is_closed(client, within_s=0.02):
                    client.sendall(b"x" if text else b"")
            assert 0.2 < time.monotonic() - started < PATIENCE_S

    def test_an_answer_must_be_read_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
        page = Page(200, "text/plain", b"x" * 50_000_000)
        text = HEAD.replace(b"probe", b"large") + b"\r\n"
        sources = {"/large": Source(lambda _: page, is_probe=True)}
        with http_server(HOST, 0, sources) as port, slow_clients(port, 1, text) as [client]:
            started, read = time.monotonic(), 0
            with contextlib.suppress(ConnectionError):
                while data := client.recv(1000):
                    read += len(data)
            assert 0.2 < time.monotonic() - started < PATIENCE_S
            assert read < 50_000_000

    def test_a_connection_that_rests_between_requests_is_kept(
        self, monkeypatch: pytest.MonkeyPatch, port: int, probe: Counted
    ) -> None:
        monkeypatch.setattr(server_module, "REQUEST_S", 0.1)
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        assert ask_again(connection, "/probe").status == 200
        assert not is_closed(connection.sock, within_s=0.4)
        assert ask_again(connection, "/probe").status == 200
        connection.close()


def is_closed(client: socket.socket, *, within_s: float = 0.0) -> bool:
    """Say whether the server has closed its side, having sent whatever it had to send."""
    while select.select([client], [], [], within_s)[0]:
        try:
            if not client.recv(65_536):
                return True
        except ConnectionError:
            return True
    return False


class TestPort:
    def test_one_that_is_taken_is_a_mistake_in_the_configuration(self, port: int) -> None:
        with pytest.raises(ConfigurationError, match=rf"^PORT: .*port {port}: .*in use"), http_server(HOST, port, {}):
            pass

    def test_so_is_an_address_that_is_not_ours(self) -> None:
        with pytest.raises(ConfigurationError, match=r"203\.0\.113\.1"), http_server("203.0.113.1", 0, {}):
            pass

    async def test_a_worker_does_not_start_on_it(
        self, settings: Callable[..., Settings], port: int, everything: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="PORT"):
            await WorkerProcess(settings(port=port), "all").run()
        assert await everything() == {}

    def test_it_is_given_back(self, page: Counted) -> None:
        sources = {"/page": Source(page)}
        with http_server(HOST, 0, sources) as port:
            assert ask(port, "/page").status == 200
        with pytest.raises(ConnectionError):
            ask(port, "/page")
        with http_server(HOST, port, sources) as again:
            assert again == port
            assert ask(port, "/page").status == 200

    def test_ipv6(self) -> None:
        with http_server("::1", 0, {"/probe": Source(Counted(), is_probe=True)}) as port:
            connection = http.client.HTTPConnection("::1", port, timeout=PATIENCE_S)
            assert ask_again(connection, "/probe").status == 200
            connection.close()

    def test_a_connection_that_stays_does_not_keep_the_worker_from_ending(self, probe: Counted) -> None:
        with http_server(HOST, 0, {"/probe": Source(probe, is_probe=True)}) as port:
            kept = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
            assert ask_again(kept, "/probe").status == 200
            begun = socket.create_connection((HOST, port), timeout=PATIENCE_S)
            begun.sendall(b"GET /probe HT")
        assert begun.recv(1) == b""
        begun.close()
        kept.close()
