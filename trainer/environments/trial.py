"""A trial of a change to a checkout's environments: edited, locked and built in a copy, then applied completely or not at all.

The checkout does not change until every step in the copy has succeeded, so a failure or a kill during a step changes nothing. The files are
then replaced one after another; a journal in `.reprise/` lets the next command restore them if this command is killed between two files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import StringConstraints

from trainer.base.atomic_file import disk_faults, write_whole
from trainer.base.document import Document, read_json
from trainer.base.errors import SourceError
from trainer.base.plain_text import read_text
from trainer.environments.declaration import FOLDER, pin_path

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDERS: Final = ("docker", FOLDER, "scripts", "trainer/environments")
_FILES: Final = (".dockerignore", "pyproject.toml", "trainer/__init__.py", "uv.lock")
_PREFIX: Final = "reprise-trial-"
_YOUNG_S: Final = 60.0
_JOURNAL: Final = ".reprise/changed-files.json"


class _Contents(Document):
    """The contents of a file before and after a change."""

    before: str
    after: str


class _Journal(Document):
    """The files of a change that is being applied, by their paths in the checkout."""

    files: dict[
        Annotated[str, StringConstraints(pattern=r"^(environments/[a-z0-9-]+|pyproject)\.toml$|^uv\.lock$")], _Contents
    ]


@contextmanager
def trial_checkout(root: Path) -> Iterator[Path]:
    """Copy the files of a checkout that determine its lock and its images, and return the copy for the block.

    Copies that killed commands left behind are removed first.
    """
    with disk_faults(root / ".reprise"):
        (root / ".reprise").mkdir(exist_ok=True)
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        trial = Path(folder).resolve()
        for name in _FOLDERS:
            shutil.copytree(root / name, trial / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _FILES:
            if (root / name).exists():
                shutil.copy(root / name, trial / name)
        (trial / ".reprise").symlink_to(root / ".reprise")
        yield trial


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the kernel releases the lock if this process is killed. Raise `OSError` if another process holds the lock."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_abandoned(above: Path) -> None:
    """Remove this user's copies whose process has ended. A copy less than a minute old is kept: it may not be locked yet."""
    for folder in above.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            about = folder.lstat()
            if about.st_uid == os.getuid() and time.time() - about.st_mtime > _YOUNG_S:
                with _locked(folder):
                    shutil.rmtree(folder)


def changeable_files(root: Path) -> dict[str, str]:
    """Return the contents of the files that a trial may change, by path in the checkout."""
    pins = {pin_path(path.stem, root) for path in (root / FOLDER).glob("*.toml")}
    declarations = [path for path in sorted((root / FOLDER).glob("*.toml")) if path not in pins]
    return {
        path.relative_to(root).as_posix(): read_text(path)
        for path in (root / "pyproject.toml", root / "uv.lock", *declarations)
    }


@contextmanager
def applied(changes: dict[str, str], before: dict[str, str], *, root: Path) -> Iterator[None]:
    """Replace files of a checkout, and restore them if the block raises. Raise `SourceError` if a file differs from `before`."""
    for name in changes:
        if read_text(root / name) != before[name]:
            raise SourceError(f"another process changed {name} during this command", hint="run the command again")
    journal = _Journal(files={name: _Contents(before=before[name], after=text) for name, text in changes.items()})
    write_whole(root / _JOURNAL, journal.model_dump_json().encode())
    try:
        for name, text in changes.items():
            write_whole(root / name, text.encode())
        yield
    except BaseException:
        _restore(journal, root)
        (root / _JOURNAL).unlink()
        raise
    (root / _JOURNAL).unlink()


def restore_interrupted(root: Path) -> list[str]:
    """Restore the files of a change that was killed between two files, and return their names.

    A file that was edited since is not restored. A change whose files were all written is complete, and is kept.
    """
    path = root / _JOURNAL
    if not path.exists():
        return []
    journal = read_json(path, _Journal)
    complete = all(read_text(root / name) == texts.after for name, texts in journal.files.items())
    restored = [] if complete else _restore(journal, root)
    path.unlink()
    return restored


def _restore(journal: _Journal, root: Path) -> list[str]:
    names = [name for name, texts in journal.files.items() if read_text(root / name) == texts.after]
    for name in names:
        write_whole(root / name, journal.files[name].before.encode())
    return names
