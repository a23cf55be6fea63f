"""Write a crate: a new folder or a zip file with the run's files, each verified against its recorded digest while it is copied."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.errors import DigestMismatchError
from trainer.base.safe_folder import PARTIAL, Root, run_root
from trainer.runs.exports.crate import METADATA, crate_files, crate_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import IO

    from trainer.base.file_entry import File
    from trainer.runs.exports.exported_run import ExportedRun

    Create = Callable[[str, int], AbstractContextManager[IO[bytes]]]
    """A function that creates a file, given its path and size, and opens it for writing."""

ZIP: Final = ".zip"
_BLOCK: Final = 1 << 20
_MODE: Final = 0o100644 << 16
"""A regular file with permissions 0644, in the encoding of zip files."""
_UNIX: Final = 3


def write_crate(run: ExportedRun, folder: Path, *, out: Path) -> None:
    """Write the run in `folder` as a crate: a zip file if `out` ends in `.zip`, else a new folder.

    Equal runs produce equal bytes. Raise `DigestMismatchError` if a file is missing or altered, `MachineError` if the crate cannot be
    written; `out` is then not created.
    """
    opened = _new_zip(out) if out.suffix.lower() == ZIP else _new_folder(out)
    with disk_faults(out), opened as create, run_root(folder) as source:
        text = canonical(crate_metadata(run)) + b"\n"
        with create(METADATA, len(text)) as target:
            target.write(text)
        for place, file in crate_files(run):
            path = f"{place}/{file.path}" if place else file.path
            with create(path, file.size) as target:
                _copy(source, path, file, target)


@contextmanager
def _new_folder(out: Path) -> Iterator[Create]:
    """Yield a function that creates a file in a temporary folder, which is renamed to `out` on success."""
    temporary = f".{out.name}.{token_hex(4)}{PARTIAL}"
    with Root.at(out.parent) as parent:
        parent.mkdir(temporary)
        try:
            with parent.below(temporary) as folder:
                yield lambda path, _size: folder.create(path, mode=0o644, make=True)
            parent.rename(temporary, out.name)
        except BaseException:
            with suppress(OSError):
                parent.remove_tree(temporary)
            raise


@contextmanager
def _new_zip(out: Path) -> Iterator[Create]:
    """Yield a function that creates a file in a zip file. Files are not compressed, since the result would depend on the compressor."""
    with Root.at(out.parent) as parent, parent.whole(out.name) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        yield lambda path, size: archive.open(_entry(path, size), "w", force_zip64=True)


def _entry(path: str, size: int) -> ZipInfo:
    """Return the header of a file, without the time or the operating system of this machine."""
    entry = ZipInfo(path)
    entry.create_system, entry.external_attr, entry.file_size = _UNIX, _MODE, size
    return entry


def _copy(source: Root, path: str, file: File, target: IO[bytes]) -> None:
    """Copy the recorded bytes, since a log may have grown. Raise `DigestMismatchError` if the file is missing or altered."""
    running, left = hashlib.sha256(), file.size
    try:
        with source.open(path) as body:
            while left > 0 and (block := body.read(min(left, _BLOCK))):
                running.update(block)
                target.write(block)
                left -= len(block)
    except FileNotFoundError as fault:
        raise _damage(source, path, "missing; the record lists it") from fault
    if (found := f"sha256:{running.hexdigest()}") != file.sha256:
        raise _damage(source, path, f"damaged: recorded {file.sha256[:19]}, found {found[:19]}")


def _damage(source: Root, path: str, state: str) -> DigestMismatchError:
    hint = f"`reprise runs pull {source.path.name}` restores the files of a published run"
    return DigestMismatchError(f"{source.path / path} is {state}", hint=hint)
