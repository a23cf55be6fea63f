"""Running a command that needs torch in the environment's image, on a host without torch."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from trainer.base.errors import DotenvError
from trainer.cli.checkout import compose_values, engine
from trainer.cli.configuration import CHECKOUT, hand_in_store
from trainer.environments.dotenv import read_block
from trainer.environments.engine.compose import call, run_command
from trainer.environments.setup import require_environment, require_images
from trainer.settings.fields import ENVIRONMENT_PREFIX
from trainer.settings.sources import of_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def require_image(command: str) -> None:
    """Raise `DotenvError`, `EngineAbsentError`, `ImageMissingError` if no container can be started for a command."""
    if not (CHECKOUT / ".env").is_file():
        said = f"`reprise {command}` needs torch or the image, and this checkout is not set up for one"
        raise DotenvError(said, hint="scripts/train does what is missing")
    require_environment(read_block(CHECKOUT / ".env").values, root=CHECKOUT)
    hand_in_store(CHECKOUT / ".env")
    with closing(engine()) as host:
        require_images(compose_values(), engine=host)


def run_in_image(words: Sequence[str]) -> int:
    """Run `reprise` with these words in a container and return its exit status. Raises what `require_image` does."""
    require_image(words[0])
    command = run_command(words, options=settings_handed_in(os.environ))
    print("reprise:", shlex.join(command), file=sys.stderr)
    return call(command, cwd=CHECKOUT)[0]


def settings_handed_in(environ: Mapping[str, str]) -> list[str]:
    """Return options that make `docker compose run` pass the settings of the environment: names, not values.

    >>> settings_handed_in({"REPRISE_SETTING_SEED": "1", "REPRISE_STORE": "s3://b"})
    ['--env=REPRISE_SETTING_SEED']
    """
    of_environment(environ)
    return [f"--env={name}" for name in sorted(environ) if name.startswith(ENVIRONMENT_PREFIX)]
