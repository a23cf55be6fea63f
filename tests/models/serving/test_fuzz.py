"""Thousands of damaged and odd requests: each gets a prediction or a clean error, and memory stays flat."""

from __future__ import annotations

import json
import os
import random
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("torch")

from tests.models.serving.running import running
from tests.models.serving.test_app import SAMPLES, npy, picture, tensor
from trainer.models.serving.limits import Limits

if TYPE_CHECKING:
    from trainer.models.packaged import PackagedModel

pytestmark = [pytest.mark.torch, pytest.mark.long]
REQUESTS: Final = int(os.environ.get("REPRISE_FUZZ_REQUESTS", "2000"))
GROWTH: Final = 96 << 20
"""The most bytes by which the process may grow after the first half."""
ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1.5, 2**63, 2**70, 1e308, "", "NaN", "\ud83d", [], [[]], {}, [{}], {"name": "image"}, "x" * 1000, [[[[0]]]],
)  # fmt: skip
TYPES: Final = (
    "application/json",
    "application/octet-stream",
    "image/png",
    "text/csv",
    "text/plain",
    "",
    "multipart/form-data",
)


def mutated(source: random.Random, value: Any) -> Any:
    """Return a JSON value with one part replaced, removed or repeated."""
    if source.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return source.choice(ODD)
    if isinstance(value, dict):
        key = source.choice(sorted(value))
        if source.random() < 0.2:
            return {name: each for name, each in value.items() if name != key}
        return {**value, source.choice((key, key, key, "other")): mutated(source, value[key])}
    at = source.randrange(len(value))
    return [*value[:at], mutated(source, value[at]), *value[at + source.randrange(2) :]]


def damaged(source: random.Random, body: bytes) -> bytes:
    """Return bytes with some replaced, removed or added."""
    found = bytearray(body)
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(found) + 1)
        found[at : at + source.randrange(3)] = source.randbytes(source.randrange(4))
    return bytes(found[: source.randrange(len(found) + 1)] if source.random() < 0.2 else found)


def seeds(kind: str) -> tuple[list[Any], list[bytes]]:
    """Return valid requests for a kind of package: JSON for both endpoints, and files."""
    match kind:
        case "arrays":
            return [{"inputs": {"image": SAMPLES[:2].tolist()}}, tensor(SAMPLES[:2])], [npy(SAMPLES[:3])]
        case "pictures":
            return [{"inputs": {"image": [[[[0.5] * 8] * 8]]}}], [
                picture(each) for each in ("png", "jpeg", "webp", "bmp", "gif", "tiff")
            ]
        case "table":
            row = {"height": 1.5, "width": "2", "color": "red"}
            return [{"rows": [row, row]}, {"inputs": {"features": [[1, 2]], "color": [1]}}], [
                b"height,width,color\n1.5,2,red\n"
            ]
        case _:
            tokens = {"name": "tokens", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]}
            return [
                {"inputs": {"tokens": [[1, 2, 3]]}},
                {"id": "a", "inputs": [tokens], "outputs": [{"name": "output"}]},
            ], [b"{}"]


def resident() -> int:
    """Return the memory of this process, including the server, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("kind", ["arrays", "pictures", "table", "tensors"])
def test_any_request_gets_a_prediction_or_a_clean_error(models: dict[str, PackagedModel], kind: str) -> None:
    source, sizes = random.Random(20261130), []  # noqa: S311 - reproducible requests, not for cryptography
    documents, files = seeds(kind)
    with running(models[kind], Limits(max_body=1 << 20)) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        for number in range(REQUESTS):
            if source.random() < 0.6:
                body = json.dumps(mutated(source, source.choice(documents))).encode()
            else:
                body = source.choice([*files, *(json.dumps(each).encode() for each in documents)])
            body = damaged(source, body) if source.random() < 0.6 else body
            path = source.choice(("/predict", "/predict", server.infer))
            connection.request("POST", path, body, {"content-type": source.choice(TYPES)})
            response = connection.getresponse()
            content = json.loads(response.read())
            assert response.status == 200 or 400 <= response.status < 500, (number, body, content, server.lines)
            assert response.status == 200 or (content["error"] and content["hint"]), (number, body, content)
            assert "/tmp" not in content.get("error", ""), (number, body, content)  # noqa: S108 - searched for in the response, not used as a folder
            if number >= REQUESTS // 2:
                sizes.append(resident())
        connection.close()
        assert [line for line in server.lines if line.startswith("error")] == []
    assert sizes[-1] - sizes[0] < GROWTH
