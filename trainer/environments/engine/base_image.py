"""The image that builds start from: the declared one, or its equal made here where no registry can be reached.

Knows that scripts/base decides, and its exit codes. Refuses to know how a base is made.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from trainer.base.errors import EngineAbsentError, EngineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.declaration import Base

_KINDS: Final = {2: UsageError, 61: EngineAbsentError}


def resolve_base(declared: Base, *, root: Path) -> str:
    """The reference to build on, by digest. It can take half a minute the first time; what it does is told on stderr."""
    done = subprocess.run(
        [root / "scripts" / "base", declared], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if done.returncode:
        kind = _KINDS.get(done.returncode, EngineError)
        raise kind(
            f"no base image can be had for {declared.partition('@')[0]}: the lines above say why", hint="scripts/base"
        )
    return done.stdout.strip()
