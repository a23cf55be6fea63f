"""Laying out a source bundle, so that capturing the folder again results in the same digest."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, SourceError
from trainer.source.capture import ARCHIVE, SourceBundle, SourceFile, archive, bundle_digest, capture, freeze
from trainer.source.copy import lay_out, load_bundle
from trainer.source.description import Source

if TYPE_CHECKING:
    from pathlib import Path

ODD = (
    "scripts/machine/venv",
    "build/made.py",
    "a/kept.pyc",
    "dist/x",
    "runs.py",
    "ä ö.txt",
    ".gitignore",
    "x~",
)


@pytest.fixture
def frozen_source(tmp_path: Path) -> tuple[Path, SourceBundle]:
    """Freeze a repository of files that look temporary; return the archive and the bundle."""
    checkout, run = tmp_path / "checkout", tmp_path / "runs" / "a"
    for name in ODD:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    (checkout / ".gitignore").write_text("*\n")
    (checkout / "scripts/machine/venv").chmod(0o755)
    run.mkdir(parents=True)
    for words in (("init", "-q"), ("add", "-f", "-A")):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    return run / ARCHIVE, freeze(checkout, run)


def test_an_extracted_bundle_has_the_same_digest(frozen_source: tuple[Path, SourceBundle], tmp_path: Path) -> None:
    path, bundle = frozen_source
    assert len(bundle.files) == len(ODD)
    lay_out(load_bundle(path, digest=bundle.digest), tmp_path / "again")
    assert capture(tmp_path / "again").digest == bundle.digest


def test_a_bundle_extracted_inside_another_checkout_has_the_same_digest(
    frozen_source: tuple[Path, SourceBundle], tmp_path: Path
) -> None:
    path, bundle = frozen_source
    place = tmp_path / "checkout" / "runs" / "again"
    place.parent.mkdir()
    lay_out(load_bundle(path, digest=bundle.digest), place)
    assert capture(place).digest == bundle.digest


def test_another_bundle_than_the_recorded_one_is_rejected(frozen_source: tuple[Path, SourceBundle]) -> None:
    path, _ = frozen_source
    with pytest.raises(DigestMismatchError, match="the record names"):
        load_bundle(path, digest=digest_of_bytes(b"other"))


def test_a_missing_bundle_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist") as caught:
        load_bundle(tmp_path / ARCHIVE, digest=digest_of_bytes(b""))
    assert caught.value.hint == "pull the run again"


@pytest.mark.parametrize("path", [".git/config", "a/.GIT/hooks/x", ".git"])
def test_a_bundle_that_contains_a_repository_is_rejected(path: str, tmp_path: Path) -> None:
    file = SourceFile(path=path, executable=False, sha256=digest_of_bytes(b"x"), data=b"x")
    bundle = SourceBundle(digest=bundle_digest([file]), source=Source(how="baked"), files=(file,))
    (tmp_path / ARCHIVE).write_bytes(archive(bundle))
    with pytest.raises(SourceError, match="part of a repository"):
        lay_out(load_bundle(tmp_path / ARCHIVE, digest=bundle.digest), tmp_path / "again")
    with pytest.raises(SourceError, match="Reprise never captures it"):
        lay_out(bundle, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_git_lists_the_files_of_an_extracted_bundle_with_their_modes(
    frozen_source: tuple[Path, SourceBundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other"))
    lay_out(frozen_source[1], tmp_path / "again")
    assert not (tmp_path / "other").exists()
    monkeypatch.delenv("GIT_INDEX_FILE")
    result = subprocess.run(
        ["git", "ls-files", "-s"], cwd=tmp_path / "again", capture_output=True, text=True, check=True
    )
    modes = {line.partition("\t")[2]: line[:6] for line in result.stdout.splitlines()}
    assert (modes["scripts/machine/venv"], modes["runs.py"], len(modes)) == ("100755", "100644", len(ODD))


def test_an_extracted_bundle_is_readable_by_every_user(
    frozen_source: tuple[Path, SourceBundle], tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        lay_out(frozen_source[1], tmp_path / "again")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "again", *(tmp_path / "again").rglob("*"))}
    assert (modes["again"], modes["scripts"], modes["runs.py"], modes["venv"]) == (0o755, 0o755, 0o644, 0o744)


@pytest.mark.parametrize(("code", "message"), [(None, "git is not installed"), (3, "git cannot list .*: no way")])
def test_without_a_working_git_an_error_is_reported(
    frozen_source: tuple[Path, SourceBundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
    message: str,
) -> None:
    (tmp_path / "bin").mkdir()
    if code:
        (tmp_path / "bin/git").write_text(f"#!/bin/sh\necho no way >&2\nexit {code}\n")
        (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SourceError, match=message):
        lay_out(frozen_source[1], tmp_path / "again")
