"""Laying out a run's source bundle, so that it can be run again and frozen again to the same digest.

Knows how every version's `freeze` finds the files of a checkout: it asks git, and without git it guesses and leaves out what looks like
a leftover. So the folder is made a repository that lists exactly the bundle's files, without a commit. Refuses to unpack anything but
the bundle that the record names, and to write where something is.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, SourceError
from trainer.base.paths import repository_parts
from trainer.base.safe_folder import run_root
from trainer.source.capture import thaw, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.source.capture import SourceBundle, SourceFile

_EMPTY: Final = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The name of no bytes: a listing needs names only, and git reads no file that may be a stranger's."""


def verified(archive: Path, *, digest: str) -> SourceBundle:
    """The bundle in `archive`. Raises `DigestMismatchError` where it is not the one of that digest, `SourceError` where it is none."""
    if not archive.exists():
        raise SourceError(f"{archive} is gone: the run's source is not here", hint="pull the run again")
    bundle = thaw(archive)
    if bundle.digest != digest:
        said = f"{archive} is {bundle.digest}; the record names {digest}"
        raise DigestMismatchError(said, hint="it was altered: remove the run's folder and pull it again")
    return bundle


def lay_out(bundle: SourceBundle, folder: Path) -> None:
    """Write the bundle's files into `folder`, which must not exist yet, for a run to start from."""
    if own := repository_parts(file.path for file in bundle.files):
        raise SourceError(f"{min(own)!a} is in a source bundle; no bundle of ours has that", hint="do not use it")
    with disk_faults(folder), run_root(folder.parent) as above:
        unpack(bundle, above, folder.name)
        _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
        listing = "".join(f"{_mode(file)} {_EMPTY}\t{file.path}\0" for file in bundle.files)
        _git(folder, "update-index", "-z", "--add", "--index-info", fed=listing)
        open_to_all(above, folder.name)


def open_to_all(above: Root, name: str) -> None:
    """Let every user read a folder that was just laid out, and all in it: containers run as another."""
    with above.below(name) as folder:
        os.fchmod(folder.fileno(), os.fstat(folder.fileno()).st_mode | 0o555)
        for path, found in folder.walk():
            folder.chmod(path, stat.S_IMODE(found.st_mode) | (0o555 if stat.S_ISDIR(found.st_mode) else 0o444))


def _mode(file: SourceFile) -> str:
    return "100755" if file.executable else "100644"


def _git(folder: Path, *words: str, fed: str = "") -> None:
    if shutil.which("git") is None:
        raise SourceError("git is not installed, and running a record again needs it", hint="apt-get install git")
    command = ["git", "-C", os.fspath(folder), *words]
    done = subprocess.run(command, env=_environment(os.environ), input=fed.encode(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise SourceError(f"git cannot list {folder}: {said}", hint="is git older than 2.28?")


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in ours.items() if not name.startswith("GIT_")}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
