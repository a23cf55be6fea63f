"""Whose a run's folder is where this user is root; and that nobody else gives anything away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UnsafePathError
from trainer.cli.configuration import hand_over
from trainer.environments.dotenv import write_block

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away: run as root")


def folder(place: Path) -> Path:
    """A run that was pulled: a file in a folder, and a link to what is none of its files."""
    (place / "run" / "attempts").mkdir(parents=True)
    (place / "run" / "attempts" / "record.json").touch()
    (place / "else").touch()
    (place / "run" / "link").symlink_to(place / "else")
    return place / "run"


def uids(place: Path) -> set[int]:
    """Whose a folder is, and all files and folders in it."""
    return {path.lstat().st_uid for path in (place, *place.rglob("*")) if not path.is_symlink()}


@needs_root
def test_what_root_made_is_given_to_the_containers_user(tmp_path: Path) -> None:
    """All of it, and nothing that a link leads to."""
    write_block(tmp_path / ".env", {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    hand_over(run := folder(tmp_path), checkout=tmp_path)
    assert uids(run) == {4711}
    assert (tmp_path / "else").stat().st_uid == 0


@needs_root
def test_a_checkpoint_that_two_attempts_share_is_given_away_and_a_file_of_another_place_is_not(tmp_path: Path) -> None:
    """A resumed attempt has its checkpoint as a second name of the earlier one's."""
    write_block(tmp_path / ".env", {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    run = folder(tmp_path)
    (run / "attempts" / "shared").hardlink_to(run / "attempts" / "record.json")
    hand_over(run, checkout=tmp_path)
    assert uids(run) == {4711}
    (run / "planted").hardlink_to(tmp_path / "else")
    with pytest.raises(UnsafePathError, match="planted has 2 names"):
        hand_over(run, checkout=tmp_path)
    assert (tmp_path / "else").stat().st_uid == 0


def test_without_a_user_to_give_it_to_it_stays_whose_it_was(tmp_path: Path) -> None:
    """A checkout that was never set up."""
    hand_over(run := folder(tmp_path), checkout=tmp_path)
    assert uids(run) == {os.getuid()}


def test_who_can_give_nothing_away_does_not_ask_to_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the dev container `.env` may be that of the host's root, which this user cannot read."""
    (tmp_path / ".env").mkdir()  # nobody reads that, root neither
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    hand_over(folder(tmp_path), checkout=tmp_path)
