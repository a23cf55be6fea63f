"""Lay out a run's source bundle so that a rerun freezes it to the same digest.

`freeze` lists the files of a checkout with git and, without git, omits files that look temporary. The folder is therefore a git repository
without a commit, whose index lists exactly the bundle's files.
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
from trainer.source.archive import NEW_COPY
from trainer.source.capture import read_archive, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.source.capture import SourceBundle, SourceFile

_EMPTY: Final = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The object ID of an empty file, used for every file: only the names matter, and git then reads no file of an untrusted user."""


def load_bundle(archive: Path, *, digest: str) -> SourceBundle:
    """Read the bundle in `archive`. Raise `SourceError` if it is missing or invalid, `DigestMismatchError` if its digest differs."""
    if not archive.exists():
        raise SourceError(f"{archive} does not exist: the run's source is missing", hint="pull the run again")
    bundle = read_archive(archive)
    if bundle.digest != digest:
        message = f"{archive} is {bundle.digest}; the record names {digest}"
        raise DigestMismatchError(message, hint="it was altered: remove the run's folder and pull the run again")
    return bundle


def lay_out(bundle: SourceBundle, folder: Path) -> None:
    """Write the bundle's files into the new folder `folder`, and list them in a new git repository there, so that a run can be started.

    Raise `SourceError` if the bundle contains files of a git repository, or if git is missing or fails.
    """
    if own := repository_parts(file.path for file in bundle.files):
        raise SourceError(f"{min(own)!a} is in a source bundle; Reprise never captures it", hint=NEW_COPY)
    with disk_faults(folder), run_root(folder.parent) as above:
        unpack(bundle, above, folder.name)
        _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
        listing = "".join(f"{_mode(file)} {_EMPTY}\t{file.path}\0" for file in bundle.files)
        _git(folder, "update-index", "-z", "--add", "--index-info", stdin=listing)
        open_to_all(above, folder.name)


def open_to_all(above: Root, name: str) -> None:
    """Make a folder and its content readable for every user, since containers run as another user."""
    with above.below(name) as folder:
        os.fchmod(folder.fileno(), os.fstat(folder.fileno()).st_mode | 0o555)
        for path, status in folder.walk():
            folder.chmod(path, stat.S_IMODE(status.st_mode) | (0o555 if stat.S_ISDIR(status.st_mode) else 0o444))


def _mode(file: SourceFile) -> str:
    return "100755" if file.executable else "100644"


def _git(folder: Path, *words: str, stdin: str = "") -> None:
    if shutil.which("git") is None:
        raise SourceError("git is not installed, but a rerun needs it", hint="apt-get install git")
    command = ["git", "-C", os.fspath(folder), *words]
    done = subprocess.run(command, env=_environment(os.environ), input=stdin.encode(), capture_output=True, check=False)
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise SourceError(
            f"git cannot list {folder}: {message}", hint="fix what git reports; it must be version 2.28 or later"
        )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    environment = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
    return environment | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
