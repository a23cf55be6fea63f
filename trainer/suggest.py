"""The nearest known names to one that is not known, for error messages.

Knows spelling only.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that `name` could have been meant as, best first; empty when nothing is near.

    >>> nearest("learning_rat", ["learning_rate", "seed", "batch_size"])
    ['learning_rate']
    """
    names = sorted(set(known))
    folded = {candidate.lower().replace("_", "-"): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower().replace("_", "-"), folded, n=most, cutoff=0.6)
    return [folded[match] for match in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the nearest ones, else all that are known.

    >>> did_you_mean("digitz", ["digits", "faces"])
    'did you mean digits?'
    >>> did_you_mean("qqq", ["digits", "faces"])
    'known: digits, faces'
    """
    names = sorted(set(known))
    close = nearest(name, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else "none is known"
