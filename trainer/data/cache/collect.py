"""Remove cached data that no declared dataset and no running process needs.

A version is needed if it is declared, leased or locked, whether it is complete or not. Its markers name the objects that it needs. If a
lease cannot be read, all versions are needed. Objects younger than an hour, and files that this user may not remove, are kept.

Unneeded versions are first renamed. Then leases are read again, and a version that was leased in the meantime gets its name back. Only then
are objects removed. A process that leases a version between these steps notices that an object is missing before it reads the object, and
fetches it again.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.folder import COMPLETE, VERSIONS, WANTED, read_marker
from trainer.data.cache.locks import active_leases, is_locked
from trainer.data.cache.objects import FOLDER as OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset

YOUNG_S: Final = 3600.0
_GONE: Final = ".gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was removed, or what a dry run would remove."""

    versions: tuple[str, ...]
    """`name/content`, with a shortened digest."""
    objects: int
    bytes: int
    of_others: int
    """Unneeded versions and objects of other users, which this user may not remove."""
    leases: int
    """Active leases, including locked version folders."""


def collect_cache(
    cache: Cache, declared: Iterable[Dataset], *, unread: Iterable[str] = (), now: float, dry_run: bool
) -> Collected:
    """Remove unneeded data, or only count it in a dry run. All versions of the datasets named in `unread` are kept."""
    if not cache.root.exists():
        return Collected(versions=(), objects=0, bytes=0, of_others=0, leases=0)
    contents = {dataset.content.removeprefix("sha256:") for dataset in declared}
    names = set(unread)
    with Root.at(cache.root) as root:
        contents |= {
            content for _, name, content in (path.split("/") for path in _version_paths(root)) if name in names
        }
        unneeded = [path for path in _version_paths(root) if not _is_needed(root, path, contents, now)]
        if dry_run:
            removed = [path for path in unneeded if _is_removable(root, path)]
        else:
            removed = [moved for path in unneeded if (moved := _set_aside(root, path))]
        of_others = len(unneeded) - len(removed)
        for moved in [] if dry_run else [*removed]:
            path = moved.replace(_GONE, "")
            if (_is_needed(root, path, contents, now) or is_locked(root, moved)) and root.stat(path) is None:
                root.rename(moved, path)
                removed.remove(moved)
        objects = list(_unneeded_objects(root, but=set(removed), now=now))
        sizes = []
        for path, size in objects:
            with suppress(OSError, UnsafePathError):
                if not dry_run:
                    root.unlink(path)
                elif not _is_removable(root, path):
                    continue
                sizes.append(size)
        for moved in [] if dry_run else removed:
            with suppress(OSError):
                root.remove_tree(moved)
        return Collected(
            versions=tuple(_short_name(path) for path in removed),
            objects=len(sizes),
            bytes=sum(sizes),
            of_others=of_others + len(objects) - len(sizes),
            leases=sum(1 for _ in active_leases(cache.root, now=now))
            + sum(is_locked(root, path) for path in _version_paths(root)),
        )


def _version_paths(root: Root) -> list[str]:
    """Return the folders of all versions, including incomplete versions and those that an interrupted collection renamed, but no links."""
    return [path for name in _folders(root, VERSIONS) for path in _folders(root, name)]


def _folders(root: Root, above: str) -> list[str]:
    """Return the paths of the folders in a folder; an empty list if the folder is missing or not readable."""
    with suppress(FileNotFoundError, PermissionError), root.below(above) as folder:
        return [f"{above}/{name}" for name in folder.names() if folder.has_folder(name)]
    return []


def _short_name(path: str) -> str:
    _, name, content = path.split("/")
    return f"{name}/{content.removeprefix(_GONE)[:12]}"


def _is_needed(root: Root, path: str, contents: set[str], now: float) -> bool:
    leases = list(active_leases(root.path, now=now))
    _, name, content = path.split("/")
    if None in leases or content in contents or is_locked(root, path):
        return True
    return any(lease and (lease.name, lease.content) == (name, f"sha256:{content}") for lease in leases)


def _is_removable(root: Root, path: str) -> bool:
    """Return whether this user may rename or remove an entry: its folder is writable and, if sticky, it or the entry is its own."""
    above, own = root.stat(path.rpartition("/")[0]), os.geteuid()
    about = root.stat(path)
    if above is None or about is None:
        return False
    is_writable = os.access(root.path / path.rpartition("/")[0], os.W_OK | os.X_OK, effective_ids=True)
    return is_writable and (not above.st_mode & stat.S_ISVTX or own in {0, above.st_uid, about.st_uid})


def _set_aside(root: Root, path: str) -> str | None:
    """Rename a version's folder and return the new path; `None` if the folder belongs to another user."""
    above, _, content = path.rpartition("/")
    if content.startswith(_GONE):
        return path
    try:
        root.rename(path, moved := f"{above}/{_GONE}{content}")
    except (OSError, UnsafePathError):
        return None
    return moved


def _unneeded_objects(root: Root, *, but: set[str], now: float) -> Iterator[tuple[str, int]]:
    """Yield the path and size of old objects and temporary files that no version needs; the versions in `but` are ignored."""
    needed = {name for path in _version_paths(root) if path not in but for name in _objects(root, path)}
    for above in _folders(root, OBJECTS):
        with root.below(above) as shelf:
            for each in shelf.names():
                name = above.removeprefix(f"{OBJECTS}/") + each.lstrip(".").partition(".")[0]
                info = shelf.stat(each)
                if info is not None and name not in needed and now - info.st_ctime > YOUNG_S:
                    yield f"{above}/{each}", info.st_blocks * 512


def _objects(root: Root, path: str) -> Iterator[str]:
    """Yield the names of the objects in a version's markers."""
    with suppress(FileNotFoundError, PermissionError), root.below(path) as version:
        for marker in version.names():
            if marker.startswith((COMPLETE, WANTED)):
                objects = read_marker(version, marker)
                yield from objects.objects if objects else ()
