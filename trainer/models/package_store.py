"""Model packages in a store: each file is an object named by its digest. The document, `packages/<digest>.json`, is written last.

The signature of a signed package is `package-signatures/<digest>.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError, ObjectMissingError
from trainer.models.package import CERTIFICATE, FOLDER, ParityCertificate, parsed_package, write_package
from trainer.stores.contract import altered, object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.models.package import Package, PackageFile, PackageFolder
    from trainer.stores.contract import Store


def push_package(opened: PackageFolder, store: Store) -> None:
    """Copy a package to a store. Files that the store has are not sent. Raise `StoreError` if the store fails."""
    for each in opened.package.files:
        key = object_key(each.sha256)
        if not store.holds(key, size=each.bytes, sha256=each.sha256):
            store.write(key, opened.files[each.path], sha256=each.sha256)
    if opened.signature is not None:
        store.write(_signature_key(opened.package.digest), opened.signature, sha256=digest_of_bytes(opened.signature))
    text = opened.package.to_json()
    store.write(_key(opened.package.digest), text, sha256=digest_of_bytes(text))


def pull_package(digest: str, store: Store, *, runs: Path) -> Path:
    """Fetch the package with a digest into `runs`, and return its folder.

    Raise `DocumentError` if the store does not have the package or it is invalid, `DigestMismatchError` if a file does not have the listed
    digest, and `StoreError` if the store cannot be read.
    """
    package = stored_package(digest, store)
    files: dict[str, bytes] = {each.path: _read(each, store) for each in package.files}
    ParityCertificate.read(files[CERTIFICATE], f"{CERTIFICATE} of package {package.name}")
    return write_package(package, files, runs=runs, signature=_signature(digest, store))


def stored_package(digest: str, store: Store) -> Package:
    """Return the document of a package in a store. Raise what `pull_package` raises."""
    try:
        text = read_small(store, _key(digest))
    except ObjectMissingError as fault:
        message = f"{store.label} has no package {digest}"
        raise DocumentError(message, hint="push it first: reprise packages push PACKAGE") from fault
    if (found := digest_of_bytes(text)) != digest:
        raise altered(_key(digest), expected=digest, found=found, store=store.label)
    return parsed_package(text, f"package {digest} in {store.label}")


def stored_digests(store: Store) -> Iterator[str]:
    """Yield the digests of the packages in a store, in the order of the store's listing."""
    for key in store.keys(f"{FOLDER}/"):
        digits = key.removeprefix(f"{FOLDER}/").removesuffix(".json")
        yield f"sha256:{digits}"


def _key(digest: str) -> str:
    return f"{FOLDER}/{digest.removeprefix('sha256:')}.json"


def _signature_key(digest: str) -> str:
    return f"package-signatures/{digest.removeprefix('sha256:')}.json"


def _signature(digest: str, store: Store) -> bytes | None:
    """Return the signature of a package in a store, unverified; `None` if the package is not signed."""
    try:
        return read_small(store, _signature_key(digest))
    except ObjectMissingError:
        return None


def _read(listed: PackageFile, store: Store) -> bytes:
    body = b"".join(store.read(object_key(listed.sha256), length=listed.bytes))
    if (found := digest_of_bytes(body)) != listed.sha256:
        raise altered(listed.path, expected=listed.sha256, found=found, store=store.label)
    if len(body) != listed.bytes:
        message = f"{listed.path} from {store.label} has {len(body):,} bytes; expected {listed.bytes:,}"
        raise DigestMismatchError(message, hint="push it again: reprise packages push PACKAGE")
    return body
