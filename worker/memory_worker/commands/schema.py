"""``memory-worker schema``."""

from __future__ import annotations

import click

from memory_worker.contract import json_schema
from memory_worker.plain_text import print_json


@click.command()
def schema() -> None:
    """Print the JSON Schema of all jobs and replies."""
    print_json(json_schema(), indent=2)
