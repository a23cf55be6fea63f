"""A store in a bucket, at AWS or any server that speaks S3.

Knows boto3, and is its only home: what boto3 raises is translated in one place and goes no further. Refuses to know credentials and
endpoints: an `Access` names them, else boto3's own chain finds them (AWS_ENDPOINT_URL_S3, AWS_PROFILE, instance roles, ...).

Measured on the reference server (SeaweedFS 4.48): `If-None-Match: *` is decided without a race, checksums are enforced, and `a//b` is
folded into `a/b`, which is why keys are spelled as strictly as `checked` says.
"""

from __future__ import annotations

import base64
import hashlib
import io
import textwrap
from contextlib import closing, contextmanager
from http import HTTPStatus
from time import sleep
from typing import TYPE_CHECKING, BinaryIO, Final, TypedDict

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config

from trainer.errors import (
    AlteredError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
)
from trainer.store import multipart
from trainer.store.contract import AGAIN, checked, verify, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from trainer.store.address import Access

# A store that is away must be known within 5 s: two tries of 2 s and at most 1 s between them.
_PATIENCE: Final = Config(
    connect_timeout=2,
    read_timeout=20,  # also the longest that Ctrl-C waits for a server that says nothing
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
    request_checksum_calculation="when_required",  # ours is sent with every body, computed once
    response_checksum_validation="when_required",  # who reads knows the digest and verifies it while streaming
    user_agent_extra="reprise",
)
# A server of one's own rarely has a name for each bucket.
_OWN_SERVER: Final = _PATIENCE.merge(Config(s3={"addressing_style": "path"}))

_REFUSED: Final = {
    "403",
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_NOT_THE_BYTES: Final = {
    "BadDigest",
    "IncompleteBody",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_TAKEN: Final = {"412", "PreconditionFailed"}
_RACING: Final = {"409", "ConditionalRequestConflict"}
_PAUSES: Final = (0.1, 0.5)
"""Seconds before the second and the third try of a write that met another of the same name."""
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_CREDENTIALS_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in .env for containers; on the host AWS_PROFILE is another way"
)
_TLS_HINT: Final = "where TLS is inspected, set AWS_CA_BUNDLE to the file with that authority's certificate"
_REACH_HINT: Final = "start it (docker compose up -d --wait store), or correct AWS_ENDPOINT_URL_S3 in .env"

_BLOCK: Final = 128 << 10
"""Bytes taken off a connection at a time. With 1 MiB each block is memory that the system has to give and to clear: a cold fetch of 1 GiB
then takes 2.9 s of processors, so 2.1 s."""


class _Ranged(TypedDict, total=False):
    Range: str


class S3Store:
    """A store below `s3://bucket/prefix`."""

    def __init__(self, address: str, *, access: Access) -> None:
        """Make the client; the network is first used by the first method called."""
        self.address, self.access = address.rstrip("/"), access
        self._bucket, _, prefix = self.address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = access.shown or access.endpoint or ""
        with self._translated(""):
            self._client = self._connected()
        self._endpoint = access.shown or self._client.meta.endpoint_url

    @property
    def label(self) -> str:
        """The bucket and the endpoint of its server."""
        return f"{self.address} at {self._endpoint}" if self._endpoint else self.address

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream a range of an object."""
        if length == 0:
            return
        with self._translated(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **_range(start, length))
            if length is not None and answer.get("ContentLength") != length:
                raise whole(key, self.label)
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(_BLOCK)

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Store a verified object, unless it is there; the server verifies it too. A large one comes in parts."""
        if self._has(key):
            return
        if not isinstance(body, bytes) and (size := body.seek(0, io.SEEK_END)) > multipart.PART_BYTES:
            target: multipart.Target = {"Bucket": self._bucket, "Key": self._name(key)}
            with self._translated(key):
                multipart.send_in_parts(self._client, target, body, sha256=sha256, part=multipart.part_bytes(size))
            return
        verify(body, key=f"{key} for {self.label}", sha256=sha256)
        self._put(key, body, sha256=bytes.fromhex(sha256.removeprefix("sha256:")))

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name is taken."""
        return self._put(key, body, sha256=hashlib.sha256(body).digest())

    def size(self, key: str) -> int | None:
        """The object's length."""
        try:
            with self._translated(key):
                return self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]
        except ObjectMissingError:
            self._require_bucket()  # a HEAD does not say which of the two is missing
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """The names that begin with `prefix`."""
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._prefix)

    def _has(self, key: str) -> bool:
        """Whether the object is there; False too for credentials that may write and not look."""
        try:
            return self.size(key) is not None
        except StoreDeniedError:
            return False

    def _put(self, key: str, body: bytes | BinaryIO, *, sha256: bytes) -> bool:
        with self._translated(key):
            for pause in _PAUSES:
                try:
                    return self._put_once(key, body, sha256=sha256)
                except boto.ClientError as fault:
                    if _code(fault) not in _RACING:
                        raise
                sleep(pause)
            return self._put_once(key, body, sha256=sha256)

    def _put_once(self, key: str, body: bytes | BinaryIO, *, sha256: bytes) -> bool:
        if not isinstance(body, bytes):
            body.seek(0)
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._name(key),
                Body=body,
                ChecksumSHA256=base64.b64encode(sha256).decode(),
                IfNoneMatch="*",
            )
        except boto.ClientError as fault:
            if _code(fault) not in _TAKEN:
                raise
            return self._was_ours(key, fault, sha256=sha256)
        return True

    def _was_ours(self, key: str, fault: boto.ClientError, *, sha256: bytes) -> bool:
        """Whether the name is taken by the first try of this very call, whose answer was lost."""
        if not fault.response["ResponseMetadata"].get("RetryAttempts"):
            return False
        return hashlib.sha256(b"".join(self.read(key))).digest() == sha256

    def _connected(self) -> S3Client:
        access = self.access
        session = boto3.session.Session(
            aws_access_key_id=access.key,
            aws_secret_access_key=access.secret,
            aws_session_token=access.token,
            region_name=access.region,
            botocore_session=_session(access.profile),
        )
        try:
            client = _client(session, access, _PATIENCE)
        except ValueError as fault:
            hint = "correct AWS_ENDPOINT_URL_S3 in .env, or the endpoint in the address"
            raise StoreError(f"store {self.label}: {_line(fault)}", hint=hint) from fault
        return client if ".amazonaws.com" in client.meta.endpoint_url else _client(session, access, _OWN_SERVER)

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _require_bucket(self) -> None:
        try:
            with self._translated(""):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectMissingError as fault:
            raise self._no_bucket() from fault

    def _no_bucket(self) -> StoreMissingError:
        hint = "make it, or correct REPRISE_STORE in .env"
        return StoreMissingError(f"bucket {self._bucket!r} does not exist: store {self.label}", hint=hint)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """The one place where boto3's exceptions become ours."""
        try:
            yield
        except boto.ClientError as fault:
            raise self._answered(key, fault) from fault
        except _NO_CREDENTIALS as fault:
            raise StoreDeniedError(
                f"no usable credentials for {self.label}: {_line(fault)}", hint=_CREDENTIALS_HINT
            ) from fault
        except (boto.IncompleteReadError, boto.ResponseStreamingError) as fault:
            raise AlteredError(f"{key} was cut short on the way from {self.label}", hint=AGAIN) from fault
        except boto.SSLError as fault:
            raise StoreUnreachableError(f"store {self.label}: TLS failed", hint=_TLS_HINT) from fault
        except (boto.ConnectionError, boto.HTTPClientError) as fault:
            raise StoreUnreachableError(f"store {self.label} does not answer", hint=_REACH_HINT) from fault
        except boto.BotoCoreError as fault:
            raise StoreError(
                f"store {self.label}: {_line(fault)}", hint="correct REPRISE_STORE or AWS_* in .env"
            ) from fault

    def _answered(self, key: str, fault: boto.ClientError) -> StoreError:  # noqa: PLR0911 - one line for each answer
        code, status = _code(fault), fault.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return self._no_bucket()
        if code in {"404", "NoSuchKey"}:
            return ObjectMissingError(f"{key} is not in {self.label}", hint="was it published to another store?")
        if code in _REFUSED:
            return StoreDeniedError(f"store {self.label} refuses these credentials ({code})", hint=_CREDENTIALS_HINT)
        if code in {"416", "InvalidRange"}:
            return whole(key, self.label)
        if code in _RACING:
            return StoreError(f"{key} is being written to {self.label} by others, again and again", hint=AGAIN)
        if code in _NOT_THE_BYTES:
            return AlteredError(f"{key} was altered on the way to {self.label} ({code})", hint=AGAIN)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return StoreUnreachableError(f"store {self.label} answers {status} ({code})", hint=_REACH_HINT)
        return StoreError(f"store {self.label}: {_line(fault)}")


def _session(profile: str | None) -> botocore.session.Session | None:
    """A session of a profile of ~/.aws, which then counts more than the environment's keys; None without one."""
    return botocore.session.Session(profile=profile) if profile else None


def _client(session: boto3.session.Session, access: Access, config: Config) -> S3Client:
    """A client; the environment's endpoint is not that of a profile."""
    endpoint = access.endpoint
    if access.profile:
        config = config.merge(Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]  # the stubs lack it
        endpoint = endpoint or _endpoint_of(access.profile)
    return session.client("s3", config=config, endpoint_url=endpoint)


def _endpoint_of(profile: str) -> str | None:
    """The endpoint that a profile of ~/.aws/config names for S3."""
    session = botocore.session.Session(profile=profile)
    said = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(said.get("services", ""), {})
    return (services.get("s3") or {}).get("endpoint_url") or said.get("endpoint_url")


def _range(start: int, length: int | None) -> _Ranged:
    if length is not None:
        return {"Range": f"bytes={start}-{start + length - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}  # an empty object has no byte 0 to begin at


def _code(fault: boto.ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Code", ""))


def _line(fault: Exception) -> str:
    return textwrap.shorten(str(fault), 200, placeholder=" ..")
