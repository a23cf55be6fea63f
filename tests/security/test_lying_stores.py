"""Stores that violate their contract: no publication claims more than the store contains, and captive portals are named."""

from __future__ import annotations

import io
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run
from tests.security import lying_server
from tests.security.lying_server import faulty_server
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import RunError, StoreDeniedError, StoreError, StoreUnreachableError
from trainer.runs.publish import publish_run
from trainer.runs.run import read_publication
from trainer.stores import multipart, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.lying_server import Lie

pytestmark = pytest.mark.s3
BODY = bytes(range(256)) * 40_000


def address_on(address: str, endpoint: str) -> str:
    return f"{address}?endpoint={endpoint}"


def test_a_store_that_drops_acknowledged_writes_gets_no_seal(
    s3_address: str, s3_environment: str, tmp_path: Path
) -> None:
    run = finish_run(tmp_path / "runs")
    with faulty_server(s3_environment, lying_server.drops_writes) as endpoint:
        store = open_store(address_on(s3_address, endpoint))
        with pytest.raises(StoreError, match="acknowledged objects/"):
            publish_run(run.folder.parents[1], store)
    assert read_publication(run.folder) is None
    assert not [key for key in open_store(s3_address).keys("runs/") if key.endswith("sealed.json")]


def test_a_server_that_ignores_if_none_match_is_rejected_at_the_first_publication(
    s3_address: str, s3_environment: str, tmp_path: Path
) -> None:
    run = finish_run(tmp_path / "runs")
    with (
        faulty_server(s3_environment, lying_server.ignores_if_none_match) as endpoint,
        pytest.raises(StoreError, match="ignores If-None-Match"),
    ):
        publish_run(run.folder.parents[1], open_store(address_on(s3_address, endpoint)))
    assert read_publication(run.folder) is None


def test_a_second_publisher_cannot_replace_a_claim_on_such_a_server(s3_address: str, s3_environment: str) -> None:
    open_store(s3_address).create("runs/a/claim.json", b"first")
    with faulty_server(s3_environment, lying_server.ignores_if_none_match) as endpoint:
        assert not open_store(address_on(s3_address, endpoint)).create("runs/a/claim.json", b"second")
    assert b"".join(open_store(s3_address).read("runs/a/claim.json")) == b"first"


def test_a_completion_with_a_lost_response_is_a_success(
    s3_address: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(multipart, "part_bytes", lambda _: 5 << 20)
    with faulty_server(s3_environment, lying_server.loses_the_completion) as endpoint:
        open_store(address_on(s3_address, endpoint)).write("a/large", io.BytesIO(BODY), sha256=digest_of_bytes(BODY))
    assert digest_of_bytes(b"".join(open_store(s3_address).read("a/large"))) == digest_of_bytes(BODY)


def test_an_acknowledged_completion_that_was_not_done_is_a_failure(
    s3_address: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(multipart, "part_bytes", lambda _: 5 << 20)
    with faulty_server(s3_environment, lying_server.swallows_the_completion) as endpoint:
        store = open_store(address_on(s3_address, endpoint))
        with pytest.raises(StoreError, match="acknowledged a/large"):
            store.write("a/large", io.BytesIO(BODY), sha256=digest_of_bytes(BODY))


def test_wrong_bytes_under_a_digest_are_replaced(s3_address: str) -> None:
    """An object of equal length is compared by the server's checksum, not by its length."""
    store = open_store(s3_address)
    store.create("objects/a", bytes(len(BODY)))
    store.write("objects/a", BODY, sha256=digest_of_bytes(BODY))
    assert b"".join(store.read("objects/a")) == BODY


@pytest.mark.parametrize("status", [200, 511, 503])
@pytest.mark.parametrize("method", ["read", "size", "create"])
def test_a_web_page_is_reported_as_a_web_page(s3_address: str, s3_environment: str, status: int, method: str) -> None:
    with faulty_server(s3_environment, partial(lying_server.web_page, status=status)) as endpoint:
        store = open_store(address_on(s3_address, endpoint))
        with pytest.raises(StoreUnreachableError, match=r"web page|returned status 503$") as caught:
            list(store.read("a/b")) if method == "read" else store.size("a/b") if method == "size" else store.create(
                "a/b", b""
            )
    assert endpoint in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("lie", "error", "words"),
    [
        (lying_server.redirect, StoreUnreachableError, "a redirect to portal.example"),
        (lying_server.skew_clock, StoreDeniedError, r"clock: it is \d+ minutes behind the store's"),
    ],
)
def test_redirects_and_wrong_clocks_are_reported(
    s3_address: str, s3_environment: str, lie: Lie, error: type[StoreError], words: str
) -> None:
    with faulty_server(s3_environment, lie) as endpoint, pytest.raises(error, match=words) as caught:
        list(open_store(address_on(s3_address, endpoint)).read("a/b"))
    assert "not-to-be-printed" not in caught.value.message
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in caught.value.message


@pytest.mark.parametrize("region", [{}, {"x-amz-bucket-region": "eu-central-1"}], ids=["plain", "region"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_credentials_to_another_server(
    s3_address: str, s3_environment: str, status: int, region: dict[str, str]
) -> None:
    requested: list[str] = []

    def notes(request: lying_server.Handler, _: bytes | None) -> bool:
        requested.append(request.path)
        return lying_server.web_page(request, None)

    with faulty_server(s3_environment, notes) as other:
        lie = partial(lying_server.redirects_to, endpoint=other, status=status, headers=region)
        with faulty_server(s3_environment, lie) as endpoint, pytest.raises(StoreError) as caught:
            list(open_store(address_on(s3_address, endpoint)).read("a/b"))
    assert requested == []
    assert caught.value.hint


def test_a_claim_of_another_host_is_not_replaced(s3_address: str, tmp_path: Path) -> None:
    run, other = finish_run(tmp_path / "a"), tmp_path / "b"
    publish_run(run.folder.parents[1], open_store(s3_address))
    (other / run.record.run).parent.mkdir()
    run.folder.parents[1].rename(other / run.record.run)
    claim = other / run.record.run / "attempts/1/claim.json"
    claim.write_bytes(claim.read_bytes().replace(b'"host":"', b'"host":"another-'))
    with pytest.raises(RunError, match="is already in"):
        publish_run(other / run.record.run, open_store(s3_address))
