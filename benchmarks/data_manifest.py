"""Times checking, planning and lookup of a manifest of many files, which another process writes. Run by `benchmarks/data.py`."""

from __future__ import annotations

import hashlib
import json
import mmap
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.data.downloads import plan_fetch
from trainer.data.manifest import ManifestWriter, parse_manifest
from trainer.data.manifest_lines import Pack, digest_of_raw
from trainer.data.packing import PACK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 8_000


def make(path: str, files: int) -> None:
    """Write the manifest of a dataset that does not exist."""
    in_pack = PACK_BYTES // SIZE
    packs = [Pack(sha256=digest(f"pack {number}"), size=in_pack * SIZE) for number in range(files // in_pack + 1)]
    lines = ManifestWriter()
    with tempfile.TemporaryFile() as body:
        for number in range(files):
            segment = (number // in_pack, number % in_pack * SIZE, SIZE)
            body.write(lines.line(file_path(number), size=SIZE, sha256=digest(str(number)), segments=[segment]))
        body.seek(0)
        with Path(path).open("wb") as file:
            file.write(lines.head(packs[: -(-files // in_pack)]))
            shutil.copyfileobj(body, file)


def file_path(number: int) -> str:
    """Return a path as in a folder of images."""
    return f"train/{number // 1000:04d}/image-{number:08d}.jpeg"


def digest(text: str) -> str:
    """Return a digest of a text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def main(path: str, files: int) -> None:
    """Print the duration of each step, the size of the manifest and the peak memory, as JSON."""
    maker = multiprocessing.Process(target=make, args=(path, files))
    maker.start()
    maker.join()
    took: dict[str, tuple[float, float]] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        took[name] = (time.perf_counter() - wall, time.process_time() - cpu)
        return done

    with Path(path).open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        step("digest, at each warm start", lambda: digest_of_raw(raw))
        listing = step("checked, once, when it is fetched", lambda: parse_manifest(raw))
        step("planned, once", lambda: plan_fetch(listing))
        step("first look-up in a process", lambda: listing.find(file_path(files // 2)))
        step("1,000 look-ups", lambda: [listing.find(file_path(number)) for number in range(0, files, files // 1000)])
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"took": took, "size": len(raw), "rss": rss}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
