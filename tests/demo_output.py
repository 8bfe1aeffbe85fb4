"""The part of the demo's output that README.md shows, and how to compare it with another run.

python -m tests.demo_output            print the part, of a new run
python -m tests.demo_output --write    put it into README.md
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT, blocks

README = ROOT / "README.md"
COLUMNS = 80
_LEFT_OUT = re.compile(r"^Searches .*?(?=^Verdict )", re.MULTILINE | re.DOTALL)
_TIMES = re.compile(r"^ *\d+\.\d s|\d+\.\d ms", re.MULTILINE)
_WAITING = re.compile(r"\d+ requests (?=wait|still wait)")


def run_demo(cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as a newcomer does, but without a terminal."""
    return subprocess.run(
        [Path(sys.executable).with_name("memory-worker"), "demo"],
        env={**os.environ, "COLUMNS": str(COLUMNS), **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def part_for_the_readme(output: str) -> str:
    """Return the story and the verdict."""
    story, _, _next = _LEFT_OUT.sub("", output).partition("\nNext")
    return story


def without_what_varies(output: str) -> str:
    """Return output without times and without counts that depend on them. All other figures stay."""
    return _WAITING.sub("N requests ", _TIMES.sub("TIME", output))


def shown_in_the_readme() -> str:
    """Return the output in README.md."""
    _diagram, demo, _tests = blocks([README], "")
    return demo.body


def main(arguments: list[str]) -> None:
    """Run the demo, and print or write the part. End with 1 if the demo fails."""
    done = run_demo()
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    part = part_for_the_readme(done.stdout)
    if "--write" not in arguments:
        sys.stdout.write(part)
        return
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(f"```\n{shown_in_the_readme()}```", f"```\n{part}```"), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
