"""The tutorial's commands, run as written in a fresh clone with a real engine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.training.test_tutorial import blocks

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandResult, House

pytestmark = [pytest.mark.engine, pytest.mark.long]


@pytest.mark.parametrize("section", ["Pictures", "From a CSV"])
def test_every_block_of_the_tutorial_succeeds(house: House, first_result: CommandResult, section: str) -> None:
    assert first_result.code == 0, first_result.text
    message = ""
    try:
        for block in blocks(section):
            done = house.type("bash", "-euc", block)
            assert done.code == 0, f"{block}\n{done.text}"
            message += done.text
    finally:
        shutil.rmtree(house.root.parent / "shapes", ignore_errors=True)
        (house.root.parent / "churn.csv").unlink(missing_ok=True)
    assert "test_accuracy" in message if section == "Pictures" else "test_auc" in message
