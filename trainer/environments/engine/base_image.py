"""The base image of builds, selected by scripts/machine/base: the declared image, or an equal local image without a registry."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from trainer.base.errors import EngineAbsentError, EngineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.declaration import Base

_KINDS: Final = {2: UsageError, 61: EngineAbsentError}


def resolve_base(declared: Base, *, root: Path) -> str:
    """Return the reference of the base image by digest. The first call can take half a minute and reports its progress on stderr."""
    result = subprocess.run(
        [root / "scripts" / "machine" / "base", declared], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if result.returncode:
        kind = _KINDS.get(result.returncode, EngineError)
        raise kind(
            f"no base image for {declared.partition('@')[0]}: see the output above",
            hint="scripts/machine/base",
        )
    return result.stdout.strip()
