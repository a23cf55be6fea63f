"""A registry that returns wrong or truncated content, redirects, or requires a login."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.stores.scripted_registry import Scripted, ScriptedRegistry, scripted_registry
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import (
    DigestMismatchError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)
from trainer.stores.registry import Registry
from trainer.stores.registry_reference import Credentials, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY: Final = b"content"
DIGEST: Final = digest_of_bytes(BODY)
BLOB: Final = f"GET /v2/team/digits/blobs/{DIGEST}"
MANIFEST: Final = f"GET /v2/team/digits/manifests/{DIGEST}"
UPLOADS: Final = "POST /v2/team/digits/blobs/uploads/"
OWN: Final = Credentials(username="ann", password="secret")  # noqa: S106 - not a real password
BASIC: Final = f"Basic {base64.b64encode(b'ann:secret').decode()}"


@pytest.fixture
def server() -> Iterator[ScriptedRegistry]:
    """A registry whose responses the test sets."""
    with scripted_registry() as found:
        yield found


def registry_at(server: ScriptedRegistry, own: Credentials | None = OWN) -> Registry:
    return Registry(server.address, "team/digits", credentials=lambda _: own)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Scripted(body=b"CONTENT"), DigestMismatchError, "expected sha256:"),
        (Scripted(body=BODY[:3]), DigestMismatchError, "ends after 3 of 7 bytes"),
        (Scripted(body=BODY, cut=3), StoreUnreachableError, "was interrupted"),
        (Scripted(body=BODY * 2), DigestMismatchError, "has more than 7 bytes"),
        (
            Scripted(body=BODY, headers={"Content-Encoding": "gzip"}),
            StoreError,
            "has Content-Encoding gzip; expected no encoding",
        ),
        (Scripted(status=404), ObjectMissingError, "has no blob"),
        (Scripted(status=403), StoreDeniedError, "denies access"),
        (Scripted(status=401), StoreDeniedError, "denies access"),
        (Scripted(status=503), StoreUnreachableError, "status 503"),
        (Scripted(status=304), StoreError, "status 304"),
        (Scripted(status=307, headers={"Location": "http://registry.example/x"}), StoreError, "redirects blob"),
        (Scripted(status=307, headers={"Location": "ftp://127.0.0.1/x"}), StoreError, "redirects blob"),
    ],
)
def test_a_blob_that_is_not_the_named_one_is_rejected(
    server: ScriptedRegistry, answer: Scripted, kind: type[StoreError], message: str
) -> None:
    server.answers[BLOB] = answer
    with pytest.raises(kind, match=message) as caught:
        registry_at(server).read_blob(DIGEST, size=len(BODY))
    assert type(caught.value) is kind


def test_a_manifest_is_never_read_from_elsewhere(server: ScriptedRegistry) -> None:
    server.answers[MANIFEST] = Scripted(status=307, headers={"Location": "/v2/team/digits/blobs/other"})
    with pytest.raises(StoreError, match="but only blobs may be read from another server"):
        registry_at(server).read_manifest(DIGEST)


def test_a_manifest_with_another_digest_is_rejected(server: ScriptedRegistry) -> None:
    server.answers[MANIFEST] = Scripted(body=b"{}")
    server.answers["GET /v2/team/digits/manifests/1"] = Scripted(body=b"{}", headers={"Docker-Content-Digest": DIGEST})
    for reference in (DIGEST, "1"):
        with pytest.raises(DigestMismatchError, match=f"manifest {reference} .* expected {DIGEST}"):
            registry_at(server).read_manifest(reference)


def test_a_redirect_of_a_blob_is_followed_without_the_credentials(server: ScriptedRegistry) -> None:
    with scripted_registry() as other:
        other.answers["GET /bytes"] = Scripted(body=BODY)
        location = {"Location": f"http://{other.address}/bytes"}
        login = Scripted(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        server.answers[BLOB] = [login, Scripted(status=307, headers=location)]
        assert registry_at(server).read_blob(DIGEST, size=len(BODY)) == BODY
        assert server.requests[-1] == (BLOB, BASIC)
        assert other.requests == [("GET /bytes", None)]


def test_redirects_without_an_end_are_rejected(server: ScriptedRegistry) -> None:
    server.answers[BLOB] = Scripted(status=302, headers={"Location": BLOB.removeprefix("GET ")})
    with pytest.raises(StoreError, match="more than 3 times"):
        registry_at(server).read_blob(DIGEST, size=len(BODY))


@pytest.mark.parametrize("location", ["https://registry.example/v2/team/digits/blobs/uploads/1", "//other/1", ""])
def test_an_upload_to_another_server_is_rejected(server: ScriptedRegistry, location: str) -> None:
    server.answers[UPLOADS] = Scripted(status=202, headers={"Location": location})
    with pytest.raises(StoreError, match="sends an upload to"):
        registry_at(server).write_blob(BODY)


def test_a_manifest_that_the_registry_did_not_keep_is_reported(server: ScriptedRegistry) -> None:
    server.answers["PUT /v2/team/digits/manifests/1"] = Scripted(status=201)
    with pytest.raises(ObjectMissingError, match="has no manifest"):
        registry_at(server).write_manifest(BODY, tag="1")


def test_a_token_is_fetched_with_the_password_and_used(server: ScriptedRegistry) -> None:
    realm = f'Bearer realm="http://{server.address}/token",service="s",scope="repository:team/digits:pull"'
    server.answers[BLOB] = [Scripted(status=401, headers={"WWW-Authenticate": realm}), Scripted(body=BODY)]
    fetch = "GET /token?service=s&scope=repository%3Ateam%2Fdigits%3Apull"
    server.answers[fetch] = Scripted(body=json.dumps({"token": "t0"}).encode())
    assert registry_at(server).read_blob(DIGEST, size=len(BODY)) == BODY
    assert server.requests == [(BLOB, None), (fetch, BASIC), (BLOB, "Bearer t0")]


@pytest.mark.parametrize("realm", ["http://auth.example/token", "", "file:///etc/passwd"])
def test_a_password_is_never_sent_without_tls(server: ScriptedRegistry, realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    server.answers[BLOB] = Scripted(status=401, headers=challenge)
    with pytest.raises(StoreError, match="asks for a login at"):
        registry_at(server).read_blob(DIGEST, size=len(BODY))


def test_a_login_that_fails_is_named_with_its_command(server: ScriptedRegistry) -> None:
    server.answers[BLOB] = Scripted(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    with pytest.raises(StoreDeniedError) as caught:
        registry_at(server, own=None).read_blob(DIGEST, size=len(BODY))
    assert caught.value.hint == f"docker login {server.address}"


def test_a_registry_that_does_not_answer_is_reported() -> None:
    with pytest.raises(StoreUnreachableError, match="does not respond to the request for blob"):
        Registry("127.0.0.1:1", "team/digits", credentials=lambda _: None).read_blob(DIGEST, size=1)


@pytest.mark.parametrize(
    "word",
    ["digits", "team/digits", "https://registry.example/a", "registry.example/", "registry.example/A", "localhost/a:",
     "localhost/a@sha256:1", f"localhost/a:1@{DIGEST}", "localhost/../a", "user@localhost/a", "localhost:5000/a b"],
)  # fmt: skip
def test_other_words_are_no_names_in_a_registry(word: str) -> None:
    with pytest.raises(UsageError, match="is not a name in a registry"):
        Reference.parse(word)


def test_names_in_a_registry_are_read() -> None:
    found = [Reference.parse(word) for word in ("localhost/a", "[::1]:5000/a/b:v1.0", f"registry.example/a@{DIGEST}")]
    assert [(each.host, each.repository, each.tag, each.digest) for each in found] == [
        ("localhost", "a", None, None),
        ("[::1]:5000", "a/b", "v1.0", None),
        ("registry.example", "a", None, DIGEST),
    ]
