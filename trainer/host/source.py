"""The source of a run: what a checkout holds at one moment, named by its content, frozen into the run folder.

Knows which files of a checkout are captured and how they are kept: as one archive and as the copy that the run starts
from, both made from one read of each file, so that an edit meanwhile is in both or in neither. Refuses to know what
the files mean.

A bundle is named by the digest of the canonical JSON of its sorted `[path, executable, sha256]`: not by the archive's
bytes, which depend on a compressor's version, and not by a commit, which is an annotation.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from trainer.digest import digest_of_bytes, digest_of_document
from trainer.errors import SourceError
from trainer.host.atomic import disk_faults, write_whole
from trainer.host.git import listing
from trainer.host.walk import walk
from trainer.paths import collision, path_fault
from trainer.record import Source
from trainer.secrecy import secret_by_content, secret_by_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LARGEST: Final = 64 << 20
"""Bytes in a bundle. Source is text: what is larger is data, and has a home of its own."""
ARCHIVE: Final = "source.tar.gz"
COPY: Final = "source"
_WALKED: Final = (
    "(git cannot list this folder: everything is captured but caches, virtual environments and build outputs)"
)
_BAKED_MARK: Final = Path("/opt/reprise/image.json")
_MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a bundle."""

    path: str
    executable: bool
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBundle:
    """A captured checkout: its name, what the record says about it, its files."""

    digest: str
    source: Source
    files: tuple[SourceFile, ...]

    @property
    def left_out(self) -> list[str]:
        """What was not captured, a line each with the reason."""
        return self.source.left_out


def freeze(
    checkout: Path, into: Path, *, extra: Mapping[str, Path] | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Capture `checkout` and keep it in the run folder `into`, as `source.tar.gz` and unpacked as `source/`.

    The folder that holds `into` is never part of it. `extra` adds files from elsewhere, by their path in the bundle.
    Raises `SourceError`, `DiskFullError`, `NotWritableError`.
    """
    bundle = capture(checkout, extra=extra, runs=into.parent, largest=largest)
    write_whole(into / ARCHIVE, archive(bundle))
    unpack(bundle, into / COPY)
    return bundle


def capture(
    checkout: Path, *, extra: Mapping[str, Path] | None = None, runs: Path | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Read `checkout` once. Raises `SourceError` where it is no folder, empty, or holds more than `largest` bytes."""
    root = checkout.resolve()
    if not root.is_dir():
        raise SourceError(
            f"{checkout} is not a folder; expected a checkout", hint="name the folder that holds pyproject.toml"
        )
    known = listing(root)
    aside = () if runs is None else _inside(root, runs)
    paths = sorted(path for path in (known.paths if known else walk(root)) if not path.startswith(("runs/", *aside)))
    _check_size(root, paths, largest)
    reader = _Reader(root=root, left=largest, left_out=[] if known else [_WALKED])
    files = [*reader.read(paths), *reader.add(extra or {})]
    if not files:
        raise SourceError(f"{checkout} holds no source", hint="run the command in a checkout of the project")
    files.sort(key=lambda file: file.path)
    source = Source(
        how=_how(root),
        commit=(known.commit if known else None) or "unknown",
        dirty=known.dirty if known else None,
        files=len(files),
        bytes=sum(len(file.data) for file in files),
        left_out=reader.left_out,
    )
    return SourceBundle(digest=bundle_digest(files), source=source, files=tuple(files))


def bundle_digest(files: Iterable[SourceFile]) -> str:
    """Name a bundle by its files: paths, executable bits, contents; their order does not matter."""
    return digest_of_document(sorted([file.path, file.executable, file.sha256] for file in files))


def archive(bundle: SourceBundle) -> bytes:
    """The bundle as a .tar.gz whose bytes depend on the bundle alone: sorted, without times, owners, names of users."""
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


def unpack(bundle: SourceBundle, folder: Path) -> None:
    """Write the bundle's files below `folder`, which must not exist yet."""
    with disk_faults(folder):
        folder.mkdir()
        for file in bundle.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(file))
            with os.fdopen(handle, "wb") as written:
                written.write(file.data)


def thaw(path: Path) -> SourceBundle:
    """Read an archive back as the bundle it was made from. Raises `SourceError` for one that `archive` did not make.

    It may come from a stranger: links, devices, paths that leave the folder and bombs are refused before anything is written.
    """
    try:
        with gzip.open(path, "rb") as packed:
            plain = packed.read(2 * LARGEST)
            if packed.read(1):
                raise SourceError(f"{path} unpacks to more than {_size(2 * LARGEST)}", hint="do not use it")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            files = [_entry(tar, entry) for entry in tar]
    except (tarfile.TarError, EOFError, OSError, UnicodeError, ValueError) as fault:
        raise SourceError(f"{path} is no source bundle: {fault}", hint="it is damaged: pull the run again") from fault
    if clash := collision(file.path for file in files):
        raise SourceError(f"{path} is no source bundle: {clash} stands twice in it", hint="do not use it")
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
        raise SourceError(f"{entry.name!a} in a source bundle: {fault}", hint="do not use it")
    data = body.read()
    return SourceFile(path=entry.name, executable=bool(entry.mode & 0o100), sha256=digest_of_bytes(data), data=data)


def _entry_fault(entry: tarfile.TarInfo) -> str | None:
    """A sparse file claims a size that its bytes do not have: a kilobyte would become a terabyte in memory."""
    if not entry.isreg():
        return "it is no regular file"
    if entry.issparse():
        return "it is a sparse file"
    return f"it is larger than {_size(LARGEST)}" if entry.size > LARGEST else None


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads files while the cap lasts, and keeps the list of what was left out."""

    root: Path
    left: int
    left_out: list[str]

    def read(self, paths: Iterable[str]) -> Iterator[SourceFile]:
        """The files among `paths` that belong in the bundle; one that is gone was deleted, which is no fault."""
        for path in paths:
            try:
                yield self._file(path, self.root / path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except _RefusedError as reason:
                self.left_out.append(f"{path if path.isprintable() else ascii(path)}: {reason}")

    def add(self, extra: Mapping[str, Path]) -> Iterator[SourceFile]:
        """Files from elsewhere, which somebody named: what cannot be captured is an error."""
        for path, origin in extra.items():
            try:
                yield self._file(path, origin.resolve())
            except OSError as fault:
                raise SourceError(
                    f"{origin} cannot be read: {fault.strerror}", hint="check the name and its permissions"
                ) from fault
            except _RefusedError as reason:
                raise SourceError(
                    f"{origin} cannot be captured: {reason}", hint="rename it, or take the secret out"
                ) from reason

    def _file(self, path: str, where: Path) -> SourceFile:
        if path.endswith("/"):
            raise _RefusedError("a repository of its own")
        if fault := path_fault(path):
            raise _RefusedError(fault)
        target = self._followed(where) if where.is_symlink() else where
        data, mode = self._bytes(target, path)
        if data and (reason := secret_by_name(target.name) or secret_by_name(where.name) or secret_by_content(data)):
            raise _RefusedError(reason)
        return SourceFile(path=path, executable=bool(mode & 0o100), sha256=digest_of_bytes(data), data=data)

    def _followed(self, link: Path) -> Path:
        """Where a link leads, once it is known to stay inside the checkout: the bundle itself has no links."""
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as fault:
            raise _RefusedError("a link that leads nowhere") from fault
        if not target.is_relative_to(self.root):
            raise _RefusedError("a link that leads out of the checkout")
        return target

    def _bytes(self, path: Path, name: str) -> tuple[bytes, int]:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError as fault:
            raise _RefusedError("this user cannot read it") from fault
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise _RefusedError("a folder, or a link to one" if stat.S_ISDIR(mode) else "no regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(self.left + 1)
        finally:
            os.close(handle)
        self.left -= len(data)
        if self.left < 0:
            raise _too_large("larger than what fits", [(len(data), name)])
        return data, mode


class _RefusedError(Exception):
    """A file that is not followed."""


def _check_size(root: Path, paths: Iterable[str], largest: int) -> None:
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
        raise _too_large(f"{_size(total)}; expected at most {_size(largest)}", sizes)


def _too_large(found: str, sizes: list[tuple[int, str]]) -> SourceError:
    named = ", ".join(f"{path} ({_size(size)})" for size, path in sorted(sizes, reverse=True)[:3])
    hint = "list them in .gitignore, or make them a dataset: `reprise data publish`"
    return SourceError(f"the source of this checkout is {found}; the largest files are {named}", hint=hint)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _mode(file: SourceFile) -> int:
    return 0o755 if file.executable else 0o644


def _inside(root: Path, runs: Path) -> tuple[str, ...]:
    aside = runs.resolve()
    return (f"{aside.relative_to(root).as_posix()}/",) if aside != root and aside.is_relative_to(root) else ()


def _how(root: Path) -> Literal["mounted", "baked"]:
    """In an image, source that no mount brought is the image's own; elsewhere it is a checkout somebody can edit."""
    if not _BAKED_MARK.exists():
        return "mounted"
    try:
        points = [line.split(" ")[4] for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "mounted"
    return "mounted" if any(point != "/" and root.is_relative_to(point) for point in points) else "baked"
