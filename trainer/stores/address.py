"""A store's address, and the access to its server.

In `s3://BUCKET/PREFIX?endpoint=URL&profile=NAME`, the part after `?` configures the access; it is not part of the store's name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from trainer.base.errors import UsageError

EXPECTED: Final = "expected s3://BUCKET/PREFIX, file:///PATH, or a path"
LOCAL_ENDPOINT: Final = "http://store:8333"
"""The local store's endpoint in containers."""
AWS_ENDPOINT: Final = "https://s3.amazonaws.com"
_ASKED: Final = ("endpoint", "profile", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """Access to an S3 server; boto3's own chain determines each value that is `None`."""

    endpoint: str | None = None
    profile: str | None = None
    """A profile of ~/.aws/config: its keys, its region and its `endpoint_url`, if it has one."""
    region: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    shown: str | None = None
    """The endpoint for messages, as programs on the host reach it, if it differs from `endpoint`."""


def folder_of(address: str) -> Path | None:
    """Return the absolute path of a folder address; `None` for a bucket. Raise `UsageError` if the address is empty or invalid.

    >>> folder_of("file:///mnt/nfs/reprise"), folder_of("s3://bucket")
    (PosixPath('/mnt/nfs/reprise'), None)
    """
    scheme, mark, _ = address.partition("://")
    if mark and scheme == "s3":
        return None
    if mark and scheme != "file":
        raise UsageError(f"store address {address!r}: unknown kind {scheme!r}", hint=EXPECTED)
    url = urlsplit(address) if mark else None
    if url and url.netloc not in {"", "localhost"}:
        raise UsageError(
            f"store address {address!r} names the host {url.netloc!r}", hint="write file:///PATH, with three slashes"
        )
    path = unquote(url.path) if url else address
    if not path.strip():
        raise UsageError("the store's address is empty", hint=EXPECTED)
    try:
        return Path(os.path.normpath(Path(path).expanduser().absolute()))
    except RuntimeError as fault:
        raise UsageError(f"store address {address!r}: no such user's home", hint="write the absolute path") from fault


def split_address(address: str) -> tuple[str, S3Access | None]:
    """Return an S3 address without its query, and the access in the query. Raise `UsageError` if the address is invalid.

    >>> split_address("s3://lab/reprise?endpoint=http://127.0.0.1:9000")[1].endpoint
    'http://127.0.0.1:9000'
    """
    name, mark, query = address.partition("?")
    bucket = name.removeprefix("s3://").partition("/")[0]
    if not bucket:
        raise UsageError(f"store address {address!r} has no bucket", hint=EXPECTED)
    if not mark:
        return name, None
    asked = dict(parse_qsl(query, keep_blank_values=True))
    for word, value in asked.items():
        if word not in _ASKED or not value:
            message = (
                f"store address {address!r}: {word!r} has no value"
                if word in _ASKED
                else f"store address {address!r}: unknown {word!r}"
            )
            raise UsageError(message, hint="s3://BUCKET?endpoint=URL, s3://BUCKET?profile=NAME, or both with &")
    if not asked:
        raise UsageError(f"store address {address!r}: nothing follows its '?'", hint="s3://BUCKET?endpoint=URL")
    return name, S3Access(**asked)
