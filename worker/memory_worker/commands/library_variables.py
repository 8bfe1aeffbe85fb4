"""What libraries read from the environment behind the settings' back, and must not find there.

These stay as they are set: Python's own (``PYTHON*``), those of the terminal (``NO_COLOR``, ``COLUMNS``), the place of
temporary files (``TMPDIR``), gRPC's diagnostics (``GRPC_VERBOSITY``, ``GRPC_TRACE``), OpenTelemetry's own (``OTEL_*``),
and the machine's certificate authorities (``SSL_CERT_FILE``, ``SSL_CERT_DIR``, ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH``).
"""

from __future__ import annotations

from collections.abc import MutableMapping

HIDDEN = {
    "http_proxy": "gRPC would send vectors and the API key through it",
    "https_proxy": "as http_proxy",
    "grpc_proxy": "as http_proxy",
    "all_proxy": "httpx, which qdrant-client creates for the benchmark, fails on some of its values",
    "HTTP_PROXY": "as all_proxy",
    "HTTPS_PROXY": "as all_proxy",
    "ALL_PROXY": "as all_proxy",
    "GRPC_ADDRESS_HTTP_PROXY": "as http_proxy, for addresses",
    "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "belongs to it",
    "PROMETHEUS_MULTIPROC_DIR": "the metrics would go to files there, and not start without the directory",
    "prometheus_multiproc_dir": "as PROMETHEUS_MULTIPROC_DIR",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "changes what /metrics holds",
    "PROMETHEUS_LEGACY_NAME_VALIDATION": "changes which metrics are possible",
    "WEB_CONCURRENCY": "uvicorn fails if it is not a number",
    "FORWARDED_ALLOW_IPS": "uvicorn would believe headers of those hosts",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "protobuf fails on some values, and is slow with others",
    "ARQ_TIMEZONE": "arq fails on unknown zones",
    "arq_timezone": "as ARQ_TIMEZONE",
    "TIMEZONE": "as ARQ_TIMEZONE",
    "timezone": "as ARQ_TIMEZONE",
    "SSLKEYLOGFILE": "the keys of all TLS connections would go to that file",
}
"""Each variable, and what a library would do with it."""


def hide_from_libraries(environment: MutableMapping[str, str]) -> None:
    """Remove those variables from this process and from its children. Call it before the libraries are loaded.

    Unless somebody asks for gRPC's own messages, there are none: what concerns a call is in its error.
    """
    for name in HIDDEN:
        environment.pop(name, None)
    environment.setdefault("GRPC_VERBOSITY", "NONE")
