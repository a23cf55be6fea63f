"""Sending a large body to S3 in parts: one request takes 5 GB at most, and a broken one would begin all over again.

Knows the three steps of an upload in parts, and that nothing has a name before the last. Refuses to translate what the client raises: who
calls does. The server compares each part's digest; the whole one is compared here, before the parts become an object.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final, TypedDict

from botocore.exceptions import ClientError

from trainer.stores.contract import altered
from trainer.stores.s3_errors import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES: Final = 64 << 20
"""A part that is held in memory; a body over this size is sent in parts. S3 wants 5 MiB at least."""
MOST_PARTS: Final = 10_000


class Target(TypedDict):
    """Where the object is to be."""

    Bucket: str
    Key: str


def part_bytes(size: int, *, least: int = PART_BYTES) -> int:
    """How large the parts of a body are: as small as the number of parts allows.

    >>> part_bytes(6 << 30) >> 20, part_bytes(2 << 40) >> 20
    (64, 210)
    """
    mebibytes = -(-size // (MOST_PARTS << 20))
    return max(least, mebibytes << 20)


def send_in_parts(client: S3Client, target: Target, body: BinaryIO, *, sha256: str, part: int) -> None:
    """Make `body` (from its beginning), which must have this digest, an object: whole or not at all. Raises `DigestMismatchError`."""
    upload = client.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]
    try:
        parts = list(_sent(client, target, body, upload=upload, sha256=sha256, part=part))
        _complete(client, target, parts, upload=upload)
    except BaseException:
        with suppress(Exception):  # the reported error is why it failed, not that it could not be tidied up as well
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def composite(body: BinaryIO, *, part: int) -> str:
    """The checksum that S3 keeps of an object in parts: the digest of the parts' digests, and how many there are."""
    body.seek(0)
    digests = [hashlib.sha256(block).digest() for block in iter(lambda: body.read(part), b"")]
    return f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def _complete(client: S3Client, target: Target, parts: list[CompletedPartTypeDef], *, upload: str) -> None:
    """Complete the upload. `NoSuchUpload` may mean that the first try completed it and its answer was lost: the caller looks."""
    try:
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    except ClientError as fault:
        if code_of(fault) != "NoSuchUpload":
            raise


def _sent(
    client: S3Client, target: Target, body: BinaryIO, *, upload: str, sha256: str, part: int
) -> Iterator[CompletedPartTypeDef]:
    running = hashlib.sha256()
    body.seek(0)
    for number, block in enumerate(iter(lambda: body.read(part), b""), 1):
        running.update(block)
        digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
        answer = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=block, ChecksumSHA256=digest)
        yield {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": digest}
    if (found := f"sha256:{running.hexdigest()}") != sha256:
        raise altered(target["Key"], expected=sha256, found=found)
