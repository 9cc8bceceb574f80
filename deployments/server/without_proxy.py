"""Makes requests to servers on this machine bypass the proxy that the environment names.

A proxy cannot reach these servers, and would receive their password. Browsers never use a proxy for the loopback, but
urllib, httpx and websockets do, and none of the three reads a range of addresses in `NO_PROXY`, such as 127.0.0.0/8.
"""

from __future__ import annotations

import os
from typing import Final

_OWN_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def direct_environment(*hosts: str) -> dict[str, str]:
    """Return the environment variables with which HTTP clients reach this machine and `hosts` without a proxy.

    Hosts that the user excepted stay excepted. The result is empty if the environment names no proxy, or excepts all
    hosts.
    """
    names = {name.lower() for name in os.environ}
    # If both spellings are set, the clients read the one in lower case, also if it is empty.
    excepted = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).strip()
    if excepted == "*" or not any(name.endswith("_proxy") for name in names - {"no_proxy"}):
        return {}
    all_names = ",".join(dict.fromkeys([*filter(None, map(str.strip, excepted.split(","))), *_OWN_NAMES, *hosts]))
    return {"no_proxy": all_names, "NO_PROXY": all_names}
