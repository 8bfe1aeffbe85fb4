"""``python -m worker``: the same commands as ``memory-worker``."""

from worker.cli import main

if __name__ == "__main__":
    main(prog_name="memory-worker")
