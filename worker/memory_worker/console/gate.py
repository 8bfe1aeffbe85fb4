"""Who may see the console and act in it, and the log of what was done."""

from __future__ import annotations

import logging
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from memory_worker.console.hosts import is_local_name
from memory_worker.console.sessions import COOKIE, SESSION_S, LoginAttempts, Session, Sessions, is_same_origin
from memory_worker.contract.errors import RequestRefused
from memory_worker.settings import Settings
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

MOST_FORM_BYTES = 16_384
_MOST_FORM_FIELDS = 50
_MOST_FORWARDED = 100


class Who(NamedTuple):
    """Who sent a request, for the log. ``forwarded_for`` is what the client or its proxy claims."""

    session: str
    client: str
    forwarded_for: str


class Gate:
    """Checks sessions and forms. Without a password, everybody may look and nobody may act."""

    def __init__(self, settings: Settings) -> None:
        password = settings.console_password
        self._sessions = Sessions(password.get_secret_value(), settings.queue_prefix) if password else None
        self._attempts = LoginAttempts()
        self.has_actions = settings.console_actions and self._sessions is not None

    def session(self, request: Request) -> Session | None:
        """Return the session of a request, of an operator or of a visitor."""
        return self._sessions.read(request.cookies.get(COOKIE, "")) if self._sessions else None

    def may_look(self, session: Session | None) -> bool:
        """Return whether a session may see the pages."""
        return self._sessions is None or (session is not None and session.is_operator)

    def check_host(self, request: Request) -> None:
        """Raise `RequestRefused` if anybody may look, and the address is one that a web site may have made."""
        if self._sessions is None and not is_local_name(request.headers.get("host", "")):
            raise RequestRefused(421, "Without a password, use an IP address or a name without a domain.")

    def token(self, session: Session | None) -> str:
        """Return the token for the forms of a session."""
        return self._sessions.token(session) if self._sessions and session else ""

    def visitor(self) -> Session:
        """Return a session for the login form."""
        assert self._sessions is not None  # noqa: S101  # there is a login form only with a password
        return self._sessions.visitor()

    async def form(self, request: Request, session: Session | None) -> dict[str, str]:
        """Return the fields of a form. Raises `RequestRefused` unless a page of this session has sent it."""
        headers = request.headers
        if not is_same_origin(headers.get("origin", ""), headers.get("sec-fetch-site", ""), headers.get("host", "")):
            raise RequestRefused(403, "The form was sent from another site.")
        form = _fields(await _body(request))
        if self._sessions is None or session is None or not self._sessions.is_token(session, form.get("token", "")):
            raise RequestRefused(403, "The form has expired. Open the page again.")
        return form

    def log_in(self, request: Request, password: str) -> Session | None:
        """Return a new session, or ``None`` if the password is wrong. Raises `RequestRefused` after too many."""
        assert self._sessions is not None  # noqa: S101
        client = request.client.host if request.client else ""
        if not self._attempts.may_try(client):
            _log_login("limited", who(request, None))
            raise RequestRefused(429, "There were too many wrong passwords. Wait a minute.")
        session = self._sessions.log_in(password)
        if session is None:
            self._attempts.failed(client)
        _log_login("ok" if session else "wrong_password", who(request, session))
        return session

    def keep(self, response: Response, session: Session, request: Request) -> None:
        """Store a session in the browser. Over HTTPS, the cookie is never sent unencrypted."""
        assert self._sessions is not None  # noqa: S101
        response.set_cookie(
            COOKIE,
            self._sessions.cookie(session),
            max_age=SESSION_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=_is_https(request),
        )

    def forget(self, response: Response) -> None:
        """Remove the session from the browser."""
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def who(request: Request, session: Session | None) -> Who:
    """Return who sent a request."""
    return Who(
        session=session.name if session else "",
        client=request.client.host if request.client else "",
        forwarded_for=request.headers.get("x-forwarded-for", "")[:_MOST_FORWARDED],
    )


def _log_login(outcome: str, by: Who) -> None:
    level = logging.INFO if outcome == "ok" else logging.WARNING
    log_event(
        logger,
        level,
        "console_login",
        outcome=outcome,
        session=by.session,
        client=by.client,
        forwarded_for=by.forwarded_for,
    )


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise RequestRefused(413, "The form is too large.")
    return body


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FORM_FIELDS)
    except ValueError:
        raise RequestRefused(400, "The form cannot be read.") from None
    return dict(pairs)


def _is_https(request: Request) -> bool:
    headers = request.headers
    return headers.get("origin", "").startswith("https://") or headers.get("x-forwarded-proto", "") == "https"
