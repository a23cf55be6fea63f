"""A store in a folder, on a local disk or a network share.

Only the creation of a hard link decides between two writers. Locks, O_EXCL followed by writing, times and mode bits are not used,
because they are unreliable over NFS.

A body is written to a temporary file in the same folder, flushed, and linked to its name, so an object never has an incomplete body.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
from contextlib import contextmanager, suppress
from stat import S_IMODE
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults, sync_folder
from trainer.base.digest import digest_of_blocks
from trainer.base.errors import ObjectMissingError, StoreError, StoreMissingError
from trainer.stores.contract import BLOCK, altered, blocks, checked, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TEMPORARY: Final = ".new-"
_NO_LINKS: Final = "keep the store on a file system with hard links (ext4, XFS, NFS), or in a bucket"


class DirectoryStore:
    """A store below a folder, which must exist, so that an unmounted share does not appear as an empty store."""

    def __init__(self, root: Path) -> None:
        """Use `root`; its existence is checked on first use."""
        self._root = root
        self.address = self.label = str(root)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream a range of an object."""
        with self._found(key) as path, path.open("rb", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size if length is None else start + length
            if start > end:
                raise whole(key, self.label)
            file.seek(start)
            while start < end:
                block = file.read(min(BLOCK, end - start))
                if not block:
                    raise whole(key, self.label)
                start += len(block)
                yield block

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Store a verified object; replace an object whose bytes are wrong."""
        there = self.size(key)
        if there is not None and self.holds(key, size=there, sha256=sha256):
            return
        self._settle(key, body, sha256=sha256, replace=there is not None)

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Return whether the object has the given length and digest; its bytes are read."""
        return self.size(key) == size and digest_of_blocks(self.read(key)) == sha256

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name exists; return whether this call stored it."""
        return self._settle(key, body, sha256=f"sha256:{hashlib.sha256(body).hexdigest()}")

    def size(self, key: str) -> int | None:
        """Return the object's length; `None` if it does not exist."""
        try:
            with self._found(key) as path:
                return path.stat().st_size
        except ObjectMissingError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        self._require_root()
        folder = prefix.rpartition("/")[0]
        for here, folders, files in os.walk(self._root / folder):
            folders.sort()
            below = os.path.relpath(here, self._root)
            names = (name if below == "." else f"{below}/{name}" for name in sorted(files) if not name.startswith("."))
            yield from (name for name in names if name.startswith(prefix))

    def _settle(self, key: str, body: bytes | BinaryIO, *, sha256: str, replace: bool = False) -> bool:
        self._require_root()
        path = self._root / checked(key)
        with disk_faults(path):
            self._make(path.parent)
            temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
            try:
                _write(temporary, body, sha256=sha256)
                if replace:
                    temporary.replace(path)
                    return True
                return _link(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink()
                sync_folder(path.parent)

    def _make(self, folder: Path) -> None:
        """Create a folder with the mode of the store's root, so that users who may write to the root may also write below it."""
        if folder == self._root or folder.is_dir():
            return
        self._make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            root = self._root.stat()
            with suppress(OSError):  # a share may not support modes and owners
                folder.chmod(S_IMODE(root.st_mode))
                if os.geteuid() == 0:
                    os.chown(folder, root.st_uid, root.st_gid)

    @contextmanager
    def _found(self, key: str) -> Iterator[Path]:
        path = self._root / checked(key)
        try:
            yield path
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as fault:
            self._require_root()
            raise ObjectMissingError(
                f"{key} is not in {self.label}", hint="check the address of the store, or publish to this store"
            ) from fault
        except OSError as fault:
            raise StoreError(f"{path} cannot be read: {fault.strerror}", hint="check the disk or the share") from fault

    def _require_root(self) -> None:
        if not self._root.is_dir():
            hint = f"mount the share, or create a new store: mkdir -p {shlex.quote(str(self._root))}"
            raise StoreMissingError(f"store folder {self._root} does not exist", hint=hint)


def _write(path: Path, body: bytes | BinaryIO, *, sha256: str) -> None:
    running = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
        for block in blocks(body):
            running.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    found = f"sha256:{running.hexdigest()}"
    if found != sha256:
        raise altered(str(path.parent), expected=sha256, found=found)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS, a link can succeed and its reply be lost; the retry then finds that the name exists. If the temporary file has two
        # names, this process created the link.
        return temporary.stat().st_nlink > 1
    except OSError as fault:
        raise StoreError(f"{path.parent} does not support hard links: {fault.strerror}", hint=_NO_LINKS) from fault
    return True
