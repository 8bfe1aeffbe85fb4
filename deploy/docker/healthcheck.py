"""Request a health page of the worker in this container, on ``PORT``; exit with 1 unless the answer is 200.

    python healthcheck.py [/livez]

It does not import the worker, so that it starts fast.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 3
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # loopback is among all addresses


def main() -> int:
    """Print the answer for Docker's health log, and return the exit status."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/livez"
    bound = os.environ.get("BIND_HOST", "").strip()
    host, port = _LOOPBACK.get(bound, bound), int(os.environ.get("PORT") or 8090)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{host} port {port}: {str(error) or type(error).__name__}\n")
        return 1
    sys.stdout.write(f"{answer.status} {body.strip()}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
