"""scripts/train on later days: it runs the everyday command, and can be stopped at any moment."""

from __future__ import annotations

import os
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import CommandResult, House

pytestmark = pytest.mark.engine

WORDS = ("--exp", "digits", "--max-epochs", "1")


def test_a_later_call_prepares_nothing_in_any_folder(house: House, first_result: CommandResult) -> None:
    assert first_result.code == 0, first_result.text
    result = house.type("sh", "-c", "cd trainer/experiments && ../../scripts/train --exp digits.py --max-epochs 1")
    assert result.code == 0, result.text
    assert not [line for line in result.err.splitlines() if line.startswith(("train:", "engine:", "base:", "debian:"))]
    assert "reprise: docker compose run --rm train --exp digits --max-epochs 1" in result.err


@pytest.mark.parametrize(
    ("number", "send", "code", "status"),
    [
        (SIGINT, os.kill, 130, "interrupted"),
        (SIGTERM, os.kill, 75, "preempted"),
        (SIGINT, os.killpg, 130, "interrupted"),  # Ctrl-C in a terminal that is not the script's input
    ],
)
def test_a_signal_to_the_script_reaches_the_container(
    house: House, first_result: CommandResult, number: Signals, send: Callable[[int, int], None], code: int, status: str
) -> None:
    assert first_result.code == 0, first_result.text
    running = house.start("scripts/train", "--exp", "digits", "--max-epochs", "1000", start_new_session=True)
    assert running.stderr is not None
    output = line = ""
    while not line.startswith("epoch "):
        line = running.stderr.readline()
        assert line, output
        output += line
    send(running.pid, number)
    _, rest = running.communicate(timeout=120)
    assert running.returncode == code, output + rest
    assert "--resume" in rest
    (run,) = set(RUN_ID.findall(output))
    assert house.record(run)["outcome"]["status"] == status
    assert not house.type("docker", "ps", "--all", "--quiet", "--filter", f"name=reprise-{run}").out


def test_the_script_has_the_exit_code_of_the_compose_command(house: House, first_result: CommandResult) -> None:
    assert first_result.code == 0, first_result.text
    assert house.type("scripts/train", "--exp", "digitz").code == 42
    prepared = house.root / ".reprise" / "prepared"
    kept = prepared.read_text()
    prepared.write_text("otherwise\n")
    result = house.type("scripts/train", "--exp", "digitz")
    prepared.write_text(kept)
    assert (result.code, "preparing" in result.err) == (42, False), result.text


def test_a_file_from_outside_the_checkout_is_copied(
    house: House, first_result: CommandResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert first_result.code == 0, first_result.text
    mine = tmp_path_factory.mktemp("elsewhere") / "idea.py"
    mine.write_bytes((house.root / "trainer/experiments/digits.py").read_bytes())
    result = house.type("scripts/train", "--exp", str(mine), "--max-epochs", "1")
    assert result.code == 0, result.text
    assert (house.root / "runs" / result.run / "source/experiment/idea.py").read_bytes() == mine.read_bytes()
    alone = house.train("--exp", str(mine))
    assert (alone.code, f"scripts/train --exp {mine} adds it with its repository" in alone.err) == (
        42,
        True,
    ), alone.text


@pytest.mark.parametrize(("forgotten", "stage"), [("prepared", "preparing"), ("published", "publishing")])
def test_ctrl_c_in_a_stage_leaves_no_partial_result(
    house: House, first_result: CommandResult, forgotten: str, stage: str
) -> None:
    assert first_result.code == 0, first_result.text
    (house.root / ".reprise" / forgotten).unlink()
    running = house.start("scripts/train", *WORDS, start_new_session=True)
    assert running.stderr is not None
    while stage not in (line := running.stderr.readline()):
        assert line, "it ended without the stage"
    os.killpg(running.pid, SIGINT)
    running.communicate(timeout=120)
    assert running.returncode in {130, -SIGINT}
    assert not (house.root / ".reprise" / forgotten).exists()
    result = house.type("scripts/train", *WORDS)
    assert result.code == 0, result.text
    assert stage in result.err
