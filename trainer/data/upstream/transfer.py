"""Download the files of a source into a folder; files that an interrupted call completed and verified are not downloaded again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_file
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.parallel import StopFlag, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.data.upstream.listing import checked_listing, verify_file

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.base.progress import Progress
    from trainer.data.upstream.listing import Client, RemoteFile, UpstreamListing

_PART: Final = ".reprise-part"


def list_source(client: Client) -> UpstreamListing:
    """List the files of a source. Raise what `Client.list_files` raises, and `DatasetError` if a folder cannot hold the files."""
    return checked_listing(patiently(client.list_files, StopFlag()), client.source)


def download_files(
    client: Client, listing: UpstreamListing, folder: Path, *, sha256: str | None = None, progress: Progress = SILENT
) -> None:
    """Download the listed files into `folder`, which may hold files of an earlier, interrupted call for the same listing.

    `sha256` is the expected digest of a source with one file. Raise what `Client.download` raises, `DigestMismatchError` if a file
    differs from the listing or from `sha256`, `DatasetError` if the listing changed meanwhile, and `MachineError` if a file cannot be
    written.
    """
    missing = [file for file in listing.files if not (folder / file.path).exists()]
    progress.begin(client.source, sum(file.size or 0 for file in missing))
    try:
        in_parallel(partial(_download, client, folder, progress), missing)
    finally:
        progress.end()
    if sha256 is not None:
        _require_digest(folder / listing.files[0].path, sha256, client.source)
    if missing and list_source(client).digest != listing.digest:
        for file in listing.files:
            (folder / file.path).unlink(missing_ok=True)
        raise DatasetError(
            f"{client.source} changed while it was imported; nothing was published", hint="run the same command again"
        )


def _download(client: Client, folder: Path, progress: Progress, file: RemoteFile, stop: StopFlag) -> None:
    target = folder / file.path
    part = target.with_name(f"{target.name[:200]}{_PART}")
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)

        def once() -> None:
            part.unlink(missing_ok=True)
            client.download(file, part, lambda size: _advance(progress, size, stop))
            verify_file(file, part, client.source)

        try:
            patiently(once, stop)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _advance(progress: Progress, size: int, stop: StopFlag) -> None:
    stop.check()
    progress.advance(size)


def _require_digest(path: Path, sha256: str, source: str) -> None:
    found = digest_of_file(path)
    if found == sha256:
        return
    path.unlink()
    hint = "nothing was published; ask the owner of the file which digest is right"
    raise DigestMismatchError(f"{source} has the digest {found}; --sha256 expects {sha256}", hint=hint)
