"""The manifest: what the app has in its own database, one JSON object per line.

{"point_id": "mem_1_7", "updated": 1730000000}
{"point_id": "doc_1_88_0", "hash": "9f86d081", "user_id": 1}
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.errors import ConfigurationError, InvalidJob
from memory_worker.contract.fields import MAX_NUMBER
from memory_worker.contract.kinds import Kind, UserId
from memory_worker.repair.owners import user_of

MAX_LINE_BYTES = 65_536


class Lines(Protocol):
    """A source of lines, such as a binary file."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, of at most ``limit`` bytes; nothing at the end."""


class ProgramOutput:
    """The output of a program. At its end the program must have exited with 0, or else it is incomplete."""

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None

    def readline(self, limit: int) -> bytes:
        """Return the next line. The program starts at the first one. Raises `ConfigurationError`, `OSError`."""
        if self._child is None:
            self._child = subprocess.Popen(self._program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
        line = self._child.stdout.readline(limit) if self._child.stdout else b""
        if not line and self._child.wait():
            raise ConfigurationError(
                f"the manifest is incomplete: {self._program[0]} exited with {self._child.returncode}"
            )
        return line

    def close(self) -> None:
        """End the program."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()


class ManifestLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A point that should be stored. ``updated`` and ``hash`` are compared with its payload if they are given."""

    point_id: str
    updated: Annotated[float, Meta(ge=0, le=MAX_NUMBER)] | Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | UnsetType = UNSET
    hash: str | int | UnsetType = UNSET
    user_id: UserId | UnsetType = UNSET


_decode = msgspec.json.Decoder(ManifestLine).decode


def parse_line(kind: Kind, number: int, text: bytes) -> ManifestLine | None:
    """Return a line of the manifest, or ``None`` if it is blank. Raises `ConfigurationError`, which names the line."""
    if not text.strip():
        return None
    try:
        if len(text) > MAX_LINE_BYTES:
            raise InvalidJob("line", f"at most {MAX_LINE_BYTES:,} bytes are allowed")
        line = _decode(text)
        user_id = user_of(kind, line.point_id)
        if line.user_id not in (UNSET, user_id):
            raise InvalidJob("user_id", f"is {line.user_id!r:.80}, but {line.point_id!r:.200} belongs to {user_id!r}")
    except (msgspec.MsgspecError, InvalidJob, UnicodeDecodeError) as error:
        raise ConfigurationError(f"line {number} of the manifest: {error}") from error
    return line
