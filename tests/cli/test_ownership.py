"""The owner of a pulled run's folder: root gives it to the containers' user; other users change no owner."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UnsafePathError
from trainer.cli.configuration import give_to_container_user
from trainer.environments.dotenv import write_block

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change the owner of files: run as root")


def make_run_folder(place: Path) -> Path:
    """Make a pulled run: a file in a folder, and a link to a file outside."""
    (place / "run" / "attempts").mkdir(parents=True)
    (place / "run" / "attempts" / "record.json").touch()
    (place / "else").touch()
    (place / "run" / "link").symlink_to(place / "else")
    return place / "run"


def owners(place: Path) -> set[int]:
    """Return the owners of a folder and of everything below it."""
    return {path.lstat().st_uid for path in (place, *place.rglob("*")) if not path.is_symlink()}


@needs_root
def test_root_gives_its_files_to_the_containers_user(tmp_path: Path) -> None:
    write_block(tmp_path / ".env", {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    give_to_container_user(run := make_run_folder(tmp_path), checkout=tmp_path)
    assert owners(run) == {4711}
    assert (tmp_path / "else").stat().st_uid == 0


@needs_root
def test_a_checkpoint_hard_linked_in_two_attempts_is_chowned_and_a_file_linked_elsewhere_is_not(tmp_path: Path) -> None:
    """A resumed attempt hard-links the checkpoint of the earlier attempt."""
    write_block(tmp_path / ".env", {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    run = make_run_folder(tmp_path)
    (run / "attempts" / "shared").hardlink_to(run / "attempts" / "record.json")
    give_to_container_user(run, checkout=tmp_path)
    assert owners(run) == {4711}
    (run / "planted").hardlink_to(tmp_path / "else")
    with pytest.raises(UnsafePathError, match="planted has 2 hard links"):
        give_to_container_user(run, checkout=tmp_path)
    assert (tmp_path / "else").stat().st_uid == 0


def test_without_a_target_user_ownership_stays(tmp_path: Path) -> None:
    give_to_container_user(run := make_run_folder(tmp_path), checkout=tmp_path)
    assert owners(run) == {os.getuid()}


def test_a_process_that_cannot_chown_does_not_look_up_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the dev container, `.env` may belong to the host's root and be unreadable for this user."""
    (tmp_path / ".env").mkdir()  # a folder, which not even root can read as a file
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    give_to_container_user(make_run_folder(tmp_path), checkout=tmp_path)
