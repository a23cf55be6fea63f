"""Read from a store without trusting it: small documents up to a limit, files and objects verified while they stream."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError
from trainer.base.plain_text import LARGEST
from trainer.base.spool import spool
from trainer.stores.contract import altered, object_key

if TYPE_CHECKING:
    from trainer.base.file_entry import File
    from trainer.base.safe_folder import Root
    from trainer.stores.contract import Store


def read_small(store: Store, key: str, *, largest: int = LARGEST) -> bytes:
    """Return the bytes of a document. Raise `DigestMismatchError` if it has more than `largest` bytes."""
    text = bytearray()
    for block in store.read(key):
        text += block
        if len(text) > largest:
            raise DigestMismatchError(
                f"{key} in {store.label} is larger than {largest} bytes, the limit for documents",
                hint="the object was altered: delete it, or ask its author for a new copy",
            )
    return bytes(text)


def copy_object(digest: str, *, source: Store, target: Store, size: int | None = None) -> int:
    """Copy an object unless `target` has it; return the number of bytes that were sent.

    Raise `DigestMismatchError` if the bytes from `source` do not match the digest.
    """
    key = object_key(digest)
    if (there := target.size(key)) is not None and target.holds(
        key, size=there if size is None else size, sha256=digest
    ):
        return 0
    running, length = hashlib.sha256(), 0
    with spool() as body:
        for block in source.read(key, length=size):
            running.update(block)
            length += body.write(block)
        if (found := f"sha256:{running.hexdigest()}") != digest:
            raise altered(key, expected=digest, found=found, store=source.label)
        target.write(key, body, sha256=digest)
    return length


def read_file(store: Store, file: File, *, into: Root) -> None:
    """Write a new file below the folder `into`. Raise `DigestMismatchError` if its bytes do not match its digest or its size."""
    path = into.path / file.path
    running, length = hashlib.sha256(), 0
    with disk_faults(path):
        written = into.create(file.path, mode=0o644, make=True)
    with disk_faults(path), written:  # closing the file also writes
        for block in store.read(object_key(file.sha256), length=file.size):
            running.update(block)
            length += len(block)
            written.write(block)
    if f"sha256:{running.hexdigest()}" != file.sha256 or length != file.size:
        raise DigestMismatchError(
            f"{file.path} from {store.label} does not match its seal: {length} bytes; expected {file.size}",
            hint="the object was altered: delete it, or ask its author for a new copy",
        )
