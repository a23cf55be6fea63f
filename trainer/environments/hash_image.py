"""Verifying the files of an image by digest, with a script of this checkout that runs in the image."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.base.document import Document, parse_json
from trainer.base.errors import EngineError
from trainer.environments import installed_files
from trainer.environments.engine import IsolatedContainer, Mount

if TYPE_CHECKING:
    from trainer.environments.engine import Engine, ImageFacts

_SCRIPT = "/run/reprise/installed_files.py"


class HashReport(Document):
    """The output of the script."""

    format: Literal["reprise.hashed/1"]
    right: int
    altered: list[str]


def hash_image_files(image: ImageFacts, *, user: str, engine: Engine) -> tuple[int, list[str]]:
    """Return the number of files that have their recorded digest, and a line for each distribution with altered files."""
    lines: list[str] = []
    container = IsolatedContainer(
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
    report = parse_json(lines[-1] if lines else "", HashReport, where=f"the output of {image.id}")
    return report.right, report.altered
