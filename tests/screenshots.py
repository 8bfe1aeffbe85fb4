"""Take pictures of every page of the console: python -m tests.screenshots DIRECTORY

A worker runs on embedded engines with sample data. Each page is shown in Chromium, light and dark, 390 and 1440 pixels
wide. Chromium must be installed; nothing is downloaded. ``--keep`` lets the worker run until Ctrl-C, so that anyone can
look around.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Upsert, encode_job, partition_of
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.browser import NAME, Browser, browser
from tests.console_states import served, states

WIDTHS = (390, 1440)
THEMES = ("light", "dark")
STATE_PAGES = ("/", "/partitions", "/collections", "/dead-letters", "/check")
PAGES = {
    "overview": "/",
    "partitions": "/partitions?show=all",
    "collections": "/collections",
    "dead-letters": "/dead-letters",
    "dead-letters-none": "/dead-letters?user=4711&reason=crashed",
    "check": "/check",
    "settings": "/settings",
    "not-found": "/nothing",
}
DIMENSION = 16
DEAD = 1_000
PARTITIONS = 64
PASSWORD = "correct horse battery"
HOSTILE = "<script>alert('x')</script>"
EVENT = re.compile(r'"event": "http".*?"port": (\d+)')


class Worker:
    """A worker on embedded engines. ``redis_url`` is that of its Valkey."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.log = directory / "worker.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "memory_worker", "run"],
                env={**os.environ, **_environment(directory), **environment},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        started = self._fields("started", "http")
        self.port = int(started["http"]["port"])
        self.redis_url = self._fields("embedded_engine")["embedded_engine"]["url"]

    def _fields(self, *events: str) -> dict[str, dict[str, Any]]:
        """Wait for log events, and return the first of each."""
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
            found = {line["event"]: line for line in reversed(lines)}
            if all(event in found for event in events):
                return {event: found[event] for event in events}
            time.sleep(0.1)
        raise RuntimeError(f"the worker did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop the worker."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _environment(directory: Path) -> dict[str, str]:
    password = directory / "password"
    password.write_text(f"{PASSWORD}\n")
    return {
        "DATA_DIR": str(directory / "data"),
        "PORT": "0",
        "BIND_HOST": "127.0.0.1",
        "LOG_JSON": "true",
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        "QUEUE_PARTITIONS": str(PARTITIONS),
        "QUEUE_USER_BURST": "50",
        "CONSOLE_ACTIONS": "true",
        "CONSOLE_PASSWORD_FILE": str(password),
    }


async def fill(redis_url: str) -> None:
    """Push what makes each part of the pages show something."""
    redis, keys = open_redis(redis_url, timeout_s=5), Keys("mw")
    async with MemoryQueue.connect(redis_url) as queue:
        for user in range(1, 40):
            for number in range(3):
                payload = {"category": "profile", "key": f"key {number}", "value": f"a value of user {user}"}
                await queue.upsert(
                    user_id=user,
                    point_id=f"mem_{user}_{number}",
                    vector=vector(),
                    payload=payload,
                    ref=f"memory {number}",
                )
            await queue.search(user_id=user, vector=vector(), timeout=10)
        await push(redis, keys, PARTITIONS, [dead_job(number) for number in range(DEAD)])
        await push(redis, keys, PARTITIONS, [(1, b"\xc1 this is no job"), (2, b'{"op": "upsert", "user_id": "x"')])
        await push(redis, keys, PARTITIONS, [(7, b"of a newer contract")], version=9)
        receipt = await queue.upsert(user_id=1, point_id="mem_1_last", vector=vector())
        await queue.wait_applied(receipt, timeout=20)
    await close_redis(redis)


def dead_job(number: int) -> tuple[int, bytes]:
    """Return a job that dies, in the partition of its user."""
    user = 1 + number % 9
    job = Upsert(
        user_id=user,
        point_id=f"mem_{user}_{'x' * (180 if number == DEAD - 2 else 3)}{number}",
        vector=b"\0" * 4 * (DIMENSION - number % 2),
        payload={"category": "profile", "value": f"{HOSTILE} number {number}", "created": 1_790_000_000 + number},
        ref=HOSTILE if number == DEAD - 1 else f"memory {number}",
    )
    return partition_of(user, PARTITIONS), encode_job(job)


def vector() -> list[float]:
    return [random.uniform(-1, 1) for _ in range(DIMENSION)]


def log_in(page: Browser, port: int) -> None:
    """Log in as an operator does."""
    page.open(f"http://127.0.0.1:{port}/login")
    page.value(f"document.querySelector('input[type=password]').value = {json.dumps(PASSWORD)}")
    page.send("document.querySelector('.login button').click()")


def dead_letter(page: Browser, port: int, reason: str) -> str:
    """Return the path of the newest dead letter with a reason."""
    page.open(f"http://127.0.0.1:{port}/dead-letters?reason={reason}")
    return str(page.value("document.querySelector('.letters a').pathname"))


@contextmanager
def sample_worker() -> Iterator[Worker]:
    """Run a worker with sample data."""
    with tempfile.TemporaryDirectory(prefix="memory-worker-screenshots-") as name:
        worker = Worker(Path(name))
        try:
            asyncio.run(fill(worker.redis_url))
            yield worker
        finally:
            worker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--keep", action="store_true", help="let the worker run until Ctrl-C")
    parser.add_argument("--wait", type=float, default=30, help="seconds until the first pictures, for the charts")
    options = parser.parse_args()
    executable = shutil.which(NAME)
    if executable is None:
        sys.exit(f"{NAME} is not installed")
    options.directory.mkdir(parents=True, exist_ok=True)
    with sample_worker() as worker, browser(executable) as page:
        print(f"http://127.0.0.1:{worker.port}/  password: {PASSWORD}")
        time.sleep(options.wait)
        take_all(page, worker.port, options.directory)
        take_states(page, options.directory)
        if options.keep:
            with suppress(KeyboardInterrupt):
                signal.pause()


def take_all(page: Browser, port: int, directory: Path) -> None:
    """Take the pictures of all pages."""
    for width in WIDTHS:
        for theme in THEMES:
            page.look(width=width, theme=theme)
            page.do("Network.clearBrowserCookies")
            page.open(f"http://127.0.0.1:{port}/login")
            page.screenshot(directory / f"login-{theme}-{width}.png")
            log_in(page, port)
            pages = {
                **PAGES,
                "dead-letter": dead_letter(page, port, "invalid"),
                "dead-letter-malformed": dead_letter(page, port, "malformed"),
                "confirm": "/dead-letters/confirm?action=replay&reason=invalid",
                "confirm-drop": "/dead-letters/confirm?action=drop&user=3",
            }
            for name, path in pages.items():
                page.open(f"http://127.0.0.1:{port}{path}")
                page.screenshot(directory / f"{name}-{theme}-{width}.png")
            page.open(f"http://127.0.0.1:{port}{pages['dead-letter-malformed']}")
            page.send("document.querySelector('.acts button').click()")
            page.screenshot(directory / f"replay-refused-{theme}-{width}.png")


def take_states(page: Browser, directory: Path) -> None:
    """Take the pictures of consoles in rare states."""
    for state, sources in states().items():
        with served(sources) as port:
            for width in WIDTHS:
                for theme in THEMES:
                    page.look(width=width, theme=theme)
                    for path in STATE_PAGES:
                        page.open(f"http://127.0.0.1:{port}{path}")
                        page.screenshot(directory / f"{state}-{path.strip('/') or 'overview'}-{theme}-{width}.png")


if __name__ == "__main__":
    main()
