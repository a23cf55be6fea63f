"""Seeds: every random number of a run follows from one seed and from where in the run it is drawn.

Knows how a seed is derived and which generators are set by it. Refuses to save or restore any state: a place in the run names its
seed, so what validation, reading ahead or a crash consumed does not matter.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derived(seed: int, *place: str | int) -> int:
    """Derive the seed of a place in the run, as `derived(0, "step", epoch, batch, rank)`: 63 bits, equal on every machine.

    >>> derived(0, "order", 1) == derived(0, "order", 1), derived(0, "order", 1) == derived(0, "order", 2)
    (True, False)
    """
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(value: int) -> None:
    """Set torch's (on every device), NumPy's and Python's global generators."""
    _seed_torch(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the global one, which an experiment may draw from
    random.seed(value)


def _seed_torch(value: int) -> None:
    """Seed torch; a build for CPUs has one generator, and asking for those of other devices takes 240 microseconds, at every step."""
    if torch.version.cuda is not None:
        torch.manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)
