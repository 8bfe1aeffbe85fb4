"""The PHP client of docs/php.md uses the keys and records of the contract. It is run in ``tests/integration``."""

from __future__ import annotations

import re

from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import DEFAULT_PARTITIONS
from tests.documents import ROOT, blocks

PROGRAM, CLASS = (block.body.replace("$this->mw", "mw") for block in blocks([ROOT / "docs" / "php.md"], "php"))


def test_it_keeps_to_the_keys() -> None:
    keys = Keys()
    for key in (keys.meta, keys.backlog, keys.drain_queue, keys.search_queue, keys.drain_wakeup, keys.search_wakeup):
        assert f'"{key}"' in CLASS
    assert f'"{keys.stream(7)}"'.replace("7", "$p") in CLASS
    assert f'"{keys.arq_job(keys.drain_job_id(7))}"'.replace("7", "$p") in CLASS
    assert f'"{keys.reply("$id")}"' in CLASS
    assert f'"{keys.since}", "{keys.pushed("$token")}"' in CLASS


def test_it_keeps_to_the_records() -> None:
    (record,) = re.findall(r"sprintf\('([^']+)', \$p\)", CLASS)
    assert decode_arq((record % 7).encode()) == decode_arq(drain_job(7))
    assert f"{DRAIN_JOB_LIFE_MS}, $latest, $this->life() + 1000, 1," in CLASS
    assert f"?: {DEFAULT_PARTITIONS})" in CLASS


def test_the_program_uses_the_file_that_the_page_names() -> None:
    assert "require __DIR__ . '/MemoryQueue.php';" in PROGRAM
