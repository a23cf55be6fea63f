"""Hostile clients of the real command: each gets a clean error, the memory stays flat, and other clients are served."""

from __future__ import annotations

import gzip
import io
import json
import re
import socket
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.models.serving.test_app import npy
from tests.models.serving.test_server import SAMPLES, command

pytestmark = [pytest.mark.torch, pytest.mark.trains, pytest.mark.long]
GROWTH_KB: Final = 48 << 10
"""The most kilobytes by which the server may grow after it has served each client once."""
MOST_BODY: Final = 4 << 20
ROUNDS: Final = 8
RESPONSE: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def post(body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """Return a request for a prediction."""
    lines = ["POST /predict HTTP/1.1", "host: a", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(*headers: str, target: str = "/v2/health/live") -> bytes:
    """Return a request without a body."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "host: a", *headers, "", ""]).encode()


def chunked(*chunks: bytes) -> bytes:
    """Return a request for a prediction whose body has no stated length."""
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)


def wrong_array() -> bytes:
    body = io.BytesIO()
    np.save(body, np.zeros((1, 1, 4, 4), dtype="float64"))
    return body.getvalue()


VALID: Final = post(npy(SAMPLES[:1]), kind="application/octet-stream")
IMAGE: Final = '{"inputs": {"image": %s}}'
HOSTILE: Final[dict[str, tuple[bytes, list[int]]]] = {
    "an empty body": (post(b""), [422]),
    "a huge body": (post(b" " * (MOST_BODY + 1)), [413]),
    "a huge body without a length": (chunked(*[b" " * (1 << 20)] * 5), [413]),
    "a length beyond any number": (get("content-length: 99999999999999999999999"), [400]),
    "a negative length": (get("content-length: -1"), [400]),
    "two lengths": (get("content-length: 1", "content-length: 2"), [400]),
    "deep lists": (post(b"[" * MOST_BODY), [422]),
    "deep objects": (post(b'{"a":' * 100_000), [422]),
    "many items": (post(b'{"inputs": [' + b"0," * 1_500_000 + b"0]}"), [422]),
    "not a number": (post((IMAGE % "[[[[NaN]]]]").encode()), [422]),
    "infinity": (post((IMAGE % "[[[[-Infinity]]]]").encode()), [422]),
    "a number of a million digits": (post((IMAGE % ("9" * 1_000_000)).encode()), [422]),
    "a wrong shape": (post((IMAGE % "[[1, 2, 3]]").encode()), [422]),
    "texts as numbers": (post((IMAGE % '[[[["1"]]]]').encode()), [422]),
    "a wrong type of array": (post(wrong_array(), kind="application/octet-stream"), [422]),
    "bytes that are no text": (post(b'{"inputs": "\xff\xfe"}'), [422]),
    "a gzip bomb": (post(gzip.compress(bytes(64 << 20)), "content-encoding: gzip"), [415]),
    "a hidden gzip bomb": (post(gzip.compress(bytes(64 << 20)), "content-encoding: identity", "content-encoding: gzip"), [415]),
    "a compressed transfer": (get("transfer-encoding: gzip, chunked"), [400]),
    "many headers": (get(*(f"a{number}: b" for number in range(2000))), [200]),
    "more headers than fit": (get(*(f"a{number}: b" for number in range(10_000))), [431]),
    "a header without an end": (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"b" * (1 << 20), [400]),
    "a long path": (get(target="/" + "a" * 20_000), [404]),
    "a path of odd bytes": (get(target="/%00%ff/..%2f..%2fetc/passwd"), [404]),
    "a host that is no address": (get("x: y", target="/predict/").replace(b"host: a", b"host: ["), [404]),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", [400]),
    "an unknown method": (b"BREW /predict HTTP/1.1\r\nhost: a\r\n\r\n", [405]),
    "a wrong chunk": (chunked() + b"zz\r\n", [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), [400]),
    "an upgrade": (get("connection: upgrade", "upgrade: websocket", target="/predict"), [405]),
    "pipelined requests": (VALID * 50, [200] * 50),
    "a pipeline with garbage": (VALID + b"\x00garbage\r\n\r\n", [200, 400]),
    "a pipeline behind an error": (post(b"{") + VALID, [422, 200]),
}  # fmt: skip


def statuses(port: int, sent: bytes, count: int) -> list[int]:
    """Send bytes and return the statuses of the responses, until there are as many as expected or the connection ends."""
    found: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # a response can come before the end of the request
            client.sendall(sent)
        read = b""
        with suppress(ConnectionResetError):
            while len(found) < count and (part := client.recv(1 << 16)):
                read += part
                found = [int(each) for each in RESPONSE.findall(read)]
    return found


def resident_kb(pid: int) -> int:
    """Return the memory of a process in kilobytes."""
    (found,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found)


def predicted(port: int) -> int:
    """Send a valid request, and return the status of the response."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("POST", "/predict", npy(SAMPLES[:1]))
        response = client.getresponse()
        assert len(json.loads(response.read())["predictions"]) == 1
        return response.status


def test_each_hostile_request_gets_a_clean_error_and_memory_stays_flat(packages: dict[str, Path]) -> None:
    with command(packages["arrays"], "--max-body", str(MOST_BODY)) as (process, port, _):
        found = {name: statuses(port, sent, len(expected)) for name, (sent, expected) in HOSTILE.items()}
        assert found == {name: expected for name, (_, expected) in HOSTILE.items()}
        before = resident_kb(process.pid)
        for _ in range(ROUNDS):
            for sent, expected in HOSTILE.values():
                statuses(port, sent, len(expected))
        assert resident_kb(process.pid) - before < GROWTH_KB
        assert predicted(port) == 200
        process.terminate()
        assert process.wait(40) == 0
        assert process.stderr
        assert process.stderr.read().splitlines()[:-1] == []  # the last line reports that the server stopped


def test_a_client_that_reads_no_response_does_not_fill_the_memory(packages: dict[str, Path]) -> None:
    with command(packages["arrays"]) as (process, port, _), ExitStack() as opened:
        assert predicted(port) == 200
        before = resident_kb(process.pid)
        for _ in range(20):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
            with suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                client.sendall(get(target="/openapi.json") * 50_000)
        assert resident_kb(process.pid) - before < GROWTH_KB
        assert predicted(port) == 200


def test_slow_clients_are_closed_and_others_served_meanwhile(packages: dict[str, Path]) -> None:
    """Each client sends a byte of its headers every half second, so a timeout for silence alone would not close the connection."""
    with command(packages["arrays"]) as (process, port, _), ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for each in slow:
            each.setblocking(False)
        began, before = time.monotonic(), resident_kb(process.pid)
        while slow:
            assert time.monotonic() - began < 30
            assert predicted(port) == 200
            time.sleep(0.5)
            slow = [each for each in slow if is_open(each)]
        assert time.monotonic() - began > 8
        assert resident_kb(process.pid) - before < GROWTH_KB


def is_open(client: socket.socket) -> bool:
    """Send a byte, and return whether the server still reads."""
    try:
        client.send(b"a")
        return bool(client.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
