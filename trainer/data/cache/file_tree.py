"""A cached dataset's files as a read-only folder, for readers and users that need paths.

The folder is created from verified bytes on first use, and renamed into place when it is complete. Each process hashes all files of the
folder once, before it uses them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_open
from trainer.base.errors import UnsafePathError
from trainer.base.parallel import HashingThreads
from trainer.data.cache.objects import own_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.data.cache.version import CachedDataset
    from trainer.data.manifest_lines import ManifestEntry

FILES: Final = "files"
_THREADS: Final = 4
_BATCH: Final = 64
"""Maximum number of files in a batch, which one thread verifies; all files of a batch are in the same folder."""
_AT_ONCE: Final = 4096
"""Number of files that are verified with one number of threads."""
_RIVALS: Final = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}
"""Errors if another process created the folder first, or removed this process's temporary folder."""


def make_file_tree(cached: CachedDataset, entries: Sequence[ManifestEntry], version: Root) -> Path:
    """Return the folder of a dataset's files in `version`, which is verified, or created if it is missing or damaged.

    Raise `DigestMismatchError` if a cached file is damaged, `MachineError` if the folder cannot be written.
    """
    with disk_faults(version.path / FILES):
        while True:
            try:
                folder = _find(entries, version) or _create(cached, version)
            except OSError as fault:
                if fault.errno not in _RIVALS:
                    raise
            else:
                _sweep(version)
                return folder


def _find(entries: Sequence[ManifestEntry], version: Root) -> Path | None:
    for name in (own_name(FILES), FILES):
        if version.stat(name) is None or (name == FILES and not version.has_folder(name)):
            continue  # a link in place of the shared folder: create this user's own folder, as for a damaged one
        with version.below(name) as folder:
            if _is_right(folder, entries):
                return folder.path
        with suppress(PermissionError):
            version.remove_tree(name)
    return None


def _is_right(folder: Root, entries: Sequence[ManifestEntry]) -> bool:
    def right(batch: Sequence[ManifestEntry]) -> bool:
        try:
            with _subfolder(folder, _above(batch[0].path)) as here:
                return all(_is_file_right(here, entry) for entry in batch)
        except (OSError, UnsafePathError):
            return False

    threads = HashingThreads(files=len(entries[:_BATCH]), size=_size(entries[:_BATCH]), most=_THREADS)
    for first, end in pairwise([0, *range(_BATCH, len(entries), _AT_ONCE), len(entries)]):
        some = entries[first:end]
        threads.begin()
        with ThreadPoolExecutor(threads.count) as pool:
            if not all(pool.map(right, _batches(some))):
                return False
        threads.end(files=len(some), size=_size(some))
    return True


def _size(entries: Sequence[ManifestEntry]) -> int:
    return sum(entry.size for entry in entries)


def _batches(entries: Sequence[ManifestEntry]) -> Iterator[Sequence[ManifestEntry]]:
    """Yield the entries in batches; the entries of a batch are in the same folder."""
    for at in range(0, len(entries), _BATCH):
        for _, batch in groupby(entries[at : at + _BATCH], key=lambda entry: _above(entry.path)):
            yield list(batch)


def _is_file_right(here: Root, entry: ManifestEntry) -> bool:
    with here.open(entry.path.rpartition("/")[2]) as file:
        return os.fstat(file.fileno()).st_size == entry.size and digest_of_open(file) == entry.sha256


def _create(cached: CachedDataset, version: Root) -> Path:
    staging = f"{_staged()}{secrets.token_hex(8)}"
    # If FILES exists now, it is another user's damaged folder. If it appears later, another process has created a valid folder.
    target = own_name(FILES) if version.stat(FILES) is not None else FILES
    try:
        version.mkdir(staging, mode=0o755)
        with version.below(staging) as folder:
            _fill(folder, cached)
            _flush(folder)
            version.rename(staging, target)
            version.flush()
            for path, about in folder.walk():  # make all folders read-only, through their descriptors
                if stat.S_ISDIR(about.st_mode):
                    folder.chmod(path, 0o555)
            os.fchmod(folder.fileno(), 0o555)
    finally:
        version.remove_tree(staging)
    return version.path / target


def _sweep(version: Root) -> None:
    """Remove temporary folders of this user. A process that is still writing a temporary folder then uses the complete folder."""
    for leftover in version.names():
        if leftover.startswith(_staged()):
            with suppress(OSError):  # another process has just written into it
                version.remove_tree(leftover)


def _staged() -> str:
    return f".{FILES}.{os.getuid()}-"


def _fill(staging: Root, cached: CachedDataset) -> None:
    for above, paths in groupby(cached.paths, key=_above):
        with _subfolder(staging, above, make=True) as folder:
            for path in paths:
                _write(folder, path.rpartition("/")[2], cached, path)


def _write(folder: Root, name: str, cached: CachedDataset, path: str) -> None:
    if cached.link(path, to=folder, new=name):
        return
    handle = folder.handle(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o444)
    with os.fdopen(handle, "wb", buffering=0) as file:
        rest = cached.read(path)
        while rest:
            rest = rest[file.write(rest) :]
        os.fchmod(handle, 0o444)


def _above(path: str) -> str:
    return path.rpartition("/")[0]


@contextmanager
def _subfolder(folder: Root, below: str, *, make: bool = False) -> Iterator[Root]:
    """Open the folder `below`, or use `folder` itself if `below` is empty."""
    if not below:
        yield folder
        return
    with folder.below(below, make=make) as subfolder:
        yield subfolder


def _flush(folder: Root) -> None:
    """Flush the whole file system to disk: 0.4 s for 2,000 files of 8 kB; flushing each file takes 2.4 s."""
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(folder.fileno()) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder.path))
    except AttributeError:  # macOS has no syncfs
        os.sync()
