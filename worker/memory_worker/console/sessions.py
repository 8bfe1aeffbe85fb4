"""The login: one password, a signed cookie, and tokens that only a page of the console can have sent.

The key of the signatures is derived from the password. So replicas with the same password accept each other's cookies,
and a new password ends all sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

COOKIE = "memory_worker_console"
SESSION_S = 8 * 3600
"""How long a login lasts."""
_LOGIN_FORM_S = 3600
_SALT = b"memory-worker console "
_SCRYPT_COST = 2**14
_NONCE = re.compile(r"[0-9a-f]{32}")

ATTEMPTS_OF_A_CLIENT = 5
_ATTEMPT_EVERY_S = 12.0
ATTEMPTS_OF_ALL = 30
_ATTEMPT_OF_ALL_EVERY_S = 2.0
_MOST_CLIENTS = 1000

Kind: TypeAlias = Literal["visitor", "operator"]


class Session(NamedTuple):
    """A browser. ``visitor``: it has only been given the login form. ``expires`` is in unix seconds."""

    kind: Kind
    expires: int
    nonce: str

    @property
    def is_operator(self) -> bool:
        """Whether the password was given."""
        return self.kind == "operator"

    @property
    def name(self) -> str:
        """A short name for the log, which does not allow to use the session."""
        return hashlib.sha256(self.nonce.encode()).hexdigest()[:8]


class Sessions:
    """Makes and checks sessions. Nothing is stored. ``now`` is in unix seconds."""

    def __init__(self, password: str, queue: str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._password = _digest(password)
        self._key = hashlib.scrypt(password.encode(), salt=_SALT + queue.encode(), n=_SCRYPT_COST, r=8, p=1, dklen=32)

    def visitor(self) -> Session:
        """Return a session for the login form."""
        return self._new("visitor", _LOGIN_FORM_S)

    def log_in(self, password: str) -> Session | None:
        """Return a new session, or ``None`` if the password is wrong."""
        if not hmac.compare_digest(_digest(password), self._password):
            return None
        return self._new("operator", SESSION_S)

    def cookie(self, session: Session) -> str:
        """Return the value of the session's cookie."""
        text = f"{session.kind}.{session.expires}.{session.nonce}"
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or ``None`` if it is forged or has expired."""
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", text).encode()):
            return None
        kind, expires, nonce = text.split(".")
        if kind not in ("visitor", "operator") or not _NONCE.fullmatch(nonce) or int(expires) <= self._now():
            return None
        return Session("operator" if kind == "operator" else "visitor", int(expires), nonce)

    def token(self, session: Session) -> str:
        """Return the token for the forms of a session."""
        return self._sign("form", self.cookie(session))

    def is_token(self, session: Session, token: str) -> bool:
        """Return whether a form has the token of its session."""
        return hmac.compare_digest(self.token(session).encode(), token.encode())

    def _new(self, kind: Kind, lasts_s: int) -> Session:
        return Session(kind, int(self._now()) + lasts_s, secrets.token_hex(16))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


class LoginAttempts:
    """Limits wrong passwords: a few at once and then one every few seconds, for each client and for all together."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._free_at: OrderedDict[str, float] = OrderedDict()
        self._all_free_at = 0.0

    def may_try(self, client: str) -> bool:
        """Return whether a client may try a password now."""
        now = self._now()
        mine = self._free_at.get(client, 0.0) - now <= (ATTEMPTS_OF_A_CLIENT - 1) * _ATTEMPT_EVERY_S
        return mine and self._all_free_at - now <= (ATTEMPTS_OF_ALL - 1) * _ATTEMPT_OF_ALL_EVERY_S

    def failed(self, client: str) -> None:
        """Record a wrong password."""
        now = self._now()
        self._free_at[client] = max(self._free_at.pop(client, 0.0), now) + _ATTEMPT_EVERY_S
        self._all_free_at = max(self._all_free_at, now) + _ATTEMPT_OF_ALL_EVERY_S
        if len(self._free_at) > _MOST_CLIENTS:
            self._free_at.popitem(last=False)


def is_same_origin(origin: str, fetch_site: str, host: str) -> bool:
    """Return whether a form was sent by a page of this console, by the headers of its request.

    Browsers send ``Sec-Fetch-Site`` over HTTPS and on the own machine, and ``Origin`` always.
    """
    if fetch_site:
        return fetch_site == "same-origin"
    if not host or not origin:
        return False
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and _netloc(parts.netloc, parts.scheme) == _netloc(host, parts.scheme)
    except ValueError:
        return False


def _netloc(host: str, scheme: str) -> str:
    return host.lower().removesuffix(":443" if scheme == "https" else ":80")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
