"""Turns what a page shows into HTML. All text is escaped, and has no unprintable characters."""

from __future__ import annotations

import secrets
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from memory_worker import __version__
from memory_worker.console import assets, charts, partitions, words
from memory_worker.console.query import REFRESHES_S, Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.plain_text import age, plain

TOKEN = f"token-{secrets.token_hex(16)}"
"""What stands in a page for the token of its session. Pages are made once for all sessions."""

PAGES = (
    ("", "Overview"),
    ("partitions", "Partitions"),
    ("collections", "Collections"),
    ("dead-letters", "Dead letters"),
    ("check", "Check"),
    ("settings", "Settings"),
)


class Renderer:
    """Renders the templates of the console."""

    def __init__(self, sources: ConsoleSources) -> None:
        self._sources = sources
        self._templates = Environment(
            loader=PackageLoader("memory_worker.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_printable,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(
            age=age,
            bytes=words.bytes_of,
            clock=words.clock_of,
            count=words.whole,
            rate=words.rate_of,
            seconds=words.seconds_of,
            time=words.time_of,
        )
        self._templates.globals.update(
            assets=assets.addresses(),
            cell_distance=partitions.CELL,
            chart_height=charts.HEIGHT,
            chart_width=charts.WIDTH,
            columns=partitions.COLUMNS,
            pages=PAGES,
            queue=sources.settings.queue_prefix,
            refreshes=REFRESHES_S,
            token=TOKEN,
            version=__version__,
        )

    def page(self, template: str, query: Query, *, is_open: bool = True, **context: Any) -> str:
        """Return a page. Only an ``open`` one has the navigation and the state of the process."""
        status, components = self._sources.stats(), self._sources.health.components()
        settings = self._sources.settings
        common = {
            "query": query,
            "root": query.root,
            "is_open": is_open,
            "is_up": all(component.up for component in components.values()),
            "dead": status.dead if status else 0,
            "stats_at": status.at if status else None,
            "process": self._sources.process_id,
            "role": self._sources.role,
            "has_login": settings.console_password is not None,
            "has_actions": settings.console_actions,
            "has_payloads": settings.console_payloads,
            "refresh": 0,
        }
        return self._templates.get_template(f"{template}.html").render({**common, **context})


def _printable(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
