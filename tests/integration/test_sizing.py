"""The program of deploy/SIZING.md prints figures near those of the page, and leaves nothing in Redis."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import redis

from tests.documents import ROOT, blocks, text

SIZING = ROOT / "deploy" / "SIZING.md"


def test_the_measurement_of_a_write(redis_url: str) -> None:
    (program,) = (block.body for block in blocks([SIZING], "python"))
    assert "jobs: int = 20_000" in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace("jobs: int = 20_000", "jobs: int = 2_000")],
        env={**os.environ, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (encoded,) = re.findall(r"1024 dimensions: e = ([\d,]+), s = [\d,]+", done.stdout)
    (on_the_page,) = re.findall(r"^\| 1,024 \| ([\d,]+) \|", text(SIZING), re.MULTILINE)
    assert abs(int(encoded.replace(",", "")) - int(on_the_page.replace(",", ""))) < 10
    with redis.Redis.from_url(redis_url) as client:
        assert not [*client.scan_iter("*sizing:*")]
