"""``memory-worker``, and ``python -m memory_worker``."""

from __future__ import annotations

import os
import sys

from memory_worker.commands import interrupts

_USAGE = 2
_CANNOT_WRITE = 120
"""The status of Python itself when it cannot write to standard output."""


def main() -> None:
    """Run the command line, and end the process."""
    interrupts.install()
    # After that, because loading takes a while. The first process of a container ignores a signal without a handler.
    from memory_worker.commands.library_variables import hide_from_libraries  # noqa: PLC0415
    from memory_worker.messages_only import import_messages_only  # noqa: PLC0415

    hide_from_libraries(os.environ)
    import_messages_only()
    try:
        from memory_worker.commands.main import main as run  # noqa: PLC0415

        run(prog_name="memory-worker")
    except SystemExit as end:
        _exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "memory_worker"):
            raise
        extra = "embedded" if "demo" in sys.argv[1:2] else "worker"
        missing = f"this command needs the extra {extra} ({package} is not installed)"
        sys.stderr.write(f"memory-worker: {missing}: pip install 'memory-worker[{extra}]'\n")
        _exit(_USAGE)


def _exit(status: int) -> None:
    """End at once. Python's own end takes a while in which a signal would get no answer."""
    interrupts.finished()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or _CANNOT_WRITE
    os._exit(status)


if __name__ == "__main__":
    from memory_worker.embedded.interpreter import import_path

    sys.path[:] = import_path()  # python -m puts the working directory in front
    main()
