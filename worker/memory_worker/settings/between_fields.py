"""Checks that concern several settings."""

from __future__ import annotations

from typing import Any

MIN_PASSWORD_CHARACTERS = 12
LEASE_MARGIN_S = 2.0
"""How much longer a lease must be than a request to Qdrant: time for a late reply and for the commit."""


def check_between_fields(settings: Any) -> None:
    """Raise `ValueError`, which names the settings that do not fit each other.

    ``settings`` are `memory_worker.settings.Settings`, whose module imports this one.
    """
    if settings.lease_ttl_s < settings.qdrant_timeout_s + LEASE_MARGIN_S:
        raise ValueError(
            f"LEASE_TTL_S ({settings.lease_ttl_s:g}) must be at least QDRANT_TIMEOUT_S ({settings.qdrant_timeout_s:g}) "
            f"plus {LEASE_MARGIN_S:g}, because a request must end before its lease does"
        )
    if settings.retry_max_s < settings.retry_base_s:
        raise ValueError("RETRY_MAX_S must not be below RETRY_BASE_S")
    if settings.qdrant_write_consistency_factor > settings.qdrant_replication_factor:
        raise ValueError("QDRANT_WRITE_CONSISTENCY_FACTOR must not exceed QDRANT_REPLICATION_FACTOR")
    if settings.read_budget_bytes < 2 * settings.read_max_bytes:
        raise ValueError(
            f"READ_BUDGET_BYTES ({settings.read_budget_bytes}) must be at least twice READ_MAX_BYTES "
            f"({settings.read_max_bytes}), because half of it is for large answers"
        )
    if settings.replies_max_bytes < settings.read_max_bytes:
        raise ValueError("REPLIES_MAX_BYTES must not be below READ_MAX_BYTES")
    if (settings.redis_tls_cert_file is None) != (settings.redis_tls_key_file is None):
        raise ValueError("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE need each other")
    _check_console(settings)


def _check_console(settings: Any) -> None:
    password = settings.console_password.get_secret_value() if settings.console_password else None
    if settings.console_actions and password is None:
        raise ValueError("CONSOLE_ACTIONS needs CONSOLE_PASSWORD_FILE or CONSOLE_PASSWORD")
    if password is not None and len(password) < MIN_PASSWORD_CHARACTERS:
        raise ValueError(
            f"CONSOLE_PASSWORD: at least {MIN_PASSWORD_CHARACTERS} characters are needed, got {len(password)}"
        )
