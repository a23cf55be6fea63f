"""Query git about a checkout: its files, its submodules, its commit, and whether files differ from the commit.

Nothing is written: no lock is taken, and no hook or program of the repository is run. If git is not installed, fails, or finds no
repository, the result is None, not an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUIET: Final = (
    "--no-optional-locks",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.excludesFile=/dev/null"),
    *("-c", "core.attributesFile=/dev/null"),
)
_SUBMODULE: Final = "160000"
"""The mode of an index entry that is a submodule's commit."""
_FIELDS: Final = {"1": 8, "2": 9, "u": 10, "?": 1}
"""How many fields precede the path of a status entry, by the entry's kind."""
_REACH: Final = 20.0
"""Timeout in seconds, after which git counts as not available; a listing takes 10 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutFiles:
    """The files of a checkout as git lists them: tracked, and untracked but not ignored."""

    paths: tuple[str, ...]
    commit: str | None
    """None before the first commit."""
    dirty: bool
    submodules: dict[str, str] = field(default_factory=dict)
    """The checked-out commit of each submodule, by path; includes nested submodules."""
    not_initialized: tuple[str, ...] = ()
    """Submodules whose files are not checked out."""


def listing(checkout: Path) -> CheckoutFiles | None:
    """List the files of `checkout` and its submodules, regardless of their owner; None if git fails."""
    own, links = _own(checkout)
    if own is None:
        return None
    for path, commit in sorted(links.items()):
        own = _with_submodule(own, checkout, path, commit)
    return replace(own, paths=tuple(sorted(own.paths)))


def _with_submodule(whole: CheckoutFiles, checkout: Path, path: str, commit: str) -> CheckoutFiles:
    """Return a listing extended by the files of a submodule, which the checkout refers to by a commit."""
    if not (checkout / path / ".git").exists():
        return replace(whole, not_initialized=(*whole.not_initialized, path))
    inner = listing(checkout / path)
    if inner is None:  # the submodule's files exist, but git cannot read its repository
        files = without_ignored(checkout / path, walk(checkout / path))
        inner = CheckoutFiles(paths=tuple(files), commit=None, dirty=True)
    here = {path: inner.commit or "unknown"} | {f"{path}/{name}": each for name, each in inner.submodules.items()}
    return replace(
        whole,
        paths=(*whole.paths, *(f"{path}/{name}" for name in inner.paths)),
        dirty=whole.dirty or inner.dirty or inner.commit != commit,
        submodules=whole.submodules | here,
        not_initialized=(*whole.not_initialized, *(f"{path}/{name}" for name in inner.not_initialized)),
    )


def _is_bytecode(path: str) -> bool:
    """Return whether Python writes a file when it imports a module: such a file is not source, even if it is committed."""
    return "__pycache__" in path.split("/")


def _path_of(entry: str) -> str:
    """Return the path in an entry of `git status --porcelain=v2 -z`."""
    return entry.split(" ", _FIELDS.get(entry[0], 0))[-1]


def _own(checkout: Path) -> tuple[CheckoutFiles | None, dict[str, str]]:
    """Return the listing of `checkout` without submodules, and the commits of its submodules by path."""
    tracked = _git(checkout, "ls-files", "-z", "--cached", "--stage")
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
        return None, {}
    entries = [entry for entry in status.split("\0") if entry and not _is_bytecode(_path_of(entry))]
    above = prefix.rstrip("\n")
    untracked = (entry[2:].removeprefix(above) for entry in entries if entry.startswith("? "))
    commits = [entry.removeprefix("# branch.oid ") for entry in entries if entry.startswith("# branch.oid ")]
    commit = next((name for name in commits if name != "(initial)"), None)
    staged = [
        (*about.split(" "), path) for about, _, path in (row.partition("\t") for row in tracked.split("\0")) if path
    ]
    links = {path: named for mode, named, _, path in staged if mode == _SUBMODULE}
    paths = {path for *_, path in staged if path not in links and not _is_bytecode(path)} | set(untracked)
    dirty = any(not entry.startswith("# ") for entry in entries)
    return CheckoutFiles(paths=tuple(paths), commit=commit, dirty=dirty), links


def changed_paths(checkout: Path, *below: str) -> list[str] | None:
    """Return the files in the folders `below` that differ from the commit, including untracked files; `None` if git fails."""
    output = _git(checkout, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", *below)
    return None if output is None else sorted(entry[3:] for entry in output.split("\0") if entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitsSince:
    """The last commit that changed a file, and the number of later commits that changed certain folders."""

    commit: str
    date: str
    commits: int


def since(checkout: Path, file: str, *below: str) -> CommitsSince | None:
    """Return the commits since the last change of a file; `None` if git fails, as in a shallow clone or for an uncommitted file."""
    shallow = _git(checkout, "rev-parse", "--is-shallow-repository")
    last = _git(checkout, "log", "-1", "--format=%H %h %cs", "--", file)
    if shallow is None or shallow.strip() != "false" or not (last or "").strip():
        return None
    whole, commit, date = (last or "").split()
    count = _git(checkout, "rev-list", "--count", f"{whole}..HEAD", "--", *below)
    return None if count is None else CommitsSince(commit=commit, date=date, commits=int(count))


def without_ignored(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return the `paths` that no .gitignore in `folder` matches, even if `folder` is not in a repository; without git, all `paths`."""
    listed = list(paths)
    with tempfile.TemporaryDirectory(prefix="reprise-git-") as empty:
        if _git(folder, "init", "--quiet", "--bare", "--template=", empty) is None:
            return listed
        words = (f"--git-dir={empty}", f"--work-tree={folder}", "check-ignore", "-z", "--stdin")
        ignored = set((_git(folder, *words, stdin="\0".join(listed)) or "").split("\0"))
    return [path for path in listed if path not in ignored]


def repository_of_worktree(checkout: Path) -> Path | None:
    """Return the `.git` folder of the repository if `checkout` is a linked worktree; None if it is not, or if the path is relative."""
    try:
        private = Path((checkout / ".git").read_text(encoding="utf-8").removeprefix("gitdir: ").rstrip("\n"))
        common = (private / "commondir").read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError):
        return None
    return Path(os.path.normpath(private / common)) if private.is_absolute() else None


def _git(checkout: Path, *words: str, stdin: str = "") -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", *_QUIET, "-C", os.fspath(checkout), *words]
    try:
        done = subprocess.run(
            command, env=_environment(), input=os.fsencode(stdin), capture_output=True, timeout=_REACH, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    """Return the environment for git: every owner's checkout is readable, and personal git settings are ignored.

    A checkout has the same source for every user, on the host and in a container. Older versions of git accept safe.directory from the
    environment, and ignore it in `-c`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    owner = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    neutral = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }
    return kept | owner | neutral
