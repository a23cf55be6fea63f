"""Multipart uploads to S3, because a single request is limited to 5 GB and restarts from the beginning after a failure.

The object does not exist before the upload is completed. The caller translates the client's exceptions. The server verifies the digest of
each part; the digest of the whole body is verified here, before the upload is completed.
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
"""Minimum bytes of a part, which is held in memory; a larger body is sent in parts. S3 requires at least 5 MiB."""
MOST_PARTS: Final = 10_000


class UploadTarget(TypedDict):
    """The bucket and the key of the object."""

    Bucket: str
    Key: str


def part_bytes(size: int, *, least: int = PART_BYTES) -> int:
    """Return the size of a body's parts: at least `least`, and as small as the maximum number of parts permits.

    >>> part_bytes(6 << 30) >> 20, part_bytes(2 << 40) >> 20
    (64, 210)
    """
    mebibytes = -(-size // (MOST_PARTS << 20))
    return max(least, mebibytes << 20)


def send_in_parts(client: S3Client, target: UploadTarget, body: BinaryIO, *, sha256: str, part: int) -> None:
    """Upload `body` (from its beginning) in parts, completely or not at all. Raise `DigestMismatchError` if its digest is not `sha256`."""
    upload = client.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]
    try:
        parts = list(_upload_parts(client, target, body, upload=upload, sha256=sha256, part=part))
        _complete(client, target, parts, upload=upload)
    except BaseException:
        with suppress(Exception):  # report the original error, not a failed cleanup
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def composite(body: BinaryIO, *, part: int) -> str:
    """Return the checksum that S3 stores for a multipart object: the digest of the parts' digests, and the number of parts."""
    body.seek(0)
    digests = [hashlib.sha256(block).digest() for block in iter(lambda: body.read(part), b"")]
    return f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def _complete(client: S3Client, target: UploadTarget, parts: list[CompletedPartTypeDef], *, upload: str) -> None:
    """Complete the upload. `NoSuchUpload` is ignored: an earlier try may have succeeded, and its reply been lost. The caller checks."""
    try:
        client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    except ClientError as fault:
        if code_of(fault) != "NoSuchUpload":
            raise


def _upload_parts(
    client: S3Client, target: UploadTarget, body: BinaryIO, *, upload: str, sha256: str, part: int
) -> Iterator[CompletedPartTypeDef]:
    running = hashlib.sha256()
    body.seek(0)
    for number, block in enumerate(iter(lambda: body.read(part), b""), 1):
        running.update(block)
        digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
        response = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=block, ChecksumSHA256=digest)
        yield {"PartNumber": number, "ETag": response["ETag"], "ChecksumSHA256": digest}
    if (found := f"sha256:{running.hexdigest()}") != sha256:
        raise altered(target["Key"], expected=sha256, found=found)
