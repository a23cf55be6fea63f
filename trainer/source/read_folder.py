"""Read the files of a folder that belong to a run's source, and list why other files are left out."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import SourceError
from trainer.base.git import listing, without_ignored
from trainer.base.paths import path_fault, repository_parts
from trainer.base.plain_text import read_text
from trainer.base.secret_detection import secret_by_content, secret_by_name
from trainer.base.walk import walk
from trainer.source.archive import SourceFile, size_text
from trainer.source.project import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trainer.base.git import CheckoutFiles

ALLOWED: Final = ".reprise-no-secrets"
"""The file in a checkout that lists files that look like secrets but are not."""
BAKED_MARK: Final = Path("/opt/reprise/image.json")
NOT_LISTED: Final = (
    "(git cannot list this folder: every file is captured except those in .gitignore, caches, virtual environments and build "
    "outputs)"
)
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedFolder:
    """The captured files of a folder."""

    files: list[SourceFile]
    git_listing: CheckoutFiles | None
    """`None` if git cannot list the folder."""
    left_out: list[str]


def read_folder(root: Path, *, excluded: Iterable[str], largest: int, what: str) -> CapturedFolder:
    """Read the files of a folder that are tracked, or untracked and not ignored. `what` names the folder in messages.

    Raise `SourceError` if the files have more than `largest` bytes.
    """
    git_listing = listing(root)
    candidates = git_listing.paths if git_listing else without_ignored(root, walk(root))
    listed = [path for path in candidates if not path.startswith(tuple(excluded))]
    captured = {*listed, *_through_links(root, listed)}
    repositories = repository_parts(captured)
    paths = sorted(captured - repositories)
    _check_size(root, paths, largest, what=what)
    left_out = [*(_not_initialized(git_listing) if git_listing else [NOT_LISTED]), *_repositories(repositories)]
    reader = FileReader(root=root, left=largest, left_out=left_out, allowed=allowed_paths(root))
    return CapturedFolder(files=[*reader.read(paths)], git_listing=git_listing, left_out=left_out)


@dataclass(slots=True, kw_only=True)
class FileReader:
    """Reads files up to a total size, and lists the files that are left out."""

    root: Path
    left: int
    left_out: list[str]
    allowed: frozenset[str] = frozenset()
    """The files that look like secrets but are not, as listed in the file `ALLOWED`."""

    def read(self, paths: Iterable[str]) -> Iterator[SourceFile]:
        """Yield the files of `paths` that belong in the bundle, and add others to `left_out`. Files that no longer exist are skipped."""
        for path in paths:
            try:
                yield self._file(path, self.root / path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except _RefusedError as reason:
                self.left_out.append(f"{path if path.isprintable() else ascii(path)}: {reason}")

    def add(self, extra: Mapping[str, Path]) -> Iterator[SourceFile]:
        """Yield files from elsewhere. Raise `SourceError` if a file cannot be captured."""
        for path, origin in extra.items():
            try:
                yield self._file(path, origin.resolve())
            except OSError as fault:
                raise SourceError(
                    f"{origin} cannot be read: {fault.strerror}", hint="check the path and its permissions"
                ) from fault
            except _RefusedError as reason:
                raise SourceError(
                    f"{origin} cannot be captured: {reason}", hint="rename it, or remove the secret"
                ) from reason

    def _file(self, path: str, where: Path) -> SourceFile:
        if path.endswith("/"):
            raise _RefusedError("a git repository that is not a submodule: run `git submodule add`, or remove its .git")
        if fault := path_fault(path):
            raise _RefusedError(fault)
        target = self._followed(where) if where.is_symlink() else where
        if where.is_symlink() and target.is_dir() and not where.parent.resolve().is_relative_to(target):
            raise FileNotFoundError(path)  # the linked folder's files are captured one by one
        data, mode = self._bytes(target, path)
        if data and path not in self.allowed and (reason := _secret(path, target, data)):
            raise _RefusedError(f"{reason}; if it holds no secret, list it in {ALLOWED}")
        if data.startswith(_LFS_POINTER):
            self.left_out.append(f"{path}: a Git LFS pointer without its content: git lfs pull")
        return SourceFile(path=path, executable=bool(mode & 0o100), sha256=digest_of_bytes(data), data=data)

    def _followed(self, link: Path) -> Path:
        """Return the target of a link. Raise `_RefusedError` if it is outside the checkout: a bundle has no links."""
        named_target = Path(os.path.normpath(link.parent.resolve() / link.readlink()))
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as fault:
            # a process in a container cannot determine whether the target exists
            if not named_target.is_relative_to(self.root):
                raise _RefusedError(_out_of_checkout(link, is_seen=False)) from fault
            raise _RefusedError(f"a link to {_shown(link)}, which does not exist: remove or fix the link") from fault
        if not target.is_relative_to(self.root):
            raise _RefusedError(_out_of_checkout(link, is_seen=True))
        return target

    def _bytes(self, path: Path, name: str) -> tuple[bytes, int]:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError as fault:
            raise _RefusedError("this user cannot read it") from fault
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise _RefusedError("a folder, or a link to a folder" if stat.S_ISDIR(mode) else "not a regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(self.left + 1)
        finally:
            os.close(handle)
        self.left -= len(data)
        if self.left < 0:
            raise _too_large("too large", [(len(data), name)])
        return data, mode


def _out_of_checkout(link: Path, *, is_seen: bool) -> str:
    if not is_seen and BAKED_MARK.exists() and link.readlink().is_absolute():
        fix = "copy the target here, or make the link relative if it leads into the checkout"
        return f"a link to {_shown(link)}, which a container does not have: {fix}"
    return f"a link out of the checkout, to {_shown(link)}: copy the target here, or publish data as a dataset"


def _secret(path: str, target: Path, data: bytes) -> str | None:
    return secret_by_name(path) or secret_by_name(target.name) or secret_by_content(data)


def allowed_paths(root: Path) -> frozenset[str]:
    """Return the paths that the checkout, or a project in it, lists as free of secrets, one per line; `#` begins a comment.

    Raise `DocumentError` if a list cannot be read.
    """
    return frozenset(f"{below}{path}" for below in ("", f"{FOLDER}/") for path in _listed_paths(root / below / ALLOWED))


def _listed_paths(file: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in read_text(file).splitlines()) if file.is_file() else ()
    return [line.removeprefix("./") for line in lines if line]


def _shown(link: Path) -> str:
    text = str(link.readlink())
    return text if text.isprintable() else ascii(text)


class _RefusedError(Exception):
    """A file that cannot be captured."""


def _through_links(root: Path, paths: list[str]) -> Iterator[str]:
    """Yield the files in linked folders, by their paths through the links, since a bundle has no links."""
    for link in (path for path in paths if (root / path).is_symlink() and (root / path).is_dir()):
        target = (root / link).resolve()
        if not target.is_relative_to(root) or (root / link).parent.resolve().is_relative_to(target):
            continue
        folder = f"{target.relative_to(root).as_posix()}/"
        yield from (f"{link}/{path.removeprefix(folder)}" for path in paths if path.startswith(folder))


def _not_initialized(git_listing: CheckoutFiles) -> list[str]:
    return [
        f"{path}: a submodule without files: git submodule update --init --recursive"
        for path in git_listing.not_initialized
    ]


def _repositories(paths: Iterable[str]) -> list[str]:
    """Return a line for each top-level folder or file with the own files of a git repository, which are not captured."""
    shown = sorted({path.rpartition("/")[0].partition("/")[0] or path for path in paths})
    return [f"{name if name.isprintable() else ascii(name)}: it holds files of a repository" for name in shown]


def _check_size(root: Path, paths: Iterable[str], largest: int, *, what: str) -> None:
    sizes = []
    for path in paths:
        try:
            about = (root / path).lstat()
        except OSError:
            continue
        if stat.S_ISREG(about.st_mode):
            sizes.append((about.st_size, path))
    total = sum(size for size, _ in sizes)
    if total > largest:
        raise _too_large(f"{size_text(total)}; expected at most {size_text(largest)}", sizes, what=what)


def _too_large(description: str, sizes: list[tuple[int, str]], *, what: str = "this checkout") -> SourceError:
    largest = ", ".join(f"{path} ({size_text(size)})" for size, path in sorted(sizes, reverse=True)[:3])
    hint = "list them in .gitignore, or make them a dataset: `reprise data publish`"
    return SourceError(f"the source of {what} is {description}; largest files: {largest}", hint=hint)
