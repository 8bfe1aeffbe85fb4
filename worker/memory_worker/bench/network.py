"""The same calls over networks that are farther away: what each round trip more costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from memory_worker.bench import names
from memory_worker.bench.delay import HOST
from memory_worker.bench.figures import Round
from memory_worker.bench.processes import Caller, Processes, together
from memory_worker.bench.session import Session
from memory_worker.bench.tasks import Task
from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import Settings

_SHARE = 3
"""Of the calls of other phases a third: at 5 ms each way they take their time."""


@asynccontextmanager
async def delayed(processes: Processes, settings: Settings, delay_ms: float) -> AsyncIterator[Settings]:
    """Yield settings by which Redis and Qdrant are ``delay_ms`` milliseconds farther away, each way.

    Raises `ConfigurationError` where TLS would notice what stands in between.
    """
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    urls = [redis_url, settings.qdrant_url or ""]
    targets = [_target(url, port) for url, port in zip(urls, (6379, 6334), strict=True)]
    async with processes.module(settings, "memory_worker.bench.delay", str(delay_ms), *targets) as process:
        redis_port, qdrant_port = map(int, process.ready.split()[1:])
        yield settings.model_copy(
            update={
                "redis_url": SecretStr(_at_port(redis_url, redis_port)),
                "qdrant_url": f"http://{HOST}:{qdrant_port}",
            }
        )


async def near(session: Session) -> Round:
    """Return what is measured with nothing in between; a search process must run."""
    return await _measured(session, session.own, session.direct)


async def far(session: Session, delay_ms: float) -> Round:
    """Return what is measured with a delay of so many milliseconds each way; no search process may run."""
    start, terms = session.processes, session.terms
    async with (
        delayed(start, session.settings, delay_ms) as settings,
        together(start.caller(settings, "own", terms), start.caller(settings, "direct", terms)) as (own, direct),
        start.worker(settings, "search"),
    ):
        return await _measured(session, own, direct)


async def _measured(session: Session, own: Caller, direct: Caller) -> Round:
    found: Round = {}
    for caller, path in _paths(session, own, direct):
        await _measure(session, caller, path, found)
    return found


def _paths(session: Session, own: Caller, direct: Caller) -> list[tuple[Caller, str]]:
    paths = [(own, names.SEARCH), (direct, names.STRAIGHT), (own, names.PUSH)]
    return [*paths, (direct, names.UPSERT)] if session.options.wants("upsert") else paths


async def _measure(session: Session, caller: Caller, path: str, found: Round) -> None:
    calls = max(1, session.options.calls // _SHARE)
    task = Task(path=path, count=calls, warmup=min(calls, 10))
    if path in (names.PUSH, names.UPSERT):
        await session.write(caller, found, path, task)
    else:
        await session.measure(caller, found, path, task)


def _target(url: str, default_port: int) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "http", "grpc") or not parts.hostname:
        raise ConfigurationError("a delay can be added to redis:// and http:// only: leave out --delay-ms and network")
    return f"{parts.hostname}:{parts.port or default_port}"


def _at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{login}{HOST}:{port}"))
