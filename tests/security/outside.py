"""A folder outside every root, in which no attack may change anything."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def victims_folder(path: Path) -> Path:
    """Create a victim's home with SSH keys, a document and private folders."""
    (path / ".ssh" / "keys").mkdir(parents=True)
    (path / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA important\n")
    (path / "thesis.txt").write_text("years")
    for closed in (path / ".ssh" / "keys", path / ".ssh", path):
        closed.chmod(0o700)
    (path / ".ssh" / "authorized_keys").chmod(0o600)
    return path


def state(folder: Path) -> dict[str, tuple[int, ...] | str]:
    """Return the state of a folder and of all paths in it: names, bytes, modes, owners, numbers of links, modification times."""
    found: dict[str, tuple[int, ...] | str] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.lstat()
        body = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        numbers = (about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_mtime_ns)
        found[f"{path}"] = f"{numbers} {hashlib.sha256(body).hexdigest()}"
    return found
