"""Unpack a zip or tar archive from an unknown origin: regular files only, below one folder, within the free space of the disk."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DatasetError
from trainer.base.paths import path_fault
from trainer.base.suggestions import short
from trainer.data.file_names import folded, reason_to_leave_out
from trainer.data.upstream.listing import MOST_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_BLOCK: Final = 1 << 20
_SPARE: Final = 64 << 20
"""Bytes of disk space that stay free."""
_ENCRYPTED: Final = 0x1
_TYPE_BITS: Final = 0o170000
_ALLOWED_TYPES: Final = {0, 0o100000, 0o040000}
"""File types in the Unix mode of a zip entry: none stated, regular file, folder."""
_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


def is_archive(name: str) -> bool:
    """Return whether a file name has the suffix of an archive that can be unpacked."""
    return name.lower().endswith(SUFFIXES)


@dataclass(frozen=True, slots=True)
class _ArchiveMember:
    name: str
    size: int
    fault: str
    """The reason why the entry is not unpacked; empty for a regular file."""
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive into the new folder `folder`; return the number of files.

    Files that operating systems and editors create are left out. Raise `DatasetError` if the archive is damaged or encrypted, has no files
    or too many, has an entry that is not a regular file or leaves the folder, has two entries with the same name, or does not fit on the
    disk; `folder` is then incomplete.
    """
    folder.mkdir(parents=True)
    left = shutil.disk_usage(folder).free - _SPARE
    names: set[str] = set()
    with disk_faults(folder), _reading(archive), _entries(archive) as entries:
        for entry in entries:
            parts = entry.name.removesuffix("/").split("/")
            if any(reason_to_leave_out(part, has_hidden=True) for part in parts):
                continue
            _require_valid(entry, archive, names)
            if len(names) > MOST_FILES:
                raise DatasetError(f"{archive.name} has more than {MOST_FILES:,} files", hint="publish a part of it")
            left -= _write(entry, folder.joinpath(*parts), archive=archive, left=left)
    if not names:
        raise DatasetError(f"{archive.name} contains no files", hint="check the archive")
    return len(names)


def _require_valid(entry: _ArchiveMember, archive: Path, names: set[str]) -> None:
    """Add the name of an entry to `names`. Raise `DatasetError` for an entry that must not be unpacked."""
    where = f"{archive.name}: entry {short(entry.name)!r}"
    if fault := path_fault(entry.name) or entry.fault:
        hint = "nothing was published; unpack the archive yourself if you trust it, and publish the folder"
        raise DatasetError(f"{where}: {fault}", hint=hint)
    spelled = folded(entry.name)
    if spelled in names:
        raise DatasetError(
            f"{where} is repeated, or differs from another entry only by case or Unicode form",
            hint="unpack the archive yourself, and publish the folder",
        )
    names.add(spelled)


def _write(entry: _ArchiveMember, target: Path, *, archive: Path, left: int) -> int:
    """Write the data of an entry; return its size. Raise `DatasetError` before the disk is full, whatever size the archive states."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    source = entry.open()
    if source is None:
        raise DatasetError(f"{archive.name}: entry {short(entry.name)!r} has no data", hint="check the archive")
    with source, target.open("xb") as file:
        while True:
            if max(size, entry.size) > left:
                needed, free = max(size, entry.size), max(left, 0)
                raise DatasetError(
                    f"{archive.name} does not fit on the disk: {short(entry.name)!r} needs {needed:,} bytes, {free:,} are free",
                    hint="free disk space, or check whether the archive is what you expect",
                )
            if not (block := source.read(_BLOCK)):
                break
            size += file.write(block)
    if size != entry.size:
        raise DatasetError(
            f"{archive.name}: entry {short(entry.name)!r} has {size:,} bytes; the archive states {entry.size:,}",
            hint="the archive is damaged: import it again",
        )
    return size


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Translate the exceptions that the libraries raise for a damaged archive."""
    try:
        yield
    except RuntimeError as fault:  # zipfile: an encrypted entry
        raise DatasetError(f"{archive.name} cannot be unpacked: {fault}", hint="unpack it yourself") from fault
    except _DAMAGE as fault:
        reason = short(str(fault)) or type(fault).__name__
        raise DatasetError(
            f"{archive.name} is damaged, or not an archive: {reason}", hint="import it again, or check the file"
        ) from fault


@contextmanager
def _entries(archive: Path) -> Iterator[Iterator[_ArchiveMember]]:
    """Open an archive; yield its entries, except folders."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            yield (_of_zip(packed, each) for each in packed.infolist() if not each.is_dir())
    else:
        with tarfile.open(archive) as tar:
            yield (_of_tar(tar, each) for each in tar if not each.isdir())
            # to the end, where a compressed file has its checksum, which is then verified
            while tar.fileobj.read(_BLOCK):
                pass


def _of_zip(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _ArchiveMember:
    fault = "encrypted" if info.flag_bits & _ENCRYPTED else ""
    if (info.external_attr >> 16) & _TYPE_BITS not in _ALLOWED_TYPES:
        fault = "a link or a device; expected a regular file"
    return _ArchiveMember(info.filename, info.file_size, fault, lambda: packed.open(info))


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _ArchiveMember:
    kind = "a link" if info.issym() or info.islnk() else "a device or a pipe"
    fault = "" if info.isreg() else f"{kind}; expected a regular file"
    name = info.name.removeprefix("./")  # as `tar -C DIR .` writes it
    return _ArchiveMember(name, info.size, fault, lambda: tar.extractfile(info))
