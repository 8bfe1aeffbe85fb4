"""A clock that tests move."""

from __future__ import annotations

import pytest


class Clock:
    """A clock that does not move by itself."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()
