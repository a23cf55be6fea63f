"""Whose a run's folder is: where this user is root, the containers' user's, which `.env` names.

Knows that containers do not run as root, so that what root made would be closed to them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trainer.host.dotenv import read_block

if TYPE_CHECKING:
    from pathlib import Path


def hand_over(folder: Path, *, checkout: Path) -> None:
    """Give a folder and all that is in it to the containers' user, where this one is root; links are not followed."""
    if os.getuid() != 0:
        return
    values = read_block(checkout / ".env").values
    if "REPRISE_UID" not in values:
        return
    uid, gid = int(values["REPRISE_UID"]), int(values["REPRISE_GID"])
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)
