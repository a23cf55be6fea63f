"""A cached dataset's files as a folder, for readers and people that need paths.

Knows how the folder appears whole. It is made from verified bytes when it is first asked for, beside the marker, and read-only; each
process that asks for it hashes it again, once: what lies in single files is believed no more than what lies in packs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_open
from trainer.base.errors import UnsafePathError
from trainer.data.cache.objects import own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.data.cache.version import CachedDataset
    from trainer.data.manifest_lines import Entry

FILES: Final = "files"
_THREADS: Final = 4
_BATCH: Final = 64
"""Files of one folder that a thread verifies while it holds that folder open."""
_RIVALS: Final = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}
"""What a process sees of another that was ready first: its folder stands there, or has been tidied up."""


def tree(cached: CachedDataset, entries: Sequence[Entry], place: Root) -> Path:
    """The folder of a dataset's files in `place`, verified. Raises `DigestMismatchError`, `DiskFullError`, `NotWritableError`."""
    with disk_faults(place.path / FILES):
        while True:
            try:
                folder = _found(entries, place) or _made(cached, place)
            except OSError as fault:
                if fault.errno not in _RIVALS:
                    raise
            else:
                _sweep(place)
                return folder


def _found(entries: Sequence[Entry], place: Root) -> Path | None:
    for name in (own(FILES), FILES):
        if place.stat(name) is None or (name == FILES and not place.has_folder(name)):
            continue  # a link in place of the shared one: as for a damaged one, this user's own is made beside it
        with place.below(name) as folder:
            if _is_right(folder, entries):
                return folder.path
        with suppress(PermissionError):
            place.remove_tree(name)
    return None


def _is_right(folder: Root, entries: Sequence[Entry]) -> bool:
    def right(batch: Sequence[Entry]) -> bool:
        try:
            with _holding(folder, _above(batch[0].path)) as here:
                return all(_is_file_right(here, entry) for entry in batch)
        except (OSError, UnsafePathError):
            return False

    with ThreadPoolExecutor(_THREADS) as threads:
        return all(all(threads.map(right, _batches(entries[at : at + 4096]))) for at in range(0, len(entries), 4096))


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """A few entries of one folder at a time."""
    for at in range(0, len(entries), _BATCH):
        for _, batch in groupby(entries[at : at + _BATCH], key=lambda entry: _above(entry.path)):
            yield list(batch)


def _is_file_right(here: Root, entry: Entry) -> bool:
    with here.open(entry.path.rpartition("/")[2]) as file:
        return os.fstat(file.fileno()).st_size == entry.size and digest_of_open(file) == entry.sha256


def _made(cached: CachedDataset, place: Root) -> Path:
    staging = f"{_staged()}{secrets.token_hex(8)}"
    # Beside a damaged one of another user's, which is there before; what comes while this one is made is a rival's, and as good.
    target = own(FILES) if place.stat(FILES) is not None else FILES
    try:
        place.mkdir(staging, mode=0o755)
        with place.below(staging) as folder:
            _fill(folder, cached)
            _flush(folder)
            place.rename(staging, target)
            place.flush()
            _protect(folder)
    finally:
        place.remove_tree(staging)
    return place.path / target


def _protect(folder: Root) -> None:
    """Have all folders read-only: those that were just made, whatever has their names by now."""
    for path, about in folder.walk():
        if stat.S_ISDIR(about.st_mode):
            folder.chmod(path, 0o555)
    os.fchmod(folder.fileno(), 0o555)


def _sweep(place: Root) -> None:
    """Remove what processes of this user's left that were killed; one that lives finds its folder gone and this one right."""
    for leftover in place.names():
        if leftover.startswith(_staged()):
            place.remove_tree(leftover)


def _staged() -> str:
    return f".{FILES}.{os.getuid()}-"


def _fill(staging: Root, cached: CachedDataset) -> None:
    for above, paths in groupby(cached.paths, key=_above):
        with _holding(staging, above, make=True) as folder:
            for path in paths:
                _write(folder, path.rpartition("/")[2], cached, path)


def _write(folder: Root, name: str, cached: CachedDataset, path: str) -> None:
    if cached.link(path, to=folder, new=name):
        return
    handle = folder.handle(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o444)
    with os.fdopen(handle, "wb", buffering=0) as file:
        left = cached.read(path)
        while left:
            left = left[file.write(left) :]
        os.fchmod(handle, 0o444)


def _above(path: str) -> str:
    return path.rpartition("/")[0]


@contextmanager
def _holding(folder: Root, below: str, *, make: bool = False) -> Iterator[Root]:
    """A folder below, or, for no path, the same."""
    if not below:
        yield folder
        return
    with folder.below(below, make=make) as found:
        yield found


def _flush(folder: Root) -> None:
    """Write everything on this file system to disk. 2,000 files of 8 kB: one by one 2.4 s, together 0.4 s."""
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(folder.fileno()) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder.path))
    except AttributeError:  # macOS has no syncfs
        os.sync()
