"""Whether an image's files still are, on this machine's disk, what was installed: every byte of them, by digest.

Knows how our own script is run in an image, where none of the image's code has a say in what is hashed. Refuses to believe an answer that
is not of its form.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.base.document import Document, parse_json
from trainer.base.errors import EngineError
from trainer.environments import installed_files
from trainer.environments.engine import Confined, Mount

if TYPE_CHECKING:
    from trainer.environments.engine import Engine, ImageFacts

_SCRIPT = "/run/reprise/installed_files.py"


class Hashed(Document):
    """What the script says."""

    format: Literal["reprise.hashed/1"]
    right: int
    altered: list[str]


def hashed(image: ImageFacts, *, user: str, engine: Engine) -> tuple[int, list[str]]:
    """How many files have the digest that their distribution says, and a line for each distribution with others."""
    lines: list[str] = []
    container = Confined(
        name=f"reprise-hash-{secrets.token_hex(4)}",
        image=image.id,
        program=("python", "-I", _SCRIPT),
        words=(),
        variables={},
        mounts=(Mount(source=Path(installed_files.__file__), target=_SCRIPT),),
        user=user,
    )
    if code := engine.confine(container, say=lines.append):
        raise EngineError(f"the files of {image.id} could not be hashed: exit code {code}", hint="reprise doctor")
    said = parse_json(lines[-1] if lines else "", Hashed, where=f"what was said in {image.id}")
    return said.right, said.altered
