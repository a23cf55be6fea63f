"""Files in an S3 bucket that is not a Reprise store. boto3 finds the endpoint and the credentials; a public bucket needs no credentials."""

from __future__ import annotations

import hashlib
import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore import UNSIGNED, exceptions
from botocore.config import Config

from trainer.base.errors import (
    DigestMismatchError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
    UsageError,
)
from trainer.base.suggestions import short
from trainer.data.upstream.listing import RemoteFile, UpstreamListing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CONFIG: Final = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
_BLOCK: Final = 1 << 20
_MD5: Final = re.compile("[0-9a-f]{32}")
_DENIED: Final = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class BucketFiles:
    """The object at an address, or all objects below it."""

    def __init__(self, source: str) -> None:
        """Create the client. Raise `UsageError` if the address has no bucket."""
        self.source = source
        self._bucket, _, self._key = source.removeprefix("s3://").partition("/")
        if not self._bucket:
            raise UsageError(f"{short(source)!r}: expected s3://BUCKET/PATH", hint="for example s3://my-bucket/data/")
        session = boto3.session.Session()
        config = _CONFIG if session.get_credentials() else _CONFIG.merge(Config(signature_version=UNSIGNED))
        endpoint = session.client("s3", config=config).meta.endpoint_url
        if "amazonaws.com" not in endpoint:  # self-hosted servers rarely have a host name for each bucket
            config = config.merge(Config(s3={"addressing_style": "path"}))
        self._client = session.client("s3", config=config)

    def list_files(self) -> UpstreamListing:
        """List the object whose key is the address's path, or else the objects below that path."""
        prefix = self._key if not self._key or self._key.endswith("/") else f"{self._key}/"
        with self._translate_errors():
            if prefix != self._key and (whole := self._one()):
                return UpstreamListing(files=(whole,))
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            found = [each for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/")]
        if not found:
            raise ObjectMissingError(f"{self.source} does not exist", hint="check the bucket and the path")
        return UpstreamListing(
            files=tuple(_described(each["Key"].removeprefix(prefix), each["Key"], each) for each in found)
        )

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write an object to `target`.

        boto3 verifies the checksum that was stored with the object, if any. If the ETag is an MD5, it is verified here.
        """
        etag = file.checksum.removeprefix("etag:")
        md5 = hashlib.md5(usedforsecurity=False)
        with self._translate_errors(), target.open("xb") as out:
            response = self._client.get_object(Bucket=self._bucket, Key=file.address, IfMatch=f'"{etag}"')
            with closing(response["Body"]) as body:
                for block in body.iter_chunks(_BLOCK):
                    out.write(block)
                    md5.update(block)
                    advance(len(block))
        is_encrypted = "aws:kms" in response.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in response
        if _MD5.fullmatch(etag) and not is_encrypted and md5.hexdigest() != etag:
            message = f"{self.source}: {short(file.path)} has md5 {md5.hexdigest()}; the server listed {etag}"
            raise DigestMismatchError(message, hint="nothing was published; import it again later")

    def _one(self) -> RemoteFile | None:
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._key)
        except exceptions.ClientError as fault:
            if _code(fault) in {"404", "NoSuchKey", "NotFound"}:
                return None
            raise
        facts = {"Size": head["ContentLength"], "ETag": head["ETag"]}
        return _described(self._key.rpartition("/")[2], self._key, facts)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientError as fault:
            code = _code(fault)
            if code in _DENIED:
                raise StoreDeniedError(
                    f"{self.source}: access denied ({code})",
                    hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                ) from fault
            if code == "NoSuchBucket":
                raise StoreMissingError(f"bucket {self._bucket} does not exist", hint="check the name") from fault
            if code in {"412", "PreconditionFailed", "404", "NoSuchKey"}:
                raise StoreError(
                    f"{self.source} changed while it was imported", hint="run the same command again"
                ) from fault
            raise StoreUnreachableError(
                f"{self.source} cannot be read: {code}", hint="run the same command again"
            ) from fault
        except exceptions.FlexibleChecksumError as fault:
            message = f"{self.source}: {short(str(fault))}"
            raise DigestMismatchError(message, hint="nothing was published; import it again later") from fault
        except exceptions.ParamValidationError as fault:
            raise UsageError(f"{self.source}: {short(str(fault))}", hint="for example s3://my-bucket/data/") from fault
        except (exceptions.BotoCoreError, exceptions.HTTPClientError) as fault:
            raise StoreUnreachableError(
                f"{self.source} cannot be read: {short(str(fault))}", hint="check the network and AWS_ENDPOINT_URL_S3"
            ) from fault


def _code(fault: exceptions.ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Code", "unknown"))


def _described(path: str, key: str, facts: Any) -> RemoteFile:
    etag = str(facts["ETag"]).strip('"')
    return RemoteFile(path=path, size=facts["Size"], checksum=f"etag:{etag}", address=key)
