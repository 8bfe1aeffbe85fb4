"""``memory-worker run``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import click

from memory_worker import failpoints
from memory_worker.commands import interrupts
from memory_worker.commands.session import in_loop, reported
from memory_worker.failpoints import arm
from memory_worker.runtime.process import WorkerProcess
from memory_worker.runtime.wiring import engines_where_unset
from memory_worker.settings import Role, Settings, foreign_variables, load_settings
from memory_worker.telemetry.logs import configure_logs, log_event
from memory_worker.telemetry.span_export import exporting_spans

logger = logging.getLogger(__name__)


@click.command()
@click.option(
    "--role", type=click.Choice(["ingest", "search", "all"]), help="Work of this process. Default: WORKER_ROLE."
)
def run(role: Role | None) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    with reported():
        settings = load_settings()
        configure_logs(settings.log_level, as_json=settings.log_json)
        for name, setting in foreign_variables():
            log_event(logger, logging.WARNING, "unknown_variable", name=name, setting=setting)
        arm(os.environ.get(failpoints.VARIABLE, ""))
        with exporting_spans(os.environ), engines_where_unset(settings) as wired:
            in_loop(lambda: _work(wired, role or wired.worker_role))


async def _work(settings: Settings, role: Role) -> None:
    app, loop = WorkerProcess(settings, role), asyncio.get_running_loop()
    with interrupts.gently(lambda: loop.call_soon_threadsafe(app.stop), usual=(signal.SIGTERM,)):
        await app.run()
