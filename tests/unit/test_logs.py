from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from memory_worker.telemetry.logs import configure_logs, log_event

logger = logging.getLogger("memory_worker.somewhere")


@pytest.fixture(autouse=True)
def root_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root, arq = logging.getLogger(), logging.getLogger("arq")
    monkeypatch.setattr(root, "handlers", [])
    levels = root.level, arq.level
    yield
    root.setLevel(levels[0])
    arq.setLevel(levels[1])


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    streams = capsys.readouterr()
    assert streams.out == ""
    return streams.err.splitlines()


def failure() -> ValueError:
    try:
        raise ValueError("broken\nin two")
    except ValueError as error:
        return error


def test_an_event_is_one_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=False)
    log_event(logger, logging.WARNING, "outage", partition=3, retry_in_s=0.123456, error="no answer", url="a=b")
    (line,) = logged(capsys)
    time, rest = line.split(" ", 1)
    assert datetime.fromisoformat(time).utcoffset() is not None
    assert rest == 'warning outage partition=3 retry_in_s=0.1235 error="no answer" url=a=b'


def test_an_event_without_fields_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=False)
    log_event(logger, logging.INFO, "started")
    assert logged(capsys)[0].endswith(" info    started")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a b\n2026 info fake", "\x1b[31m", 'say "x"'], ids=repr)
def test_a_value_cannot_forge_a_line(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=False)
    log_event(logger, logging.INFO, "event", value=value, last=1)
    (line,) = logged(capsys)
    assert f" value={json.dumps(value)} last=1" in line


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=True)
    log_event(logger, logging.ERROR, "dead_letter", receipt="3/1-0", jobs=2, ms=1.5, error="a\nb", path=pytest)
    (line,) = logged(capsys)
    document = json.loads(line)
    assert datetime.fromisoformat(document.pop("time")).utcoffset() is not None
    assert document == {
        "level": "error",
        "logger": "memory_worker.somewhere",
        "event": "dead_letter",
        "receipt": "3/1-0",
        "jobs": 2,
        "ms": 1.5,
        "error": "a\nb",
        "path": str(pytest),
    }


def test_text_shows_the_traceback_of_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=False)
    log_event(logger, logging.ERROR, "read_failed", failure=failure(), op="Get")
    first, *trace = logged(capsys)
    assert first.endswith("read_failed op=Get")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-2:] == ["ValueError: broken", "in two"]


def test_json_keeps_a_traceback_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=True)
    log_event(logger, logging.ERROR, "read_failed", failure=failure())
    (line,) = logged(capsys)
    assert json.loads(line)["exception"].endswith("ValueError: broken\nin two")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_secret_is_not_logged(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=as_json)
    log_event(logger, logging.INFO, "event", key=SecretStr("hunter2"))
    (line,) = logged(capsys)
    assert "hunter2" not in line
    assert "***" in line


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_messages_of_libraries_are_logged(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=as_json)
    logging.getLogger("library").info("%d of %s", 1, "two")
    (line,) = logged(capsys)
    assert "1 of two" in line


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_arq_does_not_log_the_arguments_of_jobs(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("DEBUG", as_json=as_json)
    for name in ("arq", "arq.worker", "arq.jobs"):
        logging.getLogger(name).info("search(vector=...)")
        logging.getLogger(name).warning("search(vector=...)")
    assert logged(capsys) == []
    logging.getLogger("arq.worker").error("it broke")
    assert len(logged(capsys)) == 1


@pytest.mark.parametrize(("level", "seen"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)], ids=str)
def test_events_below_the_level_are_not_logged(level: Any, seen: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level, as_json=False)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log_event(logger, number, "event")
    assert len(logged(capsys)) == seen


def test_logs_configured_twice_log_each_event_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=False)
    configure_logs("INFO", as_json=True)
    log_event(logger, logging.INFO, "event")
    (line,) = logged(capsys)
    assert json.loads(line)["event"] == "event"
