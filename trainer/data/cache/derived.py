"""Bytes that a process computed from the files of a version, such as tokens, kept beside the version for later processes.

    versions/<name>/<content>/derived-….u1000   sha256 of the rest; a digest of everything that the bytes depend on; the bytes

No digest in git covers derived bytes. A process therefore reads only the file of its own user, and checks it against the digest in it;
other users compute the bytes again. A user has one file for each version. A new file replaces it; processes that mapped the old file can
still read it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_document
from trainer.base.errors import MachineError, UnsafePathError
from trainer.base.safe_folder import PARTIAL
from trainer.data.cache.budget import cost
from trainer.data.cache.objects import own_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from trainer.base.safe_folder import Root
    from trainer.data.cache.budget import Budget
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset

NAME: Final = "derived-"
_SHA256: Final = 32
"""Bytes of a digest."""


def derived(
    cache: Cache,
    dataset: Dataset,
    key: Mapping[str, Any],
    make: Callable[[], bytes],
    *,
    budget: Budget | None = None,
) -> memoryview:
    """Return the verified bytes that an earlier process of this user kept, or call `make` and keep its result if there is room.

    `key` holds everything that the bytes depend on, besides the files of the version. With a `budget`, the kept bytes are counted.
    """
    whole = bytes.fromhex(digest_of_document({**key, "content": dataset.content}).removeprefix("sha256:"))
    name = own_name(f"{NAME}{whole.hex()[:32]}")
    with suppress(OSError, ValueError, UnsafePathError), cache.version(dataset) as place:
        if (found := _read(place, name, whole)) is not None:
            return found
    made = make()
    with suppress(MachineError, OSError, UnsafePathError), cache.version(dataset) as place:
        _keep(place, name, whole, made, budget)
    return memoryview(made)


def _read(place: Root, name: str, key: bytes) -> memoryview | None:
    """Return the bytes of this user's file; `None` if another user owns it, it has another key, or it is damaged.

    Raise `OSError` if it cannot be read, `ValueError` if it is empty.
    """
    with place.open(name) as file:
        if os.fstat(file.fileno()).st_uid != os.getuid():
            return None
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if view[_SHA256 : 2 * _SHA256] != key or hashlib.sha256(view[_SHA256:]).digest() != view[:_SHA256]:
        return None
    return view[2 * _SHA256 :]


def _keep(place: Root, name: str, key: bytes, made: bytes, budget: Budget | None) -> None:
    """Remove this user's earlier file, and write the new file if the cache's limit allows it."""
    _remove(place, budget)
    size = cost(2 * _SHA256 + len(made))
    if budget is not None and not budget.reserve(None, size):
        return
    digest = hashlib.sha256(key)
    digest.update(made)
    try:
        with place.whole(name, mode=0o400) as file:
            file.writelines((digest.digest(), key, made))
    except BaseException:
        if budget is not None:
            budget.release(None, size)
        raise


def _remove(place: Root, budget: Budget | None) -> None:
    """Remove this user's file, and temporary files of killed processes, whose bytes may stay counted."""
    own = re.compile(rf"\.?{NAME}[0-9a-f]+{re.escape(own_name(''))}(\.[0-9a-f]+{re.escape(PARTIAL)})?")
    for name in filter(own.fullmatch, place.names()):
        about = place.stat(name)
        place.unlink(name, missing_ok=True)
        if budget is not None and about is not None and not name.startswith("."):
            budget.release(None, cost(about.st_size))
