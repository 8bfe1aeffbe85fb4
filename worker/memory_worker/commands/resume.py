"""``memory-worker resume``."""

from __future__ import annotations

import click

from memory_worker.commands.session import reported, servers, with_redis
from memory_worker.queue.pausing import resume_queue
from memory_worker.terminal import foreign, open_console
from memory_worker.wire.keys import Keys


@click.command()
def resume() -> None:
    """End a pause. Workers apply writes again at once."""
    with reported(), servers(("redis",), to_stderr=True) as settings:
        ended = with_redis(settings, lambda redis: resume_queue(redis, Keys(settings.queue_prefix)))
        console = open_console()
        shown = "was not paused" if ended is None else f"resumed; was {foreign(str(ended), console)}"
        console.print(shown, soft_wrap=True)
