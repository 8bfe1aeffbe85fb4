"""The commands with their usage and options, from click."""

from __future__ import annotations

from collections.abc import Iterator

import click

from memory_worker.commands.main import main
from memory_worker.commands.reference.markdown import prose, table


def sections() -> str:
    """Return a section for each command."""
    return "\n\n".join(_section(context) for context in _contexts(click.Context(main, info_name="memory-worker")))


def _contexts(parent: click.Context) -> Iterator[click.Context]:
    """Yield the context of each command that does something; a group of commands does nothing."""
    group = parent.command
    if not isinstance(group, click.Group):
        yield parent
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is not None:
            yield from _contexts(click.Context(command, info_name=name, parent=parent))


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    parts = [f"## {context.command_path}", f"    {usage}", prose(command.help)]
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    rows = [(f"`{names}`", " ".join(meaning.split())) for names, meaning in records]
    if rows:
        parts.append(table(("option", "meaning"), rows))
    return "\n\n".join(parts)
