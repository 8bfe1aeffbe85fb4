"""Code that all commands share: errors as one line, the event loop, and the servers that a command uses."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs

import click
import uvloop
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.addresses import without_credentials
from memory_worker.commands import interrupts
from memory_worker.contract.errors import ConfigurationError, MemoryWorkerError
from memory_worker.plain_text import never_fail, plain
from memory_worker.runtime.wiring import connected_queue, engines_where_unset, open_queue
from memory_worker.settings import Settings, foreign_variables, load_settings
from memory_worker.telemetry.logs import configure_logs

Part = Literal["redis", "qdrant"]

EVERYTHING: tuple[Part, ...] = ("redis", "qdrant")
_DIRECTORIES: dict[Part, str] = {"redis": "valkey", "qdrant": "edge"}
_NAMES: dict[Part, str] = {"redis": "Redis", "qdrant": "Qdrant"}

_Result = TypeVar("_Result")


@contextmanager
def reported(*, failure: int = 1) -> Iterator[None]:
    """Print an error as one line instead of a traceback, and exit: with 2 for wrong settings, else with ``failure``."""
    never_fail(sys.stdout)
    never_fail(sys.stderr)
    try:
        yield
    except ConfigurationError as error:
        _fail(error, 2)
    except (MemoryWorkerError, OSError) as error:
        _fail(error, failure)
    except BaseException:
        _exit_if_interrupted()
        raise
    _exit_if_interrupted()


def _fail(error: Exception, status: int) -> None:
    _exit_if_interrupted()
    for line in f"memory-worker: {error}".splitlines():  # the error of an engine contains the end of its log
        click.echo(plain(line, sys.stderr.encoding or "ascii"), err=True)
    sys.exit(status)


def _exit_if_interrupted() -> None:
    status = interrupts.exit_status()
    if status is not None:
        sys.exit(status)


def in_loop(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run ``work`` in a new event loop."""
    return uvloop.run(work())


def quiet_settings(**overrides: Any) -> Settings:
    """Return the settings for a command that logs warnings only. Warn about variables that have no effect."""
    settings = load_settings(**overrides)
    configure_logs("WARNING", as_json=False)
    for name, setting in foreign_variables():
        click.echo(plain(f"memory-worker: {name} has no effect here; the setting is {setting}"), err=True)
    return settings


@contextmanager
def servers(parts: tuple[Part, ...] = EVERYTHING, *, to_stderr: bool) -> Iterator[Settings]:
    """Print which servers the command uses, and yield settings with the URLs of ``parts``.

    Start an engine if there is data of it. Raise `ConfigurationError` if there is neither a URL nor data, because an
    engine without data would only report an empty queue.
    """
    settings = quiet_settings()
    _refuse_nothing(settings, parts)
    if settings.redis_url is not None:
        open_queue(settings)  # raises if it is no URL, before a part of it could be printed
    for part in EVERYTHING:
        line = f"{_NAMES[part]}: {address(settings, part)}"
        click.echo(plain(line, sys.stdout.encoding or "ascii"), err=to_stderr)
    with engines_where_unset(settings, parts) as wired:
        yield wired


def _refuse_nothing(settings: Settings, parts: tuple[Part, ...]) -> None:
    missing = [part for part in parts if not _is_configured(settings, part)]
    if missing:
        names = " and ".join(f"{part.upper()}_URL" for part in missing)
        places = " and ".join(str(settings.data_dir.absolute() / _DIRECTORIES[part]) for part in missing)
        raise ConfigurationError(
            f"nothing is configured: {names} not set, and no data of embedded engines at {places}. "
            f"Set {names}, or DATA_DIR to where a worker keeps its data (`memory-worker run` makes it)"
        )


def _is_configured(settings: Settings, part: Part) -> bool:
    return _url(settings, part) is not None or (settings.data_dir / _DIRECTORIES[part]).is_dir()


def _url(settings: Settings, part: Part) -> str | None:
    url: str | SecretStr | None = getattr(settings, f"{part}_url")
    return url.get_secret_value() if isinstance(url, SecretStr) else url


def address(settings: Settings, part: Part) -> str:
    """Return the address of a server, without secrets."""
    url = _url(settings, part)
    if url is None:
        return f"embedded, in DATA_DIR ({settings.data_dir.absolute()})"
    shown = without_credentials(url)
    if part == "qdrant":
        return shown
    database = parse_qs(url.partition("?")[2]).get("db", [""])[0]
    if database and not shown.endswith(f"/{database}"):
        shown = f"{shown.rstrip('/')}/{database}"
    return f"{shown}, queue {settings.queue_prefix}"


def with_redis(settings: Settings, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
    """Run ``work`` in an event loop, with connections to Redis."""

    async def connected() -> _Result:
        async with connected_queue(settings) as redis:
            return await work(redis)

    return in_loop(connected)
