"""Collecting the cache: what no declared dataset and no running process needs goes.

Knows what is needed: the versions that are declared, the versions that somebody holds a lease of, complete or still being fetched. What a
version needs is what its marker says. Refuses to take what is younger than an hour, and what belongs to another user.

First the versions that are not needed lose their place, by one rename each; then the leases are read again, and a version that somebody
took meanwhile gets its place back; only then go the objects. Whoever slips through between finds an object missing before using it, and
the next start fetches it again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.document import read_json
from trainer.errors import DocumentError
from trainer.store.cache import COMPLETE, VERSIONS, WANTED, Held
from trainer.store.lease import leases
from trainer.store.objects import FOLDER as OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.data.dataset import Dataset
    from trainer.store.cache import Cache

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
    wanted = {dataset.content.removeprefix("sha256:") for dataset in declared}
    names = set(unread)
    wanted |= {place.name for place in _places(cache) if place.parent.name in names}
    unneeded = [place for place in _places(cache) if not _is_needed(cache, place, wanted, now)]
    gone = unneeded if dry_run else [moved for place in unneeded if (moved := _withdrawn(place))]
    refused = len(unneeded) - len(gone)
    for moved in [] if dry_run else [*gone]:
        place = moved.with_name(moved.name.removeprefix(_GONE))
        if _is_needed(cache, place, wanted, now) and not place.exists():
            moved.rename(place)
            gone.remove(moved)
    swept = [(path, path.stat().st_blocks * 512) for path in _unmarked(cache, but=set(gone), now=now)]
    taken = [size for path, size in swept if dry_run or _unlinked(path)]
    for moved in [] if dry_run else gone:
        _removed(moved)
    return Collected(
        versions=tuple(f"{place.parent.name}/{place.name.removeprefix(_GONE)[:12]}" for place in gone),
        objects=len(taken),
        bytes=sum(taken),
        of_others=refused + len(swept) - len(taken),
        leases=sum(1 for _ in leases(cache.root, now=now)),
    )


def _places(cache: Cache) -> list[Path]:
    """The versions that are here, complete or not; what an interrupted collection withdrew too."""
    return sorted(path for path in (cache.root / VERSIONS).glob("*/*") if path.is_dir())


def _is_needed(cache: Cache, place: Path, wanted: set[str], now: float) -> bool:
    held = [lease for _, lease in leases(cache.root, now=now)]
    if None in held or place.name in wanted:
        return True
    return any(
        lease and (lease.name, lease.content.removeprefix("sha256:")) == (place.parent.name, place.name)
        for lease in held
    )


def _withdrawn(place: Path) -> Path | None:
    """Take a version's place away, by one rename; None where it is another user's."""
    if place.name.startswith(_GONE):
        return place
    try:
        return place.rename(place.with_name(_GONE + place.name))
    except OSError:
        return None


def _unmarked(cache: Cache, *, but: set[Path], now: float) -> Iterator[Path]:
    """The objects that no version needs but those that go, and what was fetched and never named; none of them young."""
    marked = {name for place in _places(cache) if place not in but for name in _objects(place)}
    for path in (cache.root / OBJECTS).glob("*/*"):
        name = path.parent.name + path.name.lstrip(".").partition(".")[0]
        with suppress(FileNotFoundError):
            if name not in marked and now - path.stat().st_ctime > YOUNG_S:
                yield path


def _objects(place: Path) -> Iterator[str]:
    """The objects that a version's markers name."""
    for marker in (*place.glob(f"{COMPLETE}*"), *place.glob(f"{WANTED}*")):
        with suppress(DocumentError):
            yield from read_json(marker, Held).objects


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _removed(place: Path) -> None:
    for here, _, _ in os.walk(place):
        with suppress(OSError):
            Path(here).chmod(0o755)
    shutil.rmtree(place, ignore_errors=True)
