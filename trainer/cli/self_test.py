"""`reprise _self_test`: test the integrity code with valid and damaged inputs; `reprise image smoke` runs it in a container.

The repository's tests run with another installation. This test shows that the Python and the libraries of an image accept valid inputs and
reject damaged inputs.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import canonical, digest_of_bytes, digest_of_file
from trainer.base.errors import (
    CheckFailedError,
    DigestMismatchError,
    DocumentError,
    ManifestError,
    SourceError,
    UnsafePathError,
)
from trainer.base.file_entry import File
from trainer.base.paths import path_fault
from trainer.base.safe_folder import Root
from trainer.cli.output import print_json
from trainer.data.manifest import ManifestWriter, parse_manifest
from trainer.data.manifest_lines import Pack
from trainer.runs.seal import read_claim
from trainer.source.archive import SourceBundle, SourceFile, archive, bundle_digest, read_archive
from trainer.source.description import Source
from trainer.stores.memory import MemoryStore
from trainer.stores.transfer import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Case = tuple[str, Callable[[], object], object]
    """A name, a call, and its expected value, or the type of the expected error."""

DATA: Final = b"abc"
SHA256: Final = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""The digest of `DATA`: an example of FIPS 180-2."""
_PATHS: Final = ("../a", "/a", "a//b", "a\\b", "a\nb", "a/./b", "", "x" * 256, "\ud800")


def main(argv: list[str]) -> int:
    """Run all cases; print how many inputs were accepted and rejected, as JSON. Raise `CheckFailedError` with the first case that fails."""
    del argv
    with tempfile.TemporaryDirectory(prefix="reprise-self-test-") as folder:
        accepted, rejected = self_test(Path(folder))
    print_json({"accepted": accepted, "rejected": rejected})
    return 0


def self_test(folder: Path) -> tuple[int, int]:
    """Return how many valid inputs were accepted and how many damaged inputs were rejected. Raise `CheckFailedError` if a case fails."""
    counts = [0, 0]
    for name, call, expected in _cases(folder):
        is_damaged = isinstance(expected, type) and issubclass(expected, Exception)
        try:
            result: object = call()
        except Exception as fault:  # noqa: BLE001 - any other error is a failure too
            result = type(fault)
        if result != expected:
            raise CheckFailedError(
                f"self-test of the integrity code: {name}: expected {_displayed(expected)}, found {_displayed(result)}",
                hint="build the image again: reprise image build ENVIRONMENT --no-cache",
            )
        counts[is_damaged] += 1
    return counts[0], counts[1]


def _displayed(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)[:80]


def _cases(folder: Path) -> Iterator[Case]:
    yield "digest of bytes", lambda: digest_of_bytes(DATA), SHA256
    (folder / "data").write_bytes(DATA)
    yield "digest of a file", lambda: digest_of_file(folder / "data"), SHA256
    yield (
        "canonical JSON",
        lambda: canonical({"b": [1e21, 4.5, 1e-7], "a": "\u20ac"}),
        '{"a":"€","b":[1e+21,4.5,1e-7]}'.encode(),
    )
    yield "a valid path", lambda: path_fault("a/b.py"), None
    for path in _PATHS:
        yield f"path {path[:9]!a}", partial(_require_path, path), UnsafePathError
    yield from _transfers(folder)
    yield from _links(folder)
    yield from _bundles(folder)
    yield from _manifests()
    yield from _claims()


def _require_path(path: str) -> None:
    if fault := path_fault(path):
        raise UnsafePathError(fault, hint="")


class _Serving(MemoryStore):
    """A store that returns the same bytes for every read."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        del key, start, length
        yield self._body


def _transfers(folder: Path) -> Iterator[Case]:
    def download(body: bytes) -> bytes:
        with tempfile.TemporaryDirectory(dir=folder) as name, Root.at(Path(name)) as into:
            read_file(_Serving(body), File(path="x/y", size=len(DATA), sha256=SHA256), into=into)
            return into.read("x/y")

    yield "a file from a store", lambda: download(DATA), DATA
    for name, body in (("changed", b"abd"), ("shorter", b"ab"), ("longer", b"abcd"), ("empty", b"")):
        yield f"a file from a store that is {name}", partial(download, body), DigestMismatchError
    yield "an upload", lambda: MemoryStore().write("objects/a", DATA, sha256=SHA256), None
    yield (
        "an upload that is changed",
        lambda: MemoryStore().write("objects/a", b"abd", sha256=SHA256),
        DigestMismatchError,
    )


def _links(folder: Path) -> Iterator[Case]:
    (folder / "link").symlink_to("data")
    os.mkfifo(folder / "pipe")
    (folder / "root").symlink_to("/")
    with Root.at(folder) as root:
        yield "a file below a folder", lambda: root.read("data"), DATA
        for path in ("link", "pipe", "root/etc/hostname", "../data"):
            yield f"reading {path} below a folder", partial(root.read, path), UnsafePathError
        yield "writing through a link", lambda: root.write_whole("root/x", DATA), UnsafePathError


def _bundles(folder: Path) -> Iterator[Case]:
    path = folder / "source.tar.gz"

    def read(text: bytes) -> str:
        path.write_bytes(text)
        return read_archive(path).digest

    files = (SourceFile(path="a/b.py", executable=True, sha256=SHA256, data=DATA),)
    good = archive(SourceBundle(digest="", source=Source(how="baked"), files=files))
    yield "a source bundle", lambda: read(good), bundle_digest(files)
    yield "a source bundle that is cut", lambda: read(good[:-9]), SourceError
    for entry in ("../a", "/a", ".git/config", "HEAD objects/x refs/x", "a a"):
        yield f"a source bundle with {entry}", partial(read, _tar(entry.split())), SourceError
    for name, kind in (
        ("a link", tarfile.SYMTYPE),
        ("a device", tarfile.CHRTYPE),
        ("a sparse file", tarfile.GNUTYPE_SPARSE),
    ):
        yield f"a source bundle with {name}", partial(read, _tar(["a"], kind=kind)), SourceError


def _tar(names: list[str], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "x" if kind == tarfile.SYMTYPE else ""
            tar.addfile(entry)
    return gzip.compress(buffer.getvalue())


def _manifests() -> Iterator[Case]:
    lines = ManifestWriter()
    row = lines.line("a.png", size=len(DATA), sha256=SHA256, segments=[(0, 0, len(DATA))])
    good = lines.head([Pack(sha256=SHA256, size=len(DATA))]) + row
    yield "a manifest", lambda: len(parse_manifest(good)), 1
    for old, new in (
        (b"a.png", b"b.png"),
        (b"a.png", b"../a"),
        (b'",3,', b'",4,'),
        (b"[0,0,3]", b"[0,1,3]"),
        (b"ba78", b"ba79"),
        (row, b""),
    ):
        damaged = good.replace(old, new)
        yield (
            f"a manifest with {new[:8]!a} for {old[:8]!a}",
            partial(parse_manifest, damaged),
            ManifestError,
        )


def _claims() -> Iterator[Case]:
    values = {
        "format": "reprise.claim/1",
        "run": "20260101t000000-aaaaaa",
        "attempt": 1,
        "identity": SHA256,
        "host": "h",
        "token": "0" * 32,
    }
    yield "a claim", lambda: read_claim(canonical(values), where="").attempt, 1
    for name, value in (
        ("format", "reprise.claim/2"),
        ("run", "../x"),
        ("attempt", -1),
        ("identity", SHA256[:-1]),
        ("host", "a\nb"),
        ("token", ""),
        ("more", 1),
    ):
        text = canonical({**values, name: value})
        yield f"a claim with {name} {value!a:.9}", partial(read_claim, text, where=""), DocumentError
    nested = b"[" * 100_000
    yield "a document nested too deep", lambda: read_claim(nested, where=""), DocumentError
