"""A stopped run is resumed with compose alone, and is bit-identical to an uninterrupted run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import House

pytestmark = pytest.mark.engine

WORDS = ("--exp", "digits", "--max-epochs", "14", "--seed", "11")


def stopped_run(house: House) -> str:
    """Train for an epoch, run `docker stop`, and return the run's ID."""
    result = house.train_and_stop(*WORDS)
    assert f"train --resume {result.run}" in result.err
    return result.run


def test_a_run_stopped_by_docker_and_resumed_is_bit_identical_to_an_uninterrupted_run(house: House) -> None:
    run = stopped_run(house)
    assert house.record(run)["outcome"]["status"] == "preempted"
    resumed, twin = house.train("--resume", run), house.train(*WORDS)
    assert resumed.code == 0, resumed.text
    assert house.record(run)["attempt"] == 2
    for message in (house.type("scripts/reprise", "compare", run, twin.run), house.train("compare", run, twin.run)):
        assert message.code == 0, message.text
        assert message.out.startswith("identical:")
    again = house.train("--resume", run)
    assert (again.code, "is completed" in again.text) == (88, True)
