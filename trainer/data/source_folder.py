"""A folder that is to become a dataset.

Knows how files are listed, hashed and read, and which ones are left out: hidden files, and what operating systems leave in folders.
Notices a file that is edited meanwhile: whoever reads again compares with the first digest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import stat
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, short
from trainer.data.file_names import is_plain_name, reason_to_leave_out
from trainer.data.packing import PACK_BYTES, Hashed, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """What is in a folder and not published: why, how many entries of folders, and one of them."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The files of a folder, sorted by their UTF-8 bytes, and what was left out."""

    paths: list[str]
    left_out: tuple[LeftOut, ...]
    linked: tuple[str, ...]
    """Links to files outside the folder: what they lead to is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFolder:
    """The files below `root`. Links to files are followed, links to folders are an error; empty folders are not kept."""

    root: Path
    part_bytes: int = PACK_BYTES
    """Where files are cut."""
    inspect: Callable[[Described, Sequence[str]], bool] | None = None
    """Reads the samples, as a draft says, before anything is uploaded; False if it cannot. Raises `DatasetError`."""
    has_hidden: bool = False
    """Whether hidden files, whose names begin with a dot or end with a tilde, are published too."""

    def paths(self) -> list[str]:
        """The relative paths of all files, sorted by their UTF-8 bytes."""
        return self.listed().paths

    def listed(self) -> Listed:
        """List the files. Raises `DatasetError` if there is none, or an entry is neither a file nor a folder."""
        _require_folder(self.root)
        walk = _Walk(root=self.root, has_hidden=self.has_hidden)
        walk.enter("")
        left_out = tuple(
            LeftOut(reason=reason, count=len(found), example=min(found)) for reason, found in walk.left_out.items()
        )
        if not walk.paths:
            also = (
                f"; left out: {', '.join(f'{len(found)} {why}' for why, found in walk.left_out.items())}"
                if left_out
                else ""
            )
            hint = "--include-hidden publishes hidden files" if "hidden" in walk.left_out else "put the files into it"
            raise DatasetError(f"{self.root} has no files{also}", hint=hint)
        paths = sorted(walk.paths, key=os.fsencode)
        return Listed(paths=paths, left_out=left_out, linked=tuple(sorted(walk.linked, key=os.fsencode)))

    def hashed(self, path: str) -> Hashed:
        """Read a file once, in blocks, and name it and its parts."""
        whole, parts, size = hashlib.sha256(), [], 0
        try:
            with open_file(self.root / path) as file:
                found = os.fstat(file.fileno())
                # No block crosses from one part into the next, also where a read gives fewer bytes than it was asked for.
                while block := file.read(min(_BLOCK, self.part_bytes - size % self.part_bytes, found.st_size + 1)):
                    if size % self.part_bytes == 0:
                        parts.append(hashlib.sha256())
                    if found.st_size > self.part_bytes:
                        parts[-1].update(block)
                    whole.update(block)
                    size += len(block)
        except OSError as fault:
            raise _gone(self.root / path, fault) from fault
        if size != found.st_size:
            raise edited(self.root / path)
        # A file of one part is that part: it is hashed once.
        digests = tuple(f"sha256:{part.hexdigest()}" for part in parts) if size > self.part_bytes else ()
        return Hashed(path=path, size=size, sha256=f"sha256:{whole.hexdigest()}", parts=digests)

    def read(self, piece: Slice) -> bytes:
        """The bytes of a slice; fewer if the file has become shorter."""
        try:
            with BufferedReader(open_file(self.root / piece.path)) as file:
                file.seek(piece.start)
                return file.read(piece.length)
        except OSError as fault:
            raise _gone(self.root / piece.path, fault) from fault


def edited(path: Path | str) -> DatasetError:
    """The error for a file that changed between the first reading and the second."""
    return DatasetError(
        f"{path} was edited while it was published; nothing has been named", hint="type the same command again"
    )


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered. Raises `DatasetError` for anything else, and never waits for a writer."""
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as fault:
        raise _gone(path, fault) from fault
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _no_file(path, mode)
    return file


def _gone(path: Path, fault: OSError) -> DatasetError:
    hint = "nothing has been named; type the same command again"
    if fault.errno in {errno.EACCES, errno.EPERM}:
        hint = f"make it readable: chmod +r {shlex.quote(str(path))}"
    return DatasetError(f"{path} cannot be read: {fault.strerror}", hint=hint)


def _unreadable(path: str | Path, fault: OSError) -> DatasetError:
    hint = (
        f"make it readable: chmod +rx {shlex.quote(str(path))}"
        if fault.errno in {errno.EACCES, errno.EPERM}
        else "remove it"
    )
    return DatasetError(f"{path} cannot be read: {fault.strerror}", hint=hint)


def _no_file(path: Path | str, mode: int) -> DatasetError:
    kind = next((name for is_one, name in _KINDS if is_one(mode)), "no regular file")
    return DatasetError(f"{path} is {kind}; a dataset has regular files only", hint="remove it from the folder")


def _require_folder(root: Path) -> None:
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as fault:
        near = _siblings(root.parent)
        hint = did_you_mean(root.name, near) if near else "check the path"
        raise DatasetError(f"{root} is not a folder: it does not exist", hint=hint) from fault
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise DatasetError(f"{short(str(root))} cannot be read: {why}", hint="check the path") from fault
    if not stat.S_ISDIR(mode):
        hint = f"put it into a folder of its own: mkdir NEW && mv {shlex.quote(str(root))} NEW/"
        raise DatasetError(f"{root} is not a folder; a dataset is a folder of files", hint=hint)


def _siblings(parent: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(parent) if entry.is_dir() and entry.name.isprintable()]
    except OSError:
        return []


@dataclass(slots=True, kw_only=True)
class _Walk:
    """The folders below `root`, one after the other."""

    root: Path
    has_hidden: bool
    paths: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, below: str) -> None:
        """List this folder, which ends with a slash, and those in it."""
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
                raise _unreadable(fault.filename or self.root / below, fault) from fault
            if below and len(self.paths) + len(folders) == before:
                self.left_out.setdefault("empty", []).append(below)

    def _is_folder(self, entry: os.DirEntry[str], below: str) -> bool:
        """Take an entry if it is a file or is left out; otherwise say that it is a folder."""
        if reason := reason_to_leave_out(entry.name, has_hidden=self.has_hidden):
            self.left_out.setdefault(reason, []).append(below + entry.name + ("/" if entry.is_dir() else ""))
            return False
        if entry.is_symlink():
            self._follow(entry, below)
        elif entry.is_dir(follow_symlinks=False):
            return True
        elif not entry.is_file(follow_symlinks=False):
            raise _no_file(entry.path, entry.stat(follow_symlinks=False).st_mode)
        self.paths.append(below + entry.name)
        return False

    def _follow(self, entry: os.DirEntry[str], below: str) -> None:
        """Raise `DatasetError` if a link leads to anything but a file; note one that leads out of the folder."""
        target = Path(entry.path).readlink()
        try:
            mode = entry.stat().st_mode
        except OSError as fault:
            why = "which does not exist" if fault.errno == errno.ENOENT else str(fault.strerror)
            sentence = f"{entry.path} cannot be read: it is a link to {target}, {why}"
            raise DatasetError(sentence, hint="remove the link, or copy the file") from fault
        if stat.S_ISDIR(mode):
            raise DatasetError(f"{entry.path} is a link to a folder", hint="copy the folder, or publish its target")
        if not stat.S_ISREG(mode):
            raise _no_file(entry.path, mode)
        if not os.path.realpath(entry.path).startswith(os.path.realpath(self.root) + os.sep):
            self.linked.append(below + entry.name)
