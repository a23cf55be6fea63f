"""The reason why a server cannot be reached, from the exceptions of a client."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT: Final = "check the network and the address, then run the same command again"
_UNREACHABLE: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


def causes(fault: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and the exceptions from which it was raised."""
    seen: list[BaseException] = []
    link: BaseException | None = fault
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def network_fault(fault: BaseException, address: str) -> str | None:
    """Return the reason why the host of an address cannot be reached; `None` for another fault."""
    host = urlsplit(address).hostname or address
    for link in causes(fault):
        if isinstance(link, socket.gaierror):
            return f"the host {host} cannot be resolved: this machine has no network, or the name is wrong"
        if isinstance(link, ConnectionRefusedError):
            return f"the host {host} refused the connection"
        if isinstance(link, TimeoutError):
            return f"the host {host} did not respond in time"
        if isinstance(link, OSError) and link.errno in _UNREACHABLE:
            return f"the host {host} cannot be reached from this machine"
        if isinstance(link, ConnectionError):
            return f"the host {host} closed the connection"
    return None
