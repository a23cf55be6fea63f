"""The managed block of .env is checked before a container starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DotenvError
from trainer.cli.containers import require_current
from trainer.environments.dotenv import write_block
from trainer.environments.setup import owner

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    who = owner(os.getuid(), os.getgid())
    write_block(tmp_path / ".env", {"REPRISE_UID": str(who.uid), "REPRISE_GID": str(who.gid)})
    return tmp_path / ".env"


def test_a_block_written_by_setup_is_current(dotenv: Path) -> None:
    dotenv.write_text("REPRISE_SHM=4gb\n" + dotenv.read_text())
    require_current(dotenv)
    dotenv.write_text("REPRISE_SHM=4gb\n")
    require_current(dotenv)


def test_a_block_edited_by_hand_is_rejected(dotenv: Path) -> None:
    dotenv.write_text(dotenv.read_text().replace("REPRISE_GID=", "REPRISE_GID=7"))
    with pytest.raises(DotenvError, match=r"edited by hand$"):
        require_current(dotenv)


def test_a_line_that_nothing_reads_is_rejected(dotenv: Path) -> None:
    dotenv.write_text("REPRISE_SETTING_SEED=1\n" + dotenv.read_text())
    with pytest.raises(DotenvError, match=r"settings are not read from \.env"):
        require_current(dotenv)


def test_a_mangled_digest_is_named(dotenv: Path) -> None:
    write_block(dotenv, {"REPRISE_BUILD_ID": digest_of_bytes(b"")})
    dotenv.write_text(dotenv.read_text().replace("REPRISE_BUILD_ID=sha256:", "REPRISE_BUILD_ID=sha"))
    with pytest.raises(DotenvError, match="edited by hand; REPRISE_BUILD_ID is not a digest: 'sha"):
        require_current(dotenv)


def test_a_block_of_another_user_is_rejected(dotenv: Path) -> None:
    write_block(dotenv, {"REPRISE_UID": "4711", "REPRISE_GID": "4711"})
    with pytest.raises(DotenvError, match="run as uid 4711") as caught:
        require_current(dotenv)
    assert caught.value.hint == "scripts/setup"
