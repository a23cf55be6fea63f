"""A command that needs torch, typed on a host that has none: the same words in the environment's image.

Knows compose's service. Refuses to know the command.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from trainer.actions.setup import require_images
from trainer.cli.checkout import compose_values, engine
from trainer.cli.places import CHECKOUT
from trainer.errors import DotenvError, EngineAbsentError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_in_image(words: Sequence[str]) -> int:
    """Run `reprise` with these words in a container, and end as it ends. Raises `DotenvError`, `EngineAbsentError`, `ImageMissingError`."""
    if not (CHECKOUT / ".env").is_file():
        said = f"`reprise {words[0]}` needs torch or the image, and this checkout is not set up for one"
        raise DotenvError(said, hint="scripts/train does what is missing")
    with closing(engine()) as host:
        require_images(compose_values(), engine=host)
    print(f"reprise: no torch here; docker compose run --rm train {' '.join(words)}", file=sys.stderr)
    try:
        return subprocess.run(
            ["docker", "compose", "run", "--rm", "train", *words], cwd=CHECKOUT, check=False
        ).returncode
    except FileNotFoundError as fault:
        raise EngineAbsentError("the command `docker` is not installed", hint="scripts/engine ensure") from fault
