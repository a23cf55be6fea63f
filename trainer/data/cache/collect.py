"""Collecting the cache: what no declared dataset and no running process needs goes.

Knows what is needed: the versions that are declared, the versions that somebody holds a lease of, complete or still being fetched. What a
version needs is what its marker says. Refuses to take what is younger than an hour, and what belongs to another user.

First the versions that are not needed lose their place, by one rename each; then the leases are read again, and a version that somebody
took meanwhile gets its place back; only then go the objects. Whoever slips through between finds an object missing before using it, and
the next start fetches it again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.document import parse_json
from trainer.base.errors import DocumentError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.folder import COMPLETE, VERSIONS, WANTED, Held
from trainer.data.cache.lease import is_locked, leases
from trainer.data.cache.objects import FOLDER as OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset

YOUNG_S: Final = 3600.0
_GONE: Final = ".gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What went, or would go."""

    versions: tuple[str, ...]
    """As `name/content`, shortened."""
    objects: int
    bytes: int
    of_others: int
    """Versions and objects that are not needed and belong to other users."""
    leases: int
    """Leases that hold."""


def collect_cache(
    cache: Cache, declared: Iterable[Dataset], *, unread: Iterable[str] = (), now: float, dry_run: bool
) -> Collected:
    """Remove what is not needed; only count it in a dry run. Of datasets whose declaration is `unread`, every version is needed."""
    if not cache.root.exists():
        return Collected(versions=(), objects=0, bytes=0, of_others=0, leases=0)
    wanted = {dataset.content.removeprefix("sha256:") for dataset in declared}
    names = set(unread)
    with Root.at(cache.root) as root:
        wanted |= {content for _, name, content in (place.split("/") for place in _places(root)) if name in names}
        unneeded = [place for place in _places(root) if not _is_needed(root, place, wanted, now)]
        gone = unneeded if dry_run else [moved for place in unneeded if (moved := _withdrawn(root, place))]
        refused = len(unneeded) - len(gone)
        for moved in [] if dry_run else [*gone]:
            place = moved.replace(_GONE, "")
            if (_is_needed(root, place, wanted, now) or is_locked(root, moved)) and root.stat(place) is None:
                root.rename(moved, place)
                gone.remove(moved)
        swept = list(_unmarked(root, but=set(gone), now=now))
        taken = [size for path, size in swept if dry_run or _unlinked(root, path)]
        for moved in [] if dry_run else gone:
            with suppress(OSError):
                root.remove_tree(moved)
        return Collected(
            versions=tuple(_shown(place) for place in gone),
            objects=len(taken),
            bytes=sum(taken),
            of_others=refused + len(swept) - len(taken),
            leases=sum(1 for _ in leases(cache.root, now=now)) + sum(is_locked(root, place) for place in _places(root)),
        )


def _places(root: Root) -> list[str]:
    """The versions that are here, complete or not; what an interrupted collection withdrew too. A link to a folder is none."""
    return [place for name in _folders(root, VERSIONS) for place in _folders(root, name)]


def _folders(root: Root, above: str) -> list[str]:
    """The paths of the folders in a folder; none if it is not there, or this user may not list it."""
    with suppress(FileNotFoundError, PermissionError), root.below(above) as folder:
        return [f"{above}/{name}" for name in folder.names() if folder.has_folder(name)]
    return []


def _shown(place: str) -> str:
    _, name, content = place.split("/")
    return f"{name}/{content.removeprefix(_GONE)[:12]}"


def _is_needed(root: Root, place: str, wanted: set[str], now: float) -> bool:
    held = list(leases(root.path, now=now))
    _, name, content = place.split("/")
    if None in held or content in wanted or is_locked(root, place):
        return True
    return any(lease and (lease.name, lease.content.removeprefix("sha256:")) == (name, content) for lease in held)


def _withdrawn(root: Root, place: str) -> str | None:
    """Take a version's place away, by one rename; None where it is another user's."""
    above, _, content = place.rpartition("/")
    if content.startswith(_GONE):
        return place
    try:
        root.rename(place, moved := f"{above}/{_GONE}{content}")
    except (OSError, UnsafePathError):
        return None
    return moved


def _unmarked(root: Root, *, but: set[str], now: float) -> Iterator[tuple[str, int]]:
    """The objects that no version needs but those that go, and what was fetched and never named, with their bytes; none of them young."""
    marked = {name for place in _places(root) if place not in but for name in _objects(root, place)}
    for above in _folders(root, OBJECTS):
        with root.below(above) as shelf:
            for each in shelf.names():
                name = above.removeprefix(f"{OBJECTS}/") + each.lstrip(".").partition(".")[0]
                found = shelf.stat(each)
                if found is not None and name not in marked and now - found.st_ctime > YOUNG_S:
                    yield f"{above}/{each}", found.st_blocks * 512


def _objects(root: Root, place: str) -> Iterator[str]:
    """The objects that a version's markers name."""
    with suppress(FileNotFoundError, PermissionError), root.below(place) as version:
        for marker in version.names():
            if marker.startswith((COMPLETE, WANTED)):
                with suppress(OSError, DocumentError, UnsafePathError):
                    yield from parse_json(version.read(marker), Held, where=str(version.path / marker)).objects


def _unlinked(root: Root, path: str) -> bool:
    try:
        root.unlink(path)
    except (OSError, UnsafePathError):
        return False
    return True
