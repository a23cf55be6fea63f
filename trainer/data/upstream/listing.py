"""The files of a source as its server lists them, and the part of a declaration that names them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from pydantic import Field

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Document, OneLine
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.paths import collision, path_fault
from trainer.base.suggestions import counted, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MOST_FILES: Final = 1_000_000
NAMED_FILES: Final = 100
"""Maximum number of files that a declaration names; if there are more, it has only the digest of the listing."""
_BLOCK: Final = 1 << 20
_HEX: Final = {"sha256": 64, "md5": 32, "git": 40}
"""Kinds of checksums that a download is verified with, and their numbers of hexadecimal digits. `git` is a git blob ID."""


class Upstream(Document):
    """Where the files of a version were imported from."""

    source: OneLine
    revision: OneLine = Field(default="", exclude_if=lambda text: not text)
    """The server's name for this state of the files, such as a commit on a hub; empty if the server has none."""
    listing: Digest
    """Digest of the paths, sizes and checksums that the server listed."""
    is_unpacked: bool = Field(default=False, exclude_if=lambda unpacked: not unpacked)
    """Whether the only file is an archive whose files were published."""
    files: dict[str, Annotated[str, Field(max_length=200)]] = Field(default={}, exclude_if=lambda files: not files)
    """Size and checksum of each file as the server listed them; empty if there are more than 100 files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on a server."""

    path: str
    """Relative to the source."""
    size: int | None
    """Bytes; `None` if the server does not state the size."""
    checksum: str = ""
    """`KIND:VALUE`, or empty: sha256, md5 and git are verified; any other kind, such as etag, only shows that a file changed."""
    address: str = ""
    """The address from which the client downloads the file."""

    @property
    def state(self) -> str:
        """Size and checksum, as a declaration names them."""
        return f"{'unknown size' if self.size is None else f'{self.size} bytes'} {self.checksum}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamListing:
    """All files of a source at one time."""

    files: tuple[RemoteFile, ...]
    revision: str = ""
    license: str = ""
    """The license that the server states; empty if it states none."""

    @property
    def states(self) -> dict[str, str]:
        """Size and checksum of each file by path."""
        return {file.path: file.state for file in self.files}

    @property
    def digest(self) -> str:
        """The digest that a declaration records. It does not depend on the revision, which also changes with files outside the source."""
        return digest_of_document(self.states)

    def described(self, source: str) -> Upstream:
        """Return this source as a declaration records it."""
        files = self.states if len(self.files) <= NAMED_FILES else {}
        return Upstream(source=source, revision=self.revision, listing=self.digest, files=files)


class Client(Protocol):
    """A connection to the server of a source. `download` may be called from several threads at once."""

    source: str
    """The address that a declaration records; it contains no password."""

    def list_files(self) -> UpstreamListing:
        """List the files.

        Raise `ObjectMissingError` if the source does not exist, `StoreDeniedError` if access is denied, `StoreUnreachableError` if the
        server does not respond, and `StoreError` for another failure.
        """

    def download(self, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> None:
        """Write a file to the new file `target`; `advance` is called with the number of bytes added since its last call.

        Raise what `list_files` raises.
        """


def checked_listing(listing: UpstreamListing, source: str) -> UpstreamListing:
    """Return the listing, sorted by path.

    Raise `DatasetError` if it has no files, too many files, a path that would leave the folder or cannot exist, or two paths that collide.
    """
    if not listing.files:
        raise DatasetError(f"{source} has no files", hint="check the path")
    if len(listing.files) > MOST_FILES:
        raise DatasetError(
            f"{source} has {len(listing.files):,} files; expected at most {MOST_FILES:,}", hint="import a folder of it"
        )
    for file in listing.files:
        if fault := path_fault(file.path):
            raise DatasetError(
                f"{source} lists the file {short(file.path)!r}: {fault}",
                hint="rename the file on that server, then import again",
            )
    if clash := collision(file.path for file in listing.files):
        raise DatasetError(
            f"{source} lists {short(clash)!r} twice, or as both a file and a folder",
            hint="rename one of them on that server, or import a folder that contains only one of them",
        )
    return replace(listing, files=tuple(sorted(listing.files, key=lambda file: file.path.encode())))


def verify_file(file: RemoteFile, path: Path, source: str) -> None:
    """Raise `DigestMismatchError` if a downloaded file does not have the size and the checksum that the server listed."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        message = f"{source}: {short(file.path)} has {size:,} bytes; expected {file.size:,}"
        raise DigestMismatchError(message, hint="run the same command again")
    kind, _, expected = file.checksum.partition(":")
    if kind not in _HEX:
        return
    found = (
        hashlib.sha256() if kind == "sha256" else hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    )
    if kind == "git":
        found.update(f"blob {size}\0".encode())
    with path.open("rb") as data:
        while block := data.read(_BLOCK):
            found.update(block)
    if found.hexdigest() != expected:
        message = f"{source}: {short(file.path)} has {kind} {found.hexdigest()}; expected {expected}"
        raise DigestMismatchError(
            message, hint="nothing was published; ask the owner of the source, or import it again later"
        )


def checksum_of(kind: str, text: str) -> str:
    """Return a checksum as `KIND:HEX` from its hexadecimal or base64 form; an empty string if `text` has neither form.

    >>> checksum_of("md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), checksum_of("md5", "x")
    ('md5:d41d8cd98f00b204e9800998ecf8427e', '')
    """
    length = _HEX[kind]
    if re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", text):
        return f"{kind}:{text.lower()}"
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"{kind}:{data.hex()}" if len(data) * 2 == length else ""


def changes(before: Upstream, now: UpstreamListing) -> list[str]:
    """Describe how the files of a source changed since the import, one line each.

    If the declaration does not name the files, the only line has their current number.
    """
    states = now.states
    if not before.files:
        return [f"the list of files changed; now {counted(len(states), 'file')}"]
    lines: Mapping[str, list[str]] = {"added": [], "removed": [], "changed": []}
    for path in sorted(before.files.keys() | states.keys()):
        was, is_now = before.files.get(path), states.get(path)
        if was is None:
            lines["added"].append(f"added    {path}: {is_now}")
        elif is_now is None:
            lines["removed"].append(f"removed  {path}: {was}")
        elif was != is_now:
            lines["changed"].append(f"changed  {path}: {was} -> {is_now}")
    return [line for each in lines.values() for line in each]
