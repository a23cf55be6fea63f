"""A store in a bucket, on AWS or any S3-compatible server.

Stores use boto3 only in this module and in `multipart`; `s3_errors` translates its exceptions. The endpoint and the credentials come from
an `S3Access`, else from boto3's own chain (AWS_ENDPOINT_URL_S3, AWS_PROFILE, instance roles, ...).

Measured on the reference server (SeaweedFS 4.48): `If-None-Match: *` is free of races, checksums are enforced, and `a//b` is folded
into `a/b`, which is why `checked` restricts the spelling of keys.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from contextlib import closing
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, BinaryIO, Final, TypedDict

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials

from trainer.base.digest import digest_of_blocks
from trainer.base.errors import DigestMismatchError, ObjectMissingError, StoreDeniedError, StoreError
from trainer.base.redaction import REDACTOR
from trainer.stores import multipart
from trainer.stores.contract import AGAIN, checked, not_kept, verify, whole
from trainer.stores.s3_errors import (
    RACING,
    TAKEN,
    code_of,
    no_bucket,
    refuse_redirect,
    require_object,
    translate_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from trainer.stores.address import S3Access

    Composite = Callable[[], str]

# An unreachable store must be detected within 5 s: two tries of 2 s and at most 1 s between them.
_PATIENCE: Final = Config(
    connect_timeout=2,
    read_timeout=20,  # also the longest time until Ctrl-C takes effect if a server does not respond
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=32,
    request_checksum_calculation="when_required",  # uploads already have a checksum that this package computes
    response_checksum_validation="when_required",  # the reader knows the digest and verifies it while streaming
    user_agent_extra="reprise",
)
_AMAZON: Final = ".amazonaws.com"
# Self-hosted servers rarely have a host name for each bucket.
_OWN_SERVER: Final = _PATIENCE.merge(Config(s3={"addressing_style": "path"}))

_PAUSES: Final = (0.1, 0.5)
"""Seconds before the second and the third try of a write that conflicts with another write to the same name."""
_BLOCK: Final = 128 << 10
"""Bytes per read from a connection. With 1 MiB, the system allocates and clears memory for each block: a cold fetch of 1 GiB then
takes 2.9 s of CPU time, not 2.1 s.
"""


class _Ranged(TypedDict, total=False):
    Range: str


class _Continued(TypedDict, total=False):
    ContinuationToken: str


class _Conditional(TypedDict, total=False):
    IfNoneMatch: str


class _PutArguments(TypedDict):
    Bucket: str
    Key: str
    Body: bytes | BinaryIO
    ChecksumSHA256: str


_UNLESS_TAKEN: Final[_Conditional] = {"IfNoneMatch": "*"}


class S3Store:
    """A store below `s3://bucket/prefix`."""

    def __init__(self, address: str, *, access: S3Access, tries: int | None = None) -> None:
        """Create the client, without a request to the server.

        A failing request is sent `tries` times, by default twice. The pause before another try is drawn from Python's global generator, so
        a thread that runs during training sets `tries` to 1.
        """
        self.address, self.access = address.rstrip("/"), access
        self._tries = Config(retries={"mode": "standard", "total_max_attempts": tries}) if tries else Config()
        self._bucket, _, prefix = self.address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._refuses = False
        """Whether the server has rejected a second body for a name."""
        self._is_bucket_known = False
        """Whether the server has confirmed that the bucket exists, which is requested only once."""
        self._endpoint = access.shown or access.endpoint or ""
        with self._translate_errors(""):
            self._client = self._connect()
        self._endpoint = access.shown or self._client.meta.endpoint_url
        self._client.meta.events.register_first("needs-retry.s3", partial(refuse_redirect, self.label))

    @property
    def label(self) -> str:
        """The bucket and its server's endpoint."""
        return f"{self.address} at {self._endpoint}" if self._endpoint else self.address

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream a range of an object."""
        if length == 0:
            return
        with self._translate_errors(key):
            response = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **_range(start, length))
            with closing(response["Body"]) as body:
                require_object(response["ResponseMetadata"]["HTTPHeaders"], label=self.label)
                if length is not None and response.get("ContentLength") != length:
                    raise _other_length(key, self.label, found=response.get("ContentLength"), length=length)
                yield from body.iter_chunks(_BLOCK)

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Store a verified object, unless it exists; the server also verifies it. A large file is sent in parts."""
        size = len(body) if isinstance(body, bytes) else body.seek(0, io.SEEK_END)
        keeps = partial(self._keeps, key, size=size, sha256=sha256)
        if not isinstance(body, bytes) and size > multipart.PART_BYTES:
            part = multipart.part_bytes(size)
            if keeps(composite := partial(multipart.composite, body, part=part), otherwise=False):
                return
            target: multipart.UploadTarget = {"Bucket": self._bucket, "Key": self._name(key)}
            with self._translate_errors(key):
                multipart.send_in_parts(self._client, target, body, sha256=sha256, part=part)
            kept = keeps(composite, otherwise=True)
        else:
            if keeps(otherwise=False):
                return
            verify(body, key=f"{key} for {self.label}", sha256=sha256)
            self._put(key, body, sha256=bytes.fromhex(sha256.removeprefix("sha256:")), replace=True)
            kept = keeps(otherwise=True)
        if not kept:
            raise not_kept(key, self.label)

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name exists. Raise `StoreError` if the server accepts a second body for a name."""
        digest = hashlib.sha256(body).digest()
        if self._is_taken(key) or not self._put(key, body, sha256=digest):
            return False
        if not self._keeps(key, size=len(body), sha256=f"sha256:{digest.hex()}", otherwise=True):
            raise not_kept(key, self.label)
        self._require_condition(key, body, sha256=digest)
        return True

    def size(self, key: str) -> int | None:
        """Return the object's length; `None` if it does not exist."""
        head = self._head(key)
        return None if head is None else head["ContentLength"]

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Return whether the object has the given length and digest; an object without a checksum of all its bytes is read."""
        head = self._head(key)
        return head is not None and self._has_digest(head, key, size=size, sha256=sha256)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        token = ""
        while True:  # botocore's paginator reads a file of its own, which takes as long as a request
            with self._translate_errors(prefix):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **_after(token))
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            before, token = token, page.get("NextContinuationToken", "")
            if token in {"", before}:
                message = f"store {self.label}: a listing is truncated, and its next page is not named"
                raise StoreError(message, hint="reprise doctor")

    def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        try:
            with self._translate_errors(key):
                head = self._client.head_object(Bucket=self._bucket, Key=self._name(key), ChecksumMode="ENABLED")
                require_object(head["ResponseMetadata"]["HTTPHeaders"], label=self.label)
                return head
        except ObjectMissingError:
            self._require_bucket()  # a HEAD does not distinguish a missing bucket from a missing object
            return None

    def _has_digest(
        self, head: HeadObjectOutputTypeDef, key: str, composite: Composite | None = None, *, size: int, sha256: str
    ) -> bool:
        if head["ContentLength"] != size:
            return False
        kept = head.get("ChecksumSHA256", "")
        if kept and "-" not in kept:
            return base64.b64decode(kept).hex() == sha256.removeprefix("sha256:")
        if kept and composite and kept == composite():
            return True
        return digest_of_blocks(self.read(key)) == sha256

    def _keeps(self, key: str, composite: Composite | None = None, *, size: int, sha256: str, otherwise: bool) -> bool:
        """Return whether the object exists with the given size and digest; return `otherwise` if the credentials do not permit reading."""
        try:
            head = self._head(key)
            return head is not None and self._has_digest(head, key, composite, size=size, sha256=sha256)
        except StoreDeniedError:
            return otherwise

    def _is_taken(self, key: str) -> bool:
        try:
            return self._head(key) is not None
        except StoreDeniedError:
            return False

    def _require_condition(self, key: str, body: bytes, *, sha256: bytes) -> None:
        """Store the same body again after this client's first creation. Raise `StoreError` if the server does not reject it."""
        if self._refuses:
            return
        with self._translate_errors(key):
            try:
                self._client.put_object(**self._request(key, body, sha256=sha256), **_UNLESS_TAKEN)
            except boto.ClientError as fault:
                if code_of(fault) not in TAKEN | RACING:
                    raise
                self._refuses = True
                return
        message = f"{self.label} ignores If-None-Match: a second run or dataset version can replace the first"
        raise StoreError(message, hint="use another store; `reprise doctor store ADDRESS` tests a store")

    def _put(self, key: str, body: bytes | BinaryIO, *, sha256: bytes, replace: bool = False) -> bool:
        with self._translate_errors(key):
            for pause in _PAUSES:
                try:
                    return self._put_once(key, body, sha256=sha256, replace=replace)
                except boto.ClientError as fault:
                    if code_of(fault) not in RACING:
                        raise
                sleep(pause)
            return self._put_once(key, body, sha256=sha256, replace=replace)

    def _put_once(self, key: str, body: bytes | BinaryIO, *, sha256: bytes, replace: bool) -> bool:
        if not isinstance(body, bytes):
            body.seek(0)
        condition: _Conditional = {} if replace else _UNLESS_TAKEN
        try:
            self._client.put_object(**self._request(key, body, sha256=sha256), **condition)
        except boto.ClientError as fault:
            if code_of(fault) not in TAKEN:
                raise
            return self._was_ours(key, fault, sha256=sha256)
        return True

    def _request(self, key: str, body: bytes | BinaryIO, *, sha256: bytes) -> _PutArguments:
        checksum = base64.b64encode(sha256).decode()
        return {"Bucket": self._bucket, "Key": self._name(key), "Body": body, "ChecksumSHA256": checksum}

    def _was_ours(self, key: str, fault: boto.ClientError, *, sha256: bytes) -> bool:
        """Return whether an earlier try of this call, whose reply was lost, created the name."""
        if not fault.response["ResponseMetadata"].get("RetryAttempts"):
            return False
        return hashlib.sha256(b"".join(self.read(key))).digest() == sha256

    def _connect(self) -> S3Client:
        access = self.access
        session = boto3.session.Session(
            aws_access_key_id=access.key,
            aws_secret_access_key=access.secret,
            aws_session_token=access.token,
            region_name=access.region,
            botocore_session=_session(access.profile),
        )
        _redact_credentials(session)
        own = self._is_own_server()
        try:
            client = _client(session, access, (_OWN_SERVER if own else _PATIENCE).merge(self._tries))
        except ValueError as fault:
            hint = "correct AWS_ENDPOINT_URL_S3 in .env, or the endpoint in the address"
            raise StoreError(f"store {self.label}: {fault}", hint=hint) from fault
        if own == (_AMAZON not in client.meta.endpoint_url):
            return client
        return _client(session, access, (_PATIENCE if own else _OWN_SERVER).merge(self._tries))

    def _is_own_server(self) -> bool:
        """Return whether the address or the environment names a server other than Amazon's.

        If it does not and a profile names one, `_connect` creates a second client, which takes 20 ms.
        """
        named = self.access.endpoint
        if named is None and self.access.profile is None:
            named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return bool(named) and _AMAZON not in str(named)

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _require_bucket(self) -> None:
        if self._is_bucket_known:
            return
        try:
            with self._translate_errors(""):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectMissingError as fault:
            raise no_bucket(self._bucket, label=self.label) from fault
        self._is_bucket_known = True

    def _translate_errors(self, key: str) -> AbstractContextManager[None]:
        return translate_errors(key, label=self.label, bucket=self._bucket)


def _other_length(key: str, label: str, *, found: int | None, length: int) -> DigestMismatchError:
    if found is None or found < length:
        return whole(key, label)
    message = f"{key} in {label} is longer than requested: {found} bytes; expected {length}"
    return DigestMismatchError(message, hint=AGAIN)


def _redact_credentials(session: boto3.session.Session) -> None:
    """Redact the store's secret key and token in printed text. Keys of an instance role are temporary, and no user types them."""
    found = session.get_credentials()
    if isinstance(found, Credentials) and not isinstance(found, RefreshableCredentials):
        REDACTOR.add("the store's secret key", found.secret_key)
        REDACTOR.add("the store's token", found.token)


def _session(profile: str | None) -> botocore.session.Session | None:
    """Return the session of a profile in ~/.aws, which takes precedence over keys in the environment; `None` without a profile."""
    return botocore.session.Session(profile=profile) if profile else None


def _client(session: boto3.session.Session, access: S3Access, config: Config) -> S3Client:
    """Return a client. With a profile, the endpoint in the environment is ignored."""
    endpoint = access.endpoint
    if access.profile:
        config = config.merge(Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]  # the stubs lack it
        endpoint = endpoint or _endpoint_of(access.profile)
    return session.client("s3", config=config, endpoint_url=endpoint)


def _endpoint_of(profile: str) -> str | None:
    """Return the S3 endpoint of a profile in ~/.aws/config; `None` if it declares none."""
    session = botocore.session.Session(profile=profile)
    config = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(config.get("services", ""), {})
    return (services.get("s3") or {}).get("endpoint_url") or config.get("endpoint_url")


def _after(token: str) -> _Continued:
    return {"ContinuationToken": token} if token else {}


def _range(start: int, length: int | None) -> _Ranged:
    if length is not None:
        return {"Range": f"bytes={start}-{start + length - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}  # a range from byte 0 is invalid for an empty object
