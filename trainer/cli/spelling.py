"""Rewrites `reprise COMMAND` in a text to the command that the reader can type.

The spelling depends on the process: on a host, in a container that a launcher on the host started, or in a container that was started by
`docker compose`. A text that says `scripts/reprise` means the host and is not changed.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from trainer.cli import BAKED, COMMANDS
from trainer.cli.configuration import CHECKOUT
from trainer.runs.image_claim import WATCHED

HOST: Final = "scripts/reprise"
DOOR: Final = "scripts/train"
COMPOSE: Final = "docker compose run --rm train"
_PROJECT: Final = Path("/project")
_NAMES: Final = "|".join(sorted(COMMANDS, key=len, reverse=True))
_COMMAND: Final = re.compile(rf"(?<![\w/.-])reprise ({_NAMES})(?![\w-])")


def spelled(text: str, *, by_compose: bool | None = None) -> str:
    """Return the text with each command as the reader types it; `by_compose` overrides `is_composed`.

    >>> spelled("`reprise doctor` says why; scripts/reprise runs ls", by_compose=False)
    '`scripts/reprise doctor` says why; scripts/reprise runs ls'
    >>> spelled("reprise train --exp digits; reprise runs ls; `reprise doctor`", by_compose=True)
    'docker compose run --rm train --exp digits; docker compose run --rm train runs ls; `scripts/reprise doctor`'
    """
    inside = is_composed() if by_compose is None else by_compose
    return _COMMAND.sub(lambda found: _spelled(found[1], inside=inside), text)


def is_composed() -> bool:
    """Return whether the user started this container with `docker compose`.

    In a development container the checkout is writable, and its scripts work. A training runs from a copy in its run folder, which is
    always writable; so the folder at which images mount the checkout is examined.
    """
    checkout = _PROJECT if _PROJECT.is_dir() else CHECKOUT
    return BAKED.exists() and WATCHED not in os.environ and not os.access(checkout, os.W_OK)


def is_set_up() -> bool:
    """Return whether this checkout can train: in this process, or in a container that it can start."""
    return BAKED.exists() or (CHECKOUT / ".env").exists() or find_spec("torch") is not None


def _spelled(command: str, *, inside: bool) -> str:
    if inside and COMMANDS[command].location != "host":
        return COMPOSE if command == "train" else f"{COMPOSE} {command}"
    return DOOR if command == "train" and not is_set_up() else f"{HOST} {command}"
