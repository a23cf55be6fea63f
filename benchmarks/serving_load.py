"""A load generator for HTTP: clients with one connection each, which send the next request when they have received the response.

serving_load.py PORT CLIENTS SECONDS REQUESTS.json

Prints JSON: the number of timed requests, the seconds, latencies, and how often each request got each response. It uses neither a package
nor a client library, because it shares the processors with the server.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_WARM = 0.5
"""Seconds at the beginning in which requests are not timed."""


class Load:
    """The requests of all clients, and the responses to them."""

    def __init__(self, requests: list[bytes], clients: int, seconds: float) -> None:
        self.requests, self.waiting = requests, clients
        self.begin = time.perf_counter() + _WARM
        self.end = self.begin + seconds
        self.took: list[float] = []
        self.responses: Counter[tuple[int, bytes]] = Counter()
        self.done = asyncio.get_running_loop().create_future()

    def add(self, number: int, answer: bytes, began: float) -> None:
        """Count a response, and store its latency if the warm-up has passed."""
        self.responses[number, answer] += 1
        if began >= self.begin:
            self.took.append(time.perf_counter() - began)

    def leave(self, reason: str | None) -> None:
        """End a client; `reason` is why it cannot continue."""
        self.waiting -= 1
        if not self.done.done() and (reason or not self.waiting):
            self.done.set_result(reason)


class Client(asyncio.Protocol):
    """A client with one connection."""

    def __init__(self, load: Load, first: int) -> None:
        self.load, self.number, self.buffer, self.began = load, first, b"", 0.0
        self.is_done = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # the transport of a TCP connection
        """Send the first request."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send the next request, or end."""
        self.began = time.perf_counter()
        if self.began >= self.load.end:
            self.is_done = True
            self.load.leave(None)
            self.transport.close()
            return
        self.number = (self.number + 1) % len(self.load.requests)
        self.transport.write(self.load.requests[self.number])

    def data_received(self, data: bytes) -> None:
        """Collect a response; when it is complete, send the next request."""
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head + b"\r\n") if mark else None
        if mark and (found is None or not head.startswith(b"HTTP/1.1 200 ")):
            self.is_done = True
            self.load.leave(self.buffer[:500].decode(errors="replace"))
        elif found and len(body) >= int(found[1]):
            self.load.add(self.number, body, self.began)
            self.buffer = b""
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a connection that the server closed."""
        if not self.is_done:
            self.load.leave(f"the server closed a connection: {exc}")


async def measured(port: int, clients: int, seconds: float, requests: list[bytes]) -> dict[str, object]:
    """Return the measurements of the clients. Exit if a request fails."""
    load = Load(requests, clients, seconds)
    loop = asyncio.get_running_loop()
    for number in range(clients):
        await loop.create_connection(lambda number=number: Client(load, number), "127.0.0.1", port)  # type: ignore[misc]
    if reason := await load.done:
        sys.exit(f"load: {reason}")
    percentiles = statistics.quantiles(load.took, n=100, method="inclusive")
    return {
        "requests": len(load.took),
        "seconds": seconds,
        "p50": percentiles[49],
        "p99": percentiles[98],
        "answers": [[number, body.decode(), count] for (number, body), count in load.responses.items()],
    }


def request_of(body: str) -> bytes:
    """Return a request with a JSON body."""
    head = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


if __name__ == "__main__":
    bodies = json.loads(Path(sys.argv[4]).read_bytes())
    words = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(asyncio.run(measured(*words, [request_of(each) for each in bodies]))))
