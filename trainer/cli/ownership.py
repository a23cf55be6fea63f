"""Whose a run's folder is: where this user is root, the containers' user's, which `.env` names.

Knows that containers do not run as root, so that what root made would be closed to them.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.safe_folder import Root
from trainer.environments.dotenv import read_block

if TYPE_CHECKING:
    from pathlib import Path


def hand_over(folder: Path, *, checkout: Path) -> None:
    """Give a run's folder and all that is in it to the containers' user, where this one is root; links stay whose they are.

    A file with more names than it has in the folder is a file of another place too. Raises `UnsafePathError`, `NotWritableError`.
    """
    if os.getuid() != 0:
        return
    values = read_block(checkout / ".env").values
    if "REPRISE_UID" not in values:
        return
    uid, gid = int(values["REPRISE_UID"]), int(values["REPRISE_GID"])
    with disk_faults(folder, done="given away"), Root.at(folder.absolute().parent) as above:
        above.chown(folder.name, uid, gid)
        with above.below(folder.name) as held:
            found = [(path, about) for path, about in held.walk() if _is_file_or_folder(about)]
            names = Counter((about.st_dev, about.st_ino) for _, about in found)
            for path, about in found:
                held.chown(path, uid, gid, names=names[about.st_dev, about.st_ino])


def _is_file_or_folder(about: os.stat_result) -> bool:
    return stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)
