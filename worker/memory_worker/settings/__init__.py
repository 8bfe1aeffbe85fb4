"""The settings of a worker, from environment variables.

Here: every setting with its unit, default and checks, the files that hold secrets, misspelt names. Not here: the parts
that are built from settings (`memory_worker.runtime.wiring`).
"""

from __future__ import annotations

from memory_worker.settings.load import (
    child_environment,
    foreign_variables,
    load_settings,
    secret_file_variables,
    variables,
)
from memory_worker.settings.model import MOST_PARTITIONS, Role, Settings

__all__ = [
    "MOST_PARTITIONS",
    "Role",
    "Settings",
    "child_environment",
    "foreign_variables",
    "load_settings",
    "secret_file_variables",
    "variables",
]
