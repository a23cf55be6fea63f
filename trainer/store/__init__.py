"""Stores by address: `s3://bucket/prefix`, `file:///path`, or a path.

Knows which adapter an address asks for, and imports the one for S3 only then: boto3 costs 0.2 s that most commands need not spend.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainer.errors import UsageError
from trainer.store.directory import DirectoryStore

if TYPE_CHECKING:
    from trainer.store.contract import Store


def open_store(address: str) -> Store:
    """The store at `address`. Nothing is asked of it yet; S3 takes its endpoint and credentials from boto3's own chain."""
    scheme, _, rest = address.partition("://")
    if not rest:
        return DirectoryStore(_folder(address))
    match scheme:
        case "s3":
            from trainer.store.s3 import S3Store

            return S3Store(address)
        case "file":
            return DirectoryStore(_folder(unquote(urlsplit(address).path)))
        case _:
            raise UsageError(f"store address {address!r}: unknown kind {scheme!r}", hint=EXPECTED)


def _folder(path: str) -> Path:
    if not path:
        raise UsageError("the store's address is empty", hint=EXPECTED)
    return Path(path).expanduser().absolute()


EXPECTED = "expected s3://BUCKET/PREFIX, file:///PATH, or a path"
