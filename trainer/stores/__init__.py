"""Open stores by address: `s3://bucket/prefix?endpoint=URL&profile=NAME`, `file:///path`, or a path.

The S3 adapter is imported only for an S3 address, because importing boto3 takes 0.2 s and most commands do not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.stores.address import S3Access, folder_of, split_address
from trainer.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from trainer.stores.contract import Store


def open_store(address: str, *, access: S3Access | None = None, tries: int | None = None) -> Store:
    """Return the store at `address`, without contacting it.

    The endpoint and credentials of S3 come from the address, else from `access`, else from boto3's own chain. A request that fails is sent
    `tries` times, by default twice. Raise `UsageError` if the address is invalid.
    """
    if (folder := folder_of(address)) is not None:
        return DirectoryStore(folder)
    from trainer.stores.s3 import S3Store

    name, asked = split_address(address)
    return S3Store(name, access=asked or access or S3Access(), tries=tries)
