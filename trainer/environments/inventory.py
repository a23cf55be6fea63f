"""List what is installed and loaded: Python distributions, system packages, shared libraries, import roots.

An image's build runs this file as a script (`python inventory.py > inventory.json`), and a training process imports it; `drift` compares
the two inventories. Therefore it imports only the standard library.

A distribution is identified by its version and the digest of its RECORD file, which lists the digest of every installed file. A file that
was altered without a change of RECORD is not detected: an inventory takes milliseconds, hashing every file would take seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FORMAT: Final = "reprise.inventory/1"
DPKG: Final = Path("/var/lib/dpkg/status")
MAPS: Final = Path("/proc/self/maps")
_MAPPED: Final = re.compile(r" (/.*\.so[^/]*)$")
_LOCKED: Final = re.compile(r'^\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', re.MULTILINE)


class Installed(TypedDict):
    """An installed distribution."""

    version: str
    record: str | None


class InventoryData(TypedDict):
    """The fields of `trainer.runs.record.Inventory` as plain values."""

    python: str
    distributions: dict[str, Installed]
    system: dict[str, str]
    libraries: dict[str, int]
    roots: list[str]


def installed(roots: Iterable[str] | None = None) -> InventoryData:
    """Return the installed distributions and system packages, without the libraries and import roots of this process."""
    folders = import_roots() if roots is None else list(roots)
    return InventoryData(
        python=platform.python_version(),
        distributions=distributions(folders),
        system=packages(),
        libraries={},
        roots=[],
    )


def live() -> InventoryData:
    """Return the installed packages, and the loaded libraries and import roots of this process."""
    roots = import_roots()
    return {**installed(roots), "libraries": libraries(), "roots": roots}


def import_roots() -> list[str]:
    """Return the folders and archives of `sys.path` as absolute paths, in order."""
    return list(dict.fromkeys(str(Path(root).absolute()) for root in sys.path))


def distributions(roots: Iterable[str]) -> dict[str, Installed]:
    """Return the distributions in `roots`; of several with one name, the first, which is the one that is imported."""
    result: dict[str, Installed] = {}
    for root in roots:
        for folder in sorted(_entries(root)):
            stem, dot, kind = folder.rpartition(".")
            if dot and kind in {"dist-info", "egg-info"} and "-" in stem:
                name, version = stem.split("-")[:2]
                result.setdefault(
                    normalized(name), Installed(version=version, record=_digest(Path(root, folder, "RECORD")))
                )
    return dict(sorted(result.items()))


def packages(status: Path = DPKG) -> dict[str, str]:
    """Return the installed Debian packages with their versions; empty without dpkg."""
    try:
        text = status.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    versions: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            versions[fields["Package"]] = fields.get("Version", "")
    return dict(sorted(versions.items()))


def libraries(maps: Path = MAPS) -> dict[str, int]:
    """Return the shared libraries of this process with their sizes in bytes; empty without `/proc`."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    paths = {match[0] for line in lines if (match := _MAPPED.findall(line))}
    return {path: size for path in sorted(paths) if (size := _size(path)) is not None}


def locked(lock: str) -> dict[str, set[str]]:
    """Return the versions of each distribution in a `uv.lock`; several if its variants differ."""
    versions: dict[str, set[str]] = {}
    for name, version in _LOCKED.findall(lock):
        versions.setdefault(normalized(name), set()).add(version)
    return versions


def normalized(name: str) -> str:
    """Return the normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- comparison


def drift(baked: InventoryData | None, current: InventoryData, *, lock: str | None = None) -> list[str]:
    """Return the differences between this process and the inventory of its image, one line each.

    Without an image's inventory, the installed packages are compared with the lock; without both, the result is a line that states this.
    """
    shadows = list(shadowed(current["roots"]))
    if baked is not None:
        return [*_against_image(baked, current), *shadows]
    if lock is not None:
        return [*_against_lock(locked(lock), current["distributions"]), *shadows]
    return ["nothing to compare with: this process runs in no image of Reprise, and no lock was found", *shadows]


def shadowed(roots: list[str]) -> Iterator[str]:
    """Yield a line for each module of the standard library or of an installed distribution that an earlier import root hides."""
    library = sysconfig.get_paths()["stdlib"]
    first = next((index for index, root in enumerate(roots) if root == library), 0)
    hidden = set(sys.stdlib_module_names)
    for root in roots[first:]:
        if Path(root).name in {"site-packages", "dist-packages"}:
            hidden |= _modules(root)
    for root in roots[:first]:
        if not root.endswith(".zip"):
            yield from (
                f"module {name} comes from {root}, which hides the installed one"
                for name in sorted(_modules(root) & hidden)
            )


def _against_image(baked: InventoryData, current: InventoryData) -> Iterator[str]:
    if baked["python"] != current["python"]:
        yield f"Python: {current['python']} here, {baked['python']} in the image"
    versions = {name: item["version"] for name, item in baked["distributions"].items()}
    yield from _differences(
        "distribution", versions, {name: item["version"] for name, item in current["distributions"].items()}
    )
    for name, item in baked["distributions"].items():
        other = current["distributions"].get(name)
        if other and other["version"] == item["version"] and other["record"] != item["record"]:
            yield f"distribution {name} {item['version']}: its files are not those of the image"
    yield from _differences("system package", baked["system"], current["system"])


def _differences(kind: str, baked: Mapping[str, str], current: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(baked.keys() & current.keys()):
        if baked[name] != current[name]:
            yield f"{kind} {name}: {current[name]} here, {baked[name]} in the image"
    if extra := sorted(current.keys() - baked.keys()):
        yield f"{kind}s here and not in the image: {', '.join(f'{name} {current[name]}' for name in extra)}"
    if missing := sorted(baked.keys() - current.keys()):
        yield f"{kind}s in the image and not here: {', '.join(f'{name} {baked[name]}' for name in missing)}"


def _against_lock(lock: Mapping[str, set[str]], current: Mapping[str, Installed]) -> Iterator[str]:
    for name, item in current.items():
        if name in lock and item["version"] not in lock[name]:
            yield f"distribution {name}: {item['version']} here, {' or '.join(sorted(lock[name]))} in the lock"
    if extra := [f"{name} {item['version']}" for name, item in current.items() if name not in lock]:
        yield f"distributions here and not in the lock: {', '.join(extra)}"


# --- files


def _entries(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _modules(root: str) -> set[str]:
    files = _entries(root)
    modules = {name.removesuffix(".py") for name in files if name.endswith(".py")}
    return modules | {name for name in files if "." not in name and Path(root, name, "__init__.py").is_file()}


def _digest(path: Path) -> str | None:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return None


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


if __name__ == "__main__":
    # The folder of this file is an import root only because the file runs as a script.
    script_folder = str(Path(__file__).parent.absolute())
    json.dump(
        {"format": FORMAT, **installed([root for root in import_roots() if root != script_folder])},
        sys.stdout,
        sort_keys=True,
        indent=1,
    )
