"""The part of a request that decides what a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

_MOST_CHARACTERS = 300
_REFRESH_S = 10
REFRESHES_S = (0, 5, 10, 60)
"""Intervals at which a page may reload itself, in seconds. 0: it does not."""


@dataclass(frozen=True, slots=True)
class Query:
    """The path of a page, the parts of it that vary, and the parameters that the page knows.

    Unknown and empty parameters are left out, so that there is one text for each page.
    """

    path: str
    parts: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, parts: Mapping[str, str], given: Mapping[str, str], known: tuple[str, ...]) -> Query:
        """Return the query with the known parameters of a request."""
        kept = {name: given[name].strip()[:_MOST_CHARACTERS] for name in known if given.get(name, "").strip()}
        return cls(path, parts, kept)

    def get(self, name: str) -> str:
        """Return a parameter. It is empty if it is not given."""
        return self.given.get(name, "")

    @property
    def key(self) -> str:
        """The path and the parameters as one text."""
        return f"{self.path}?{urlencode(self.given)}"

    @property
    def root(self) -> str:
        """The way from this page to the first one, so that links work behind any path of a proxy."""
        return "../" * (self.path.count("/") - 1) or "./"

    @property
    def refresh(self) -> int:
        """After how many seconds the page reloads itself. 0: never."""
        given = self.get("refresh")
        return int(given) if given.isdecimal() and int(given) in REFRESHES_S else _REFRESH_S
