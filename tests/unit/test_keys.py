from __future__ import annotations

import re

import pytest
from arq.constants import (
    health_check_key_suffix,
    in_progress_key_prefix,
    job_key_prefix,
    result_key_prefix,
    retry_key_prefix,
)
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.wire import keys as module
from memory_worker.wire.keys import Keys
from memory_worker.wire.primaries import HASH_TAG, slot_of

KEYS = Keys("mw")
DRAIN = KEYS.drain_job_id(7)


def documented() -> set[str]:
    """Return the keys in the table of the module's docstring, for partition 7 and the read job ``J``."""
    assert module.__doc__ is not None
    rows = re.findall(r"^    (\S+(?:, \S+)*) +(?:hash|stream|string|zset|list|set) ", module.__doc__, re.MULTILINE)
    names = [name for row in rows for name in row.split(", ")]
    return {
        name.replace("{p}", "7")
        .replace("{user}", "1730")
        .replace("{id}", "0123")
        .replace("{job}", "J")
        .replace("{token}", "T")
        .replace("...", "drain:7")
        for name in names
    }


PRODUCED = {
    KEYS.meta,
    KEYS.since,
    KEYS.pushed("T"),
    KEYS.backlog,
    KEYS.collections,
    KEYS.held,
    KEYS.paused,
    KEYS.orphaned,
    KEYS.canary,
    KEYS.processes,
    KEYS.leader,
    KEYS.stats,
    KEYS.attempts(7),
    KEYS.watched,
    KEYS.watched_entries(7),
    KEYS.guarded(7),
    KEYS.guarded_dead_letters(7, 1730),
    KEYS.guarded_points(7, 1730),
    KEYS.process("0123"),
    KEYS.process_report("0123"),
    KEYS.stream(7),
    KEYS.overflow_users(7),
    KEYS.overflow_counts(7),
    KEYS.lease(7),
    KEYS.applied(7),
    KEYS.dead(7),
    KEYS.removed(7),
    KEYS.outcomes,
    KEYS.drain_queue,
    KEYS.search_queue,
    KEYS.admin_queue,
    KEYS.writes_queue,
    KEYS.drain_wakeup,
    KEYS.search_wakeup,
    KEYS.admin_wakeup,
    KEYS.search_calls,
    KEYS.admin_calls,
    KEYS.search_taker,
    KEYS.admin_taker,
    KEYS.reply("J"),
    KEYS.reading,
    KEYS.replies,
    KEYS.replies_bytes,
    KEYS.arq_job(DRAIN),
    KEYS.arq_in_progress(DRAIN),
}


def test_the_table_lists_all_keys() -> None:
    assert documented() == PRODUCED


def test_every_method_that_makes_a_key_is_tested() -> None:
    ways = {name for name in vars(Keys) if not name.startswith("_") and not name.endswith("prefix")} - {"drain_job_id"}
    assert len(ways) == len(PRODUCED)


def test_every_key_has_the_prefix() -> None:
    assert all(
        key.removeprefix(job_key_prefix).removeprefix(in_progress_key_prefix).startswith("mw:") for key in PRODUCED
    )


def test_queues_with_different_prefixes_share_no_key() -> None:
    assert not {key.replace("mw", "other") for key in PRODUCED} & PRODUCED
    assert Keys("other").stream(7) == "other:stream:7"
    assert Keys("other").arq_job(Keys("other").drain_job_id(7)) == "arq:job:other:drain:7"


@given(st.integers(0, 99_999), st.text("abzAZ09_.-", min_size=1, max_size=64))
def test_a_job_id_contains_its_partition(partition: int, prefix: str) -> None:
    keys = Keys(prefix)
    assert keys.drain_job_id(partition).removeprefix(keys.drain_job_id_prefix) == str(partition)
    assert keys.stream(partition).removeprefix(keys.stream_prefix) == str(partition)


@pytest.mark.parametrize(
    ("one", "other"),
    [(KEYS.stream, KEYS.dead), (KEYS.stream, KEYS.lease), (KEYS.applied, KEYS.dead)],
    ids=["dead", "lease", "applied"],
)
def test_partitions_do_not_share_keys(one: object, other: object) -> None:
    assert len({make(n) for make in (one, other) for n in range(20)}) == 40  # type: ignore[operator]


def test_with_a_hash_tag_all_keys_are_in_one_slot() -> None:
    """In a cluster the first tag of a key decides its slot."""
    ids = [DRAIN.replace("mw", "{mw}"), "{mw}:search:0123"]
    of_arq = {
        *(f"{prefix}{one}" for prefix in (result_key_prefix, retry_key_prefix) for one in ids),
        *(f"{queue}{health_check_key_suffix}" for queue in ("{mw}:drain", "{mw}:search", "{mw}:admin")),
    }
    keys = {key.replace("mw", "{mw}") for key in PRODUCED} | of_arq
    assert {HASH_TAG.search(key)[1] for key in keys} == {"mw"}  # type: ignore[index]
    assert {slot_of(key) for key in keys} == {slot_of("{mw}")}
