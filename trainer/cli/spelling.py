"""How a command of ours is spelled where it is read: the one place that knows what can be typed there.

Knows three places: a host, a container whose launcher stands on the host, a container that compose alone was told to start. Every
text that names a command says `reprise runs ls`, and passes through here before it is printed; one that says `scripts/reprise` means the
host wherever it is read, and is left alone.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from trainer.cli import BAKED, COMMANDS
from trainer.cli.places import CHECKOUT
from trainer.runs.image_claim import WATCHED

HOST: Final = "scripts/reprise"
DOOR: Final = "scripts/train"
COMPOSE: Final = "docker compose run --rm train"
_PROJECT: Final = Path("/project")
_NAMES: Final = "|".join(sorted(COMMANDS, key=len, reverse=True))
_COMMAND: Final = re.compile(rf"(?<![\w/.-])reprise ({_NAMES})(?![\w-])")


def spelled(text: str, *, by_compose: bool | None = None) -> str:
    """Spell each command in `text` as it is typed here; `by_compose` answers what is otherwise looked up.

    >>> spelled("`reprise doctor` says why; scripts/reprise runs ls", by_compose=False)
    '`scripts/reprise doctor` says why; scripts/reprise runs ls'
    >>> spelled("reprise train --exp digits; reprise runs ls; `reprise doctor`", by_compose=True)
    'docker compose run --rm train --exp digits; docker compose run --rm train runs ls; `scripts/reprise doctor`'
    """
    inside = is_composed() if by_compose is None else by_compose
    return _COMMAND.sub(lambda found: _spelled(found[1], inside=inside), text)


def is_composed() -> bool:
    """Whether this is a container that somebody started by compose's own command: only then is that the way to the next one.

    In a development container the checkout can be written, and its scripts run. A training runs from a copy in its run's folder, which
    can be written everywhere: what counts is where images expect the checkout.
    """
    return BAKED.exists() and WATCHED not in os.environ and not os.access(_checkout(), os.W_OK)


def _checkout() -> Path:
    return _PROJECT if _PROJECT.is_dir() else CHECKOUT


def is_set_up() -> bool:
    """Whether this checkout can start a container, or needs none; where it cannot, only one command does what is missing."""
    return BAKED.exists() or (CHECKOUT / ".env").exists() or find_spec("torch") is not None


def _spelled(command: str, *, inside: bool) -> str:
    if inside and COMMANDS[command].where != "host":
        return COMPOSE if command == "train" else f"{COMPOSE} {command}"
    return DOOR if command == "train" and not is_set_up() else f"{HOST} {command}"
