"""Times sha256 and BLAKE3 on one processor: large blocks, and the contents of small files in memory. Run by `benchmarks/data.py`.

Times are CPU seconds: the minimum of several rounds, in which the digests alternate. Prints JSON: the digest's name, with bytes per second
for blocks of 64 MiB and seconds per file of 7 kB.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLOCK: Final = 64 << 20
SIZE: Final = 7_000
FILES: Final = 2_000
ROUNDS: Final = 5


def per_block(digest: Callable[[bytes], Any], block: bytes) -> float:
    """Return the CPU seconds for a block."""
    start = time.process_time()
    digest(block).digest()
    return time.process_time() - start


def per_file(digest: Callable[[bytes], Any], bodies: Sequence[bytes]) -> float:
    """Return the CPU seconds per file for many small files, whose contents are in memory."""
    start = time.process_time()
    for body in bodies:
        digest(body).digest()
    return (time.process_time() - start) / len(bodies)


def main() -> None:
    """Print the rates of both digests."""
    digests = {"sha256": hashlib.sha256, "blake3": importlib.import_module("blake3").blake3}
    block = os.urandom(BLOCK)
    bodies = [os.urandom(SIZE) for _ in range(FILES)]
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in digests}
    for _ in range(ROUNDS):
        for name, digest in digests.items():
            took[name].append((per_block(digest, block), per_file(digest, bodies)))
    least = {name: [min(column) for column in zip(*rows, strict=True)] for name, rows in took.items()}
    print(json.dumps({name: [BLOCK / large, small] for name, (large, small) in least.items()}))


if __name__ == "__main__":
    main()
