"""Real Chromium without a window, driven over a pipe by the protocol of its developer tools. It downloads nothing."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAME = "chromium"
PATIENCE_S = 30.0
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # containers often run as root, and the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from file descriptor 3, and writes to 4."""


class Browser:
    """A running Chromium with one page.

    ``requests`` are the URLs that it asked for, and ``problems`` what it complained of.
    """

    def __init__(self, executable: str, profile: Path) -> None:
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._last_id = 0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        to_read, self._out = _high(*os.pipe())
        self._in, to_write = _high(*os.pipe())
        command = [executable, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.do(f"{domain}.enable")

    def close(self) -> None:
        """End Chromium."""
        with suppress(OSError, TimeoutError, AssertionError):
            self._call("Browser.close")
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        os.close(self._in)
        os.close(self._out)

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol in the page."""
        return self._call(method, self._session, **parameters)

    def look(self, *, width: int, theme: str, height: int = 900) -> None:
        """Choose the width of the page in CSS pixels, and ``light`` or ``dark``."""
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def open(self, url: str) -> None:
        """Open a page, and wait until it is complete."""
        self._events.clear()
        answer = self.do("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str) -> None:
        """Wait until the page has sent an event."""
        until = time.monotonic() + PATIENCE_S
        while all(one.get("method") != event for one in self._events):
            self._read(until)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        answer = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def send(self, expression: str) -> None:
        """Run an expression that makes the page open another one, and wait until that is complete."""
        self._events.clear()
        self.value(expression)
        self.wait_for("Page.loadEventFired")

    def screenshot(self, path: Path) -> None:
        """Store a picture of the whole page."""
        answer = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(until)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        self._events.append(message)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded":
                self.problems.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.problems.append(json.dumps(parameters))

    def foreign_requests(self, port: int) -> list[str]:
        """Return the requests to other servers than the one on ``port``."""
        own = f"127.0.0.1:{port}"
        return [url for url in self.requests if urlsplit(url).netloc != own and url != "about:blank"]


def _high(*descriptors: int) -> list[int]:
    """Move file descriptors away from those that Chromium uses."""
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in descriptors]
    for one in descriptors:
        os.close(one)
    return moved


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Run Chromium for the length of the block, with a new profile."""
    with tempfile.TemporaryDirectory(prefix="memory-worker-browser-", ignore_cleanup_errors=True) as profile:
        opened = Browser(executable, Path(profile))
        try:
            yield opened
        finally:
            opened.close()
