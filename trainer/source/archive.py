"""Source bundles: write them as an archive or a folder, and read archives, which may come from an untrusted user."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes, digest_of_document
from trainer.base.errors import SourceError
from trainer.base.paths import collision, path_fault, repository_parts
from trainer.base.run_files import open_run_file
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trainer.base.safe_folder import Root

LARGEST: Final = 64 << 20
"""The maximum size of a bundle in bytes; larger files are data, which belong in a dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of a bundle."""

    path: str
    executable: bool
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBundle:
    """A captured checkout: its digest, its description for the record, and its files."""

    digest: str
    source: Source
    files: tuple[SourceFile, ...]

    @property
    def left_out(self) -> list[str]:
        """The files that were not captured, each with the reason."""
        return self.source.left_out


def bundle_digest(files: Iterable[SourceFile]) -> str:
    """Return the digest of the paths, executable bits and contents of `files`, in any order."""
    return digest_of_document(sorted([file.path, file.executable, file.sha256] for file in files))


def archive(bundle: SourceBundle) -> bytes:
    """Return the bundle as a .tar.gz without times, owners or user names: equal bundles have equal bytes with the same compressor."""
    whole = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=whole, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in bundle.files:
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode = len(file.data), _mode(file)
            tar.addfile(entry, io.BytesIO(file.data))
    return whole.getvalue()


def unpack(bundle: SourceBundle, into: Root, name: str) -> None:
    """Write the bundle's files into the new folder `name` in `into`."""
    with disk_faults(into.path / name):
        into.mkdir(name)
        with into.below(name) as folder:
            for file in bundle.files:
                with folder.create(file.path, mode=_mode(file), make=True) as written:
                    written.write(file.data)


def is_unpacked(bundle: SourceBundle, into: Root, name: str) -> bool:
    """Return whether the folder `name` in `into` has exactly the bundle's files; empty folders are ignored."""
    if not into.has_folder(name):
        return False
    expected = {file.path: file for file in bundle.files}
    with into.below(name) as folder:
        found = {path: status for path, status in folder.walk() if not stat.S_ISDIR(status.st_mode)}
        return found.keys() == expected.keys() and all(
            stat.S_ISREG(status.st_mode)
            and status.st_size == len(expected[path].data)
            and bool(status.st_mode & 0o100) == expected[path].executable
            and folder.read(path, most=status.st_size) == expected[path].data
            for path, status in found.items()
        )


NEW_COPY: Final = "Reprise did not write this bundle: delete it, or ask its author for a new copy"


def read_archive(path: Path) -> SourceBundle:
    """Read an archive as a bundle, without writing files. Raise `SourceError` if it is not a valid bundle.

    Links, devices, paths outside the folder, files of a git repository and decompression bombs are rejected.
    """
    try:
        with open_run_file(path) as file, gzip.open(file, "rb") as packed:
            plain = packed.read(2 * LARGEST)
            if packed.read(1):
                raise SourceError(f"{path} unpacks to more than {size_text(2 * LARGEST)}", hint=NEW_COPY)
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            files = [_entry(tar, entry) for entry in tar]
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as fault:
        raise SourceError(
            f"{path} is not a source bundle: {fault}", hint="it is damaged: pull the run again"
        ) from fault
    if own := repository_parts(file.path for file in files):
        message = f"{path} is not a source bundle: {min(own)!a} is part of a repository, whose settings can name programs to run"
        raise SourceError(message, hint=NEW_COPY)
    if clash := collision(file.path for file in files):
        message = f"{path} is not a source bundle: {clash} is listed twice, or is both a file and a folder"
        raise SourceError(message, hint=NEW_COPY)
    total = sum(len(file.data) for file in files)
    return SourceBundle(
        digest=bundle_digest(files),
        source=Source(how="baked", files=len(files), bytes=total),
        files=tuple(files),
    )


def _entry(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> SourceFile:
    fault = path_fault(entry.name) or _entry_fault(entry)
    body = None if fault else tar.extractfile(entry)
    if body is None:
        raise SourceError(f"{entry.name!a} in a source bundle: {fault}", hint=NEW_COPY)
    data = body.read()
    return SourceFile(path=entry.name, executable=bool(entry.mode & 0o100), sha256=digest_of_bytes(data), data=data)


def _entry_fault(entry: tarfile.TarInfo) -> str | None:
    """Return why an entry is invalid. Sparse files are rejected, since a kilobyte could become a terabyte in memory."""
    if not entry.isreg():
        return "it is not a regular file"
    if entry.issparse():
        return "it is a sparse file"
    return f"it is larger than {size_text(LARGEST)}" if entry.size > LARGEST else None


def size_text(count: int) -> str:
    """Return a size in MiB as text."""
    return f"{count / (1 << 20):.1f} MiB"


def _mode(file: SourceFile) -> int:
    return 0o755 if file.executable else 0o644
