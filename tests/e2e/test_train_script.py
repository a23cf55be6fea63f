"""scripts/train after the first day: it types the everyday command, and can be stopped anywhere."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import House, Said

pytestmark = pytest.mark.engine

WORDS = ("--exp", "digits", "--max-epochs", "1")


@pytest.mark.usefixtures("first")
def test_a_later_call_prepares_nothing(house: House) -> None:
    """One line of its own: the command that it types."""
    said = house.type("scripts/train", *WORDS)
    assert said.code == 0, said.text
    assert [line for line in said.err.splitlines() if line.startswith(("train:", "engine:", "base:", "debian:"))] == [
        "train: docker compose run --rm train --exp digits --max-epochs 1"
    ]


def test_its_exit_code_is_the_everyday_commands(house: House, first: Said) -> None:
    """An experiment that does not exist is 42 here too."""
    assert first.code == 0, first.text
    assert house.type("scripts/train", "--exp", "digitz").code == 42


@pytest.mark.parametrize(("forgotten", "stage"), [("prepared", "preparing"), ("published", "publishing")])
def test_ctrl_c_in_a_stage_leaves_nothing_half_done(house: House, first: Said, forgotten: str, stage: str) -> None:
    """Stopped as soon as the stage is told; it does not count as done, and the next call does it and goes on."""
    assert first.code == 0, first.text
    (house.root / ".reprise" / forgotten).unlink()
    running = house.start("scripts/train", *WORDS, start_new_session=True)
    assert running.stderr is not None
    while stage not in (line := running.stderr.readline()):
        assert line, "it ended without the stage"
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=120)
    assert running.returncode in {130, -signal.SIGINT}
    assert not (house.root / ".reprise" / forgotten).exists()
    said = house.type("scripts/train", *WORDS)
    assert said.code == 0, said.text
    assert stage in said.err
