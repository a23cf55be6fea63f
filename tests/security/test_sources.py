"""Another user's source cannot cause a tool such as git to run code; the tests use real git."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run
from trainer.base.errors import SourceError
from trainer.base.paths import repository_parts
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.source.capture import ARCHIVE, capture, read_archive
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORIES = {
    ".git/config": b"",
    "deep/down/.GIT/hooks/post-checkout": b"",
    ".git": b"gitdir: /tmp/x\n",
    ".g\u200cit/config": b"",
    ".git. /config": b"",
    "git~1/config": b"",
    ".hg/hgrc": b"",
    ".jj/repo": b"",
    ".svn/wc.db": b"",
    "bare/HEAD": b"ref: refs/heads/main\n",
    "linked/head": b"ref: refs/heads/main\n",
}
BESIDE = {
    "bare/objects/x": b"",
    "bare/refs/x": b"",
    "linked/commondir": b"../bare\n",
    "a.py": b"",
    ".gitattributes": b"",
}


def archive_of(files: dict[str, bytes], path: Path) -> Path:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    path.write_bytes(gzip.compress(whole.getvalue()))
    return path


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_source_that_is_a_repository_is_rejected(name: str, tmp_path: Path) -> None:
    assert repository_parts({**BESIDE, name: b""}) >= {name}
    with pytest.raises(SourceError, match="part of a repository"):
        read_archive(archive_of({**BESIDE, name: REPOSITORIES[name]}, tmp_path / ARCHIVE))


def test_files_with_similar_names_are_source(tmp_path: Path) -> None:
    names = (
        "HEAD",
        "docs/HEAD",
        "objects/x",
        ".github/workflows/x.yaml",
        ".gitignore",
        ".gitmodules",
        "x.git",
        "git",
        "hg/x.py",
    )
    assert not repository_parts(names)
    assert len(read_archive(archive_of(dict.fromkeys(names, b"x"), tmp_path / ARCHIVE)).files) == len(names)


def test_repositories_are_not_captured(tmp_path: Path) -> None:
    """Nested repositories are excluded with a note, since the user's own runs would otherwise be rejected."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name in (".hg/hgrc", "bare/HEAD", "bare/objects/x", "bare/refs/x", "a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    bundle = capture(tmp_path)
    assert [file.path for file in bundle.files] == ["a.py", "bare/objects/x", "bare/refs/x"]
    assert [line.partition(":")[0] for line in bundle.left_out] == [".hg", "bare"]


def test_git_status_in_a_pulled_run_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "store").mkdir()
    store = open_store(str(tmp_path / "store"))
    run = finish_run(tmp_path / "there/runs")
    home = run.folder.parents[1]
    settings = f'[core]\n\trepositoryformatversion = 0\n\tfsmonitor = "touch {tmp_path}/owned; false"\n'.encode()
    evil = {"code.py": b"x = 1\n", ".git/config": settings, ".git/HEAD": b"ref: refs/heads/main\n"}
    archive_of(evil | {".git/objects/x": b"", ".git/refs/x": b""}, home / ARCHIVE)
    publish_run(home, store)
    with pytest.raises(SourceError, match="part of a repository"):
        pull_run(run.record.run, store, runs=tmp_path / "here")
    good = finish_run(tmp_path / "there/runs")
    publish_run(good.folder.parents[1], store)
    pull_run(good.record.run, store, runs=tmp_path / "here")
    pulled = tmp_path / "here" / good.record.run
    assert sorted(path.name for path in pulled.iterdir()) == ["attempts", ARCHIVE]
    subprocess.run(["git", "status"], cwd=pulled, capture_output=True, check=False)
    assert not (tmp_path / "owned").exists()
