"""`reprise data show NAME --samples FILE.png`: a picture of samples, drawn where torch and Pillow are.

On a host without them the same words are run in the environment's image, which prints the picture, and it is written here.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.atomic_file import write_whole
from trainer.base.errors import EngineAbsentError, MachineError, UsageError
from trainer.cli.progress import transfer_progress
from trainer.cli.runner.on_host import wake_store
from trainer.data.fetch import fetch_dataset
from trainer.runs.image_claim import BAKED

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.places import Places
    from trainer.data.declaration import Dataset


def draw_samples(words: Namespace, dataset: Dataset, places: Places) -> int:
    """Write the picture to the file that was named, or to stdout where that is `-`."""
    if words.samples != "-" and not words.samples.endswith(".png"):
        raise UsageError(f"--samples {words.samples}: expected a file that ends in .png", hint="or - for stdout")
    if not (folder := Path(words.samples).parent).is_dir():
        raise UsageError(f"--samples {words.samples}: {folder} is not a folder", hint=f"mkdir -p {folder}")
    code, picture = picture_of_samples(dataset, places, named=words.name, typed=_typed(words))
    return code or _kept(words, picture)


def picture_of_samples(dataset: Dataset, places: Places, *, named: str, typed: str) -> tuple[int, bytes]:
    """Draw samples here, or in the image; give the exit code of that and a PNG. `typed` draws them by hand. Raises `MachineError`."""
    if find_spec("torch") and find_spec("PIL"):
        from trainer.training.figures.picture import picture_of

        cached = fetch_dataset(dataset, cache=places.cache, open_store=places.open, progress=transfer_progress())
        return 0, picture_of(dataset, cached)
    if BAKED.exists():
        raise MachineError("samples are drawn with torch and Pillow, which this image does not have", hint=typed)
    return _in_image(named, places, typed=typed)


def _in_image(named: str, places: Places, *, typed: str) -> tuple[int, bytes]:
    if not (places.root / ".env").is_file():
        raise MachineError(
            "samples are drawn with torch and Pillow, or in the environment's image; this checkout is not set up for one",
            hint=f"scripts/setup, then {typed}",
        )
    words = ("data", "show", named, "--samples", "-")
    command = ["docker", "compose", "run", "--rm", "--no-deps", "-T", "train", *words]
    wake_store()
    print("reprise:", " ".join(command), file=sys.stderr)
    try:
        done = subprocess.run(command, cwd=places.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError as fault:
        raise EngineAbsentError("the command `docker` is not installed", hint="scripts/engine ensure") from fault
    return done.returncode, done.stdout


def _kept(words: Namespace, picture: bytes) -> int:
    if words.samples == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.buffer.flush()
        return 0
    write_whole(Path(words.samples), picture)
    print(words.samples)
    return 0


def _typed(words: Namespace) -> str:
    return f"docker compose run --rm -T train data show {words.name} --samples - > {words.samples}"
