from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.console import Console

from memory_worker.commands import dead_tables, tables
from memory_worker.contract import Delete, Receipt, encode_job
from memory_worker.inspection.checks import Check
from memory_worker.inspection.status import PartitionStatus
from memory_worker.queue.dead_letters import DeadLetter, DeadLetterHeader
from memory_worker.wire.pause import Pause
from tests.unit import queue_stats


def printed(show: Callable[..., None], *args: Any, **options: Any) -> str:
    console = Console(file=StringIO(), record=True, emoji=False, width=160)
    show(*args, console, **options)
    return console.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.85, "850 ms"),
        (0.9994, "999 ms"),
        (1, "1 s"),
        (12.4, "12 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (18_000, "5 h"),
        (172_799, "48 h"),
        (172_800, "2 d"),
        (864_000, "10 d"),
    ],
)
def test_an_age_has_a_suitable_unit(seconds: float, text: str) -> None:
    assert tables.age(seconds) == text


def partition(number: int, **values: Any) -> PartitionStatus:
    idle = {"waiting": 0, "oldest_age_s": None, "draining": False, "lease_s": None, "held": False, "dead": 0}
    return PartitionStatus(partition=number, **{**idle, **values})


COLLECTION = msgspec.structs.replace(
    queue_stats.STATUS.collections[0], points=1_234_567, indexed_vectors=1_200_000, segments=8, dimension=1024
)
STATUS = msgspec.structs.replace(
    queue_stats.STATUS,
    partitions=[
        partition(17, waiting=1234, oldest_age_s=12.0, draining=True, lease_s=7.25),
        partition(18),
        partition(19, waiting=1, oldest_age_s=3.0, held=True, needs="kind 'note'", dead=1001),
        partition(49, waiting=9, oldest_age_s=1.0, overflow_of=17),
    ],
    waiting=1244,
    waiting_bytes=5_432_100,
    oldest_age_s=12.0,
    draining=1,
    dead=1001,
    collections=[COLLECTION],
)
UNKNOWN = msgspec.structs.replace(
    STATUS, collections=[], store_error="describing x: UNAVAILABLE: ipv6:[::1] [/red] [b]"
)


def row(text: str, first: str) -> list[str]:
    """Return the cells of the row whose first cell is ``first``."""
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if "│" in line]
    (found,) = [line for line in cells if line[0] == first]
    return found


def test_status_shows_the_backlog_and_the_collections() -> None:
    text = printed(tables.print_status, STATUS, everything=False)
    assert "1,244 jobs wait, the oldest for 12 s; 1 of 3 partitions are being drained; 1,001 dead letters" in text
    assert row(text, "17") == ["17", "1,234", "12 s", "7.2 s", "", ""]
    assert row(text, "19") == ["19", "1", "3 s", "", "1,001", "held: needs kind 'note'"]
    assert row(text, "49 (overflow of 17)") == ["49 (overflow of 17)", "9", "1 s", "", "", ""]
    assert row(text, "user_memories") == ["user_memories", "green", "1,234,567", "1,200,000", "8", "1024"]


@pytest.mark.parametrize("everything", [False, True], ids=["busy", "everything"])
def test_idle_partitions_are_shown_only_on_demand(everything: bool) -> None:
    text = printed(tables.print_status, STATUS, everything=everything)
    assert any(line.strip("│ ").startswith("18 ") for line in text.splitlines()) is everything


def test_status_shows_the_running_workers() -> None:
    assert "workers: none" in printed(tables.print_status, STATUS, everything=False)
    alive = msgspec.structs.replace(STATUS, workers={"ingest": 2, "search": 0, "all": 1})
    assert "workers: 2 ingest, 0 search, 1 all" in printed(tables.print_status, alive, everything=False)


def test_status_shows_a_pause() -> None:
    paused = msgspec.structs.replace(STATUS, paused=Pause(1_790_000_000.0, "root@[red]", "ba\x1bckup"))
    text = printed(tables.print_status, paused, everything=False)
    assert r"paused since 2026-09-21 14:13:20 UTC by root@[red]: ba\x1bckup; to go on: memory-worker resume" in text
    assert "paused" not in printed(tables.print_status, STATUS, everything=False)


def test_names_of_collections_are_complete_and_escaped_on_a_narrow_terminal() -> None:
    named = msgspec.structs.replace(COLLECTION, name="user_memories_" + "x" * 100 + "\x1b[2J")
    status = msgspec.structs.replace(STATUS, collections=[named])
    console = Console(file=StringIO(), record=True, emoji=False, width=80)
    tables.print_status(status, console, everything=False)
    lines = [line for line in console.export_text().splitlines() if line.startswith("│")]
    shown = "".join(line.split("│")[1].strip() for line in lines)
    assert shown.endswith("user_memories_" + "x" * 100 + r"\x1b[2J")
    assert "…" not in console.export_text()


def test_status_of_an_idle_queue_has_no_table_of_partitions() -> None:
    quiet = msgspec.structs.replace(STATUS, partitions=[partition(0)], waiting=0, oldest_age_s=0.0, draining=0, dead=0)
    text = printed(tables.print_status, quiet, everything=False)
    assert "0 jobs wait" in text
    assert "Partitions" not in text


def test_an_error_of_the_store_is_shown_unchanged() -> None:
    text = printed(tables.print_status, UNKNOWN, everything=False)
    assert "Qdrant does not answer: describing x: UNAVAILABLE: ipv6:[::1] [/red] [b]" in text
    assert "Collections" not in text


def test_a_check_shows_its_verdict_and_advice() -> None:
    checks = [
        Check("Redis version", "ok", "9.1"),
        Check("clocks", "warning", "an hour apart", "Set them."),
        Check("Qdrant", "failed", "no [/b] answer", "Start [it]."),
    ]
    text = printed(tables.print_checks, checks)
    assert row(text, "Redis version") == ["Redis version", "ok", "9.1", ""]
    assert row(text, "clocks") == ["clocks", "warning", "an hour apart", "Set them."]
    assert row(text, "Qdrant") == ["Qdrant", "failed", "no [/b] answer", "Start [it]."]


HEAD: dict[str, Any] = {
    "receipt": Receipt(17, "1732000000000-0"),
    "position": "1732000000000-0",
    "reason": "invalid",
    "detail": "point_id: 'mem_1_1' does not belong to user 1730",
    "op": "delete",
    "user_id": "1730",
    "ref": "",
    "died_s": 1732000000.5,
    "version": 1,
    "size": 40,
}


def dead_letter(**values: Any) -> DeadLetter:
    with_body = {**HEAD, "body": encode_job(Delete(user_id=1730, point_ids=["mem_1_1"])), **values}
    return DeadLetter(**{**with_body, "size": len(with_body["body"])})


def head(**values: Any) -> DeadLetterHeader:
    return DeadLetterHeader(**{**HEAD, **values})


def listed(*heads: DeadLetterHeader, limit: int = 100, width: int = 80) -> str:
    async def each() -> AsyncIterator[DeadLetterHeader]:
        for one in heads:
            yield one

    written = StringIO()
    asyncio.run(dead_tables.print_headers(each(), Console(file=written, width=width), limit=limit))
    return written.getvalue()


def test_dead_letters_are_listed_with_complete_receipts() -> None:
    longest = Receipt(1023, "1732000000000-123456")
    text = listed(head(ref="file 5\n"), head(receipt=longest, op="", user_id="", detail="torn"), width=20)
    assert text.splitlines() == [
        "17/1732000000000-0  2024-11-19T07:06:40.500+00:00  invalid delete, user 1730, 40 bytes, ref file 5\\n",
        "    point_id: 'mem_1_1' does not belong to user 1730",
        "1023/1732000000000-123456  2024-11-19T07:06:40.500+00:00  invalid unknown, user unknown, 40 bytes",
        "    torn",
    ]


def test_a_list_that_is_cut_says_so() -> None:
    assert listed(head(), head(), limit=1).splitlines()[-1] == "there are more; --limit shows more than 1"
    assert "there are more" not in listed(head(), limit=1)


def test_an_empty_list_says_so() -> None:
    assert listed() == "no dead letters\n"


@pytest.mark.parametrize("detail", ["point_id: 'mem_[/red]'", "[bold]x[/bold]", "\\[x]", "[/]", ":smile:"])
def test_text_of_a_job_is_not_markup(detail: str) -> None:
    assert listed(head(detail=detail)).splitlines()[1] == f"    {detail}"


def test_text_of_a_job_cannot_control_the_terminal() -> None:
    text = listed(head(op="\x1b[2J", user_id="1\r2", detail="a\nb\x9b31m\u202ec\ud800"))
    assert text.splitlines()[0].endswith("invalid \\x1b[2J, user 1\\r2, 40 bytes")
    assert text.splitlines()[1:] == [r"    a\nb\x9b31m\u202ec\ud800"]


def test_a_dead_letter_is_shown_with_its_trace() -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    for trace, state in ((parent, None), (f"{parent} a=1,b=2", "a=1,b=2")):
        shown = dead_tables.dead_letter_document(dead_letter(trace=trace))
        assert (shown["traceparent"], shown["tracestate"]) == (parent, state)


def test_a_dead_letter_is_shown_as_a_document() -> None:
    found = dead_letter()
    short = {
        "receipt": "17/1732000000000-0",
        "died": "2024-11-19T07:06:40.500+00:00",
        "reason": "invalid",
        "detail": "point_id: 'mem_1_1' does not belong to user 1730",
        "op": "delete",
        "user_id": 1730,
        "ref": None,
        "contract_version": 1,
        "bytes": len(found.body),
        "traceparent": None,
        "tracestate": None,
    }
    assert dead_tables.header_document(head(size=len(found.body))) == short
    assert dead_tables.header_document(head(ref="file 5"))["ref"] == "file 5"
    assert dead_tables.dead_letter_document(found) == {
        **short,
        "job": {"op": "delete", "user_id": 1730, "point_ids": ["mem_1_1"]},
        "raw_hex": found.body.hex(),
    }


UPSERT = (
    b"\x85\xa2op\xa6upsert\xa7user_id\x01\xa8point_id\xa7mem_1_a\xa6vector\x91\xcb\x7f\xf8" + bytes(6) + b"\xa7payload"
)
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "garbage": b"\xc1\xff",
    "a list as a key": UPSERT + b"\x81\xa1a\x81\x91\x01\x01",
    "null as a key": UPSERT + b"\x81\xa1a\x81\xc0\x01",
    "an int as a key": UPSERT + b"\x81\xa1a\x81\x07\x01",
    "an extension": UPSERT + b"\x81\xa1a\xd4\x05\x01",
    "a time": UPSERT + b"\x81\xa1a\xd6\xff" + bytes(4),
    "bytes": UPSERT + b"\x81\xa1a\xc4\x01\x00",
    "not a number": UPSERT + b"\x80",
    "deep": UPSERT + b"\x81\xa1a" + b"\x91" * 900 + b"\x01",
    "bottomless": UPSERT + b"\x81\xa1a" + b"\x91" * 90_000 + b"\x01",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_dead_body_can_be_shown_as_json(body: bytes) -> None:
    document = dead_tables.dead_letter_document(dead_letter(body=body, op="", user_id=""))
    shown = json.loads(json.dumps(document, allow_nan=False))
    assert bytes.fromhex(shown["raw_hex"]) == body
    assert (shown["user_id"], shown["bytes"]) == (None, len(body))


def test_a_job_that_decodes_is_shown_with_its_values() -> None:
    document = dead_tables.dead_letter_document(dead_letter(body=BODIES["an int as a key"]))
    assert document["job"]["payload"] == {"a": {"7": 1}}
