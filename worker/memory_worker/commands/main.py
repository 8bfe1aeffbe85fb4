"""``memory-worker``: the commands. Each is loaded when it runs.

Exit status: 0 done; 1 the command or a check failed; 2 a setting or an argument is wrong; 130 interrupted (Ctrl-C).
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from memory_worker import __version__

COMMANDS: Final = {
    "bench": "Measure pushes, drains, searches and more.",
    "bulk": "Hold back indexing during a large import, or resume it.",
    "check": "Check the settings, Redis, Qdrant and the collections.",
    "dead": "List, show, replay or drop dead letters.",
    "demo": "Kill Qdrant and a worker, and see that nothing is lost.",
    "discard": "Discard all jobs that wait in a paused queue.",
    "drain": "Wait until the workers have applied what waits.",
    "erased": "Prove that nothing is left of a user after a purge.",
    "partitions": "Show or change the number of partitions.",
    "pause": "Let workers apply no writes, until the queue is resumed.",
    "reconcile": "Compare a collection with what the app has.",
    "rekey": "Give points under integer ids their UUIDs.",
    "resume": "End a pause.",
    "run": "Run a worker until SIGTERM or Ctrl-C.",
    "schema": "Print the JSON Schema of all jobs and replies.",
    "status": "Show waiting jobs, leases, workers, dead letters and collections.",
    "tune": "Give existing collections the index settings of new ones.",
}
"""The commands with their summaries. Each is a function in the module of the same name."""


class _LazyGroup(click.Group):
    """Loads a command when it runs. The list of commands loads none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"memory_worker.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Queue-driven ingestion of an AI app's memories into Qdrant.

    All settings are environment variables; docs/settings.md lists them. If REDIS_URL or QDRANT_URL is unset, an
    embedded engine is used, with its data under DATA_DIR.
    """
