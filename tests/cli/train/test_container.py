"""Watching a container that trains: an engine that fails, an image of somebody else's, a container that never comes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DotenvError, EngineError
from trainer.cli.train.container import require_current, witness
from trainer.environments.dotenv import write_block
from trainer.environments.engine import ImageFacts
from trainer.environments.setup import owner
from trainer.runs.image_claim import SEEN, SeenImage

if TYPE_CHECKING:
    from pathlib import Path


class FailingEngine(MemoryEngine):
    """An engine that is asked in vain."""

    def image_of(self, container: str) -> ImageFacts | None:
        """No answer."""
        raise EngineError(f"the engine broke while asked about {container}")


class Running:
    """A program that ends when it has been looked at `looks` times."""

    def __init__(self, looks: int) -> None:
        """Start."""
        self.left = looks

    def poll(self) -> int | None:
        """Over yet?"""
        self.left -= 1
        return 0 if self.left < 0 else None

    def wait(self, timeout: float | None = None) -> int:
        """Not within the time."""
        raise subprocess.TimeoutExpired("it", timeout or 0)


def left(folder: Path) -> SeenImage:
    """What stands in the run's folder."""
    return SeenImage.model_validate_json((folder / SEEN).read_text())


def test_an_engine_that_fails_spoils_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, and the run in the container is told not to wait."""
    witness(Running(9), FailingEngine(), "run", folder=tmp_path)
    assert "the engine broke" in str(left(tmp_path).fault)
    assert "the engine broke" in capsys.readouterr().err


def test_an_image_of_somebody_elses_is_looked_at_once(tmp_path: Path) -> None:
    """Not again and again until the run is over."""
    digest = digest_of_bytes(b"an image")
    image = ImageFacts(id=digest, tags=(), references=(), layers=(), size=1, created="2026")
    running = Running(9)
    witness(running, MemoryEngine(held={digest: image}, containers={"reprise-run": digest}), "run", folder=tmp_path)
    assert running.left == 8
    assert left(tmp_path).build_id is None


def test_a_container_that_never_comes_ends_the_watch(tmp_path: Path) -> None:
    """When compose is over; nothing is written."""
    witness(Running(3), MemoryEngine(), "run", folder=tmp_path)
    assert not (tmp_path / SEEN).exists()


@pytest.mark.parametrize("gone", [True, False])
def test_a_folder_that_the_container_removed_is_no_fault(tmp_path: Path, *, gone: bool) -> None:
    """A run that failed at once took its folder with it."""
    folder = tmp_path / "gone" if gone else tmp_path
    witness(Running(2), FailingEngine(), "run", folder=folder)
    assert (folder / SEEN).exists() is not gone


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """What setup wrote for this user."""
    who = owner(os.getuid(), os.getgid())
    write_block(tmp_path / ".env", {"REPRISE_UID": str(who.uid), "REPRISE_GID": str(who.gid)})
    return tmp_path / ".env"


def test_a_block_as_setup_wrote_it_is_current(dotenv: Path) -> None:
    """For this user; lines of the user's own beside it are no edit, and neither is a file without a block."""
    dotenv.write_text("REPRISE_SHM=4gb\n" + dotenv.read_text())
    require_current(dotenv)
    dotenv.write_text("REPRISE_SHM=4gb\n")
    require_current(dotenv)


def test_a_block_edited_by_hand_is_refused(dotenv: Path) -> None:
    """Before anything is started; the remedy says what it replaces."""
    dotenv.write_text(dotenv.read_text().replace("REPRISE_GID=", "REPRISE_GID=7"))
    with pytest.raises(DotenvError, match=r"edited by hand$"):
        require_current(dotenv)


def test_a_digest_that_was_mangled_by_hand_is_named(dotenv: Path) -> None:
    """With what was found in its place."""
    write_block(dotenv, {"REPRISE_BUILD_ID": digest_of_bytes(b"")})
    dotenv.write_text(dotenv.read_text().replace("REPRISE_BUILD_ID=sha256:", "REPRISE_BUILD_ID=sha"))
    with pytest.raises(DotenvError, match="edited by hand; REPRISE_BUILD_ID is not a digest: 'sha"):
        require_current(dotenv)


def test_a_block_of_another_user_is_refused(dotenv: Path) -> None:
    """Their containers could not write this user's runs."""
    write_block(dotenv, {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    with pytest.raises(DotenvError, match="run as uid 4711") as caught:
        require_current(dotenv)
    assert caught.value.hint == "scripts/setup"
