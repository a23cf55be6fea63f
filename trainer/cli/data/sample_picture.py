"""`reprise data show NAME --samples FILE.png`: draw a picture of samples.

If torch or Pillow is not installed, the command runs in the environment's image, which writes the picture to stdout.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.atomic_file import write_whole
from trainer.base.errors import MachineError, UsageError
from trainer.cli.progress import transfer_progress
from trainer.cli.runner.on_host import wake_store
from trainer.data.fetch import fetch_dataset
from trainer.environments.engine.compose import call, run_command
from trainer.runs.image_claim import BAKED

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.context import DataContext
    from trainer.data.declaration import Dataset


def draw_samples(args: Namespace, dataset: Dataset, context: DataContext) -> int:
    """Write the picture to the file of `--samples`, or to stdout if that is `-`."""
    if args.samples != "-" and not args.samples.endswith(".png"):
        raise UsageError(f"--samples {args.samples}: expected a file that ends in .png", hint="use - for stdout")
    if not (folder := Path(args.samples).parent).is_dir():
        raise UsageError(f"--samples {args.samples}: {folder} is not a folder", hint=f"mkdir -p {folder}")
    command = f"docker compose run --rm -T train data show {args.name} --samples - > {args.samples}"
    code, picture = picture_of_samples(dataset, context, name=args.name, command=command)
    if code:
        return code
    if args.samples == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.buffer.flush()
    else:
        write_whole(Path(args.samples), picture)
        print(args.samples)
    return 0


def picture_of_samples(dataset: Dataset, context: DataContext, *, name: str, command: str) -> tuple[int, bytes]:
    """Draw samples in this process, or in the environment's image.

    Return an exit code and a PNG. `command` is the hint of the `MachineError` that is raised if neither is possible.
    """
    if find_spec("torch") and find_spec("PIL"):
        from trainer.training.figures.picture import picture_of

        cached = fetch_dataset(dataset, cache=context.cache, open_store=context.open, progress=transfer_progress())
        return 0, picture_of(dataset, cached)
    if BAKED.exists():
        raise MachineError("drawing samples needs torch and Pillow, which this image does not have", hint=command)
    return _in_image(name, context, command=command)


def _in_image(name: str, context: DataContext, *, command: str) -> tuple[int, bytes]:
    if not (context.root / ".env").is_file():
        raise MachineError(
            "drawing samples needs torch and Pillow, or the environment's image; this checkout is not set up for an image",
            hint=f"scripts/setup, then {command}",
        )
    words = run_command(["data", "show", name, "--samples", "-"], options=("--no-deps", "-T"))
    wake_store()
    print("reprise:", " ".join(words), file=sys.stderr)
    return call(words, cwd=context.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) from fault
    return done.returncode, done.stdout
