"""A dataset's files: the interface for readers, and a folder that is checked and published.

Hidden files and files that operating systems create are left out. A file is hashed before it is read for the upload, so that an edit in
between is detected by its digest.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, nearest, short
from trainer.data.file_names import is_plain_name, reason_to_leave_out
from trainer.data.packing import PACK_BYTES, HashedFile, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trainer.data.declaration import Described

_BLOCK: Final = 1 << 20
_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The number of entries that are not published for the same reason, and an example."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderListing:
    """The files of a folder, sorted by their UTF-8 bytes, and the entries that are left out."""

    paths: list[str]
    left_out: tuple[LeftOut, ...]
    linked: tuple[str, ...]
    """Links to files outside the folder; their targets are published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFolder:
    """The files below `root`. Links to files are followed, links to folders are an error, and empty folders are left out."""

    root: Path
    part_bytes: int = PACK_BYTES
    """Maximum bytes of a part; a larger file is cut into parts."""
    inspect: Callable[[Described, Sequence[str]], bool] | None = None
    """Reads the samples of a draft before the upload, and returns whether they were read. Raises `DatasetError` if they are invalid."""
    has_hidden: bool = False
    """Whether hidden files, whose names begin with a dot or end with a tilde, are published."""

    def paths(self) -> list[str]:
        """Return the relative paths of all files, sorted by their UTF-8 bytes."""
        return self.list_files().paths

    def list_files(self) -> FolderListing:
        """List the files.

        Raise `DatasetError` if there are no files, if an entry is neither a file nor a folder, or if a link does not lead to a file.
        """
        _require_folder(self.root)
        walk = _Walk(root=self.root, has_hidden=self.has_hidden)
        walk.enter("")
        left_out = tuple(
            LeftOut(reason=reason, count=len(paths), example=min(paths)) for reason, paths in walk.left_out.items()
        )
        if not walk.paths:
            counts = ", ".join(f"{each.count} {each.reason}" for each in left_out)
            also = f"; left out: {counts}" if counts else ""
            hint = "--include-hidden publishes hidden files" if "hidden" in walk.left_out else "copy files into it"
            raise DatasetError(f"{self.root} has no files{also}", hint=hint)
        paths = sorted(walk.paths, key=os.fsencode)
        return FolderListing(paths=paths, left_out=left_out, linked=tuple(sorted(walk.linked, key=os.fsencode)))

    def size_of(self, paths: Sequence[str]) -> int:
        """Return the total size of files in bytes, without those that cannot be read: `hash_file` raises their errors."""
        size = 0
        for path in paths:
            with suppress(OSError):
                size += (self.root / path).stat().st_size
        return size

    def hash_file(self, path: str) -> HashedFile:
        """Read a file once, and return the digests of the file and its parts.

        Raise `DatasetError` if it cannot be read, or if its size changes meanwhile.
        """
        whole, parts, size = hashlib.sha256(), [], 0
        try:
            with open_file(self.root / path) as file:
                info = os.fstat(file.fileno())
                # A block never crosses the end of a part, even after a short read.
                while block := file.read(min(_BLOCK, self.part_bytes - size % self.part_bytes, info.st_size + 1)):
                    if size % self.part_bytes == 0:
                        parts.append(hashlib.sha256())
                    if info.st_size > self.part_bytes:
                        parts[-1].update(block)
                    whole.update(block)
                    size += len(block)
        except OSError as fault:
            raise _read_error(self.root / path, fault) from fault
        if size != info.st_size:
            raise edited_error(self.root / path)
        # The digest of a file with a single part is also the digest of the part.
        digests = tuple(f"sha256:{part.hexdigest()}" for part in parts) if size > self.part_bytes else ()
        return HashedFile(path=path, size=size, sha256=f"sha256:{whole.hexdigest()}", parts=digests)

    def read(self, piece: Slice) -> bytes:
        """Return the bytes of a slice, or fewer if the file was truncated. Raise `DatasetError` if the file cannot be read."""
        try:
            with BufferedReader(open_file(self.root / piece.path)) as file:
                file.seek(piece.start)
                return file.read(piece.length)
        except OSError as fault:
            raise _read_error(self.root / piece.path, fault) from fault


def edited_error(path: Path | str) -> DatasetError:
    """Return the error for a file that changed between two reads."""
    return DatasetError(
        f"{path} was edited during publication; no version was published", hint="run the same command again"
    )


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered, without waiting for the writer of a pipe.

    Raise `DatasetError` if it cannot be opened or is not a regular file.
    """
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as fault:
        raise _read_error(path, fault) from fault
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _not_a_file(path, mode)
    return file


def _read_error(path: str | Path, fault: OSError, *, is_folder: bool = False) -> DatasetError:
    hint = "remove it" if is_folder else "no version was published; run the same command again"
    if fault.errno in {errno.EACCES, errno.EPERM}:
        hint = f"make it readable: chmod {'+rx' if is_folder else '+r'} {shlex.quote(str(path))}"
    return DatasetError(f"{path} cannot be read: {fault.strerror}", hint=hint)


def _not_a_file(path: Path | str, mode: int) -> DatasetError:
    kind = next((name for is_one, name in _KINDS if is_one(mode)), "not a regular file")
    return DatasetError(f"{path} is {kind}; expected a regular file", hint="remove it from the folder")


def mode_of(path: Path, *, is_folder: bool = False) -> int:
    """Return the mode bits of a folder or a file. Raise `DatasetError` if it does not exist or cannot be read.

    `is_folder` states that only a folder is expected, so that the hint names no files.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as fault:
        expected = "folder" if is_folder else "folder or file"
        hint = _near_names(path, is_folder=is_folder)
        raise DatasetError(f"the {expected} {path} does not exist", hint=hint) from fault
    except OSError as fault:
        raise DatasetError(f"{short(str(path))} cannot be read: {fault.strerror}", hint="check the path") from fault
    except ValueError as fault:
        raise DatasetError(f"{short(ascii(str(path)))} contains a NUL character", hint="check the path") from fault


def _require_folder(root: Path) -> None:
    if not stat.S_ISDIR(mode_of(root, is_folder=True)):
        hint = f"move it into a new folder: mkdir NEW && mv {shlex.quote(str(root))} NEW/"
        raise DatasetError(f"{root} is not a folder; expected a folder of files", hint=hint)


def _near_names(missing: Path, *, is_folder: bool) -> str:
    """Return the hint for a path that does not exist: similar names in its folder, or the folder if that does not exist either."""
    if missing.parent.exists() and not missing.parent.is_dir():
        return f"{missing.parent} is not a folder: check the path"
    if not missing.parent.exists():
        return f"the folder {missing.parent} does not exist either: check the path"
    names: list[str] = []
    with suppress(OSError):
        entries = [each for each in os.scandir(missing.parent) if each.name.isprintable()]
        names = [each.name for each in entries if not is_folder or each.is_dir()]
    near = nearest(missing.name, names)
    return f"did you mean {' or '.join(near)}?" if near else f"list the names: ls {shlex.quote(str(missing.parent))}"


@dataclass(slots=True, kw_only=True)
class _Walk:
    """A walk over the folders below `root`."""

    root: Path
    has_hidden: bool
    paths: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, below: str) -> None:
        """List the folder `below`, which ends with a slash, and its subfolders."""
        folders = [below]
        while folders:
            below, before = folders.pop(), len(self.paths) + len(folders)
            try:
                with os.scandir(self.root / below) as entries:
                    for entry in entries:
                        if is_plain_name(name := entry.name) and entry.is_file(follow_symlinks=False):
                            self.paths.append(below + name)
                        elif self._is_folder(entry, below):
                            folders.append(f"{below}{name}/")
            except OSError as fault:
                raise _read_error(fault.filename or self.root / below, fault, is_folder=True) from fault
            if below and len(self.paths) + len(folders) == before:
                self.left_out.setdefault("empty", []).append(below)

    def _is_folder(self, entry: os.DirEntry[str], below: str) -> bool:
        """Return whether the entry is a folder to list; record a file, or why an entry is left out."""
        if reason := reason_to_leave_out(entry.name, has_hidden=self.has_hidden):
            self.left_out.setdefault(reason, []).append(below + entry.name + ("/" if entry.is_dir() else ""))
            return False
        if entry.is_symlink():
            self._follow(entry, below)
        elif entry.is_dir(follow_symlinks=False):
            return True
        elif not entry.is_file(follow_symlinks=False):
            raise _not_a_file(entry.path, entry.stat(follow_symlinks=False).st_mode)
        self.paths.append(below + entry.name)
        return False

    def _follow(self, entry: os.DirEntry[str], below: str) -> None:
        """Raise `DatasetError` if a link does not lead to a regular file; record a link that leads out of `root`."""
        target = Path(entry.path).readlink()
        try:
            mode = entry.stat().st_mode
        except OSError as fault:
            reason = "which does not exist" if fault.errno == errno.ENOENT else str(fault.strerror)
            message = f"{entry.path} cannot be read: it is a link to {target}, {reason}"
            raise DatasetError(message, hint="remove the link, or copy the file") from fault
        if stat.S_ISDIR(mode):
            message = f"{entry.path} is a link to a folder; expected a regular file"
            hint = "replace the link with a copy of the folder, or publish the link's target instead"
            raise DatasetError(message, hint=hint)
        if not stat.S_ISREG(mode):
            raise _not_a_file(entry.path, mode)
        if not os.path.realpath(entry.path).startswith(os.path.realpath(self.root) + os.sep):
            self.linked.append(below + entry.name)


class Files(Protocol):
    """A dataset's files, read-only. Instances can be pickled and forked for loader workers."""

    is_streamed: bool = False
    """Whether `view` fetches and copies the file, so that a reader should read only the ranges that it needs."""

    @property
    def paths(self) -> Sequence[str]:
        """All relative paths, sorted by their UTF-8 bytes."""

    def view(self, path: str, /) -> memoryview:
        """Return a file's bytes, which `require` verifies; they are a copy only if `is_streamed`."""

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Verify the bytes from `start` to `stop`, once in each process. Raise `DigestMismatchError` if they are damaged."""
        del path, start, stop  # a plain folder has no digests to verify

    def read(self, path: str, /, start: int = 0, stop: int | None = None) -> memoryview:
        """Return the bytes from `start` to `stop`, or to the file's end, verified."""
        self.require(path, start, stop)
        return self.view(path)[start:stop]

    def size(self, path: str, /) -> int:
        """Return a file's size in bytes."""
        return len(self.view(path))

    def folder(self) -> Path:
        """Return the files as a read-only folder, for libraries that need paths."""

    def derived(self, key: Mapping[str, Any], make: Callable[[], bytes], /) -> memoryview:
        """Return the bytes that `make` computes from the files; a cache keeps them for the next process.

        `key` holds everything that the bytes depend on, besides the files.
        """
        del key
        return memoryview(make())


class FolderFiles(Files):
    """The files below a folder, for checks or a trial of a reader before they are published."""

    def __init__(self, root: Path, paths: Sequence[str] | None = None) -> None:
        """Use the files `paths` in the folder `root`, sorted by their UTF-8 bytes; by default all files that would be published."""
        self._root, self._paths = root, paths

    @cached_property
    def paths(self) -> Sequence[str]:
        """All relative paths."""
        return SourceFolder(root=self._root).paths() if self._paths is None else self._paths

    def view(self, path: str, /) -> memoryview:
        """Return the memory-mapped bytes of a file."""
        with self._open(path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b"")

    def read(self, path: str, /, start: int = 0, stop: int | None = None) -> memoryview:
        """Return a copy of a file's bytes, because reading a map kills the process if another program has truncated the file."""
        if stop is None:
            with self._open(path) as file:
                file.seek(start)
                return memoryview(file.readall())
        with BufferedReader(self._open(path)) as buffered:
            buffered.seek(start)
            return memoryview(buffered.read(stop - start))

    def size(self, path: str, /) -> int:
        """Return a file's size in bytes."""
        with self._open(path) as file:
            return os.fstat(file.fileno()).st_size

    def _open(self, path: str) -> FileIO:
        try:
            return open_file(self._root / path)
        except DatasetError as fault:
            hint = fault.hint if path in self.paths else did_you_mean(path, self.paths)
            raise DatasetError(fault.message, hint=hint) from fault

    def folder(self) -> Path:
        """Return the folder."""
        return self._root
