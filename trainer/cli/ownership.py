"""Changes the owner of a run folder that root made: containers do not run as root and could not write it."""

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
    """If this user is root, make the containers' user the owner of a run folder and its contents, except links.

    Raise `UnsafePathError` for a file with hard links outside the folder, `NotWritableError`.
    """
    if os.getuid() != 0:
        return
    values = read_block(checkout / ".env").values
    if "REPRISE_UID" not in values:
        return
    uid, gid = int(values["REPRISE_UID"]), int(values["REPRISE_GID"])
    with disk_faults(folder, done="handed over"), Root.at(folder.absolute().parent) as above:
        above.chown(folder.name, uid, gid)
        with above.below(folder.name) as run:
            kinds = {stat.S_IFREG, stat.S_IFDIR}
            entries = [(path, about) for path, about in run.walk() if stat.S_IFMT(about.st_mode) in kinds]
            names = Counter((about.st_dev, about.st_ino) for _, about in entries)
            for path, about in entries:
                run.chown(path, uid, gid, names=names[about.st_dev, about.st_ino])
