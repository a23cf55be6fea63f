"""What git knows about a checkout: which files are its own, which commit it stands on, whether it differs.

Knows the git command. Refuses to write anything: no lock is taken, no hook and no program named by the repository is
run. Where git is absent, the folder is no repository, or git fails, the answer is None: a fact, not an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_QUIET: Final = (
    "--no-optional-locks",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.excludesFile=/dev/null"),
    *("-c", "core.attributesFile=/dev/null"),
)
_REACH: Final = 20.0
"""Seconds after which git is taken for absent; a listing takes 10 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a checkout by git: tracked, and untracked but not ignored."""

    paths: tuple[str, ...]
    commit: str | None
    """None before the first commit."""
    dirty: bool


def listing(checkout: Path) -> Listing | None:
    """List `checkout` as git sees it, whoever owns it; None where git cannot tell."""
    tracked = _git(checkout, "ls-files", "-z", "--cached")
    status = _git(
        checkout,
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=all",
        "--ignore-submodules=all",
        "--",
        ".",
    )
    prefix = _git(checkout, "rev-parse", "--show-prefix")
    if tracked is None or status is None or prefix is None:
        return None
    entries = [entry for entry in status.split("\0") if entry]
    above = prefix.rstrip("\n")
    untracked = (entry[2:].removeprefix(above) for entry in entries if entry.startswith("? "))
    commits = [entry.removeprefix("# branch.oid ") for entry in entries if entry.startswith("# branch.oid ")]
    commit = next((name for name in commits if name != "(initial)"), None)
    paths = {path for path in tracked.split("\0") if path} | set(untracked)
    return Listing(
        paths=tuple(sorted(paths)), commit=commit, dirty=any(not entry.startswith("# ") for entry in entries)
    )


def _git(checkout: Path, *words: str) -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", *_QUIET, "-C", os.fspath(checkout), *words]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, timeout=_REACH, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    """Our own environment, but that a checkout of another user is read, and that nobody's own settings of git count.

    A checkout is the same source whoever looks at it, on the host and in a container. safe.directory is obeyed from the
    environment and refused from `-c` by older versions of git.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    owner = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    nobody = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }
    return kept | owner | nobody
