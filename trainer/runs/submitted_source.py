"""The source of a run that was submitted to machines without a shared folder: an archive and a document about it, both in the store.

The digest of the document identifies both. `upload_source` writes them. On each machine the submitted job fetches and verifies both, and
writes them to the folder `SUBMITTED` of the runs folder; `take_submitted_source` verifies them again and copies the source into the run's
folder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, canonical, digest_of_bytes
from trainer.base.document import Document, parse_json
from trainer.base.errors import DigestMismatchError, SourceError
from trainer.base.file_entry import File
from trainer.base.safe_folder import Root, run_root
from trainer.source.archive import LARGEST, archive, unpack
from trainer.source.capture import ARCHIVE, COPY
from trainer.source.copy import load_bundle
from trainer.source.description import Source
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.source.archive import SourceBundle
    from trainer.stores.contract import Store

SOURCE_VARIABLE: Final = "REPRISE_SOURCE"
"""The variable with the digest of the document that describes the submitted source."""
SUBMITTED: Final = ".submitted"
"""The name of the folder, in the runs folder, with the document and the archive."""
DOCUMENT: Final = "source.json"
_HINT: Final = "submit the run again"


class SubmittedSource(Document):
    """A source in a store, and its description for the record."""

    format: Literal["reprise.submitted-source/1"] = "reprise.submitted-source/1"
    bundle: Digest
    """The digest that identifies the source in the record."""
    archive: File
    """The object with the archive."""
    source: Source


def source_objects(bundle: SourceBundle) -> tuple[str, list[bytes]]:
    """Return the digest of the document about a source, and the objects to store: the archive, then the document."""
    packed = archive(bundle)
    file = File(path=ARCHIVE, size=len(packed), sha256=digest_of_bytes(packed))
    about = SubmittedSource(bundle=bundle.digest, archive=file, source=bundle.source)
    text = canonical(about.model_dump(mode="json"))
    return digest_of_bytes(text), [packed, text]


def upload_source(bundle: SourceBundle, store: Store) -> str:
    """Write a source to a store, and return the digest of the document about it. Raise `StoreError`."""
    digest, objects = source_objects(bundle)
    for body in objects:
        name = digest_of_bytes(body)
        store.write(object_key(name), body, sha256=name)
    return digest


def take_submitted_source(into: Path, *, digest: str | None) -> SourceBundle | None:
    """Copy the submitted source into the run's folder `into`, unpack it and return it; return `None` if `digest` is empty.

    Raise `SourceError` if the source was not fetched, `DigestMismatchError` if it is not the submitted source, `DocumentError`,
    `DiskFullError`, `NotWritableError`.
    """
    if not digest:
        return None
    folder = into.parent / SUBMITTED
    if not (folder / DOCUMENT).is_file():
        message = f"{SOURCE_VARIABLE} is {digest[:19]}.., but {folder / DOCUMENT} does not exist"
        raise SourceError(
            message, hint=f"unset {SOURCE_VARIABLE}: only a submitted job sets it, after it fetched the source"
        )
    with Root.at(folder) as submitted:
        text, packed = submitted.read(DOCUMENT), submitted.read(ARCHIVE, most=2 * LARGEST)
    if (found := digest_of_bytes(text)) != digest:
        raise DigestMismatchError(f"{folder / DOCUMENT} is {found}; {SOURCE_VARIABLE} is {digest}", hint=_HINT)
    about = parse_json(text, SubmittedSource, where=str(folder / DOCUMENT))
    bundle = replace(load_bundle(folder / ARCHIVE, digest=about.bundle), source=about.source)
    with disk_faults(into), run_root(into) as run:
        run.write_whole(ARCHIVE, packed)
        run.remove_tree(COPY)
        unpack(bundle, run, COPY)
    return bundle
