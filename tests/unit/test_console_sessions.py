"""The login of the console: signed cookies, tokens of forms, attempts, and where forms come from."""

from __future__ import annotations

import pytest

from memory_worker.console.hosts import is_local_name
from memory_worker.console.sessions import (
    ATTEMPTS_OF_A_CLIENT,
    ATTEMPTS_OF_ALL,
    SESSION_S,
    LoginAttempts,
    Session,
    Sessions,
    is_same_origin,
)
from tests.unit.conftest import Clock

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def shared_clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def sessions(shared_clock: Clock) -> Sessions:
    return Sessions(PASSWORD, "mw", now=shared_clock)


@pytest.fixture
def operator(sessions: Sessions) -> Session:
    session = sessions.log_in(PASSWORD)
    assert session is not None
    return session


class TestSessions:
    def test_the_right_password_gives_a_session_that_its_cookie_proves(
        self, sessions: Sessions, operator: Session
    ) -> None:
        assert operator.is_operator
        assert sessions.read(sessions.cookie(operator)) == operator

    @pytest.mark.parametrize("wrong", ["", PASSWORD[:-1], f"{PASSWORD} ", PASSWORD.upper(), "\udcff"])
    def test_a_wrong_password_gives_none(self, sessions: Sessions, wrong: str) -> None:
        assert sessions.log_in(wrong) is None

    def test_a_visitor_is_no_operator(self, sessions: Sessions) -> None:
        visitor = sessions.visitor()
        cookie = sessions.cookie(visitor)
        assert sessions.read(cookie) == visitor
        assert not visitor.is_operator
        assert sessions.read(cookie.replace("visitor", "operator")) is None

    def test_a_session_expires(self, sessions: Sessions, operator: Session, shared_clock: Clock) -> None:
        cookie = sessions.cookie(operator)
        shared_clock.now_s += SESSION_S - 1
        assert sessions.read(cookie) is not None
        shared_clock.now_s += 1
        assert sessions.read(cookie) is None
        later = cookie.split(".")
        later[1] = str(int(later[1]) + SESSION_S)
        assert sessions.read(".".join(later)) is None

    @pytest.mark.parametrize("cookie", ["", ".", "...", "operator.9999999999.00", "ä.ö.ü", "\x00", "a" * 10_000])
    def test_a_forged_cookie_is_refused(self, sessions: Sessions, cookie: str) -> None:
        assert sessions.read(cookie) is None

    def test_replicas_with_the_same_password_accept_each_others_sessions(
        self, sessions: Sessions, operator: Session, shared_clock: Clock
    ) -> None:
        cookie = sessions.cookie(operator)
        assert Sessions(PASSWORD, "mw", now=shared_clock).read(cookie) == operator
        assert Sessions(f"{PASSWORD}2", "mw", now=shared_clock).read(cookie) is None
        assert Sessions(PASSWORD, "other", now=shared_clock).read(cookie) is None

    def test_a_token_belongs_to_one_session(self, sessions: Sessions, operator: Session) -> None:
        token = sessions.token(operator)
        assert sessions.is_token(operator, token)
        assert not sessions.is_token(sessions.visitor(), token)
        assert not sessions.is_token(operator, "")
        assert not sessions.is_token(operator, "ä")
        assert token not in sessions.cookie(operator)

    def test_the_log_does_not_allow_to_use_a_session(self, operator: Session) -> None:
        assert operator.name not in operator.nonce
        assert len(operator.name) == 8


class TestAttempts:
    def test_a_client_has_a_few_at_once_and_then_one_every_few_seconds(self, clock: Clock) -> None:
        attempts = LoginAttempts(now=clock)
        for _ in range(ATTEMPTS_OF_A_CLIENT):
            assert attempts.may_try("a")
            attempts.failed("a")
        assert not attempts.may_try("a")
        assert attempts.may_try("b")
        clock.now_s += 12
        assert attempts.may_try("a")
        attempts.failed("a")
        assert not attempts.may_try("a")

    def test_many_clients_have_a_limit_together(self, clock: Clock) -> None:
        attempts = LoginAttempts(now=clock)
        for number in range(ATTEMPTS_OF_ALL):
            assert attempts.may_try(str(number))
            attempts.failed(str(number))
        assert not attempts.may_try("another")
        clock.now_s += 2
        assert attempts.may_try("another")

    def test_few_clients_are_remembered(self, clock: Clock) -> None:
        attempts = LoginAttempts(now=clock)
        for number in range(5_000):
            attempts.failed(str(number))
        assert len(attempts._free_at) <= 1_000


@pytest.mark.parametrize(
    ("origin", "fetch_site", "host", "same"),
    [
        ("http://console:8090", "", "console:8090", True),
        ("https://console", "", "console:443", True),
        ("https://Console", "", "console", True),
        ("https://evil", "", "console", False),
        ("http://console:8091", "", "console:8090", False),
        ("null", "", "console", False),
        ("", "", "console", False),
        ("", "", "", False),
        ("http://[", "", "console", False),
        ("file://console", "", "console", False),
        ("https://public", "same-origin", "inner:8090", True),
        ("http://console", "cross-site", "console", False),
        ("http://console", "none", "console", False),
    ],
)
def test_where_a_form_comes_from(origin: str, fetch_site: str, host: str, same: bool) -> None:
    assert is_same_origin(origin, fetch_site, host) == same


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost:8090", True),
        ("worker", True),
        ("memory-worker-ingest-1:8090", True),
        ("127.0.0.1", True),
        ("10.0.0.7:8090", True),
        ("[::1]:8090", True),
        ("app.localhost:8090", True),
        ("evil.example:8090", False),
        ("127.0.0.1.evil.example", False),
        ("worker.ns.svc.cluster.local", False),
        ("", False),
        ("[", False),
        ("a@evil.example", False),
    ],
)
def test_names_with_a_domain_do_not_lead_to_an_open_console(host: str, local: bool) -> None:
    assert is_local_name(host) == local
