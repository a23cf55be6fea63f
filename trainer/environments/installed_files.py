"""The comparison of the files from which this process runs with the installed files.

Sources are the RECORD of each distribution (path, digest, size), the kernel's mounts and mapped libraries, and dpkg. This module uses only
the standard library: `reprise reproduce --deep` runs it as a script in a container of the recorded image, without any recorded code.

In a container with a read-only root and no mount over Python, the files are those of the image and are not compared. Otherwise sizes and
names are compared, in 0.4 s for the 33,000 files of the CPU image; digests take 10 s.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOUNTS: Final = Path("/proc/self/mountinfo")
DPKG: Final = Path("/var/lib/dpkg/info")
_MOST_FILES: Final = 3
_INSTALLERS: Final = frozenset({"_virtualenv.py", "_virtualenv.pth"})
"""Files of virtual environments that no distribution lists."""
_DRIVER: Final = re.compile(r"/lib(cuda|nv|nvidia)[^/]*\.so[^/]*$")
"""Libraries of the GPU driver, which come from the host and are recorded as loaded."""


class RecordedFile(NamedTuple):
    """A file that a distribution lists."""

    distribution: str
    digest: str
    """The digest as in RECORD, `sha256=` and base64; empty if RECORD has none."""
    size: int | None


def differences(roots: Iterable[str], *, source: str, mounts: Path = MOUNTS) -> list[str]:
    """Return the differences of files and import roots from the installation, one line each."""
    folders = list(roots)
    lines = [*_roots(folders, source), *_mounted(_installations(folders), mounts)]
    return lines if is_sealed(folders, mounts) else [*lines, *_files(_installations(folders))]


def foreign_libraries(libraries: Iterable[str], roots: Iterable[str], *, dpkg: Path = DPKG) -> list[str]:
    """Return a line for each mapped shared library that is not part of Python, an installation or a system package.

    `differences` checks the libraries below an installation.
    """
    installations = [
        os.path.realpath(folder) for folder in (*_installations(roots), sys.base_prefix, sys.base_exec_prefix)
    ]
    folders = [folder for folder in installations if folder not in {"/", "/usr"}]
    others = [path for path in libraries if not any(_below(path, folder) for folder in folders)]
    system = _system_files(dpkg)
    return [
        f"library {path} is mapped: it belongs to no distribution and no system package"
        for path in others
        if path.removeprefix("/usr") not in system and not _DRIVER.search(path)
    ]


def is_sealed(roots: Iterable[str], mounts: Path = MOUNTS) -> bool:
    """Return whether no file below Python's installations can have changed since the image was built."""
    points = _points(mounts)
    if not points.get("/", "").endswith(" ro"):
        return False
    return not any(_below(point, folder) for folder in _installations(roots) for point in points if point != "/")


def altered(roots: Iterable[str]) -> tuple[int, list[str]]:
    """Return the number of files with the recorded digest, and a line for each distribution with altered files."""
    altered_files: dict[str, list[str]] = {}
    count = 0
    for root in _installations(roots):
        for path, listed in _records(root).items():
            if not listed.digest:
                continue
            if _digest(path) == listed.digest:
                count += 1
            else:
                altered_files.setdefault(listed.distribution, []).append(os.path.relpath(path, root))
    lines = [
        f"distribution {name}: altered, by digest: {_listed_files(files)}"
        for name, files in sorted(altered_files.items())
    ]
    return count, lines


def _roots(roots: list[str], source: str) -> Iterator[str]:
    """Yield a line for each import root that is not a folder of the run's source, the standard library or an installation."""
    library = sysconfig.get_paths()["stdlib"]
    expected = {os.path.realpath(path) for path in (source, library, f"{library}/lib-dynload", *_installations(roots))}
    for root in roots:
        real = os.path.realpath(root)
        if (
            real not in expected
            and not root.endswith(".zip")
            and not Path(real).is_relative_to(os.path.realpath(source))
        ):
            yield f"import root {root} is neither the run's source nor an installation"


def _installations(roots: Iterable[str]) -> list[str]:
    return [root for root in roots if Path(root).name in {"site-packages", "dist-packages"}]


def _mounted(installations: list[str], mounts: Path) -> Iterator[str]:
    for point in _points(mounts):
        if any(_below(point, folder) for folder in installations):
            yield f"{point} is mounted over installed files"


def _points(mounts: Path) -> dict[str, str]:
    """Return the file system and the mode, ro or rw, of each mount point; the last mount wins, as in the kernel."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    points = {}
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        points[fields[4]] = f"{tail.split(' ')[0]} {fields[5].split(',')[0]}"
    return points


def _below(point: str, folder: str) -> bool:
    return point == folder or point.startswith(folder.rstrip("/") + "/")


def _files(installations: list[str]) -> Iterator[str]:
    for root in installations:
        listed = _records(root)
        missing: dict[str, list[str]] = {}
        resized: dict[str, list[str]] = {}
        for path, item in listed.items():
            size = _size(path)
            if size is None and not path.endswith(".pyc"):
                missing.setdefault(item.distribution, []).append(os.path.relpath(path, root))
            elif item.size is not None and size not in {None, item.size}:
                resized.setdefault(item.distribution, []).append(os.path.relpath(path, root))
        yield from (f"distribution {name}: missing: {_listed_files(files)}" for name, files in sorted(missing.items()))
        yield from (
            f"distribution {name}: of another size: {_listed_files(files)}" for name, files in sorted(resized.items())
        )
        if extra := sorted(path for path in _walk(root) if path not in listed):
            paths = [os.path.relpath(path, root) for path in extra]
            yield f"files in {root} that belong to no distribution: {_listed_files(paths)}"


def _records(root: str) -> dict[str, RecordedFile]:
    """Return the files that the distributions below `root` list, by absolute path."""
    files: dict[str, RecordedFile] = {}
    for folder in sorted(Path(root).glob("*.dist-info")):
        name = folder.name.split("-")[0]
        try:
            with (folder / "RECORD").open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        for path, digest, size in (row for row in rows if len(row) == len(RecordedFile._fields)):
            file_path = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - for 33,000 files, `Path` takes three times as long
            files[file_path] = RecordedFile(name, digest, int(size) if size.isdecimal() else None)
    return files


def _walk(root: str) -> Iterator[str]:
    """Yield the files below `root`, except bytecode and the files of virtual environments."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        listed = (name for name in files if folder != root or name not in _INSTALLERS)
        yield from (os.path.join(folder, name) for name in listed)  # noqa: PTH118 - `Path` is slower, see `_records`


def _system_files(dpkg: Path) -> set[str]:
    """Return the libraries of system packages, without a leading /usr: /lib and /usr/lib are one folder."""
    paths: set[str] = set()
    for listing in dpkg.glob("*.list"):
        try:
            lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        paths.update(line.removeprefix("/usr") for line in lines if ".so" in line)
    return paths


def _digest(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - `Path` is slower, see `_records`
    except OSError:
        return None


def _listed_files(paths: list[str]) -> str:
    others = f" and {len(paths) - _MOST_FILES} more" if len(paths) > _MOST_FILES else ""
    return ", ".join(sorted(paths)[:_MOST_FILES]) + others


if __name__ == "__main__":
    # Report altered files of an image; the folder of this script is not one of its roots.
    count, lines = altered(root for root in sys.path if root != str(Path(__file__).parent))
    json.dump({"format": "reprise.hashed/1", "right": count, "altered": lines}, sys.stdout)
