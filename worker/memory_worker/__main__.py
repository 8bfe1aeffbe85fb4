"""``memory-worker``, and ``python -m memory_worker``."""

from __future__ import annotations

from memory_worker import interrupts


def main() -> None:
    """Run the command line."""
    interrupts.install()
    # After that, because loading takes a while. The first process of a container ignores a signal without a handler.
    from memory_worker.commands.main import main as run  # noqa: PLC0415

    run(prog_name="memory-worker")


if __name__ == "__main__":
    main()
