"""Which host names lead to an open console."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_local_name(host: str) -> bool:
    """Return whether a ``Host`` header has an IP address, or a name without a domain.

    A page of any web site could read a console without a password if the site let its own name lead to it (DNS
    rebinding). Such a name has a domain.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(".localhost"))
    return True
