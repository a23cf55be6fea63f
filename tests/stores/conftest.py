"""The tested stores: a store of each kind, which is empty for each test; a session shares a real S3 server."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.stores import server
from trainer.stores import open_store
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.stores.contract import Store

_prefixes = (f"s3://{server.BUCKET}/test-{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the endpoint of a running server."""
    if server.program() is None:
        pytest.skip("needs `weed` from the lock's extra `store`")
    with server.serving(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the server's endpoint, and point boto3 in this process to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.PASSWORD)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_endpoint


@pytest.fixture
def s3_address(s3_environment: str) -> str:
    """Return an empty address on the server."""
    assert s3_environment
    return next(_prefixes)


@pytest.fixture(params=["memory", "directory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return an empty store of each kind."""
    makers: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "directory": lambda: open_store(str(tmp_path)),
        "s3": lambda: open_store(request.getfixturevalue("s3_address")),
    }
    return makers[request.param]()
